"""Small name plates over an image."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from category_pose_ros.visualization.palette import Colour

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_INK = (20, 22, 26)
_OPACITY = 0.85

Plate = tuple[int, int, int, int]  # left, top, and after the last column and row


def place_label(width: int, height: int, text: str, anchor: tuple[float, float], taken: Sequence[Plate] = ()) -> Plate:
    """Where a plate centred above a point goes, moved into the image where it would stick out.

    Args:
        width, height: of the image, in pixels.
        text: one line of ASCII, which is what OpenCV's fonts have.
        anchor: (u, v) pixels of the plate's lower middle.
        taken: plates that it shall not cover; it goes up or down from them as far as is needed, and stays where it
            is wanted where there is no room at all.
    """
    _, margin, (columns, rows), _ = _layout(width, height, text)
    left = int(np.clip(anchor[0] - columns / 2, 0, max(width - columns, 0)))
    lowest = max(height - rows, 0)
    wanted = int(np.clip(anchor[1] - rows - margin, 0, lowest))
    tops = [top for other in taken for top in (other[1] - rows, other[3]) if 0 <= top <= lowest]
    nearest = sorted(tops, key=lambda top: abs(top - wanted))
    places = [(left, top, left + columns, top + rows) for top in (wanted, *nearest)]
    return next((place for place in places if not any(_overlap(place, other) for other in taken)), places[0])


def draw_label(canvas: npt.NDArray[np.uint8], text: str, plate: Plate, colour: Colour) -> None:
    """Draw a plate of a colour where `place_label` put it, into a canvas (H, W, 3) uint8."""
    left, top, right, bottom = plate
    scale, margin, _, ascent = _layout(canvas.shape[1], canvas.shape[0], text)
    region = canvas[top:bottom, left:right]
    blended = region * (1 - _OPACITY) + np.array(colour) * _OPACITY
    region[:] = np.rint(blended).astype(np.uint8)
    cv2.putText(canvas, text, (left + margin, top + margin // 2 + ascent), _FONT, scale, _INK, 1, cv2.LINE_AA)


def _layout(width: int, height: int, text: str) -> tuple[float, int, tuple[int, int], int]:
    """Scale of the font, margin, columns and rows of the plate, and height of the letters."""
    scale = max(0.4, min(height, width) / 1000)
    (text_width, text_height), baseline = cv2.getTextSize(text, _FONT, scale, 1)
    margin = round(10 * scale)
    return scale, margin, (text_width + 2 * margin, text_height + baseline + margin), text_height


def _overlap(one: Plate, other: Plate) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
