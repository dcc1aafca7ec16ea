"""Crops around candidates, in which all objects appear at one scale, and what the network says about them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

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
    mirror: bool = setting(True, "Searches also read the last crop of each candidate mirrored, as a second opinion.")

    def __post_init__(self) -> None:
        validate(self)
        if self.side_px % 32:
            raise ValueError(f"side_px: expected a multiple of 32, got {self.side_px}")


@dataclass(frozen=True, eq=False)
class Crop:
    """A part of an image, and the camera of its cells."""

    image: images.Image
    cells: Camera


@dataclass(frozen=True, eq=False)
class Look:
    """A crop and what the network says about it, without a batch."""

    crop: Crop
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
        crops = [self._crop(image, camera, candidate) for candidate in candidates]
        categories, cells = [candidate.category for candidate in candidates], [crop.cells for crop in crops]
        features = self._network([crop.image for crop in crops])
        votes = gather_votes(features, self._posterior, categories, cells, camera, self._correspondence)
        aimed: dict[Candidate, Look | None] = {}
        for candidate, found, crop, said in zip(candidates, votes, crops, features.each(), strict=True):
            moved = _sharpened(candidate, found, camera)
            if self._stays(candidate, moved):
                aimed[dataclasses.replace(candidate, votes=moved.votes)] = Look(crop, said)
            else:
                aimed[moved] = None
        return aimed

    def read(
        self,
        image: images.Image,
        camera: Camera,
        candidates: Sequence[Candidate],
        *,
        twice: bool = False,
        taken: Mapping[Candidate, Look | None] = MappingProxyType({}),
    ) -> list[Evidence]:
        """What a crop around each candidate says about it.

        Args:
            twice: its mirror image is asked as well, if that is wished at all.
            taken: crops that there are already.
        """
        if not candidates:
            return []
        looks = [taken.get(candidate) for candidate in candidates]
        crops = [
            self._crop(image, camera, candidate) if look is None else look.crop
            for candidate, look in zip(candidates, looks, strict=True)
        ]
        pictures = [crop.image for crop, look in zip(crops, looks, strict=True) if look is None]
        with_mirror = twice and self._config.mirror
        if with_mirror:
            pictures += [np.ascontiguousarray(crop.image[:, ::-1]) for crop in crops]
        said = iter(self._network(pictures).each() if pictures else [])
        features = FeatureMap.stack([next(said) if look is None else look.said for look in looks])
        mirrored = FeatureMap.stack(list(said)) if with_mirror else None
        categories, cells = [candidate.category for candidate in candidates], [crop.cells for crop in crops]
        return gather_evidence(features, self._posterior, categories, cells, camera, self._correspondence, mirrored)

    def _crop(self, image: images.Image, camera: Camera, candidate: Candidate) -> Crop:
        side_px, side = self._config.side_px, candidate.diagonal_px * self._config.side_px / self._config.diagonal_px
        patch, patch_camera = images.square_crop(image, camera, (candidate.u, candidate.v), side, side_px)
        return Crop(patch, images.cell_camera(patch_camera))

    def _stays(self, before: Candidate, after: Candidate) -> bool:
        """Whether a crop around a candidate would be nearly the same."""
        moved = math.hypot(after.u - before.u, after.v - before.v) / before.diagonal_px
        resized = abs(math.log(after.diagonal_px / before.diagonal_px))
        return max(moved, resized) < self._config.stays


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
