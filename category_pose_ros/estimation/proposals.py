"""Coarse proposals: rotation, distance and size of an object whose image position is known.

As the generative proposals of Ma et al. 2022 (section 3.3): the vertices of every hypothesis are
projected, and each visible one asks the feature map under it whether it is there. Positions come
first, from the votes, so that the grid has only rotation and distance; scores are means over the
visible vertices, so that near objects are not preferred. The grid is laid out around the line of
sight and projected weakly, so that vertex coordinates and visibility are computed once per category.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from category_pose_ros.config import setting, validate
from category_pose_ros.estimation.evidence import Evidence
from category_pose_ros.estimation.state import State
from category_pose_ros.geometry import SE3, Symmetry, rotations
from category_pose_ros.geometry.symmetry import canonical
from category_pose_ros.models.posterior import CategoryTable

_LEAST_SUPPORT = 1e-3  # keeps the logarithm finite where no vertex is supported
_GRAZING = 0.15  # cosine below which a face is seen too flat to say anything


@dataclass(frozen=True)
class ProposalConfig:
    """The coarse grid."""

    rotations: int = setting(256, "Rotations tried for a category without symmetry.", minimum=1, maximum=100000)
    axes: int = setting(128, "Directions of the axis tried for a category with one.", minimum=1, maximum=10000)
    vertices: int = setting(96, "Vertices that are asked per hypothesis.", minimum=8, maximum=10000)
    distances: int = setting(1, "Distances tried around the one that the votes imply.", minimum=1, maximum=32)
    distance_step: float = setting(1.2, "Ratio of neighbouring distances.", minimum=1.01, maximum=2.0)
    keep: int = setting(3, "Hypotheses per object that are refined.", minimum=1, maximum=256)
    separation_deg: float = setting(25.0, "Least rotation between two kept hypotheses.", minimum=0.0, maximum=180.0)

    def __post_init__(self) -> None:
        validate(self)


class ProposalGrid:
    """The hypotheses of one category, seen along the optical axis.

    Args:
        table: neural mesh of the category.
        config: settings.
    """

    def __init__(self, table: CategoryTable, config: ProposalConfig) -> None:
        self._table = table
        self._config = config
        symmetric = table.symmetry is Symmetry.AXIS_Z
        turns = rotations.fibonacci_axes(config.axes) if symmetric else rotations.super_fibonacci(config.rotations)
        ahead = torch.tensor([0.0, 0.0, 1.0]).expand(len(turns), 3)
        self._turns = canonical(SE3(turns, ahead), table.symmetry).rotation.to(table.points.device)
        # The vertices are ordered by face; an even share of them is a share of every face.
        count = min(config.vertices, len(table.points))
        self._chosen = torch.linspace(0, len(table.points) - 1, count, device=table.points.device).round().long()
        size = table.log_size_mean.exp()
        placed = table.points[self._chosen] * (size / size.norm())
        self._offsets = (placed @ self._turns.transpose(-1, -2))[..., :2]  # (G, v, 2) in diagonals
        facing = table.normals[self._chosen] @ self._turns.transpose(-1, -2)
        self._visible = (facing[..., 2] < -_GRAZING).float()  # (G, v)
        self._alike = self._similarity() > torch.cos(torch.tensor(config.separation_deg * torch.pi / 180))

    def propose(self, evidence: Evidence) -> State:
        """The best hypotheses for a crop, (keep,) states that differ in rotation."""
        exponents = torch.arange(self._config.distances, device=evidence.centre.device)
        factors = self._config.distance_step ** (exponents - (self._config.distances - 1) / 2)
        support = evidence.support(self._chosen)
        scores = torch.stack([self._scores(evidence, support, float(factor)) for factor in factors], dim=-1)  # (G, D)
        best, distance = scores.max(-1)
        chosen = self._separate(log_score(best, evidence, self._turns))
        return self._states(evidence, chosen, factors[distance[chosen]])

    def _scores(self, evidence: Evidence, support: Tensor, factor: float) -> Tensor:
        """Mean support (G,) of the visible vertices, at a multiple of the distance that the votes imply."""
        height, width = evidence.presence.shape
        cell = (evidence.centre + self._offsets * (evidence.diagonal / factor)).round().long()
        column, row = cell.unbind(-1)
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        vertex = torch.arange(len(self._chosen), device=cell.device)
        place = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
        found = support.flatten()[vertex * height * width + place]
        weight = self._visible * (inside & evidence.inside.flatten()[place])
        return (found * weight).sum(-1) / weight.sum(-1).clamp_min(4)

    def _separate(self, scores: Tensor) -> Tensor:
        """Greedy choice of the best rotations that are not alike."""
        remaining = scores.clone()
        chosen: list[int] = []
        for _ in range(self._config.keep):
            # Where fewer rotations are left than asked for, a batch keeps its size by repeating the first.
            index = int(remaining.argmax()) if bool(remaining.max() > -torch.inf) or not chosen else chosen[0]
            chosen.append(index)
            remaining = remaining.masked_fill(self._alike[index], -torch.inf)
        return torch.tensor(chosen, device=scores.device)

    def _states(self, evidence: Evidence, chosen: Tensor, factors: Tensor) -> State:
        focal, ray = evidence.intrinsics.focal[0], evidence.ray
        diagonal_m = self._table.log_size_mean.exp().norm()
        translation = (focal[0] * diagonal_m / evidence.diagonal * factors).unsqueeze(-1) * ray
        pose = SE3(evidence.sight @ self._turns[chosen], translation)
        return State(canonical(pose, self._table.symmetry), self._table.log_size_mean.expand(len(chosen), 3))

    def _similarity(self) -> Tensor:
        """Cosine (G, G) of the angle between every two rotations, up to symmetry."""
        if self._table.symmetry is Symmetry.AXIS_Z:
            return self._turns[..., 2] @ self._turns[..., 2].T
        flat = self._turns.flatten(1)
        return (flat @ flat.T - 1) / 2


def log_score(support: Tensor, evidence: Evidence, turns: Tensor) -> Tensor:
    """What ranks hypotheses of one object: support by the vertices and the votes for the axes.

    Args:
        support: (B,) of each hypothesis.
        turns: (B, 3, 3) rotations seen along the line of sight.
    """
    return support.clamp_min(_LEAST_SUPPORT).log() + evidence.axes_log_likelihood(turns)


def vertex_support(states: State, evidence: Evidence) -> tuple[Tensor, Tensor]:
    """How well hypotheses explain a crop.

    Returns:
        Mean support of the visible vertices inside crop and image, (B,), and the share of these
        vertices that lie on cells of the object, (B,).
    """
    table, grid = evidence.table, evidence.presence
    height, width = grid.shape
    points = states.points_camera(table.points.unsqueeze(0))  # (B, V, 3)
    normals = table.normals @ states.camera_from_object.rotation.transpose(-1, -2)
    visible = (normals * points).sum(-1) < -_GRAZING * points.norm(dim=-1)
    cell = evidence.intrinsics.project(points).round().long()
    column, row = cell[..., 0], cell[..., 1]
    visible &= (column >= 0) & (column < width) & (row >= 0) & (row < height)
    flat = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)  # (B, V)
    visible &= evidence.inside.flatten()[flat]
    support = evidence.support_at(flat)
    presence = grid.flatten()[flat]
    count = visible.sum(-1).clamp_min(8)
    return (support * visible).sum(-1) / count, (presence * visible).sum(-1) / count
