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


def draw_label(
    canvas: npt.NDArray[np.uint8],
    text: str,
    anchor: tuple[float, float],
    colour: Colour,
    taken: Sequence[Plate] = (),
) -> Plate:
    """Draw a plate centred above a point, moved into the image where it would stick out.

    Args:
        canvas: (H, W, 3) uint8, drawn into.
        text: one line of ASCII, which is what OpenCV's fonts have.
        anchor: (u, v) pixels of the plate's lower middle.
        colour: of the plate.
        taken: plates that it shall not cover, as far as there is room above or below them.

    Returns:
        Where it is.
    """
    height, width = canvas.shape[:2]
    scale = max(0.4, min(height, width) / 1000)
    (text_width, text_height), baseline = cv2.getTextSize(text, _FONT, scale, 1)
    margin = round(10 * scale)
    plate = text_width + 2 * margin, text_height + baseline + margin
    left = int(np.clip(anchor[0] - plate[0] / 2, 0, max(width - plate[0], 0)))
    lowest = max(height - plate[1], 0)
    wanted = int(np.clip(anchor[1] - plate[1] - margin, 0, lowest))
    places = [(left, top, left + plate[0], top + plate[1]) for top in _rows(wanted, lowest, plate[1])]
    free = (place for place in places if not any(_overlap(place, other) for other in taken))
    place = next(free, places[0])
    top = place[1]
    region = canvas[top : top + plate[1], left : left + plate[0]]
    blended = region * (1 - _OPACITY) + np.array(colour) * _OPACITY
    region[:] = np.rint(blended).astype(np.uint8)
    origin = left + margin, top + margin // 2 + text_height
    cv2.putText(canvas, text, origin, _FONT, scale, _INK, 1, cv2.LINE_AA)
    return place


def _rows(wanted: int, lowest: int, step: int) -> list[int]:
    """Rows for the top of a plate: the one that is wanted, then upwards, then downwards."""
    return [*range(wanted, -1, -step), *range(wanted + step, lowest + 1, step)]


def _overlap(one: Plate, other: Plate) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
