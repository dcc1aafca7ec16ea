"""Frames with ground truth: what training learns from and evaluation compares with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from category_pose_ros.geometry import SE3, Symmetry
from category_pose_ros.geometry.symmetry import symmetry_of
from category_pose_ros.records import Frame, Region


@dataclass(frozen=True, eq=False)
class GroundTruthObject:
    """One annotated object.

    Attributes:
        category: name of its category.
        camera_from_object: pose of the centre of its tight box, float64, batch shape ().
        size_m: (3,) float64, extent along the object's x, y, z in metres.
        ignore: neither a hit nor a miss for whoever reports it.
        visible_fraction: share of its silhouette that is seen, in [0, 1]; None where unknown.
        track_id: the same for one object in all frames of a sequence; None where unknown.
        symmetry: in this image, where it is another than the category's: that of a mug whose handle is
            hidden. None: the category's.
        mask: (H, W) bool, the pixels that show it; None where unknown.
        crowd: an ignored region of the image, the projection of the box, in which there may be any number of
            objects of the category, as in COCO; pose and size say nothing else.
    """

    category: str
    camera_from_object: SE3
    size_m: npt.NDArray[np.float64]
    ignore: bool = False
    visible_fraction: float | None = None
    track_id: int | None = None
    symmetry: Symmetry | None = None
    mask: npt.NDArray[np.bool_] | None = None
    crowd: bool = False

    def __post_init__(self) -> None:
        rotation, translation = self.camera_from_object.rotation, self.camera_from_object.translation
        if not (rotation.isfinite().all() and translation.isfinite().all() and translation.any()):
            raise ValueError("camera_from_object: expected a finite pose away from the camera's centre")
        if not torch.linalg.det(rotation) > 0:
            raise ValueError("camera_from_object: expected a rotation, got a mirrored one")
        if self.size_m.shape != (3,) or not (np.isfinite(self.size_m) & (self.size_m > 0)).all():
            raise ValueError(f"size_m: expected three positive lengths, got {self.size_m.tolist()}")
        if self.crowd and not self.ignore:
            raise ValueError("crowd: expected with ignore alone, got an object that counts")
        if self.visible_fraction is not None and not 0 <= self.visible_fraction <= 1:
            raise ValueError(f"visible_fraction: expected a share from 0 to 1, got {self.visible_fraction}")

    @property
    def seen_symmetry(self) -> Symmetry:
        """The symmetry that an estimate from this image is to be judged with."""
        return symmetry_of(self.category) if self.symmetry is None else self.symmetry


@dataclass(frozen=True, eq=False)
class AnnotatedFrame:
    """A frame, what is in it, and the name under which reports speak of it.

    Attributes:
        world_from_camera: where the camera was, float64, batch shape (); None where unknown.
    """

    frame: Frame
    objects: tuple[GroundTruthObject, ...]
    name: str
    world_from_camera: SE3 | None = None


def with_masks(frames: Iterable[AnnotatedFrame]) -> Iterator[AnnotatedFrame]:
    """The frames with the annotated masks and categories as their regions, as a perfect segmentation would give them.

    Raises:
        ValueError: an object has no mask.
    """
    for annotated in frames:
        if any(item.mask is None for item in annotated.objects):
            raise ValueError(f"{annotated.name}: expected masks of all objects (mask_visib), found some without")
        regions = tuple(Region(mask=item.mask, category=item.category) for item in annotated.objects)
        yield replace(annotated, frame=replace(annotated.frame, regions=regions))
