"""Straight lines in space as the curves that a real lens makes of them."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from category_pose_ros.geometry import Camera

_NEAR_M = 0.01  # what is nearer to the camera's plane than this is cut off
_SAMPLES = 16  # pieces per line under lens distortion
_REACH = 4.0  # image diagonals around the image; nothing farther out is drawn
_RADII = 512  # at which a lens is asked whether it still spreads


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
    radius = (points[:, :2].norm(dim=-1) / points[:, 2]).numpy()
    return np.asarray(camera.project(points).numpy()[radius < _view_radius(camera)])


@lru_cache(maxsize=16)
def _view_radius(camera: Camera) -> float:
    """Tangent of the angle from the optical axis up to which a lens means what it says.

    Farther out its polynomial turns back, and what is beside the camera would be drawn into the image.
    """
    reach = _REACH * np.hypot(camera.width, camera.height) / min(camera.fx, camera.fy)
    angle = torch.arange(8) * (torch.pi / 4)
    direction = torch.stack([angle.cos(), angle.sin()], -1).double()  # (8, 2)
    radius = torch.linspace(0.0, reach, _RADII, dtype=torch.float64)
    ray = torch.cat([radius[:, None, None] * direction, torch.ones(_RADII, 8, 1, dtype=torch.float64)], -1)
    unit = replace(camera, fx=1.0, fy=1.0, cx=0.0, cy=0.0)
    outward = (unit.project(ray) * direction).sum(-1)  # (radii, 8)
    turned_back = torch.nonzero((outward.diff(dim=0) <= 0).any(-1)).flatten()
    return float(radius[turned_back[0]]) if len(turned_back) else float(reach)
