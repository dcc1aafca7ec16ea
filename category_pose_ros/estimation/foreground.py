"""Masks of objects: those that come with a frame, or else what the neural mesh model takes for foreground.

The model sees cells of 8 pixels in a crop where the object is about 100 pixels across. The chance that
a cell shows the object is interpolated between the cells' centres, and the mask is where it exceeds
one half: outlines are smooth, and parts thinner than a cell, such as handles, are often lost.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from category_pose_ros.estimation import images
from category_pose_ros.estimation.belief import Belief
from category_pose_ros.estimation.evidence import Evidence
from category_pose_ros.estimation.neural_mesh import NeuralMeshMethod
from category_pose_ros.geometry import Camera
from category_pose_ros.models.pose_encoder import resampled
from category_pose_ros.records import Frame, Region

_LEAST_PX = 64  # masks of fewer pixels have no shape


@dataclass(frozen=True, eq=False)
class ObjectMask:
    """The visible pixels of one object.

    Attributes:
        pixels: (H, W) bool, of the rectified image.
        category: of the object; None: any.
        score: how sure it is that there is one, in [0, 1].
    """

    pixels: Tensor
    category: str | None
    score: float = 1.0

    @property
    def is_large_enough(self) -> bool:
        return int(self.pixels.sum()) >= _LEAST_PX


def given_masks(frame: Frame) -> list[ObjectMask] | None:
    """The masks of the frame's regions; None where not every region has one, or there are no regions.

    A mask that is alone and of no category, as mask files and topics give it, may show several
    objects: each of its connected parts is taken for one.
    """
    if frame.regions is None or any(region.mask is None for region in frame.regions):
        return None
    masks = [ObjectMask(_rectified(region, frame), region.category) for region in frame.regions]
    if len(masks) != 1 or masks[0].category is not None:
        return masks
    count, labels = cv2.connectedComponents(masks[0].pixels.numpy().astype(np.uint8))
    return [ObjectMask(torch.from_numpy(labels == part), None) for part in range(1, count)]


class Foreground:
    """Masks from the foreground of the neural mesh model.

    Args:
        method: finds the objects, and says of every cell around them whether it shows them.
    """

    def __init__(self, method: NeuralMeshMethod) -> None:
        self._method = method

    def search(self, frame: Frame, explained: Sequence[Belief] = ()) -> Generator[None, None, list[ObjectMask]]:
        """Of all objects of the frame but those explained, in short pieces of work."""
        found = yield from self._method.explain(frame, explained)
        return [self._mask(frame, evidence, estimate.score) for estimate, evidence in found]

    def follow(self, frame: Frame, beliefs: Sequence[Belief]) -> list[ObjectMask]:
        """Of objects that were seen before, around where each is believed to be; empty where it is not."""
        return [self._mask(frame, evidence, 1.0) for evidence in self._method.look_at(frame, beliefs)]

    @staticmethod
    def _mask(frame: Frame, evidence: Evidence, score: float) -> ObjectMask:
        height, width = evidence.presence.shape
        (fx, fy), (cx, cy) = evidence.intrinsics.focal[0].tolist(), evidence.intrinsics.centre[0].tolist()
        cells = Camera(fx, fy, cx, cy, width, height)
        chance = resampled(evidence.presence.float().cpu(), cells, frame.camera.undistorted())
        return ObjectMask(chance > 0.5, evidence.table.name, score)


def _rectified(region: Region, frame: Frame) -> Tensor:
    mask = np.asarray(region.mask, dtype=np.bool_)
    return torch.tensor(images.rectify_mask(mask, frame.camera))
