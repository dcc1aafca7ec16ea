"""Where in the image objects are: peaks of the votes that their cells cast for their centres."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from category_pose_ros.config import setting, validate
from category_pose_ros.estimation import images
from category_pose_ros.geometry import Camera
from category_pose_ros.models.backbone import FeatureMap
from category_pose_ros.models.posterior import Posterior

Array = npt.NDArray[np.floating[Any]]

_ATTEMPTS = 3  # centres looked at per object allowed, which bounds the time that noise can cost
_SIZE_RATIO = 0.5  # greatest difference of log diagonals that speak of one object


@dataclass(frozen=True)
class DetectionConfig:
    """Finding image positions."""

    area_px: int = setting(
        240_000, "Images of more pixels than this are shrunk to it first.", minimum=128 * 128, maximum=4096 * 4096
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
    rival_share: float = setting(
        0.2,
        "Of candidates of several categories at one place, those with less than this share of the most votes "
        "are not followed up.",
        minimum=0.0,
        maximum=1.0,
    )
    max_objects: int = setting(12, "Candidates per image that are followed up.", minimum=1, maximum=256)

    def __post_init__(self) -> None:
        validate(self)


def finest_scale(camera: Camera, config: DetectionConfig) -> float:
    """Of the finest image that is searched, relative to that of the camera."""
    return min((config.area_px / (camera.width * camera.height)) ** 0.5, 1.0)


def pyramid(image: images.Image, camera: Camera, config: DetectionConfig) -> list[tuple[images.Image, Camera]]:
    """The images that are searched, finest first, each made of the one before, with their cameras."""
    level = images.fit(image, camera, round(finest_scale(camera, config) * max(camera.width, camera.height)))
    found = [level]
    for _ in range(config.levels - 1):
        level = images.fit(*level, max(level[1].width, level[1].height) // 2)
        found.append(level)
    return found


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
    # One centre is found after the other, which a GPU would be asked for one by one.
    chance = probability.cpu().numpy()
    votes = torch.cat([features.centre[0], features.log_diagonal]).cpu().numpy()
    scale = camera.fx / cells.fx
    found = [item for index in range(len(chance)) for item in _peaks(index, chance[index], votes, scale, config)]
    return sorted(found, key=lambda candidate: -candidate.votes)[: config.max_objects]


def merge_levels(levels: list[list[Candidate]], config: DetectionConfig, finest: float) -> list[Candidate]:
    """One list of the candidates of all levels, all in pixels of one image.

    An object is taken from the finest level at which it appears no larger than training showed it,
    and from the coarsest level whatever its size; the same object seen twice is taken once.

    Args:
        levels: finest first, each half as large as the one before.
        finest: scale of the finest level relative to the image of the candidates.
    """
    largest = [config.largest_px / finest * 2**number for number in range(len(levels) - 1)] + [math.inf]
    fitting = [
        item for limit, level in zip(largest, levels, strict=True) for item in level if item.diagonal_px <= limit
    ]
    return sorted(_each_once(fitting, config.rival_share), key=lambda item: -item.votes)[: config.max_objects]


def distinct(candidates: list[Candidate], least_votes: float, rival_share: float) -> list[Candidate]:
    """Those that enough cells agree on, each object once, most votes first.

    Args:
        rival_share: as in DetectionConfig.
    """
    agreed = [item for item in candidates if item.votes >= least_votes]
    return _each_once(sorted(agreed, key=lambda item: -item.votes), rival_share)


def _each_once(candidates: list[Candidate], rival_share: float) -> list[Candidate]:
    """The first of each object, without those whose place speaks for another category far more."""
    kept: list[Candidate] = []
    for item in candidates:
        if not any(_same(item, other) for other in kept):
            kept.append(item)
    return [
        item
        for item in kept
        if all(item.votes >= rival_share * other.votes or not _at_one_place(item, other) for other in kept)
    ]


def _same(first: Candidate, second: Candidate) -> bool:
    return first.category == second.category and _at_one_place(first, second)


def _at_one_place(first: Candidate, second: Candidate) -> bool:
    distance = ((first.u - second.u) ** 2 + (first.v - second.v) ** 2) ** 0.5
    smaller, larger = sorted((first.diagonal_px, second.diagonal_px))
    return distance < 0.3 * smaller and larger < 2 * smaller


def _peaks(category: int, chance: Array, voted: Array, scale: float, config: DetectionConfig) -> list[Candidate]:
    """Greedy mean shift: the densest centre takes the votes around it, then the next one.

    Args:
        chance: (h, w) of each cell to show the category.
        voted: (3, h, w) offset of the centre in cells, and log diagonal.
        scale: pixels of the camera per cell.
    """
    rows, columns = np.nonzero(chance > config.cell_threshold)
    if len(rows) == 0:
        return []
    weight = chance[rows, columns].astype(np.float64)
    across, down, log_diagonal = voted[:, rows, columns].astype(np.float64)
    across, down, log_diagonal = across + columns, down + rows, log_diagonal.clip(0.0, 5.0)
    reach = (0.2 * np.exp(log_diagonal)).clip(0.8)  # (N,) cells
    found: list[Candidate] = []
    for _ in range(_ATTEMPTS * config.max_objects):
        if len(found) == config.max_objects or weight.sum() < config.least_votes:
            break
        seed = int(_density(across, down, weight, chance.shape).argmax())
        away = np.hypot(across - across[seed], down - down[seed])
        # A small object in front of a large one has its centre, but not its size.
        like = np.abs(log_diagonal - log_diagonal[seed]) < _SIZE_RATIO
        share = weight * (like & (away < reach[seed]))
        votes = float(share.sum())
        if votes >= config.least_votes:
            u, v = ((float(np.average(each, weights=share)) + 0.5) * scale - 0.5 for each in (across, down))
            diagonal = math.exp(float(np.average(log_diagonal, weights=share)))
            found.append(Candidate(category, u, v, diagonal * scale, votes))
        weight[like & (away < 2 * reach[seed])] = 0.0
    return found


def _density(across: Array, down: Array, weight: Array, shape: tuple[int, ...]) -> Array:
    """Votes near each vote's own centre, from a smoothed map of all votes."""
    height, width = shape
    column, row = np.rint(across).astype(np.intp), np.rint(down).astype(np.intp)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    flat = row.clip(0, height - 1) * width + column.clip(0, width - 1)
    votes = np.bincount(flat, weight * inside, height * width).reshape(height, width)
    smooth = cv2.blur(votes, (3, 3), borderType=cv2.BORDER_CONSTANT)
    # Votes outside the image have density zero; those already taken must stay behind even them.
    return np.where(weight > 0, smooth.ravel()[flat], -1.0)
