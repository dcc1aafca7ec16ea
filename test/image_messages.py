"""Raw image messages with every layout that a driver may choose."""

from __future__ import annotations

from array import array

import numpy as np
import numpy.typing as npt
from sensor_msgs.msg import Image


def message_of(pixels: npt.NDArray[np.generic], encoding: str, padding: int = 0, big_endian: bool = False) -> Image:
    """A message of (H, W) or (H, W, C) pixels, with `padding` bytes of rubbish after each row."""
    pixels = pixels.astype(pixels.dtype.newbyteorder(">" if big_endian else "<"))
    rows = np.frombuffer(pixels.tobytes(), np.uint8).reshape(pixels.shape[0], -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=99)
    message = Image(height=pixels.shape[0], width=pixels.shape[1], encoding=encoding, step=rows.shape[1])
    message.is_bigendian = int(big_endian)
    message.data = array("B", rows.tobytes())
    return message
