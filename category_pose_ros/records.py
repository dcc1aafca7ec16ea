"""The records that travel between the rooms: frozen, validated when made."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from category_pose_ros.geometry import SE3, Camera

SECOND_NS = 1_000_000_000  # stamps are in nanoseconds
STRIDE_PX = 8  # pixels per cell of the feature map
OUTSIDE = 118  # grey value of what lies outside an image, in training and at test; zero for the network


@dataclass(frozen=True, eq=False)
class Region:
    """A part of an image where an object is said to be: what is inside the box, where there is one, and the mask.

    Attributes:
        box: left, top, right, bottom in pixels; it may reach beyond the image.
        mask: (H, W) bool of the whole image.
        category: of the object; None: any.

    Raises:
        ValueError: there is neither box nor mask, or one that is none.
    """

    box: tuple[float, float, float, float] | None = None
    mask: npt.NDArray[np.bool_] | None = None
    category: str | None = None

    def __post_init__(self) -> None:
        if self.box is None and self.mask is None:
            raise ValueError("region: expected a box or a mask, got neither")
        if self.box is not None:
            left, top, right, bottom = self.box
            if not np.isfinite(self.box).all() or left > right or top > bottom:
                raise ValueError(f"box: expected finite left, top, right, bottom in this order, got {self.box}")
        if self.mask is not None and (len(_shape(self.mask)) != 2 or self.mask.dtype != np.bool_):
            raise ValueError(f"mask: expected (H, W) bool, got {_describe(self.mask)}")


@dataclass(frozen=True, eq=False)
class Frame:
    """One camera image.

    Attributes:
        rgb: (H, W, 3) uint8.
        camera: intrinsics of this image.
        depth: (H, W) float32 metres, registered to the image; 0 and NaN are holes. None: RGB only.
        stamp_ns: time of exposure in integer nanoseconds; what tracks live by, so a stream's has to advance.
        regions: where objects are searched for; empty: nowhere. None: everywhere.

    Raises:
        ValueError: an array has the wrong shape or type, or does not match the camera.
    """

    rgb: npt.NDArray[np.uint8]
    camera: Camera
    depth: npt.NDArray[np.float32] | None = None
    stamp_ns: int = 0
    regions: tuple[Region, ...] | None = None

    def __post_init__(self) -> None:
        if _shape(self.rgb)[2:] != (3,) or self.rgb.dtype != np.uint8:
            raise ValueError(f"rgb: expected (H, W, 3) uint8, got {_describe(self.rgb)}")
        height, width = self.rgb.shape[:2]
        if (width, height) != (self.camera.width, self.camera.height):
            raise ValueError(
                f"rgb: expected the camera's size {self.camera.width}x{self.camera.height}, got {width}x{height}"
            )
        if self.depth is not None and (_shape(self.depth) != (height, width) or self.depth.dtype != np.float32):
            raise ValueError(f"depth: expected {(height, width)} float32 metres, got {_describe(self.depth)}")
        if not isinstance(self.stamp_ns, (int, np.integer)) or self.stamp_ns < 0:
            raise ValueError(f"stamp_ns: expected a non-negative integer, got {self.stamp_ns!r}")
        object.__setattr__(self, "stamp_ns", int(self.stamp_ns))  # differences of unsigned ones would wrap around
        for region in self.regions or ():
            if region.mask is not None and region.mask.shape != (height, width):
                raise ValueError(f"regions: expected masks of shape {(height, width)}, got {region.mask.shape}")


@dataclass(frozen=True, eq=False)
class ObjectEstimate:
    """One object in one frame.

    Attributes:
        category: name of its category.
        camera_from_object: pose of the centre of its tight box, batch shape ().
        size_m: (3,) float64, extent along the object's x, y, z in metres.
        score: confidence in [0, 1].
        visible_fraction: share in [0, 1] that is seen of the object's surface facing the camera and inside the image.
        covariance: (6, 6) float64 of (x, y, z, rotation about x, y, z) in the camera frame, in
            metres and radians, as in geometry_msgs/PoseWithCovariance.
    """

    category: str
    camera_from_object: SE3
    size_m: npt.NDArray[np.float64]
    score: float
    visible_fraction: float
    covariance: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        pose = self.camera_from_object
        if pose.batch_shape != ():
            raise ValueError(f"camera_from_object: expected one pose, got a batch of shape {tuple(pose.batch_shape)}")
        if not (pose.rotation.isfinite().all() and pose.translation.isfinite().all()):
            raise ValueError(f"camera_from_object: expected finite values, got {pose}")
        for name, shape in (("size_m", (3,)), ("covariance", (6, 6))):
            value = getattr(self, name)
            if _shape(value) != shape or not np.isfinite(value).all():
                raise ValueError(f"{name}: expected finite values of shape {shape}, got {value}")
        if not (self.size_m > 0).all():
            raise ValueError(f"size_m: expected positive metres, got {self.size_m}")
        for name in ("score", "visible_fraction"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name}: expected a number in [0, 1], got {value}")


class TrackState(enum.Enum):
    """Life cycle of a track."""

    TENTATIVE = "tentative"  # seen, not often or surely enough to be believed
    CONFIRMED = "confirmed"
    LOST = "lost"


@dataclass(frozen=True, eq=False)
class Track:
    """An object that keeps its identity from frame to frame.

    Attributes:
        track_id: positive, never used twice by one tracker.
        state: where it is in its life cycle.
        estimate: the object as of the latest frame in which it was seen.
        stamp_ns: time of that frame.
    """

    track_id: int
    state: TrackState
    estimate: ObjectEstimate
    stamp_ns: int

    def __post_init__(self) -> None:
        if self.track_id < 1:
            raise ValueError(f"track_id: expected a positive integer, got {self.track_id}")


def _shape(value: object) -> tuple[int, ...]:
    """Shape of an array; () for what is none, such as the None of an image that was not read."""
    return value.shape if isinstance(value, np.ndarray) else ()


def _describe(value: object) -> str:
    return f"{value.shape} {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
