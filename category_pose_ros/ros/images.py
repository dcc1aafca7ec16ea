"""Image messages to RGB arrays and back, with cv_bridge where it is installed.

Without cv_bridge, rosbags-image decodes. It knows no row padding and truncates where cv_bridge rounds,
so both are settled here, and the two ways agree byte for byte.
"""

from __future__ import annotations

import sys
from array import array

import cv2
import numpy as np
import numpy.typing as npt
from rosbags.image import image_to_cvimage
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

try:  # The compiled half is imported too: built for another NumPy, it fails here and not at the first image.
    from cv_bridge import CvBridge
    from cv_bridge.boost import cv_bridge_boost  # noqa: F401
except ImportError:
    CvBridge = None

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


def rgb_from_image(message: Image) -> npt.NDArray[np.uint8]:
    """Decode a raw image.

    Args:
        message: any colour, mono, Bayer or YUV 4:2:2 encoding, with or without row padding, either endianness.

    Returns:
        (H, W, 3) RGB; it may share the message's memory.

    Raises:
        ValueError: an encoding that is not a colour image, or sizes that contradict each other.
    """
    encoding = _NEWER_NAMES.get(message.encoding, message.encoding)
    if encoding not in _ENCODINGS:
        known = ", ".join([*_ENCODINGS, *_NEWER_NAMES])
        raise ValueError(f"image.encoding: expected one of {known}, got {message.encoding!r}")
    _check_layout(message, encoding)
    message = _normalised(message, encoding)
    try:
        if CvBridge is not None:
            return np.asarray(CvBridge().imgmsg_to_cv2(message, "rgb8"), dtype=np.uint8)
        if _ENCODINGS[encoding][0] == 1:
            return np.asarray(image_to_cvimage(message, "rgb8"), dtype=np.uint8)
        return _rounded_to_8_bits(np.asarray(image_to_cvimage(message, "rgb16"), dtype=np.uint16))
    except cv2.error as error:
        raise ValueError(f"image: cannot convert {message.encoding} to rgb8: {error.err}") from error


def rgb_from_compressed(message: CompressedImage) -> npt.NDArray[np.uint8]:
    """Decode a JPEG or PNG as (H, W, 3) RGB; grey images become RGB, an EXIF orientation is ignored.

    Raises:
        ValueError: a depth or Bayer image, or bytes that are not an image.
    """
    original = message.format.split(";")[0].strip()
    if original.startswith("bayer") or "compressedDepth" in message.format:
        raise ValueError(f"image.format: expected a colour image, got {message.format!r}")
    data = np.frombuffer(message.data, np.uint8)
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    bgr = cv2.imdecode(data, flags) if data.size else None
    if bgr is None:
        raise ValueError(f"image.data: expected a JPEG or PNG, got {data.size} bytes of format {message.format!r}")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def image_from_rgb(rgb: npt.NDArray[np.uint8], header: Header) -> Image:
    """An rgb8 message of an (H, W, 3) array."""
    height, width = rgb.shape[:2]
    message = Image(header=header, height=height, width=width, encoding="rgb8", step=3 * width)
    message.data = array("B", rgb.tobytes())  # rclpy checks a list or bytes element by element
    return message


def _check_layout(message: Image, encoding: str) -> None:
    size = f"{message.width}x{message.height}"
    if not message.width or not message.height:
        raise ValueError(f"image: expected a width and height above zero, got {size}")
    if encoding.startswith("yuv422") and message.width % 2:
        raise ValueError(f"image.width: expected an even number for {message.encoding}, got {message.width}")
    row_bytes = _row_bytes(message, encoding)
    if message.step < row_bytes:
        raise ValueError(f"image.step: expected at least {row_bytes} for {size} {message.encoding}, got {message.step}")
    if len(message.data) != message.height * message.step:
        raise ValueError(
            f"image.data: expected {message.height * message.step} bytes for {size} {message.encoding} "
            f"with step {message.step}, got {len(message.data)}"
        )


def _row_bytes(message: Image, encoding: str) -> int:
    channel_bytes, channels = _ENCODINGS[encoding]
    return int(message.width) * channel_bytes * channels


def _normalised(message: Image, encoding: str) -> Image:
    """The same image without row padding, in this machine's byte order, under the encoding's older name."""
    row_bytes = _row_bytes(message, encoding)
    swapped = _ENCODINGS[encoding][0] == 2 and bool(message.is_bigendian) != (sys.byteorder == "big")
    if message.step == row_bytes and not swapped and message.encoding == encoding:
        return message
    data = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)[:, :row_bytes]
    if swapped:
        data = data.reshape(message.height, -1, 2)[..., ::-1]
    normalised = Image(header=message.header, height=message.height, width=message.width, encoding=encoding)
    normalised.step, normalised.is_bigendian = row_bytes, int(sys.byteorder == "big")
    normalised.data = array("B", data.tobytes())
    return normalised


def _rounded_to_8_bits(image: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """Nearest of v * 255 / 65535 = v / 257, as cv_bridge does through cv::Mat::convertTo; there are no ties."""
    return ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
