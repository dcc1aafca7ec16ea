"""Image messages and camera_info as arrays and cameras, whatever library the messages are from.

Nothing of ROS is imported: a message is anything with the fields of sensor_msgs, from rclpy or from a
bag alike. rosbags-image decodes; it knows no row padding and truncates 16-bit colour where cv_bridge
rounds, so both are settled here and the result is cv_bridge's byte for byte.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from rosbags.image import image_to_cvimage

from category_pose_ros.geometry import Camera
from category_pose_ros.records import SECOND_NS

Rgb = npt.NDArray[np.uint8]

# Encoding: (bytes per channel, channels). What says nothing about colour (8UC3, 32FC1) is not an RGB image.
_ENCODINGS = {
    "mono8": (1, 1),
    "mono16": (2, 1),
    **{f"{order}{8 * size}": (size, len(order)) for order in ("rgb", "bgr", "rgba", "bgra") for size in (1, 2)},
    **{f"bayer_{p}{8 * size}": (size, 1) for p in ("rggb", "bggr", "gbrg", "grbg") for size in (1, 2)},
    "yuv422": (1, 2),
    "yuv422_yuy2": (1, 2),
}
_NEWER_NAMES = {"uyvy": "yuv422", "yuyv": "yuv422_yuy2"}  # same layout; older cv_bridges know the old name only


def stamp_ns(header: Any) -> int:
    """Time of a header in integer nanoseconds."""
    return int(header.stamp.sec) * SECOND_NS + int(header.stamp.nanosec)


def to_rgb8(message: Any, encoding: str) -> Rgb:
    """Convert a raw image without padding, in this machine's byte order, with rosbags-image."""
    if _ENCODINGS[encoding][0] == 1:
        return np.asarray(image_to_cvimage(message, "rgb8"), dtype=np.uint8)
    return _rounded_to_8_bits(np.asarray(image_to_cvimage(message, "rgb16"), dtype=np.uint16))


def rgb_from_message(message: Any) -> Rgb:
    """Decode a sensor_msgs/Image or CompressedImage; raises what those decoders raise."""
    return rgb_from_compressed(message) if hasattr(message, "format") else rgb_from_image(message)


def rgb_from_image(message: Any, convert: Callable[[Any, str], Rgb] = to_rgb8) -> Rgb:
    """Decode a sensor_msgs/Image.

    Args:
        message: any colour, mono, Bayer or YUV 4:2:2 encoding, with or without row padding, either endianness.
        convert: turns a message without padding, and its encoding, into RGB.

    Returns:
        (H, W, 3) RGB; it may share the message's memory.

    Raises:
        ValueError: an encoding that is not a colour image, or sizes that contradict each other.
    """
    encoding = _NEWER_NAMES.get(message.encoding, message.encoding)
    if encoding not in _ENCODINGS:
        known = ", ".join([*_ENCODINGS, *_NEWER_NAMES])
        raise ValueError(f"image.encoding: expected one of {known}, got {message.encoding!r}")
    try:
        return convert(_normalised(message, encoding), encoding)
    except cv2.error as error:
        raise ValueError(f"image: cannot convert {message.encoding} to rgb8: {error.err}") from error


