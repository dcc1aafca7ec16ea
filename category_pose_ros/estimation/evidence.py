"""What the crop around a candidate says about its object."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from category_pose_ros.config import setting, validate
from category_pose_ros.estimation.state import Intrinsics
from category_pose_ros.geometry import Camera, Symmetry
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

    @property
    def ray(self) -> Tensor:
        """Line of sight (3,) to the object's centre, z = 1."""
        focal, principal = self.intrinsics.focal[0], self.intrinsics.centre[0]
        return torch.cat([(self.centre - principal) / focal, focal.new_ones(1)])


@dataclass(frozen=True, eq=False)
class Evidence(Votes):
    """All that a crop says about its object; N are the cells that say most of it.

    Attributes:
        table: neural mesh of the category that is looked for.
        support: (V, h, w) chance that a cell shows the neighbourhood of a vertex of this object.
        points_box: (N, 3) point of the box that each of these cells sees, in units of the box.
        cells: (N, 2) column and row of each cell.
        weight: (N,) information of each cell's correspondence, per squared cell.
        axes: (2, 3) voted directions of the object's x and z axis along the line of sight, unit vectors.
        axes_information: (2,) inverse variance of each, per squared radian.
    """

    table: CategoryTable
    support: Tensor
    points_box: Tensor
    cells: Tensor
    weight: Tensor
    axes: Tensor
    axes_information: Tensor

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
    return [_votes(probability[k, categories[k]], features, k, cameras[k], image, config) for k in range(len(cameras))]


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
    evidence = []
    for k, (category, probability, camera) in enumerate(zip(categories, probabilities, cameras, strict=True)):
        votes = _votes(probability.sum(0), features, k, camera, image, config)
        evidence.append(_evidence(posterior.tables[category], probability, votes, features.axes[k], config))
    return evidence


def _votes(
    probability: Tensor, features: FeatureMap, row: int, crop: Camera, image: Camera, config: CorrespondenceConfig
) -> Votes:
    """Votes of crop `row`, whose cells (h, w) show the category with these probabilities."""
    height, width = probability.shape
    cells = _cells(height, width).to(probability.device)
    inside = _inside(cells, crop, image)
    chance = probability.flatten() * inside  # (N,)
    voted = cells + features.centre[row].flatten(1).T
    scale = features.log_diagonal[row].flatten().clamp(0, 5)

    # The votes of the cells in the middle of the crop, then of all that agree with them.
    middle = cells.new_tensor([(width - 1) / 2, (height - 1) / 2])
    member = chance * _near(voted, middle, scale, config.membership)
    middle, _ = _weighted_mean(voted, scale, member, middle)
    member = chance * _near(voted, middle, scale, config.membership)
    middle, diagonal = _weighted_mean(voted, scale, member, middle)
    shape = (height, width)
    return Votes(member.view(shape), inside.view(shape), _intrinsics(crop, cells.device), middle, diagonal.exp())


def _evidence(
    table: CategoryTable, probability: Tensor, votes: Votes, axes: Tensor, config: CorrespondenceConfig
) -> Evidence:
    vertices, height, width = probability.shape
    flat, member = probability.flatten(1), votes.presence.flatten()  # (V, N), (N,)
    share = member / flat.sum(0).clamp_min(1e-6)
    chosen = member.topk(min(config.cells, member.numel())).indices
    points, confidence = _expected_points(table, flat[:, chosen])
    information = config.independence / config.noise_cells**2
    directions, certainty = _axes(table, axes, member, config.axis_information)
    return Evidence(
        votes.presence,
        votes.inside,
        votes.intrinsics,
        votes.centre,
        votes.diagonal,
        table=table,
        support=(table.neighbours @ (flat * share)).view(vertices, height, width),
        points_box=points,
        cells=_cells(height, width).to(chosen.device)[chosen],
        weight=member[chosen] * confidence * information,
        axes=directions,
        axes_information=certainty,
    )


def _cells(height: int, width: int) -> Tensor:
    """Column and row (N, 2) of every cell."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([columns, rows], -1).flatten(0, 1).float()


def _axes(table: CategoryTable, votes: Tensor, member: Tensor, trust: float) -> tuple[Tensor, Tensor]:
    """Mean vote of the object's cells: directions (2, 3) and their information (2,).

    The length of a mean of unit vectors is its mean resultant length, which for a concentrated
    von Mises-Fisher density is 1 - 1 / concentration (Mardia and Jupp 2000).
    """
    mean = (votes.flatten(2) * member).sum(-1) / member.sum().clamp_min(1e-6)  # (2, 3)
    length = mean.norm(dim=-1)
    information = trust * (1 / (1 - length.clamp_max(_SUREST)) - 1)
    if table.symmetry is Symmetry.AXIS_Z:  # the x axis follows from the z axis and is no vote of its own
        information = information * information.new_tensor([0.0, 1.0])
    return mean / length.clamp_min(1e-6).unsqueeze(-1), information


def _expected_points(table: CategoryTable, probability: Tensor) -> tuple[Tensor, Tensor]:
    """Mean vertex around the likeliest place, (N, 3), and the share of probability there, (N,)."""
    smoothed = table.neighbours @ probability  # (V, N)
    mass, best = smoothed.max(0)
    local = probability * table.neighbours[best].T
    points = (local.T @ table.points) / mass.clamp_min(1e-9).unsqueeze(-1)
    return points, mass / probability.sum(0).clamp_min(1e-9)


def _near(voted: Tensor, middle: Tensor, log_diagonal: Tensor, membership: float) -> Tensor:
    return ((voted - middle).norm(dim=-1) < membership * log_diagonal.exp()).float()


def _weighted_mean(voted: Tensor, log_diagonal: Tensor, weight: Tensor, fallback: Tensor) -> tuple[Tensor, Tensor]:
    total = weight.sum()
    share = weight / total.clamp_min(1e-6)
    mean = (share.unsqueeze(-1) * voted).sum(0)
    return torch.where(total > 1e-3, mean, fallback), (share * log_diagonal).sum()


def _inside(cells: Tensor, crop: Camera, image: Camera) -> Tensor:
    """Whether cells (N, 2) of a crop lie in the image, (N,) bool."""
    pixels = image.project(crop.rays(cells))
    return ((pixels > -0.5) & (pixels < pixels.new_tensor([image.width, image.height]) - 0.5)).all(-1)


def _intrinsics(camera: Camera, device: torch.device) -> Intrinsics:
    focal = torch.tensor([[camera.fx, camera.fy]], dtype=torch.float32, device=device)
    return Intrinsics(focal, torch.tensor([[camera.cx, camera.cy]], dtype=torch.float32, device=device))
