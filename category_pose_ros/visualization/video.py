"""Images to a video file."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

_QUALITY = "20"  # constant rate factor of x264: lower is better, 18 looks lossless


def write_video(path: Path, frames: Iterable[npt.NDArray[np.uint8]], fps: float) -> int:
    """Write an H.264 mp4 that browsers play, also where the frames end in an exception.

    Args:
        path: of the file.
        frames: (H, W, 3) uint8 RGB, all of one size, consumed one by one. An odd last row or
            column is left out, because 4:2:0 video has none.
        fps: frames per second.

    Returns:
        How many frames were written; with none the file is not made.

    Raises:
        ValueError: fps is out of range; frames of different size, or with a side of a single pixel.
    """
    if not 0.01 <= fps <= 1000:
        raise ValueError(f"fps: expected a number from 0.01 to 1000, got {fps}")
    stream_of_frames = iter(frames)
    first = next(stream_of_frames, None)
    if first is None:
        return 0
    height, width = first.shape[0] // 2 * 2, first.shape[1] // 2 * 2
    if not height or not width:
        raise ValueError(f"frames: expected at least 2 x 2 pixels, got {first.shape[0]} x {first.shape[1]}")
    count = 0
    # Players start before the download ends when the index stands in front.
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": _QUALITY, "preset": "veryfast"}
        try:
            for rgb in chain([first], stream_of_frames):
                if rgb.shape != first.shape:
                    raise ValueError(f"frames: expected all of shape {first.shape}, got {rgb.shape}")
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb[:height, :width]), format="rgb24")
                container.mux(stream.encode(picture))
                count += 1
        finally:
            container.mux(stream.encode())  # the frames that the encoder still has
    return count
