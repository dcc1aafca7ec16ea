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

_ATTEMPTS = 3  # centres looked at per object allowed, which bounds the time that noise can cost
_SIZE_RATIO = 0.5  # greatest difference of log diagonals that speak of one object


@dataclass(frozen=True)
class DetectionConfig:
    """Finding image positions."""

    area_px: int = setting(
        640 * 480, "Images of more pixels than this are shrunk to it first.", minimum=128 * 128, maximum=4096 * 4096
    )
    levels: int = setting(2, "Images searched, each half as large as the one before.", minimum=1, maximum=6)
    largest_px: float = setting(
        140.0, "Objects that appear larger are left to the next level; training saw none.", minimum=16.0
    )
    largest_share: float = setting(
        0.85,
        "Nothing is found that appears longer than this share of the image's diagonal: "
        "an image that does not fill its crop looks like a laptop itself.",
        minimum=0.0,
    )
    cell_threshold: float = setting(
        0.25, "A cell below this chance of its category casts no vote.", minimum=0.0, maximum=1.0
    )
    least_votes: float = setting(1.5, "Cells that must agree on a centre.", minimum=0.1, maximum=100.0)
    max_objects: int = setting(12, "Candidates per image that are followed up.", minimum=1, maximum=256)

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True)
class Candidate:
    """An image position where an object may be.

    Attributes:
        category: index into the loaded categories.
        u, v: centre in pixels of the rectified image.
        diagonal_px: apparent length of the diagonal of its box.
        votes: cells that agree, at the level or in the crop where it was seen last.
    """

    category: int
    u: float
    v: float
    diagonal_px: float
    votes: float


def find_candidates(
    features: FeatureMap,
    posterior: Posterior,
    cells: Camera,
    camera: Camera,
    config: DetectionConfig,
    allowed: Tensor | None = None,
) -> list[Candidate]:
    """Candidates of all categories, most votes first.

    Args:
        features: of the whole image, batch of one.
        cells: camera of the feature map.
        camera: camera of the rectified image, in whose pixels the candidates are.
        allowed: (categories, h, w) cells that may vote; None: all.
    """
    probability = posterior.category_probability(features)[0]  # (categories, h, w)
    if allowed is not None:
        probability = probability * allowed
    found = [
        candidate
        for index in range(len(probability))
        for candidate in _peaks(index, probability[index], features, cells, camera, config)
    ]
    return sorted(found, key=lambda candidate: -candidate.votes)[: config.max_objects]


def merge_levels(levels: list[list[Candidate]], config: DetectionConfig, finest: float) -> list[Candidate]:
    """One list of the candidates of all levels, all in pixels of one image.

    An object is taken from the finest level at which it appears no larger than training showed it,
    and from the coarsest level whatever its size; the same object seen twice is taken once.

    Args:
        levels: finest first, each half as large as the one before.
        finest: scale of the finest level relative to the image of the candidates.
    """
    kept: list[Candidate] = []
    for number, candidates in enumerate(levels):
        largest = config.largest_px / finest * 2**number if number < len(levels) - 1 else float("inf")
        for item in candidates:
            if item.diagonal_px <= largest and not any(_same(item, other) for other in kept):
                kept.append(item)
    return sorted(kept, key=lambda item: -item.votes)[: config.max_objects]


def distinct(candidates: list[Candidate], least_votes: float) -> list[Candidate]:
    """Those that enough cells agree on, each object once, most votes first."""
    kept: list[Candidate] = []
    for item in sorted(candidates, key=lambda item: -item.votes):
        if item.votes >= least_votes and not any(_same(item, other) for other in kept):
            kept.append(item)
    return kept


def _same(first: Candidate, second: Candidate) -> bool:
    distance = ((first.u - second.u) ** 2 + (first.v - second.v) ** 2) ** 0.5
    smaller, larger = sorted((first.diagonal_px, second.diagonal_px))
    return first.category == second.category and distance < 0.3 * smaller and larger < 2 * smaller


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
    reach = (0.2 * log_diagonal.exp()).clamp_min(0.8)  # (N,) cells
    for _ in range(_ATTEMPTS * config.max_objects):
        if len(found) == config.max_objects or float(weight.sum()) < config.least_votes:
            break
        seed = int(_density(centre, weight, probability).argmax())
        away = (centre - centre[seed]).norm(dim=-1)
        # A small object in front of a large one has its centre, but not its size.
        like = (log_diagonal - log_diagonal[seed]).abs() < _SIZE_RATIO
        share = weight * (like & (away < reach[seed]))
        votes = float(share.sum())
        if votes >= config.least_votes:
            middle = (share.unsqueeze(-1) * centre).sum(0) / votes
            diagonal = float(((share * log_diagonal).sum() / votes).exp())
            u, v = (float(value + 0.5) * scale - 0.5 for value in middle)
            found.append(Candidate(category, u, v, diagonal * scale, votes))
        weight = torch.where(like & (away < 2 * reach[seed]), torch.zeros_like(weight), weight)
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
