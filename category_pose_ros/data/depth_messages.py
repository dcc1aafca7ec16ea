"""Depth messages as metres, whatever library the messages are from; REP 118 says what they hold.

Holes (0, NaN, infinite, negative) are 0 in the result.
"""

from __future__ import annotations

import struct
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from category_pose_ros.data.messages import decoded, unpadded

Depth = npt.NDArray[np.float32]

_MILLIMETRES = 1e-3
_RAW_TYPES: dict[str, np.dtype[Any]] = {
    "32FC1": np.dtype(np.float32),
    "16UC1": np.dtype(np.uint16),
    "mono16": np.dtype(np.uint16),
}
# What compressed_depth_image_transport puts before the PNG: an enum and the two numbers of its quantisation.
_PREFIX = struct.Struct("<iff")


def depth_from_message(message: Any) -> Depth:
    """Decode a sensor_msgs/Image, or a CompressedImage of the transport compressedDepth.

    Returns:
        (H, W) float32 metres.

    Raises:
        ValueError: not a depth image, or one that contradicts itself.
    """
    return _from_compressed(message) if hasattr(message, "format") else _from_image(message)


def _from_image(message: Any) -> Depth:
    if message.encoding not in _RAW_TYPES:
        raise ValueError(f"depth.encoding: expected one of {', '.join(_RAW_TYPES)}, got {message.encoding!r}")
    kind = _RAW_TYPES[message.encoding]
    rows = unpadded(message, kind.itemsize, kind.itemsize, "depth")
    return _metres(np.ascontiguousarray(rows).view(kind))


def _from_compressed(message: Any) -> Depth:
    """A PNG of 16 bits: millimetres, or for 32FC1 the quantised inverse of metres."""
    encoding, _, how = (part.strip() for part in message.format.partition(";"))
    # Publishers from before Humble leave the format of the data out, and have PNG alone.
    if encoding not in ("16UC1", "32FC1") or how not in ("compressedDepth", "compressedDepth png"):
        expected = "16UC1 or 32FC1; compressedDepth png"
        raise ValueError(f"depth.format: expected {expected}, got {message.format!r}")
    data = bytes(message.data)
    png = np.frombuffer(data[_PREFIX.size :], np.uint8)
    pixels = decoded(png, cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.ndim != 2 or pixels.dtype != np.uint16:
        raise ValueError(f"depth.data: expected a PNG with one channel of 16 bits, got {len(data)} bytes")
    if encoding == "16UC1":
        return _metres(np.asarray(pixels, dtype=np.uint16))
    _, scale, offset = _PREFIX.unpack_from(data)
    with np.errstate(divide="ignore"):
        depth = scale / (pixels.astype(np.float32) - np.float32(offset))
    return _metres(np.where(pixels == 0, 0, depth).astype(np.float32))


def _metres(depth: npt.NDArray[Any]) -> Depth:
    if depth.dtype == np.uint16:
        return depth.astype(np.float32) * np.float32(_MILLIMETRES)
    return np.where((depth > 0) & (depth < np.inf), depth, np.float32(0))
