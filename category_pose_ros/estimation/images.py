"""From a frame to what the network reads: rectified, resized and cropped images with their cameras."""

from __future__ import annotations

import functools
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from category_pose_ros.geometry import Camera
from category_pose_ros.records import OUTSIDE, STRIDE_PX, Frame

Image = npt.NDArray[np.uint8]
Depth = npt.NDArray[np.float32]
_MULTIPLE = 32  # the network halves its input five times
_FINEST = 8  # pixels of an image, along each axis, to one of a crop, about
_FARTHEST_M = 1e4  # beyond it depth is no reading: some cameras say so by a huge number


def rectify(frame: Frame) -> tuple[Image, Camera]:
    """The image without lens distortion and its pinhole camera with the same intrinsics."""
    camera = frame.camera
    if not camera.is_distorted:
        return frame.rgb, camera.undistorted()
    return _without_distortion(frame), camera.undistorted()


def rectify_depth(frame: Frame) -> Depth | None:
    """The depth of the rectified image, each reading moved whole: a mean of two surfaces is on neither.

    None where no pixel has a reading: a camera that sees nothing of the scene says as little as none.
    """
    if frame.depth is None or not is_reading(frame.depth).any():
        return None
    if not frame.camera.is_distorted:
        return frame.depth
    return np.asarray(moved_whole(frame.depth, frame.camera), dtype=np.float32)


def is_reading(depth: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    """Where depth is known; 0, NaN, infinity and numbers that are as good as infinity are holes."""
    return np.asarray((depth > 0) & (depth < _FARTHEST_M))


def rectify_mask(mask: npt.NDArray[np.bool_], camera: Camera) -> npt.NDArray[np.bool_]:
    """A mask (H, W) of a camera where it is in the rectified image."""
    if not camera.is_distorted:
        return mask
    return np.asarray(moved_whole(mask.astype(np.uint8), camera) > 0)


def moved_whole(readings: npt.NDArray[Any], camera: Camera) -> npt.NDArray[Any]:
    """Readings (H, W) of a distorted camera where they are in the rectified image, unmixed; 0 where there are none."""
    return cv2.remap(readings, *_maps(camera), cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)


def fit(image: Image, camera: Camera, long_side_px: int) -> tuple[Image, Camera]:
    """Resize so that the long side is at most long_side_px, then pad right and below to whole cells."""
    scale = min(long_side_px / max(camera.width, camera.height), 1.0)
    width, height = round(camera.width * scale), round(camera.height * scale)
    if scale < 1:
        image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
        camera = camera.resized(width, height)
    return crop(image, camera, 0, 0, _padded(width), _padded(height))


def crop(image: Image, camera: Camera, left: int, top: int, width: int, height: int) -> tuple[Image, Camera]:
    """A region that may exceed the image; what is outside is grey."""
    result = np.full((height, width, 3), OUTSIDE, dtype=np.uint8)
    x0, x1 = np.clip([left, left + width], 0, image.shape[1])
    y0, y1 = np.clip([top, top + height], 0, image.shape[0])
    result[y0 - top : y1 - top, x0 - left : x1 - left] = image[y0:y1, x0:x1]
    return result, camera.cropped(left, top, width, height)


def square_crop(
    image: Image, camera: Camera, centre: tuple[float, float], side: float, size_px: int
) -> tuple[Image, Camera]:
    """The square of a side (pixels) around a centre, resampled to size_px."""
    coarser = round(side) // (_FINEST * size_px)
    if coarser > 1:  # of what appears so large the image is shrunk first, and not a square of its size filled
        width, height = max(camera.width // coarser, 1), max(camera.height // coarser, 1)
        across, down = width / camera.width, height / camera.height
        image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
        camera, side = camera.resized(width, height), side * across
        centre = ((centre[0] + 0.5) * across - 0.5, (centre[1] + 0.5) * down - 0.5)
    whole = max(round(side), 2)
    left, top = round(centre[0] - (whole - 1) / 2), round(centre[1] - (whole - 1) / 2)
    region, region_camera = crop(image, camera, left, top, whole, whole)
    interpolation = cv2.INTER_AREA if whole > size_px else cv2.INTER_LINEAR
    resized = cv2.resize(region, (size_px, size_px), interpolation=interpolation)
    return np.asarray(resized, dtype=np.uint8), region_camera.resized(size_px, size_px)


def to_tensor(images: list[Image], device: torch.device) -> Tensor:
    """Images of one size to (B, 3, H, W) uint8."""
    stacked = torch.from_numpy(np.stack(images)).to(device)
    return stacked.permute(0, 3, 1, 2)


def cell_camera(camera: Camera) -> Camera:
    """The camera whose pixels are the cells of the feature map."""
    return camera.resized(camera.width // STRIDE_PX, camera.height // STRIDE_PX)


@functools.lru_cache(maxsize=1)  # optical flow and the network see the same frame
def _without_distortion(frame: Frame) -> Image:
    outside = (OUTSIDE,) * 3
    return np.asarray(cv2.remap(frame.rgb, *_maps(frame.camera), cv2.INTER_LINEAR, borderValue=outside), dtype=np.uint8)


@functools.lru_cache(maxsize=4)  # a stream has one camera
def _maps(camera: Camera) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.uint16]]:
    """For cv2.remap: where the pixels of the rectified image are in the distorted one."""
    matrix, coefficients = camera.matrix(), np.array(camera.distortion)
    size = (camera.width, camera.height)
    if camera.distortion_model == "equidistant":
        return cv2.fisheye.initUndistortRectifyMap(matrix, coefficients, np.eye(3), matrix, size, cv2.CV_16SC2)
    return cv2.initUndistortRectifyMap(matrix, coefficients, np.eye(3), matrix, size, cv2.CV_16SC2)


def _padded(length: int) -> int:
    return -(-length // _MULTIPLE) * _MULTIPLE
