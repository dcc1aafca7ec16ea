"""What the crop around a candidate says about its object."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from category_pose_ros.config import setting, validate
from category_pose_ros.estimation.state import Intrinsics
from category_pose_ros.geometry import Camera, Symmetry
from category_pose_ros.geometry.rotations import line_of_sight
from category_pose_ros.models.backbone import FeatureMap
from category_pose_ros.models.posterior import CategoryTable, Posterior

_SUREST = 0.98  # longest mean vote that is believed: a standard deviation of 8 degrees


@dataclass(frozen=True)
class CorrespondenceConfig:
    """From features to correspondences."""

    membership: float = setting(
        0.35, "A cell is the object's if it votes for a centre this near, in diagonals.", minimum=0.01, maximum=2.0
    )
    cells: int = setting(96, "Cells per object that are used, those surest to be on it.", minimum=8, maximum=10000)
    robust_cells: float = setting(1.5, "Scale of the robust kernel, in cells.", minimum=0.05, maximum=20.0)
    noise_cells: float = setting(0.4, "Standard deviation of a correspondence, in cells.", minimum=0.01, maximum=20.0)
    independence: float = setting(
        0.25, "Share of the cells that count as independent: neighbours err alike.", minimum=0.001, maximum=1.0
    )
    axis_information: float = setting(
        1.0, "Trust in the votes for the object's axes, relative to the certainty that they state.", minimum=0.0
    )
    full_presence: float = setting(
        0.7, "Share of a cuboid's visible vertices that lie on an object without occlusion.", minimum=0.1, maximum=1.0
    )

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True, eq=False)
class Votes:
    """Which cells of a crop show its object, and where they see it.

    Attributes:
        presence: (h, w) chance that a cell shows this object.
        inside: (h, w) bool, whether a cell lies in the image: a crop may reach beyond it.
        intrinsics: of the crop's cells, batch of one.
        centre: (2,) projected centre, in cells.
        diagonal: () apparent diagonal, in cells.
    """

    presence: Tensor
    inside: Tensor
    intrinsics: Intrinsics
    centre: Tensor
    diagonal: Tensor

    @cached_property
    def ray(self) -> Tensor:
        """Line of sight (3,) to the object's centre, z = 1."""
        focal, principal = self.intrinsics.focal[0], self.intrinsics.centre[0]
        return torch.cat([(self.centre - principal) / focal, focal.new_ones(1)])

    @cached_property
    def sight(self) -> Tensor:
        """Rotation (3, 3) that takes the optical axis to that line."""
        return line_of_sight(self.ray)


@dataclass(frozen=True, eq=False)
class Evidence(Votes):
    """All that a crop says about its object; N are the cells that say most of it.

    Attributes:
        said: what the network says about its cells, without a batch.
        table: neural mesh of the category that is looked for.
        shown: (V, h, w) chance that a cell shows a vertex of this object.
        points_box: (N, 3) point of the box that each of these cells sees, in units of the box.
        cells: (N, 2) column and row of each cell.
        weight: (N,) information of each cell's correspondence, per squared cell.
        axes: (2, 3) voted directions of the object's x and z axis along the line of sight, unit vectors.
        axes_information: (2,) inverse variance of each, per squared radian.
    """

    said: FeatureMap
    table: CategoryTable
    shown: Tensor
    points_box: Tensor
    cells: Tensor
    weight: Tensor
    axes: Tensor
    axes_information: Tensor

    def support(self, vertices: Tensor) -> Tensor:
        """Chance (n, h, w) that a cell shows the neighbourhood of each of n vertices of this object."""
        return (self.table.neighbours[vertices] @ self.shown.flatten(1)).unflatten(1, self.shown.shape[1:])

    def support_at(self, cells: Tensor) -> Tensor:
        """Chance (B, V) that cell (b, v) of `cells`, counted row by row, shows the neighbourhood of vertex v."""
        there = self.shown.flatten(1).T[cells]  # (B, V, vertices)
        return (there * self.table.neighbours).sum(-1)

    def axes_log_likelihood(self, rotations: Tensor) -> Tensor:
        """Of rotations (..., 3, 3) seen along the line of sight, given the votes; 0 at best.

        Each vote is a von Mises-Fisher density on the sphere with its information as concentration.
        """
        seen = rotations[..., [0, 2]].transpose(-1, -2)  # (..., 2, 3)
        return (self.axes_information * ((seen * self.axes).sum(-1) - 1)).sum(-1)


