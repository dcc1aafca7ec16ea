"""Pinhole camera with OpenCV axes (the ROS optical frame: x right, y down, z forward).

Pixel centres are at integer coordinates: pixel (0, 0) covers [-0.5, 0.5] x [-0.5, 0.5].
Cropping and resizing return a new camera and never touch a pose.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

DISTORTION_LENGTHS = {"plumb_bob": (4, 5), "rational_polynomial": (8,), "equidistant": (4,)}


@dataclass(frozen=True)
class Camera:
    """Intrinsics in pixels.

    Attributes:
        fx, fy: focal lengths in pixels, positive.
        cx, cy: principal point in pixels.
        width, height: image size in pixels.
        distortion_model: ROS name: plumb_bob, rational_polynomial or equidistant.
        distortion: its coefficients in ROS (OpenCV) order; empty for an ideal pinhole.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int
    distortion_model: str = "plumb_bob"
    distortion: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name in ("fx", "fy", "cx", "cy"):
            value = getattr(self, name)
            if not math.isfinite(value):
                raise ValueError(f"{name}: expected a finite number of pixels, got {value}")
        for name in ("fx", "fy", "width", "height"):
            value = getattr(self, name)
            if not value > 0:  # NaN too
                raise ValueError(f"{name}: expected a positive number of pixels, got {value}")
        if self.distortion_model not in DISTORTION_LENGTHS:
            known = ", ".join(DISTORTION_LENGTHS)
            raise ValueError(f"distortion_model: expected one of {known}, got {self.distortion_model!r}")
        lengths = DISTORTION_LENGTHS[self.distortion_model]
        if self.distortion and len(self.distortion) not in lengths:
            raise ValueError(
                f"distortion: {self.distortion_model} expects {' or '.join(map(str, lengths))} "
                f"coefficients, got {len(self.distortion)}"
            )
        if not all(math.isfinite(value) for value in self.distortion):
            raise ValueError(f"distortion: expected finite coefficients, got {self.distortion}")

    @property
    def is_distorted(self) -> bool:
        return any(self.distortion)

    def matrix(self) -> npt.NDArray[np.float64]:
        """Intrinsic matrix K, (3, 3)."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], dtype=np.float64)

    def undistorted(self) -> Camera:
        """The ideal pinhole with the same intrinsics, for an image that has been undistorted."""
        return replace(self, distortion_model="plumb_bob", distortion=())

    def cropped(self, left: int, top: int, width: int, height: int) -> Camera:
        """Camera of the image region whose first pixel is (left, top); it may exceed the image."""
        return replace(self, cx=self.cx - left, cy=self.cy - top, width=width, height=height)

    def resized(self, width: int, height: int) -> Camera:
        """Camera of the image resampled to (width, height) with pixel areas preserved."""
        sx, sy = width / self.width, height / self.height
        return replace(
            self,
            fx=self.fx * sx,
            fy=self.fy * sy,
            cx=(self.cx + 0.5) * sx - 0.5,
            cy=(self.cy + 0.5) * sy - 0.5,
            width=width,
            height=height,
        )

    def square(self, box: tuple[float, float, float, float], margin: float, side_px: int) -> Camera:
        """The camera of the square around a box, resampled.

        Args:
            box: left, top, right, bottom; borders of pixels.
            margin: side of the square over the longer side of the box, which counts as a pixel at least.
            side_px: pixels along each side of the result.
        """
        left, top, right, bottom = box
        side = margin * max(right - left, bottom - top, 1.0)
        scale = side_px / side
        u, v = (left + right - side) / 2, (top + bottom - side) / 2  # of the square's corner
        centre = ((self.cx - u) * scale - 0.5, (self.cy - v) * scale - 0.5)
        return Camera(self.fx * scale, self.fy * scale, *centre, side_px, side_px)

    def project(self, points_camera: Tensor) -> Tensor:
        """Pixels of points in front of the camera, distortion included.

        Args:
            points_camera: (..., 3) metres, z > 0.

        Returns:
            (..., 2) pixels (u, v).
        """
        normalised = points_camera[..., :2] / points_camera[..., 2:]
        if self.is_distorted:
            normalised = _distort(normalised, self.distortion_model, self.distortion)
        return normalised * normalised.new_tensor([self.fx, self.fy]) + normalised.new_tensor([self.cx, self.cy])

    def rays(self, pixels: Tensor) -> Tensor:
        """Directions (..., 3) with z = 1 through pixels (..., 2) of an undistorted image.

        Raises:
            ValueError: the camera has distortion; undistort the image first.
        """
        if self.is_distorted:
            raise ValueError("camera: expected no distortion for back-projection, undistort the image first")
        normalised = (pixels - pixels.new_tensor([self.cx, self.cy])) / pixels.new_tensor([self.fx, self.fy])
        return torch.cat([normalised, torch.ones_like(normalised[..., :1])], dim=-1)


def _distort(normalised: Tensor, model: str, coefficients: tuple[float, ...]) -> Tensor:
    """Distortion models of OpenCV's calib3d and fisheye modules, on normalised coordinates."""
    x, y = normalised.unbind(-1)
    r2 = x * x + y * y
    if model == "equidistant":
        k1, k2, k3, k4 = coefficients
        radius = r2.clamp_min(1e-12).sqrt()
        theta2 = torch.atan(radius) ** 2
        polynomial = 1 + theta2 * (k1 + theta2 * (k2 + theta2 * (k3 + theta2 * k4)))
        return normalised * (torch.atan(radius) * polynomial / radius).unsqueeze(-1)
    k1, k2, p1, p2, *rest = coefficients
    k3, k4, k5, k6 = (*rest, 0.0, 0.0, 0.0, 0.0)[:4]
    radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
    tangential_x = 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    tangential_y = p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
    return torch.stack([x * radial + tangential_x, y * radial + tangential_y], dim=-1)
