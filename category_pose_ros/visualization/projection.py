"""Straight lines in space as the curves that a real lens makes of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from category_pose_ros.geometry import Camera

_NEAR_M = 0.01  # what is nearer to the camera's plane than this is cut off
_SAMPLES = 16  # pieces per line under lens distortion
_REACH = 4.0  # image diagonals around the image; polynomials of a lens mean nothing farther out


def project_segment(
    camera: Camera, start: npt.NDArray[np.float64], end: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Pixels (N, 2) along the segment between two points (3,) of the camera frame.

    N is 0 where nothing of it can be drawn: it lies behind the camera, or far outside the view of the lens.
    """
    if start[2] > end[2]:
        return project_segment(camera, end, start)[::-1]
    if end[2] <= _NEAR_M:
        return np.empty((0, 2))
    if start[2] < _NEAR_M:
        start = start + (end - start) * (_NEAR_M - start[2]) / (end[2] - start[2])
    if not camera.is_distorted:
        return np.asarray(camera.project(torch.from_numpy(np.stack([start, end]))).numpy())
    fractions = np.linspace(0.0, 1.0, _SAMPLES + 1)[:, None]
    points = torch.from_numpy(start + fractions * (end - start))
    ideal = camera.undistorted().project(points).numpy()
    inside = _longest_run(np.abs(ideal).max(-1) < _REACH * np.hypot(camera.width, camera.height))
    return np.asarray(camera.project(points).numpy()[inside])


def _longest_run(kept: npt.NDArray[np.bool_]) -> slice:
    """The longest run of neighbours that are all True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], kept, [False]]).astype(np.int8)))
    if len(edges) == 0:
        return slice(0)
    starts, stops = edges[::2], edges[1::2]
    longest = int((stops - starts).argmax())
    return slice(int(starts[longest]), int(stops[longest]))
