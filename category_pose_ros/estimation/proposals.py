"""Coarse proposals: rotation, distance and size of an object whose image position is known.

As the generative proposals of Ma et al. 2022 (section 3.3): the vertices of every hypothesis are
projected, and each visible one asks the feature map under it whether it is there. Positions come
first, from the votes, so that the grid has only rotation and distance; scores are means over the
visible vertices, so that near objects are not preferred.
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


@dataclass(frozen=True)
class ProposalConfig:
    """The coarse grid."""

    rotations: int = setting(768, "Rotations tried for a category without symmetry.", minimum=1, maximum=100000)
    axes: int = setting(128, "Directions of the axis tried for a category with one.", minimum=1, maximum=10000)
    distances: int = setting(3, "Distances tried around the one that the votes imply.", minimum=1, maximum=32)
    distance_step: float = setting(1.2, "Ratio of neighbouring distances.", minimum=1.01, maximum=2.0)
    keep: int = setting(6, "Hypotheses per object that are refined.", minimum=1, maximum=256)
    separation_deg: float = setting(25.0, "Least rotation between two kept hypotheses.", minimum=0.0, maximum=180.0)

    def __post_init__(self) -> None:
        validate(self)


def propose(evidence: Evidence, config: ProposalConfig) -> State:
    """The best hypotheses of the grid, (keep,) states that differ in rotation."""
    table = evidence.table
    pose, log_size = _grid(evidence, config)
    states = State(pose, log_size)
    score, _ = vertex_support(states, evidence)
    chosen: list[int] = []
    order = score.argsort(descending=True).tolist()
    limit = torch.cos(torch.tensor(config.separation_deg * torch.pi / 180))
    for index in order[: 40 * config.keep]:
        if len(chosen) == config.keep:
            break
        rotation = pose.rotation[index]
        if all(_cosine(rotation, pose.rotation[other], table.symmetry) < limit for other in chosen):
            chosen.append(index)
    while len(chosen) < config.keep:  # a batch has one size; the best one may be refined twice
        chosen.append(chosen[0])
    return states[torch.tensor(chosen, device=score.device)]


def vertex_support(states: State, evidence: Evidence) -> tuple[Tensor, Tensor]:
    """How well hypotheses explain a crop.

    Returns:
        Mean support of the visible vertices inside the crop, (B,), and the share of these vertices
        that lie on cells of the object, (B,).
    """
    table, grid = evidence.table, evidence.presence
    height, width = grid.shape
    points = states.points_camera(table.points.unsqueeze(0))  # (B, V, 3)
    normals = table.normals @ states.camera_from_object.rotation.transpose(-1, -2)
    visible = (normals * points).sum(-1) < 0
    cell = evidence.intrinsics.project(points).round().long()
    column, row = cell[..., 0], cell[..., 1]
    visible &= (column >= 0) & (column < width) & (row >= 0) & (row < height)
    flat = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)  # (B, V)
    support = evidence.support.flatten(1).gather(1, flat.T).T
    presence = grid.flatten()[flat]
    count = visible.sum(-1).clamp_min(8)
    return (support * visible).sum(-1) / count, (presence * visible).sum(-1) / count


def _grid(evidence: Evidence, config: ProposalConfig) -> tuple[SE3, Tensor]:
    table, device = evidence.table, evidence.presence.device
    symmetric = table.symmetry is Symmetry.AXIS_Z
    turns = rotations.fibonacci_axes(config.axes) if symmetric else rotations.super_fibonacci(config.rotations)
    turns = turns.to(device)
    focal, principal = evidence.intrinsics.focal[0], evidence.intrinsics.centre[0]
    ray = torch.cat([(evidence.centre - principal) / focal, focal.new_ones(1)])
    diagonal_m = table.log_size_mean.exp().norm()
    nominal = focal[0] * diagonal_m / evidence.diagonal
    exponents = torch.arange(config.distances, device=device) - (config.distances - 1) / 2
    factors = config.distance_step**exponents
    translation = (nominal * factors).unsqueeze(-1) * ray  # (distances, 3)
    rotation = turns.repeat_interleave(len(factors), 0)
    pose = canonical(SE3(rotation, translation.repeat(len(turns), 1)), table.symmetry)
    return pose, table.log_size_mean.expand(len(rotation), 3)


def _cosine(first: Tensor, second: Tensor, symmetry: Symmetry) -> Tensor:
    if symmetry is Symmetry.AXIS_Z:
        return (first[:, 2] * second[:, 2]).sum()
    return ((first * second).sum() - 1) / 2
