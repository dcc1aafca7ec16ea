"""Image messages to RGB arrays and back, with cv_bridge where it is installed."""

from __future__ import annotations

from array import array
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from category_pose_ros.data import messages

try:  # The compiled half is imported too: built for another NumPy, it fails here and not at the first image.
    from cv_bridge import CvBridge, CvBridgeError
    from cv_bridge.boost import cv_bridge_boost  # noqa: F401
except ImportError:
    CvBridge = CvBridgeError = None

_JPEG_QUALITY = 90


def rgb_from_image(message: Image) -> npt.NDArray[np.uint8]:
    """As `messages.rgb_from_image`, through cv_bridge where it is installed; the bytes are the same."""
    return messages.rgb_from_image(message, messages.to_rgb8 if CvBridge is None else _by_cv_bridge)


def _by_cv_bridge(message: Any, _: str) -> npt.NDArray[np.uint8]:
    try:
        return np.asarray(CvBridge().imgmsg_to_cv2(message, "rgb8"), dtype=np.uint8)
    except CvBridgeError as error:
        raise ValueError(f"image: {error}") from error


def image_from_rgb(rgb: npt.NDArray[np.uint8], header: Header) -> Image:
    """An rgb8 message of an (H, W, 3) array."""
    height, width = rgb.shape[:2]
    message = Image(header=header, height=height, width=width, encoding="rgb8", step=3 * width)
    message.data = array("B", rgb.tobytes())  # rclpy checks a list or bytes element by element
    return message


def compressed_from_rgb(rgb: npt.NDArray[np.uint8], header: Header) -> CompressedImage:
    """A JPEG of an (H, W, 3) array, under the format that image_transport gives it."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    message = CompressedImage(header=header, format="rgb8; jpeg compressed bgr8")
    message.data = array("B", data.tobytes())
    return message
