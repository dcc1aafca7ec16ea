"""What stands between a camera and an object: cut-outs, covers and hands, drawn flat over a rendering.

All of them change the image and the owner of each pixel (-1: no object) in place.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from category_pose_ros.data.procedural import surfaces
from category_pose_ros.data.procedural.surfaces import Rng, TextureSource

Owner = npt.NDArray[np.int32]
Vector = npt.NDArray[np.float64]

_SKIN_RGB = (
    (224, 172, 140),
    (198, 140, 108),
    (241, 194, 165),
    (141, 95, 70),
    (90, 60, 45),
    (255, 214, 190),
    (170, 120, 90),
)
_LEAST_PX = 30  # of an object that a hand may reach for
_SUBPIXELS = 3  # bits


def occlude(rng: Rng, source: TextureSource, image: surfaces.Image, owner: Owner) -> None:
    """An ellipse, a bar or a polygon with a texture of its own, anywhere."""
    size = image.shape[0]
    mask = np.zeros(owner.shape, np.uint8)
    centre = rng.uniform(0.1, 0.9, 2) * size
    kind = rng.integers(3)
    if kind == 0:
        axes = rng.uniform(0.05, 0.25, 2) * size
        cv2.ellipse(mask, centre.astype(int).tolist(), axes.astype(int).tolist(), rng.uniform(0, 180), 0, 360, 1, -1)
    elif kind == 1:
        end = centre + rng.normal(0, 0.6 * size, 2)
        cv2.line(mask, centre.astype(int).tolist(), end.astype(int).tolist(), 1, int(rng.uniform(0.03, 0.2) * size))
    else:
        corners = centre + rng.normal(0, 0.15 * size, (int(rng.integers(3, 7)), 2))
        cv2.fillPoly(mask, [cv2.convexHull(corners.astype(np.int32))], 1)
    _put(image, owner, mask > 0, _surface(rng, source, image, textured=0.5))


def cover(rng: Rng, source: TextureSource, image: surfaces.Image, owner: Owner) -> None:
    """A tenth to two thirds of the object of which most is seen, from one side, by a rectangle or an ellipse."""
    numbers, counts = np.unique(owner[owner >= 0], return_counts=True)
    if len(numbers) == 0:
        return
    rows, columns = np.nonzero(owner == numbers[counts.argmax()])
    hidden = int(rng.uniform(0.1, 0.66) * len(rows))
    direction = rng.uniform(0, 2 * np.pi)
    cos, sin = np.cos(direction), np.sin(direction)
    along, across = columns * cos + rows * sin, -columns * sin + rows * cos
    end = np.partition(along, hidden)[hidden]
    start = along.min() - rng.uniform(0.05, 0.6) * (np.ptp(along) + 8)
    middle, half = 0.5 * (across.min() + across.max()), rng.uniform(0.5, 1.0) * (np.ptp(across) + 4)
    all_rows, all_columns = np.mgrid[: owner.shape[0], : owner.shape[1]]
    all_along = all_columns * cos + all_rows * sin
    aside = (-all_columns * sin + all_rows * cos - middle) / half
    mask = (all_along <= end) & (all_along >= start) & (np.abs(aside) < 1)
    if rng.random() < 0.3:
        centre = 0.5 * (start + along.min())
        mask = (((all_along - centre) / max(end - centre, 1)) ** 2 + aside**2 < 1) & (all_along > start)
    _put(image, owner, mask, _surface(rng, source, image, textured=0.6))


def hold(rng: Rng, image: surfaces.Image, owner: Owner, number: int, px_per_m: float) -> None:
    """A hand reaches for an object from one side: an arm, mostly in a sleeve, a palm, fingers over the object.

    Args:
        number: of the object in `owner`.
        px_per_m: pixels of a metre where the object is.
    """
    rows, columns = np.nonzero(owner == number)
    if len(rows) < _LEAST_PX:
        return
    size = image.shape[0]
    towards = rng.uniform(0, 2 * np.pi)
    out = np.array([np.cos(towards), np.sin(towards)])
    side = np.array([-out[1], out[0]])
    middle = np.array([columns.mean(), rows.mean()])
    reach = ((np.stack([columns, rows], 1) - middle) @ out).max()
    edge = middle + out * reach * rng.uniform(0.6, 1.1) + side * rng.normal(0, 0.01) * px_per_m
    finger = rng.uniform(0.014, 0.021) * px_per_m
    skin = np.array(_SKIN_RGB[rng.integers(len(_SKIN_RGB))]) * rng.uniform(0.7, 1.1) + rng.normal(0, 8, 3)
    light = rng.normal(0, 0.5, 2)

    def metres(least: float, most: float) -> float:
        return float(rng.uniform(least, most)) * px_per_m

    def limb(points: list[Vector], thickness: float, colour: Vector) -> None:
        _limb(image, owner, points, thickness, colour, light)

    palm = edge + out * metres(0.02, 0.06)
    wrist = palm + out * metres(0.06, 0.1) + side * rng.normal(0, 0.02) * px_per_m
    elbow = wrist + (out + side * rng.normal(0, 0.3)) * 3 * size  # outside the image
    cuff = wrist + (elbow - wrist) * rng.uniform(0.0, 0.03)
    limb([wrist, elbow], metres(0.05, 0.07), skin)
    if rng.random() < 0.7:
        limb([cuff, elbow], metres(0.075, 0.12), surfaces.random_colour(rng).astype(np.float64))
    limb([wrist, palm], metres(0.055, 0.085), skin)
    fingers = int(rng.integers(1, 5))
    has_thumb = rng.random() < 0.6
    for k in range(fingers):
        offset = (k - (fingers - 1) / 2) * finger * rng.uniform(0.95, 1.15)
        knuckle = palm + side * offset - out * metres(0, 0.01)
        bend = side * rng.normal(0, 0.012) * px_per_m
        joint = knuckle - out * metres(0.02, 0.05) + bend
        tip = joint - out * metres(0.01, 0.045) + bend + side * rng.normal(0, 0.006) * px_per_m
        limb([knuckle, joint, tip], finger, skin * rng.uniform(0.92, 1.05))
    if has_thumb:
        sign = rng.choice([-1, 1])
        knuckle = palm + side * sign * 0.035 * px_per_m
        joint = knuckle + side * sign * metres(0.0, 0.03) - out * metres(0.02, 0.04)
        tip = joint - out * metres(0.01, 0.035) - side * sign * metres(0, 0.025)
        limb([knuckle, joint, tip], 1.1 * finger, skin)


def _limb(
    image: surfaces.Image, owner: Owner, points: list[Vector], thickness: float, colour: Vector, light: Vector
) -> None:
    """A tube along points (x, y in pixels), darker towards its edges and away from the light."""
    mask = np.zeros(owner.shape, np.uint8)
    path = np.round(np.array(points) * 2**_SUBPIXELS).astype(np.int32)
    cv2.polylines(mask, [path], False, 1, max(round(thickness), 2), cv2.LINE_8, _SUBPIXELS)
    depth = cv2.distanceTransform(mask, cv2.DIST_L2, 3) / max(thickness / 2, 1.0)
    rounded = 0.55 + 0.45 * np.sqrt(np.clip(depth, 0, 1))
    x, y = path[0] / 2**_SUBPIXELS
    rows, columns = np.mgrid[: owner.shape[0], : owner.shape[1]]
    lit = 1 + 0.2 * ((columns - x) * light[0] + (rows - y) * light[1]) / max(thickness, 1)
    values = np.clip(colour * (rounded * np.clip(lit, 0.6, 1.25))[..., None], 0, 255).astype(np.uint8)
    _put(image, owner, mask > 0, values)


def _surface(rng: Rng, source: TextureSource, image: surfaces.Image, textured: float) -> surfaces.Image:
    """A picture as large as the image: with a chance of `textured` a texture, else of one colour."""
    size = image.shape[0]
    return (
        source.patch(rng, size, size) if rng.random() < textured else np.full_like(image, surfaces.random_colour(rng))
    )


def _put(image: surfaces.Image, owner: Owner, mask: npt.NDArray[np.bool_], picture: surfaces.Image) -> None:
    """A picture in front, where a mask says so, which then belongs to no object."""
    image[mask] = picture[mask]
    owner[mask] = -1
