"""Image files as arrays. Pillow reads them, because it reports damage instead of decoding half a picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps


def read_rgb(path: Path, upright: bool = False) -> npt.NDArray[np.uint8]:
    """An image file as (H, W, 3) uint8.

    Args:
        upright: turned as its EXIF orientation says, instead of as it is stored, which annotations speak of.

    Raises:
        ValueError: missing, damaged or not an image of 8 or 16 bits per channel; the message names the file.
    """

    def prepared(image: Image.Image) -> Image.Image:
        turned = ImageOps.exif_transpose(image) if upright else image
        # Pillow's own conversion of grey of more than 8 bits cuts off at 255.
        return turned if turned.mode[0] in "IF" else turned.convert("RGB")

    pixels = _values(path, prepared)
    if pixels.ndim == 2:
        if pixels.dtype.kind == "f" or not _fits_16_bits(pixels):
            raise ValueError(f"{path}: expected 8 or 16 bits per channel, got {pixels.dtype}")
        return np.repeat(np.rint(pixels[..., None] / 257.0).astype(np.uint8), 3, axis=-1)
    return np.asarray(pixels, dtype=np.uint8)


def read_depth(path: Path) -> npt.NDArray[np.uint16]:
    """A depth image (H, W) uint16 in the file's own unit.

    Raises:
        ValueError: missing, damaged or not a 16-bit image with one channel.
    """
    depth = _values(path)
    # Pillow before 11 opens 16-bit PNG files as 32-bit integers.
    if depth.ndim != 2 or depth.dtype not in (np.uint16, np.int32):
        raise ValueError(f"{path}: expected a 16-bit depth image with one channel, got {depth.shape} {depth.dtype}")
    if not _fits_16_bits(depth):
        raise ValueError(f"{path}: expected a 16-bit depth image, got values from {depth.min()} to {depth.max()}")
    return depth.astype(np.uint16)


def read_mask(path: Path) -> npt.NDArray[np.bool_]:
    """Where an image (H, W) of 8 bits and one channel is not zero.

    Raises:
        ValueError: missing, damaged or another kind of image.
    """
    mask = _values(path)
    if mask.ndim != 2 or mask.dtype not in (np.uint8, np.bool_):
        raise ValueError(f"{path}: expected an 8-bit grey image, got {mask.shape} {mask.dtype}")
    return mask > 0


def _fits_16_bits(values: npt.NDArray[Any]) -> bool:
    return bool(((values >= 0) & (values <= np.iinfo(np.uint16).max)).all())


def _values(path: Path, prepare: Callable[[Image.Image], Image.Image] = lambda image: image) -> npt.NDArray[Any]:
    """The pixels of a file as they are stored, or as they are when prepared."""
    try:
        with Image.open(path) as image:
            return np.array(prepare(image))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: {f'damaged: {error}' if path.exists() else 'missing'}") from error
