"""Images and cameras stay together: what is cropped, resized or rectified is still where its camera says."""

from __future__ import annotations

import dataclasses
import functools
import tracemalloc

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch

from category_pose_ros.estimation import images
from category_pose_ros.geometry import Camera
from category_pose_ros.records import OUTSIDE, STRIDE_PX, Frame

CAMERA = Camera(fx=500.0, fy=480.0, cx=310.0, cy=235.0, width=640, height=480)
POINTS = torch.tensor([[0.05, -0.02, 1.0], [-0.3, 0.2, 1.1], [0.28, 0.25, 0.9], [0.02, 0.01, 1.4]])
DISTORTIONS = {
    "plumb_bob": (0.15, -0.2, 0.002, -0.001, 0.03),
    "rational_polynomial": (0.5, -0.2, 0.001, -0.002, 0.03, 0.6, -0.1, 0.01),
    "equidistant": (-0.02, 0.005, -0.003, 0.0008),
}

Image = npt.NDArray[np.uint8]


def spot(camera: Camera, point: torch.Tensor) -> Image:
    """A bright spot where the camera sees a point."""
    u, v = camera.project(point).tolist()
    columns, rows = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    brightness = 240 * np.exp(-((columns - u) ** 2 + (rows - v) ** 2) / (2 * 5.0**2))
    return np.repeat(brightness[..., None], 3, 2).astype(np.uint8)


def centre_of_light(image: Image) -> list[float]:
    """Of what is brighter than the grey around an image."""
    light = np.clip(image[..., 0].astype(float) - 125, 0, None)
    columns, rows = np.meshgrid(np.arange(image.shape[1]), np.arange(image.shape[0]))
    return [float((light * columns).sum() / light.sum()), float((light * rows).sum() / light.sum())]


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("long_side", [224, 320, 501, 640, 2000])
def test_fitting_keeps_points_where_the_camera_says(point: torch.Tensor, long_side: int) -> None:
    image, camera = images.fit(spot(CAMERA, point), CAMERA, long_side)
    assert image.shape == (camera.height, camera.width, 3)
    assert camera.width % 32 == camera.height % 32 == 0
    assert camera.width <= max(long_side + 31, 640)
    assert centre_of_light(image) == pytest.approx(camera.project(point).tolist(), abs=0.15)


def test_fitting_enlarges_nothing_and_pads_with_grey() -> None:
    small = dataclasses.replace(CAMERA, width=100, height=70)
    picture = np.full((70, 100, 3), 7, np.uint8)
    image, camera = images.fit(picture, small, 640)
    assert (camera.width, camera.height, camera.fx) == (128, 96, 500.0)
    assert (image[:70, :100] == 7).all()
    assert (image[70:] == image[:, 100:].max()).all()
    assert 100 < image[95, 127, 0] < 140


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("side", [47.3, 128.0, 301.0])
@pytest.mark.parametrize("size_px", [64, 128])
def test_square_crops_keep_points_where_the_camera_says(point: torch.Tensor, side: float, size_px: int) -> None:
    u, v = CAMERA.project(point).tolist()
    image, camera = images.square_crop(spot(CAMERA, point), CAMERA, (u + 0.1 * side, v - 0.13 * side), side, size_px)
    assert image.shape == (size_px, size_px, 3)
    assert (camera.width, camera.height) == (size_px, size_px)
    assert centre_of_light(image) == pytest.approx(camera.project(point).tolist(), abs=0.25)
    expected = (size_px / side) * np.array([-0.1, 0.13]) * side + (size_px - 1) / 2
    assert camera.project(point).tolist() == pytest.approx(expected.tolist(), abs=0.6 * size_px / side + 0.6)


@pytest.mark.parametrize("point", POINTS)
def test_a_crop_far_larger_than_the_image_is_the_same_and_holds_no_square_of_its_size(point: torch.Tensor) -> None:
    u, v = CAMERA.project(point).tolist()
    side, picture = 20_000.0, spot(CAMERA, point)
    tracemalloc.start()
    image, camera = images.square_crop(picture, CAMERA, (u + 300.0, v), side, 128)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 50e6 < side**2
    assert image.shape == (128, 128, 3)
    assert camera.project(point).tolist() == pytest.approx([63.5 - 300.0 * 128 / side, 63.5], abs=0.2)
    assert (image[:30] == OUTSIDE).all()
    assert (image[63:65, 60:66] != OUTSIDE).any()


