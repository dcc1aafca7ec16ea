"""The colours of categories and axes, red-green-blue."""

from __future__ import annotations

import colorsys
import hashlib

Colour = tuple[int, int, int]

AXIS_COLOURS: tuple[Colour, Colour, Colour] = ((235, 60, 60), (80, 205, 80), (70, 120, 255))

_CATEGORY_COLOURS: dict[str, Colour] = {
    "bottle": (64, 196, 255),
    "bowl": (255, 171, 64),
    "camera": (234, 128, 252),
    "can": (255, 214, 64),
    "car": (105, 240, 174),
    "laptop": (140, 158, 255),
    "mug": (255, 128, 171),
}


def category_colour(category: str) -> Colour:
    """The colour of a category; one we do not know gets a lasting one from its name."""
    if category in _CATEGORY_COLOURS:
        return _CATEGORY_COLOURS[category]
    hue = hashlib.sha256(category.encode()).digest()[0] / 256
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.55, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)
