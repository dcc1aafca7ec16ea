"""What a bag's messages say, as records of ours."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from rosbags.image import ImageError, image_to_cvimage

from category_pose_ros.geometry import Camera

_NANOSECONDS = 1_000_000_000


def camera_from_info(message: Any) -> Camera:
    """The camera of a sensor_msgs/CameraInfo message.

    Raises:
        ValueError: intrinsics that are zero, NaN or infinite, an unknown distortion model.
    """
    model = message.distortion_model or "plumb_bob"
    coefficients = tuple(float(value) for value in message.d)
    fx, _, cx, _, fy, cy = (float(value) for value in message.k[:6])
    return Camera(
        fx, fy, cx, cy, int(message.width), int(message.height), model, coefficients if any(coefficients) else ()
    )


def rgb_from_message(message: Any) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 from a sensor_msgs/Image or CompressedImage message.

    Raises:
        ValueError: an unknown encoding or damaged data.
    """
    if hasattr(message, "format"):
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION  # a topic is as its camera_info says
        image = cv2.imdecode(np.asarray(message.data), flags) if len(message.data) else None
        if image is None:
            raise ValueError(f"data: damaged {message.format or 'compressed'} image")
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)
    if message.width == 0 or message.height == 0:
        raise ValueError(f"width, height: expected a size, got {message.width} x {message.height}")
    if len(message.data) != message.step * message.height:
        raise ValueError(
            f"data: expected step x height = {message.step * message.height} bytes, got {len(message.data)}"
        )
    _drop_padding(message)
    try:
        return np.asarray(image_to_cvimage(message, "rgb8"), dtype=np.uint8)
    except (ImageError, TypeError, cv2.error) as error:
        raise ValueError(f"encoding: cannot convert {message.encoding!r} to rgb8: {error}") from error


def _drop_padding(message: Any) -> None:
    """Cut what fills the rows up; the image library takes rows for tight."""
    pixel_bytes = message.step // message.width  # right as long as the filling is less than a column
    row_bytes = pixel_bytes * message.width
    if row_bytes != message.step:
        message.data = np.ascontiguousarray(message.data.reshape(message.height, message.step)[:, :row_bytes]).ravel()
        message.step = row_bytes


def stamp_ns(message: Any, log_time_ns: int) -> int:
    """Time of exposure in nanoseconds; drivers that leave it out get the time of recording."""
    stamp = message.header.stamp
    return int(stamp.sec * _NANOSECONDS + stamp.nanosec) or log_time_ns
