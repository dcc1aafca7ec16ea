"""Where in the image objects are: peaks of the votes that their cells cast for their centres."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from category_pose_ros.config import setting, validate
from category_pose_ros.geometry import Camera
from category_pose_ros.models.backbone import FeatureMap
from category_pose_ros.models.posterior import Posterior


@dataclass(frozen=True)
class DetectionConfig:
    """Finding image positions."""

    long_side_px: int = setting(640, "The image is shrunk to this long side first.", minimum=128, maximum=4096)
    cell_threshold: float = setting(
        0.25, "A cell below this chance of its category casts no vote.", minimum=0.0, maximum=1.0
    )
    least_votes: float = setting(1.5, "Cells that must agree on a centre.", minimum=0.1, maximum=100.0)
    max_objects: int = setting(16, "Candidates per image that are followed up.", minimum=1, maximum=256)

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True)
class Candidate:
    """An image position where an object may be.

    Attributes:
        category: index into the loaded categories.
        u, v: centre in pixels of the rectified image.
        diagonal_px: apparent length of the diagonal of its box.
        votes: cells that agree.
    """

    category: int
    u: float
    v: float
    diagonal_px: float
    votes: float


def find_candidates(
    features: FeatureMap, posterior: Posterior, cells: Camera, camera: Camera, config: DetectionConfig
) -> list[Candidate]:
    """Candidates of all categories, most votes first.

    Args:
        features: of the whole image, batch of one.
        cells: camera of the feature map.
        camera: camera of the rectified image, in whose pixels the candidates are.
    """
    probability = posterior.category_probability(features)[0]  # (categories, h, w)
    found = [
        candidate
        for index in range(len(probability))
        for candidate in _peaks(index, probability[index], features, cells, camera, config)
    ]
    return sorted(found, key=lambda candidate: -candidate.votes)[: config.max_objects]


def _peaks(
    category: int, probability: Tensor, features: FeatureMap, cells: Camera, camera: Camera, config: DetectionConfig
) -> list[Candidate]:
    """Greedy mean shift: the densest centre takes the votes around it, then the next one."""
    rows, columns = torch.nonzero(probability > config.cell_threshold, as_tuple=True)
    if len(rows) == 0:
        return []
    weight = probability[rows, columns]
    offset = features.centre[0][:, rows, columns].T  # (N, 2)
    centre = torch.stack([columns, rows], -1) + offset
    log_diagonal = features.log_diagonal[0][rows, columns].clamp(0.0, 5.0)
    scale = camera.fx / cells.fx
    found: list[Candidate] = []
    while len(found) < config.max_objects and float(weight.sum()) >= config.least_votes:
        reach = 0.2 * log_diagonal.exp()  # (N,) cells
        density = _density(centre, weight, probability)
        seed = int(density.argmax())
        near = (centre - centre[seed]).norm(dim=-1) < reach[seed].clamp_min(0.8)
        share = weight * near
        votes = float(share.sum())
        if votes >= config.least_votes:
            middle = (share.unsqueeze(-1) * centre).sum(0) / votes
            diagonal = float(((share * log_diagonal).sum() / votes).exp())
            u, v = (float(value + 0.5) * scale - 0.5 for value in middle)
            found.append(Candidate(category, u, v, diagonal * scale, votes))
        taken = (centre - centre[seed]).norm(dim=-1) < 2 * reach[seed].clamp_min(0.8)
        weight = torch.where(taken, torch.zeros_like(weight), weight)
    return found


def _density(centre: Tensor, weight: Tensor, probability: Tensor) -> Tensor:
    """Votes near each vote's own centre, from a smoothed map of all votes."""
    height, width = probability.shape
    column, row = centre.round().long().unbind(-1)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    votes = torch.zeros(height * width, dtype=weight.dtype, device=weight.device)
    flat = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
    votes.index_add_(0, flat, weight * inside)
    smooth = functional.avg_pool2d(votes.view(1, 1, height, width), 3, stride=1, padding=1)
    # Votes outside the image have density zero; those already taken must stay behind even them.
    return torch.where(weight > 0, smooth.flatten()[flat], torch.full_like(weight, -1.0))