def gather_votes(
    features: FeatureMap,
    posterior: Posterior,
    categories: list[int],
    cameras: list[Camera],
    image: Camera,
    config: CorrespondenceConfig,
) -> list[Votes]:
    """Votes of every crop of a batch, a part of `gather_evidence` that takes a part of its time.

    Args:
        features: batch of crops, each centred on its candidate.
        categories: index of the category looked for in each crop.
        cameras: of the crops' cells.
        image: camera of the image that the crops are from.
    """
    probability = posterior.category_probability(features)
    wanted = torch.stack([each[index] for each, index in zip(probability, categories, strict=True)])
    return _votes(wanted, features, cameras, image, config)


def gather_evidence(
    features: FeatureMap,
    posterior: Posterior,
    categories: list[int],
    cameras: list[Camera],
    image: Camera,
    config: CorrespondenceConfig,
    mirrored: FeatureMap | None = None,
) -> list[Evidence]:
    """Evidence of every crop of a batch.

    Args:
        features: batch of crops, each centred on its candidate.
        categories: index of the category looked for in each crop.
        cameras: of the crops' cells.
        image: camera of the image that the crops are from.
        mirrored: of the same crops mirrored left to right, a second opinion: every category is its own
            mirror image. None: there is none.
    """
    probabilities = posterior.vertex_probability(features, categories)
    if mirrored is not None:
        others = posterior.vertex_probability(mirrored, categories)
        turned = [posterior.tables[index].mirror for index in categories]
        probabilities = [
            0.5 * (mine + other[mirror].flip(-1))
            for mine, other, mirror in zip(probabilities, others, turned, strict=True)
        ]
        features = features.votes_with_mirror(mirrored)
    tables = [posterior.tables[index] for index in categories]
    totals = torch.stack([each.sum(0) for each in probabilities])
    votes = _votes(totals, features, cameras, image, config)
    member = torch.stack([each.presence for each in votes]).flatten(1)  # (B, N)
    directions, certainty = _axes(tables, features.axes, member, config.axis_information)
    chosen = member.topk(min(config.cells, member.shape[1])).indices
    parts = zip(
        features.each(), tables, probabilities, totals.flatten(1), votes, chosen, directions, certainty, strict=True
    )
    return [_evidence(config, *part) for part in parts]


def _votes(
    probability: Tensor, features: FeatureMap, crops: list[Camera], image: Camera, config: CorrespondenceConfig
) -> list[Votes]:
    """Votes of crops whose cells show their categories with chances (B, h, w)."""
    batch, height, width = probability.shape
    cells = grid_cells(height, width).to(probability.device)  # (N, 2)
    optics = Intrinsics.of(crops, probability.device)
    inside = _inside(cells, optics, image)  # (B, N)
    chance = probability.flatten(1) * inside
    voted = cells + features.centre.flatten(2).transpose(1, 2)  # (B, N, 2)
    scale = features.log_diagonal.flatten(1).clamp(0, 5)
    reach = config.membership * scale.exp()

    # The votes of the cells in the middle of the crop, then of all that agree with them.
    middle = cells.new_tensor([(width - 1) / 2, (height - 1) / 2]).expand(batch, 2)
    member = chance * _near(voted, middle, reach)
    middle, _ = _weighted_mean(voted, scale, member, middle)
    member = chance * _near(voted, middle, reach)
    middle, diagonal = _weighted_mean(voted, scale, member, middle)
    presence, inside = member.view(batch, height, width), inside.view(batch, height, width)
    alone = [Intrinsics(optics.focal[k : k + 1], optics.centre[k : k + 1]) for k in range(batch)]
    return [Votes(*parts) for parts in zip(presence, inside, alone, middle, diagonal.exp(), strict=True)]