@pytest.mark.parametrize(
    ("left", "top", "width", "height"),
    [
        (-20, -30, 100, 90),
        (600, 450, 100, 90),
        (-50, -50, 900, 900),
        (700, 10, 32, 32),
        (-99, -99, 32, 32),
        (5, 480, 8, 8),
    ],
)
def test_a_crop_may_exceed_the_image(left: int, top: int, width: int, height: int) -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (480, 640, 3), dtype=np.uint8)
    region, camera = images.crop(picture, CAMERA, left, top, width, height)
    assert region.shape == (height, width, 3)
    assert (camera.cx, camera.cy) == (CAMERA.cx - left, CAMERA.cy - top)
    padded = np.pad(picture, ((1000, 1000), (1000, 1000), (0, 0)), constant_values=118)
    assert (region == padded[1000 + top : 1000 + top + height, 1000 + left : 1000 + left + width]).all()


def frame(model: str, picture: Image) -> Frame:
    return Frame(picture, dataclasses.replace(CAMERA, distortion_model=model, distortion=DISTORTIONS[model]))


@pytest.mark.parametrize("model", DISTORTIONS)
def test_rectifying_agrees_with_opencv(model: str) -> None:
    rng = np.random.default_rng(0)
    picture = cv2.resize(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8), (640, 480), interpolation=cv2.INTER_CUBIC)
    image, camera = images.rectify(frame(model, picture))
    matrix, coefficients = CAMERA.matrix(), np.array(DISTORTIONS[model])
    if model == "equidistant":
        undistorted = functools.partial(cv2.fisheye.undistortImage, K=matrix, D=coefficients, Knew=matrix)
    else:
        undistorted = functools.partial(cv2.undistort, cameraMatrix=matrix, distCoeffs=coefficients)
    shown = undistorted(np.full_like(picture, 255))
    inside, outside = shown.min(-1) == 255, shown.max(-1) == 0
    assert not camera.is_distorted
    assert camera.matrix().tolist() == matrix.tolist()
    assert np.abs(image.astype(int) - undistorted(picture).astype(int))[inside].max() <= 2
    assert inside.mean() > 0.5
    assert (image[outside] == OUTSIDE).all()


def test_what_is_no_distance_is_no_reading() -> None:
    depth = np.array([0.0, -1.0, np.nan, np.inf, np.finfo(np.float32).max, 1.5], np.float32)
    assert images.is_reading(depth).tolist() == [False] * 5 + [True]


@pytest.mark.parametrize("model", DISTORTIONS)
@pytest.mark.parametrize("point", POINTS)
def test_rectifying_moves_points_to_where_the_pinhole_sees_them(model: str, point: torch.Tensor) -> None:
    distorted = frame(model, np.zeros((480, 640, 3), np.uint8)).camera
    image, camera = images.rectify(Frame(spot(distorted, point), distorted))
    assert centre_of_light(image) == pytest.approx(camera.project(point).tolist(), abs=0.4)


def test_without_distortion_the_image_is_not_touched() -> None:
    picture = spot(CAMERA, POINTS[0])
    image, camera = images.rectify(Frame(picture, CAMERA))
    assert image is picture
    assert camera == CAMERA


def test_cells_are_the_pixels_of_their_own_camera() -> None:
    """The first cell covers the first stride of pixels: its centre is theirs."""
    cells = images.cell_camera(dataclasses.replace(CAMERA, width=640, height=480))
    assert (cells.width, cells.height) == (640 // STRIDE_PX, 480 // STRIDE_PX)
    ray = CAMERA.rays(torch.tensor([(STRIDE_PX - 1) / 2, (STRIDE_PX - 1) / 2]))
    assert cells.project(ray).tolist() == pytest.approx([0, 0], abs=1e-4)


def test_images_become_a_batch_in_the_networks_order() -> None:
    pictures = [spot(CAMERA, point) for point in POINTS[:2]]
    tensor = images.to_tensor(pictures, torch.device("cpu"))
    assert tensor.shape == (2, 3, 480, 640)
    assert tensor.dtype == torch.uint8
    assert (tensor[1, 2].numpy() == pictures[1][..., 2]).all()
