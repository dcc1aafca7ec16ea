"""Cameras: pixel centres, crop and resize, distortion against OpenCV, refusals."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from category_pose_ros.geometry import Camera

CAMERA = Camera(fx=600.0, fy=580.0, cx=310.5, cy=245.0, width=640, height=480)
TIGHT = {"atol": 1e-9, "rtol": 1e-12}  # pixels

DISTORTIONS = {
    "plumb_bob, 4": ("plumb_bob", (0.1, -0.25, 0.002, -0.001)),
    "plumb_bob, 5": ("plumb_bob", (-0.3, 0.12, 0.001, 0.0005, -0.02)),
    "rational_polynomial": ("rational_polynomial", (0.5, -0.2, 0.001, -0.002, 0.03, 0.6, -0.1, 0.01)),
    "equidistant": ("equidistant", (-0.02, 0.005, -0.003, 0.0008)),
}


def points_in_view(count: int = 200) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    xy = torch.rand(count, 2, generator=generator, dtype=torch.float64) - 0.5
    z = 0.3 + 2 * torch.rand(count, 1, generator=generator, dtype=torch.float64)
    return torch.cat([xy * z, z], dim=-1)


def test_the_principal_ray_hits_the_principal_point() -> None:
    assert CAMERA.project(torch.tensor([0.0, 0.0, 2.0])).tolist() == [310.5, 245.0]


def test_axes_are_right_down_forward() -> None:
    u, v = CAMERA.project(torch.tensor([0.1, 0.2, 2.0])).tolist()
    assert (u, v) == pytest.approx((310.5 + 600 * 0.05, 245 + 580 * 0.1))


def test_pixel_centres_are_at_integers() -> None:
    """Halving an image merges pixels 0 and 1, centres at 0 and 1, into pixel 0: 0.5 becomes 0."""
    camera = Camera(fx=100.0, fy=100.0, cx=0.5, cy=2.5, width=64, height=48)
    half = camera.resized(32, 24)
    assert (half.cx, half.cy, half.fx, half.fy) == (0.0, 1.0, 50.0, 50.0)


def test_the_centre_of_the_image_stays_the_centre() -> None:
    centred = dataclasses.replace(CAMERA, cx=319.5, cy=239.5)
    double = centred.resized(1280, 960)
    assert (double.cx, double.cy) == (639.5, 479.5)


def test_resizing_agrees_with_opencv_on_an_image() -> None:
    """An image of its own pixel coordinates, made smaller, says where each small pixel came from."""
    u, v = np.meshgrid(np.arange(640, dtype=np.float32), np.arange(480, dtype=np.float32))
    came_from = torch.from_numpy(cv2.resize(np.stack([u, v], -1), (160, 96), interpolation=cv2.INTER_AREA)).double()
    small_u, small_v = np.meshgrid(np.arange(160.0), np.arange(96.0))
    rays = CAMERA.resized(160, 96).rays(torch.from_numpy(np.stack([small_u, small_v], -1)))
    assert_close(CAMERA.project(rays), came_from, atol=1e-3, rtol=0)


@given(st.integers(-50, 600), st.integers(-50, 400), st.sampled_from(list(DISTORTIONS)))
def test_cropping_commutes_with_projection(left: int, top: int, distortion: str) -> None:
    camera = distorted(distortion)
    cropped = camera.cropped(left, top, 128, 96)
    assert (cropped.width, cropped.height) == (128, 96)
    expected = camera.project(points_in_view()) - torch.tensor([left, top])
    assert_close(cropped.project(points_in_view()), expected, **TIGHT)


@given(st.integers(1, 2000), st.integers(1, 2000), st.sampled_from(list(DISTORTIONS)))
def test_resizing_commutes_with_projection(width: int, height: int, distortion: str) -> None:
    camera = distorted(distortion)
    scale = torch.tensor([width / 640, height / 480], dtype=torch.float64)
    expected = (camera.project(points_in_view()) + 0.5) * scale - 0.5
    assert_close(camera.resized(width, height).project(points_in_view()), expected, **TIGHT)


def test_resizing_there_and_back_changes_nothing() -> None:
    back = CAMERA.resized(123, 457).resized(640, 480)
    assert dataclasses.astuple(back)[:4] == pytest.approx(dataclasses.astuple(CAMERA)[:4])


def distorted(name: str) -> Camera:
    model, coefficients = DISTORTIONS[name]
    return dataclasses.replace(CAMERA, distortion_model=model, distortion=coefficients)


@pytest.mark.parametrize("name", DISTORTIONS)
def test_distortion_agrees_with_opencv(name: str) -> None:
    camera, points = distorted(name), points_in_view()
    project = cv2.fisheye.projectPoints if camera.distortion_model == "equidistant" else cv2.projectPoints
    coefficients = np.array(camera.distortion)
    expected, _ = project(points.numpy().reshape(-1, 1, 3), np.zeros(3), np.zeros(3), camera.matrix(), coefficients)
    assert_close(camera.project(points), torch.from_numpy(expected.reshape(-1, 2)), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", DISTORTIONS)
def test_distortion_has_finite_gradients_on_the_optical_axis(name: str) -> None:
    point = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(distorted(name).project, point)
    assert_close(jacobian, torch.tensor([[600.0, 0, 0], [0, 580.0, 0]], dtype=torch.float64))


@pytest.mark.parametrize("batch", [(), (7,), (2, 3)])
def test_rays_undo_projection(batch: tuple[int, ...]) -> None:
    pixels = 500 * torch.rand(*batch, 2, dtype=torch.float64)
    depth = 0.1 + torch.rand(*batch, 1, dtype=torch.float64)
    rays = CAMERA.rays(pixels)
    assert rays.shape == (*batch, 3)
    assert_close(rays[..., 2], torch.ones(batch, dtype=torch.float64))
    assert_close(CAMERA.project(rays * depth), pixels, **TIGHT)


def test_rays_of_a_distorted_camera_are_refused() -> None:
    camera = distorted("plumb_bob, 5")
    with pytest.raises(ValueError, match="camera: expected no distortion"):
        camera.rays(torch.zeros(2))
    assert_close(camera.undistorted().rays(torch.tensor([310.5, 245.0])), torch.tensor([0.0, 0.0, 1.0]))


def test_coefficients_of_zero_are_no_distortion() -> None:
    camera = dataclasses.replace(CAMERA, distortion=(0.0,) * 5)
    assert not camera.is_distorted
    assert_close(camera.project(points_in_view()), CAMERA.project(points_in_view()), **TIGHT)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fx": 0.0}, "fx: expected a positive number of pixels, got 0.0"),
        ({"fy": -600.0}, "fy: expected a positive"),
        ({"fx": math.nan}, "fx: expected a finite"),
        ({"cx": math.inf}, "cx: expected a finite"),
        ({"cy": math.nan}, "cy: expected a finite"),
        ({"width": 0}, "width: expected a positive"),
        ({"height": -1}, "height: expected a positive"),
        ({"height": math.nan}, "height: expected a positive"),
        ({"distortion_model": "fisheye62"}, "distortion_model: expected one of plumb_bob, .* got 'fisheye62'"),
        ({"distortion": (0.1, 0.2, 0.3)}, "distortion: plumb_bob expects 4 or 5 coefficients, got 3"),
        ({"distortion": (0.1, math.nan, 0.0, 0.0)}, "distortion: expected finite"),
        ({"distortion_model": "equidistant", "distortion": (0.0,) * 5}, "distortion: equidistant expects 4 .* got 5"),
    ],
)
def test_impossible_intrinsics_are_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CAMERA, **change)
