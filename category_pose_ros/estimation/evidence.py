"""What the crop around a candidate says about its object."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from category_pose_ros.config import setting, validate
from category_pose_ros.estimation.state import Intrinsics
from category_pose_ros.geometry import Camera
from category_pose_ros.models.backbone import FeatureMap
from category_pose_ros.models.posterior import CategoryTable, Posterior


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
    full_presence: float = setting(
        0.7, "Share of a cuboid's visible vertices that lie on an object without occlusion.", minimum=0.1, maximum=1.0
    )

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a crop says about its object; N are the cells that say most of it.

    Attributes:
        table: neural mesh of the category that is looked for.
        support: (V, h, w) chance that a cell shows the neighbourhood of a vertex of this object.
        presence: (h, w) chance that a cell shows this object.
        intrinsics: of the crop's cells, batch of one.
        centre: (2,) projected centre, in cells.
        diagonal: () apparent diagonal, in cells.
        points_box: (N, 3) point of the box that each of these cells sees, in units of the box.
        cells: (N, 2) column and row of each cell.
        weight: (N,) information of each cell's correspondence, per squared cell.
    """

    table: CategoryTable
    support: Tensor
    presence: Tensor
    intrinsics: Intrinsics
    centre: Tensor
    diagonal: Tensor
    points_box: Tensor
    cells: Tensor
    weight: Tensor


def gather_evidence(
    features: FeatureMap,
    posterior: Posterior,
    categories: list[int],
    cameras: list[Camera],
    config: CorrespondenceConfig,
) -> list[Evidence]:
    """Evidence of every crop of a batch.

    Args:
        features: batch of crops, each centred on its candidate.
        categories: index of the category looked for in each crop.
        cameras: of the crops' cells.
    """
    height, width = features.log_diagonal.shape[1:]
    device = features.feature.device
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    cells = torch.stack([columns, rows], -1).flatten(0, 1).float().to(device)
    probabilities = posterior.vertex_probability(features, categories)
    return [
        _evidence(
            posterior.tables[categories[k]],
            probabilities[k],
            features.centre[k],
            features.log_diagonal[k],
            _intrinsics(cameras[k], device),
            cells,
            config,
        )
        for k in range(len(categories))
    ]


def _evidence(
    table: CategoryTable,
    probability: Tensor,
    centre: Tensor,
    log_diagonal: Tensor,
    intrinsics: Intrinsics,
    cells: Tensor,
    config: CorrespondenceConfig,
) -> Evidence:
    vertices, height, width = probability.shape
    flat = probability.flatten(1)  # (V, N)
    category = flat.sum(0)  # (N,)
    voted = cells + centre.flatten(1).T
    middle = cells.new_tensor([(width - 1) / 2, (height - 1) / 2])
    scale = log_diagonal.flatten().clamp(0, 5)

    # The votes of the cells in the middle of the crop, then of all that agree with them.
    member = category * _near(voted, middle, scale, config.membership)
    middle, _ = _weighted_mean(voted, scale, member, middle)
    member = category * _near(voted, middle, scale, config.membership)
    middle, diagonal = _weighted_mean(voted, scale, member, middle)

    chosen = member.topk(min(config.cells, member.numel())).indices
    points, confidence = _expected_points(table, flat[:, chosen])
    information = config.independence / config.noise_cells**2
    return Evidence(
        table,
        (table.neighbours @ (flat * (member / category.clamp_min(1e-6)))).view(vertices, height, width),
        member.view(height, width),
        intrinsics,
        middle,
        diagonal.exp(),
        points,
        cells[chosen],
        member[chosen] * confidence * information,
    )


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


def _intrinsics(camera: Camera, device: torch.device) -> Intrinsics:
    focal = torch.tensor([[camera.fx, camera.fy]], dtype=torch.float32, device=device)
    return Intrinsics(focal, torch.tensor([[camera.cx, camera.cy]], dtype=torch.float32, device=device))