def _evidence(
    config: CorrespondenceConfig,
    said: FeatureMap,
    table: CategoryTable,
    probability: Tensor,
    total: Tensor,
    votes: Votes,
    chosen: Tensor,
    directions: Tensor,
    certainty: Tensor,
) -> Evidence:
    """Of one crop, from the chances (V, h, w) of its vertices, their sum (N,) and the cells chosen."""
    width = probability.shape[2]
    flat, member = probability.flatten(1), votes.presence.flatten()  # (V, N), (N,)
    points, confidence = _expected_points(table, flat[:, chosen])
    information = config.independence / config.noise_cells**2
    return Evidence(
        votes.presence,
        votes.inside,
        votes.intrinsics,
        votes.centre,
        votes.diagonal,
        said=said,
        table=table,
        shown=(flat * (member / total.clamp_min(1e-6))).view_as(probability),
        points_box=points,
        cells=torch.stack([chosen % width, chosen // width], -1).float(),
        weight=member[chosen] * confidence * information,
        axes=directions,
        axes_information=certainty,
    )


def grid_cells(height: int, width: int) -> Tensor:
    """Column and row (N, 2) of every cell."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([columns, rows], -1).flatten(0, 1).float()


def _axes(tables: list[CategoryTable], votes: Tensor, member: Tensor, trust: float) -> tuple[Tensor, Tensor]:
    """Mean vote of each object's cells: directions (B, 2, 3) and their information (B, 2).

    The length of a mean of unit vectors is its mean resultant length, which for a concentrated
    von Mises-Fisher density is 1 - 1 / concentration (Mardia and Jupp 2000).

    Args:
        tables: of the objects.
        votes: (B, 2, 3, h, w).
        member: (B, N) chance that a cell shows the object.
    """
    share = member / member.sum(-1, keepdim=True).clamp_min(1e-6)
    mean = (votes.flatten(3) * share[:, None, None]).sum(-1)
    length = mean.norm(dim=-1)
    information = trust * (1 / (1 - length.clamp_max(_SUREST)) - 1)
    # Of symmetric objects the x axis follows from the z axis and is no vote of its own.
    counts = [[float(table.symmetry is not Symmetry.AXIS_Z), 1.0] for table in tables]
    return mean / length.clamp_min(1e-6).unsqueeze(-1), information * information.new_tensor(counts)


def _expected_points(table: CategoryTable, probability: Tensor) -> tuple[Tensor, Tensor]:
    """Mean vertex around the likeliest place, (N, 3), and the share of probability there, (N,)."""
    smoothed = table.neighbours @ probability  # (V, N)
    mass, best = smoothed.max(0)
    local = probability * table.neighbours[best].T
    points = (local.T @ table.points) / mass.clamp_min(1e-9).unsqueeze(-1)
    return points, mass / probability.sum(0).clamp_min(1e-9)


def _near(voted: Tensor, middle: Tensor, reach: Tensor) -> Tensor:
    return ((voted - middle.unsqueeze(1)).norm(dim=-1) < reach).float()


def _weighted_mean(voted: Tensor, log_diagonal: Tensor, weight: Tensor, fallback: Tensor) -> tuple[Tensor, Tensor]:
    """Of votes (B, N, 2) and (B, N): means (B, 2), the fallback where nothing weighs, and (B,)."""
    total = weight.sum(-1, keepdim=True)
    share = weight / total.clamp_min(1e-6)
    mean = (share.unsqueeze(-1) * voted).sum(1)
    return torch.where(total > 1e-3, mean, fallback), (share * log_diagonal).sum(-1)


def _inside(cells: Tensor, optics: Intrinsics, image: Camera) -> Tensor:
    """Whether cells (N, 2) of crops lie in the image that they are from, (B, N) bool."""
    rays = (cells - optics.centre.unsqueeze(1)) / optics.focal.unsqueeze(1)
    pixels = rays * rays.new_tensor([image.fx, image.fy]) + rays.new_tensor([image.cx, image.cy])
    return ((pixels > -0.5) & (pixels < pixels.new_tensor([image.width, image.height]) - 0.5)).all(-1)