def rgb_from_compressed(message: Any) -> Rgb:
    """Decode a sensor_msgs/CompressedImage as (H, W, 3) RGB.

    Grey images become RGB; an EXIF orientation is ignored, since a topic is as its camera_info says.

    Raises:
        ValueError: a depth or Bayer image, or bytes that are not an image.
    """
    original = message.format.split(";")[0].strip()
    if original.startswith("bayer") or "compressedDepth" in message.format:
        raise ValueError(f"image.format: expected a colour image, got {message.format!r}")
    data = np.frombuffer(message.data, np.uint8)
    bgr = decoded(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if bgr is None:
        raise ValueError(f"image.data: expected a JPEG or PNG, got {data.size} bytes of format {message.format!r}")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def decoded(data: npt.NDArray[np.uint8], flags: int) -> npt.NDArray[Any] | None:
    """The image in an image file's bytes; None where they are none, or damaged."""
    try:
        return cv2.imdecode(data, flags) if data.size else None
    except cv2.error:  # of a header that asks for an image of absurd size; other damage gives None
        return None


def camera_from_info(info: Any, rectified: bool = False) -> Camera:
    """The camera of the images that a camera_info describes, region of interest and binning included.

    Args:
        rectified: the images are rectified; then the intrinsics are those of P and there is no distortion.

    Raises:
        ValueError: names the field of camera_info that is not a calibration.
    """
    # Row-major: K is 3x3, P is 3x4.
    fx, skew, cx, fy, cy = (info.p[i] for i in (0, 1, 2, 5, 6)) if rectified else (info.k[i] for i in (0, 1, 2, 4, 5))
    matrix = "p" if rectified else "k"
    if skew:
        raise ValueError(f"camera_info.{matrix}: expected no skew, got {skew}")
    coefficients = () if rectified else tuple(float(value) for value in info.d)
    # Drivers of ideal cameras leave the model's name empty, or give five zeros with it.
    model = info.distortion_model if any(coefficients) else "plumb_bob"
    try:
        camera = Camera(
            fx, fy, cx, cy, int(info.width), int(info.height), model, coefficients if any(coefficients) else ()
        )
        return _binned(_cropped(camera, info), info)
    except ValueError as error:
        field = str(error).split(":")[0]
        where = {"fx": f"{matrix}: ", "fy": f"{matrix}: ", "cx": f"{matrix}: ", "cy": f"{matrix}: "}.get(field, "")
        raise ValueError(f"camera_info.{where}{error}") from error


def unpadded(message: Any, pixel_bytes: int, channel_bytes: int, name: str = "image") -> npt.NDArray[np.uint8]:
    """The rows of a raw image without their padding, in this machine's byte order.

    Args:
        message: a sensor_msgs/Image.
        pixel_bytes, channel_bytes: size of a pixel and of one of its numbers.
        name: what errors call the message.

    Returns:
        (height, width * pixel_bytes) uint8; it may share the message's memory.

    Raises:
        ValueError: sizes that contradict each other.
    """
    row_bytes = int(message.width) * pixel_bytes
    _check_layout(message, row_bytes, name)
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)[:, :row_bytes]
    if not _is_swapped(message, channel_bytes):
        return rows
    return rows.reshape(message.height, -1, channel_bytes)[..., ::-1].reshape(message.height, row_bytes)


def _check_layout(message: Any, row_bytes: int, name: str) -> None:
    size = f"{message.width}x{message.height}"
    if not message.width or not message.height:
        raise ValueError(f"{name}: expected a width and height above zero, got {size}")
    what = f"{size} {message.encoding}"
    if message.step < row_bytes:
        raise ValueError(f"{name}.step: expected at least {row_bytes} for {what}, got {message.step}")
    if len(message.data) != message.height * message.step:
        raise ValueError(
            f"{name}.data: expected {message.height * message.step} bytes for {what} "
            f"with step {message.step}, got {len(message.data)}"
        )


def _is_swapped(message: Any, channel_bytes: int) -> bool:
    return channel_bytes > 1 and bool(message.is_bigendian) != (sys.byteorder == "big")


def _normalised(message: Any, encoding: str) -> Any:
    """The same image without row padding, in this machine's byte order, under the encoding's older name."""
    channel_bytes, channels = _ENCODINGS[encoding]
    if encoding.startswith("yuv422") and message.width % 2:
        raise ValueError(f"image.width: expected an even number for {message.encoding}, got {message.width}")
    data = unpadded(message, channel_bytes * channels, channel_bytes)
    is_normal = message.step == data.shape[1] and not _is_swapped(message, channel_bytes)
    if is_normal and message.encoding == encoding:
        return message
    return SimpleNamespace(
        header=message.header,
        height=message.height,
        width=message.width,
        encoding=encoding,
        step=data.shape[1],
        is_bigendian=int(sys.byteorder == "big"),
        data=np.ascontiguousarray(data).ravel(),
    )


def _rounded_to_8_bits(image: npt.NDArray[np.uint16]) -> Rgb:
    """Nearest of v * 255 / 65535 = v / 257, as cv_bridge does through cv::Mat::convertTo; there are no ties."""
    return ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _cropped(camera: Camera, info: Any) -> Camera:
    """The camera of the region of interest; one without a size is the whole image."""
    roi = info.roi
    if not roi.width and not roi.height:
        return camera
    if roi.x_offset + roi.width > camera.width or roi.y_offset + roi.height > camera.height:
        raise ValueError(
            f"roi: expected a region inside {camera.width}x{camera.height}, "
            f"got {roi.width}x{roi.height} at ({roi.x_offset}, {roi.y_offset})"
        )
    return camera.cropped(int(roi.x_offset), int(roi.y_offset), int(roi.width), int(roi.height))


def _binned(camera: Camera, info: Any) -> Camera:
    """The camera after binning; 0 means 1, as in the message's definition."""
    across, down = max(1, int(info.binning_x)), max(1, int(info.binning_y))
    if (across, down) == (1, 1):
        return camera
    return camera.resized(camera.width // across, camera.height // down)
