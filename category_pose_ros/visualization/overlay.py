"""Boxes, axes and labels over an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from category_pose_ros.geometry import SE3, Camera
from category_pose_ros.geometry.mesh import box_corners
from category_pose_ros.records import ObjectEstimate, Track
from category_pose_ros.visualization.label import Plate, draw_label, place_label
from category_pose_ros.visualization.palette import AXIS_COLOURS, Colour, category_colour
from category_pose_ros.visualization.projection import project_segment

Image = npt.NDArray[np.uint8]

# Corner numbers of `box_corners` differ in the bit of the axis that the edge runs along.
_EDGES = [(corner, corner | bit) for bit in (1, 2, 4) for corner in range(8) if not corner & bit]
_FRONT = (1, 3, 7, 5)  # corners of the face at +x, in order around it
_FRONT_OPACITY = 0.22
_AXIS_LENGTH = 0.6  # of the box's extent along the axis; half of it would end on the face
_SUBPIXEL_BITS = 4  # OpenCV draws at fractions of a pixel when coordinates are shifted
_HALO = (16, 18, 22)


def draw_overlay(rgb: Image, camera: Camera, objects: Sequence[ObjectEstimate | Track]) -> Image:
    """Draw every object's oriented box, its axes and its label; far objects first.

    The face at +x, the object's front, is tinted. Edges that the box itself hides are thin. Axes
    at the centre are x red, y green, z blue, as in RViz. What lies behind the camera is cut off.

    Args:
        rgb: (H, W, 3) uint8, not changed.
        camera: of the image, lens distortion included.
        objects: estimates, or tracks, whose labels show their ids.

    Returns:
        (H, W, 3) uint8.
    """
    canvas = rgb.copy()
    ordered = sorted(objects, key=lambda item: -float(_estimate(item).camera_from_object.translation[2]))
    for item in ordered:
        estimate = _estimate(item)
        pose = estimate.camera_from_object.to("cpu").to(torch.float64)
        colour = category_colour(estimate.category)
        draw_box(canvas, camera, pose, estimate.size_m, colour)
        _draw_axes(canvas, camera, pose, estimate.size_m)
    labels = _labels(camera, ordered[::-1])
    for text, plate, colour in reversed(labels):  # after the boxes, which would cross them; near ones on top
        draw_label(canvas, text, plate, colour)
    return canvas


def draw_box(
    canvas: Image, camera: Camera, camera_from_object: SE3, size_m: npt.NDArray[np.float64], colour: Colour
) -> None:
    """Draw one oriented box into the canvas."""
    pose = camera_from_object.to("cpu").to(torch.float64)
    corners = (pose @ torch.from_numpy(box_corners(size_m))).numpy()  # (8, 3)
    _tint(canvas, camera, corners[list(_FRONT)], colour)
    hidden = _hidden_corners(pose, size_m)
    width = _line_width(canvas)
    # Hidden edges first, so that the near ones pass over them.
    for is_near in (False, True):
        for start, end in _EDGES:
            if (start in hidden or end in hidden) != is_near:
                line = project_segment(camera, corners[start], corners[end])
                _polyline(canvas, line, colour, width, has_halo=is_near)


def _estimate(item: ObjectEstimate | Track) -> ObjectEstimate:
    return item.estimate if isinstance(item, Track) else item


def _line_width(canvas: Image) -> int:
    return int(max(1, round(min(canvas.shape[:2]) / 240)))


def _hidden_corners(pose: SE3, size_m: npt.NDArray[np.float64]) -> set[int]:
    """Corners that lie on no face turned to the camera."""
    camera_position = pose.inverse().translation.numpy()
    beyond = np.abs(camera_position) > size_m / 2  # which pair of faces has one that is turned to us
    near_bits = [(axis, int(camera_position[axis] > 0)) for axis in range(3) if beyond[axis]]
    return {corner for corner in range(8) if not any((corner >> axis) & 1 == bit for axis, bit in near_bits)}


def _tint(canvas: Image, camera: Camera, face: npt.NDArray[np.float64], colour: Colour) -> None:
    outline = [project_segment(camera, face[k], face[(k + 1) % 4]) for k in range(4)]
    points = np.concatenate(outline)
    if len(points) < 3:
        return
    layer = canvas.copy()
    cv2.fillPoly(layer, [_fixed_point(points)], colour, cv2.LINE_AA, _SUBPIXEL_BITS)
    cv2.addWeighted(layer, _FRONT_OPACITY, canvas, 1 - _FRONT_OPACITY, 0.0, dst=canvas)


def _draw_axes(canvas: Image, camera: Camera, pose: SE3, size_m: npt.NDArray[np.float64]) -> None:
    centre = pose.translation.numpy()
    # Rows are the object's axes in the camera frame, long enough to stick out of the box.
    axes = pose.rotation.numpy().T * (_AXIS_LENGTH * size_m)[:, None]
    for axis in np.argsort(-axes[:, 2]):  # the one that points away is drawn first
        _polyline(canvas, project_segment(camera, centre, centre + axes[axis]), AXIS_COLOURS[axis], _line_width(canvas))


def _polyline(
    canvas: Image, points: npt.NDArray[np.float64], colour: Colour, width: int, has_halo: bool = True
) -> None:
    """A line, with a dark halo that keeps it visible on any ground."""
    if len(points) < 2:
        return
    fixed = [_fixed_point(points)]
    if has_halo:
        cv2.polylines(canvas, fixed, False, _HALO, width + 2, cv2.LINE_AA, _SUBPIXEL_BITS)
    cv2.polylines(canvas, fixed, False, colour, width if has_halo else 1, cv2.LINE_AA, _SUBPIXEL_BITS)


def _fixed_point(points: npt.NDArray[np.float64]) -> Any:
    return np.rint(points * 2**_SUBPIXEL_BITS).astype(np.int32)


def _labels(camera: Camera, objects: Sequence[ObjectEstimate | Track]) -> list[tuple[str, Plate, Colour]]:
    """What to draw where, the first choosing first; nothing for objects that are not in the image."""
    labels: list[tuple[str, Plate, Colour]] = []
    for item in objects:
        estimate = _estimate(item)
        pose = estimate.camera_from_object.to("cpu").to(torch.float64)
        corners = (pose @ torch.from_numpy(box_corners(estimate.size_m))).numpy()
        points = np.concatenate([project_segment(camera, corners[start], corners[end]) for start, end in _EDGES])
        if len(points) == 0 or (points.max(0) < 0).any() or (points.min(0) > (camera.width, camera.height)).any():
            continue
        number = f" #{item.track_id}" if isinstance(item, Track) else ""
        text = f"{estimate.category}{number} {estimate.score:.2f}"
        anchor = float(points[:, 0].mean()), float(points[:, 1].min())
        plate = place_label(camera.width, camera.height, text, anchor, [taken for _, taken, _ in labels])
        labels.append((text, plate, category_colour(estimate.category)))
    return labels
