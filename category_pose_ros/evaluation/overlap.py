"""How much boxes overlap: oriented boxes in space and their projections in the image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial import ConvexHull, QhullError

from category_pose_ros.geometry import SE3, Camera
from category_pose_ros.geometry.mesh import box_corners

Array = npt.NDArray[np.float64]

# Corner numbers differ in the bit of the axis that the edge runs along.
_EDGES = [(corner, corner | bit) for bit in (1, 2, 4) for corner in range(8) if not corner & bit]
_NEAR_M = 1e-3  # what is nearer to the camera's plane than this is cut off before projecting


def box_iou_2d(first: Array, second: Array) -> Array:
    """Intersection over union of axis-aligned boxes.

    Args:
        first: (A, 4) as left, top, right, bottom in pixels.
        second: (B, 4).

    Returns:
        (A, B) in [0, 1]; a box without area overlaps nothing.
    """
    intersection = _intersection(first, second)
    return _ratio(intersection, _area(first)[:, None] + _area(second)[None, :] - intersection)


def box_coverage_2d(first: Array, second: Array) -> Array:
    """Share of the area of each first box that lies inside each second one; arguments and result as of `box_iou_2d`."""
    return _ratio(_intersection(first, second), np.repeat(_area(first)[:, None], len(second), axis=1))


def projected_box(camera: Camera, camera_from_object: SE3, size_m: Array) -> Array:
    """The part inside the image of the smallest box around the projection of an oriented box.

    Lens distortion is left out: both boxes that are compared are drawn by the same ideal pinhole.

    Args:
        camera: of the image.
        camera_from_object: pose of the box's centre, batch shape ().
        size_m: (3,) extent.

    Returns:
        (4,) left, top, right, bottom in pixels; without area where the object is out of view.
    """
    corners = _corners(camera_from_object, size_m)
    visible = [part for a, b in _EDGES if (part := _in_front(corners[a], corners[b])) is not None]
    if not visible:
        return np.zeros(4)
    pixels = camera.undistorted().project(torch.from_numpy(np.concatenate(visible))).numpy()
    image = np.array([camera.width, camera.height]) - 0.5
    return np.concatenate([pixels.min(0).clip(-0.5, image), pixels.max(0).clip(-0.5, image)])


def box_iou_3d(first: SE3, first_size_m: Array, second: SE3, second_size_m: Array) -> float:
    """Exact intersection over union of two oriented boxes, in [0, 1].

    Every corner of the intersection ends a piece of an edge of one box inside the other, so the
    hull of those pieces is the intersection (compare Ahmadyan et al., Objectron, CVPR 2021, who
    clip the faces). The NOCS evaluation (Wang et al. 2019) takes the axis-aligned boxes of the
    corners instead, which overestimates the overlap of turned boxes.

    Args:
        first, second: poses of the centres, batch shape ().
        first_size_m, second_size_m: (3,) extents.
    """
    pieces = np.concatenate(
        [
            _edges_inside(first, first_size_m, second, second_size_m),
            _edges_inside(second, second_size_m, first, first_size_m),
        ]
    )
    intersection = _hull_volume(pieces)
    union = float(np.prod(first_size_m) + np.prod(second_size_m)) - intersection
    return min(intersection / union, 1.0)


def _intersection(first: Array, second: Array) -> Array:
    """Areas (A, B) that axis-aligned boxes have in common."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    return np.asarray((high - low).clip(min=0).prod(-1))


def _area(boxes: Array) -> Array:
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(-1))


def _ratio(part: Array, whole: Array) -> Array:
    """0 where there is no whole."""
    return np.asarray(np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0))


def _in_front(start: Array, end: Array) -> Array | None:
    """The piece (2, 3) of an edge in front of the camera, or None."""
    if start[2] > end[2]:
        start, end = end, start
    if end[2] <= _NEAR_M:
        return None
    if start[2] < _NEAR_M:
        start = start + (end - start) * (_NEAR_M - start[2]) / (end[2] - start[2])
    return np.stack([start, end])


def _corners(camera_from_object: SE3, size_m: Array) -> Array:
    corners = camera_from_object.to("cpu").to(torch.float64) @ torch.from_numpy(box_corners(size_m))
    return np.asarray(corners.numpy())


def _edges_inside(box: SE3, size_m: Array, other: SE3, other_size_m: Array) -> Array:
    """Ends (N, 3), in the camera frame, of the pieces of a box's edges inside another box."""
    other_from_box = other.to("cpu").to(torch.float64).inverse() @ box.to("cpu").to(torch.float64)
    ends = _corners(other_from_box, size_m)[np.array(_EDGES)]  # (12, 2, 3)
    start, step = ends[:, 0], ends[:, 1] - ends[:, 0]  # (12, 3), in the other box's frame
    half = other_size_m / 2
    # An edge parallel to a face never crosses it: infinitely long before, infinitely long after.
    with np.errstate(divide="ignore", invalid="ignore"):
        crossings = np.stack([(-half - start) / step, (half - start) / step])  # (2, 12, 3)
    parallel = np.abs(step) < 1e-12
    outside = parallel & (np.abs(start) > half * (1 + 1e-9))
    enter = np.where(parallel, np.where(outside, np.inf, -np.inf), crossings.min(0)).max(-1).clip(min=0)
    leave = np.where(parallel, np.inf, crossings.max(0)).min(-1).clip(max=1)
    kept = enter < leave
    fractions = np.stack([enter[kept], leave[kept]], axis=1)[..., None]  # (K, 2, 1)
    ends = _corners(box, size_m)[np.array(_EDGES)][kept]  # (K, 2, 3), in the camera frame
    return np.asarray((ends[:, :1] + fractions * (ends[:, 1:] - ends[:, :1])).reshape(-1, 3))


def _hull_volume(points: Array) -> float:
    if len(points) < 4:
        return 0.0
    try:
        return float(ConvexHull(points).volume)
    except QhullError:  # the points lie in one plane
        return 0.0
