"""Straight lines in space as the curves that a real lens makes of them."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from category_pose_ros.geometry import Camera

_NEAR_M = 0.01  # what is nearer to the camera's plane than this is cut off
_SAMPLES = 16  # pieces per line under lens distortion
_REACH = 4.0  # image diagonals around the image; nothing farther out is drawn
_Point = npt.NDArray[np.float64]  # (3,), camera frame, metres
_RADII = 512  # at which a lens is asked whether it still spreads


def project_segment(camera: Camera, start: _Point, end: _Point) -> npt.NDArray[np.float64]:
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
    within = _in_view(start, end, _view_radius(camera))
    if within is None:
        return np.empty((0, 2))
    fractions = np.linspace(*within, _SAMPLES + 1)[:, None]
    pixels = np.asarray(camera.project(torch.from_numpy(start + fractions * (end - start))).numpy())
    return np.asarray(pixels[np.abs(pixels).max(-1) < _REACH * np.hypot(camera.width, camera.height)])


def _in_view(start: _Point, end: _Point, radius: float) -> tuple[float, float] | None:
    """Between which fractions a segment before the camera is inside the cone x^2 + y^2 < (radius z)^2, if anywhere."""
    metric = np.array([1.0, 1.0, -(radius**2)])
    along = end - start
    roots = np.roots([metric @ along**2, 2 * metric @ (start * along), metric @ start**2])
    cuts = sorted(float(root.real) for root in roots if abs(root.imag) < 1e-12 and 0 < root.real < 1)
    for low, high in itertools.pairwise([0.0, *cuts, 1.0]):  # the cone is convex: at most one of them is inside
        if metric @ (start + 0.5 * (low + high) * along) ** 2 < 0:
            return low, high
    return None


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
