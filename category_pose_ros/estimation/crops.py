"""Crops around candidates, in which all objects appear at one scale, and what the network says about them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from category_pose_ros.config import setting, validate
from category_pose_ros.estimation import images
from category_pose_ros.estimation.detection import Candidate
from category_pose_ros.estimation.evidence import (
    CorrespondenceConfig,
    Evidence,
    Votes,
    gather_evidence,
    gather_votes,
)
from category_pose_ros.geometry import Camera
from category_pose_ros.models.backbone import FeatureMap
from category_pose_ros.models.posterior import Posterior


@dataclass(frozen=True)
class CropConfig:
    """Crops around candidates."""

    side_px: int = setting(128, "Side of the crop around each candidate, a multiple of 32.", minimum=64, maximum=512)
    diagonal_px: float = setting(105.0, "Apparent diagonal of the object in its crop.", minimum=32.0, maximum=512.0)
    stays: float = setting(
        0.05,
        "A crop that its votes would move by less than this, in diagonals, and resize by as much, is not taken again.",
        minimum=0.0,
        maximum=1.0,
    )
    mirror: bool = setting(True, "The last crop of each candidate is also read mirrored, as a second opinion.")

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True, eq=False)
class Look:
    """A crop, the camera of its cells, and what the network says about them, without a batch."""

    crop: images.Image
    cells: Camera
    said: FeatureMap


class CropReader:
    """Looks at candidates one by one.

    Args:
        network: what it says about images of one size.
        posterior: of the loaded categories.
        config: the crops.
        correspondence: how they are read.
    """

    def __init__(
        self,
        network: Callable[[list[images.Image]], FeatureMap],
        posterior: Posterior,
        config: CropConfig,
        correspondence: CorrespondenceConfig,
    ) -> None:
        self._network = network
        self._posterior = posterior
        self._config = config
        self._correspondence = correspondence

    def aim(self, image: images.Image, camera: Camera, candidates: list[Candidate]) -> dict[Candidate, Look | None]:
        """The candidates where the cells of a crop around each see them; with the crop, where it would be the same."""
        looks, categories = self._looks(image, camera, candidates), [candidate.category for candidate in candidates]
        features, cells = _batch(looks), [look.cells for look in looks]
        votes = gather_votes(features, self._posterior, categories, cells, camera, self._correspondence)
        aimed: dict[Candidate, Look | None] = {}
        for candidate, found, look in zip(candidates, votes, looks, strict=True):
            moved = _sharpened(candidate, found, camera)
            if self._stays(candidate, moved):
                aimed[dataclasses.replace(candidate, votes=moved.votes)] = look
            else:
                aimed[moved] = None
        return aimed

    def read(self, image: images.Image, camera: Camera, candidates: list[Candidate]) -> list[Evidence]:
        """What a crop around each candidate says about it."""
        return self._evidence(self._looks(image, camera, candidates), None, candidates, camera)

    def read_twice(self, image: images.Image, camera: Camera, aimed: Mapping[Candidate, Look | None]) -> list[Evidence]:
        """The same of each crop and, if wished, its mirror image; crops that there are already are not taken again."""
        fresh = iter(self._looks(image, camera, [item for item, look in aimed.items() if look is None]))
        looks, mirrored = [look or next(fresh) for look in aimed.values()], None
        if self._config.mirror:
            mirrored = self._network([np.ascontiguousarray(look.crop[:, ::-1]) for look in looks])
        return self._evidence(looks, mirrored, list(aimed), camera)

    def _evidence(
        self, looks: list[Look], mirrored: FeatureMap | None, candidates: list[Candidate], camera: Camera
    ) -> list[Evidence]:
        categories, cells = [candidate.category for candidate in candidates], [look.cells for look in looks]
        return gather_evidence(
            _batch(looks), self._posterior, categories, cells, camera, self._correspondence, mirrored
        )

    def _looks(self, image: images.Image, camera: Camera, candidates: Sequence[Candidate]) -> list[Look]:
        """One at every candidate."""
        if not candidates:
            return []
        config = self._config
        crops, cells = [], []
        for candidate in candidates:
            side = candidate.diagonal_px * config.side_px / config.diagonal_px
            patch, patch_camera = images.square_crop(image, camera, (candidate.u, candidate.v), side, config.side_px)
            crops.append(patch)
            cells.append(images.cell_camera(patch_camera))
        return list(map(Look, crops, cells, self._network(crops).each()))

    def _stays(self, before: Candidate, after: Candidate) -> bool:
        """Whether a crop around a candidate would be nearly the same."""
        moved = math.hypot(after.u - before.u, after.v - before.v) / before.diagonal_px
        resized = abs(math.log(after.diagonal_px / before.diagonal_px))
        return max(moved, resized) < self._config.stays


def _batch(looks: list[Look]) -> FeatureMap:
    return FeatureMap.stack([look.said for look in looks])


def _sharpened(candidate: Candidate, found: Votes, camera: Camera) -> Candidate:
    """The candidate as the votes in its crop place it, in pixels of the camera."""
    focal, principal = found.intrinsics.focal[0], found.intrinsics.centre[0]
    across, down = ((found.centre - principal) / focal).tolist()
    diagonal = float(found.diagonal / focal[0]) * camera.fx
    votes = float(found.presence.sum())
    if not 0.5 < diagonal / candidate.diagonal_px < 2.0:  # nothing was seen in the crop
        return dataclasses.replace(candidate, votes=votes)
    u, v = across * camera.fx + camera.cx, down * camera.fy + camera.cy
    return Candidate(candidate.category, u, v, diagonal, votes)
