"""Materials and textures: plain colours, patterns, labels with lettering, pieces of photographs.

Photographs come from a `TextureSource`; without a folder of them it makes fractal noise, so that
everything works on the project's own files alone.
"""

from __future__ import annotations

import string
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from category_pose_ros.data.images import read_rgb
from category_pose_ros.data.photographs import SUFFIXES, image_names
from category_pose_ros.rendering.raytracer import TEXTURE_SIZE, Material

Image = npt.NDArray[np.uint8]
Rng = np.random.Generator


@dataclass(eq=False)
class TextureSource:
    """Photographs, or fractal noise where there are none.

    Attributes:
        photographs: (H, W, 3) uint8 RGB images, about 256 pixels on the short side.
    """

    photographs: list[Image] = field(default_factory=list)

    @staticmethod
    def from_folder(folder: Path | None, held_out: bool = False, short_side: int = 300) -> TextureSource:
        """The images of a folder, without every tenth; those alone where `held_out`.

        So that evaluation shows no photograph that training saw.

        Raises:
            ValueError: there are no images, too few for a tenth, or a damaged one.
        """
        if folder is None:
            return TextureSource()
        images, paths = [], [folder / name for name in image_names(folder)]
        if not paths:
            raise ValueError(f"backgrounds: expected images ({', '.join(SUFFIXES)}) in {folder}, found none")
        if held_out and len(paths) < 10:
            raise ValueError(f"backgrounds: expected at least 10 photographs in {folder}, got {len(paths)}")
        for number, path in enumerate(paths):
            try:
                image = read_rgb(path, upright=True)
            except ValueError as error:
                raise ValueError(f"backgrounds: {error}") from error
            if (number % 10 == 9) == held_out:
                scale = short_side / min(image.shape[:2])
                resized = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
                images.append(np.asarray(resized, dtype=np.uint8))
        return TextureSource(images)

    def patch(self, rng: Rng, width: int, height: int) -> Image:
        """A random piece, (height, width, 3)."""
        if not self.photographs or rng.random() < 0.1:
            return fractal_noise(rng, width, height)
        image = self.photographs[rng.integers(len(self.photographs))]
        fraction = rng.uniform(0.3, 1.0)
        h, w = (max(int(side * fraction), 8) for side in image.shape[:2])
        top, left = rng.integers(image.shape[0] - h + 1), rng.integers(image.shape[1] - w + 1)
        piece = image[top : top + h, left : left + w]
        if rng.random() < 0.5:
            piece = piece[:, ::-1]
        return cv2.resize(piece, (width, height), interpolation=cv2.INTER_LINEAR)


def fractal_noise(rng: Rng, width: int, height: int) -> Image:
    """Noise of several octaves between two or three random colours."""
    total = np.zeros((height, width), np.float32)
    persistence = rng.uniform(0.35, 0.9)
    amplitude, cells = 1.0, int(rng.integers(2, 5))
    while cells <= 64:
        grid = rng.standard_normal((cells, cells)).astype(np.float32)
        total += amplitude * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        amplitude, cells = amplitude * persistence, cells * 2
    total = (total - total.min()) / max(float(np.ptp(total)), 1e-6)
    stops = np.stack([random_colour(rng) for _ in range(3)]).astype(np.float32)
    position = total * 2
    low = np.clip(position.astype(int), 0, 1)
    fraction = (position - low)[..., None]
    return (stops[low] * (1 - fraction) + stops[low + 1] * fraction).astype(np.uint8)


def random_colour(rng: Rng) -> npt.NDArray[np.float64]:
    """An sRGB colour (3,), 0 to 255; white, grey, black and saturated ones are all common."""
    kind = rng.random()
    if kind < 0.2:
        return np.clip(rng.uniform(200, 255) + rng.normal(0, 5, 3), 0, 255)
    if kind < 0.4:
        return np.clip(rng.uniform(5, 200) + rng.normal(0, 6, 3), 0, 255)
    hsv = np.uint8([[[rng.integers(180), rng.integers(60, 256), rng.integers(30, 256)]]])  # type: ignore[arg-type]
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].astype(np.float64)


def flat(colour: npt.ArrayLike) -> Image:
    """One colour, sRGB (3,) or grey, 0 to 255; what is beyond is clipped."""
    value = np.clip(np.asarray(colour, dtype=np.float64), 0, 255).astype(np.uint8)
    return np.full((TEXTURE_SIZE, TEXTURE_SIZE, 3), value)


def plain(rng: Rng, colour: npt.ArrayLike | None = None) -> Image:
    """One colour with a faint unevenness."""
    base = random_colour(rng) if colour is None else np.asarray(colour, dtype=np.float64)
    image = np.broadcast_to(base, (TEXTURE_SIZE, TEXTURE_SIZE, 3)).astype(np.float32)
    if rng.random() < 0.3:
        speckle = rng.normal(0, rng.uniform(2, 20), (TEXTURE_SIZE, TEXTURE_SIZE, 1))
        image = image + cv2.GaussianBlur(speckle, (0, 0), rng.uniform(0.5, 3))[..., None]
    return np.clip(image, 0, 255).astype(np.uint8, order="C")  # in the layout that OpenCV draws into


def patterned(rng: Rng, source: TextureSource) -> Image:
    """Stripes, bands, dots, a gradient, noise or a photograph."""
    kind = rng.integers(6)
    if kind == 0:
        return source.patch(rng, TEXTURE_SIZE, TEXTURE_SIZE)
    if kind == 1:
        return fractal_noise(rng, TEXTURE_SIZE, TEXTURE_SIZE)
    image = plain(rng)
    colour = random_colour(rng)
    rows, columns = np.mgrid[:TEXTURE_SIZE, :TEXTURE_SIZE]
    period = TEXTURE_SIZE / rng.integers(2, 14)
    if kind == 2:
        mask = (rows / period) % 1 < rng.uniform(0.2, 0.6)
    elif kind == 3:
        mask = (columns / period + rng.choice([0, 1, 2]) * rows / TEXTURE_SIZE) % 1 < rng.uniform(0.2, 0.6)
    elif kind == 4:
        mask = np.hypot(rows % period - period / 2, columns % period - period / 2) < period * rng.uniform(0.15, 0.4)
    else:
        fraction = (rows / TEXTURE_SIZE)[..., None]
        return (image * (1 - fraction) + colour * fraction).astype(np.uint8)
    image[mask] = colour
    return image


def wood(rng: Rng) -> Image:
    """Brown grain along v: noise stretched along the grain."""
    grain = rng.standard_normal((int(rng.integers(2, 7)), TEXTURE_SIZE)).astype(np.float32)
    grain = cv2.resize(grain, (TEXTURE_SIZE, TEXTURE_SIZE), interpolation=cv2.INTER_CUBIC)
    grain = cv2.GaussianBlur(grain, (0, 0), rng.uniform(0.6, 2.0))
    base = np.array([150, 100, 60]) * rng.uniform(0.35, 1.5) + rng.normal(0, 12, 3)
    contrast = rng.uniform(0.05, 0.3) / max(float(grain.std()), 1e-3)
    return np.clip(base * (1 + contrast * grain[..., None]), 0, 255).astype(np.uint8)


def label(rng: Rng, source: TextureSource, base: Image) -> Image:
    """Print on a base: bands, blocks, a picture, lettering. v (rows) runs from bottom to top."""
    image = base.copy()
    low, high = np.sort(rng.integers(0, TEXTURE_SIZE, 2))
    if high - low > 12:
        image[low:high] = source.patch(rng, TEXTURE_SIZE, int(high - low)) if rng.random() < 0.4 else random_colour(rng)
    for _ in range(rng.integers(0, 4)):
        top, left = rng.integers(0, TEXTURE_SIZE - 16, 2)
        height, width = rng.integers(4, 50, 2)
        if rng.random() < 0.4:
            region = image[top : top + height, left : left + width]
            region[:] = source.patch(rng, region.shape[1], region.shape[0])
        else:
            square, colour = rng.random() < 0.5, random_colour(rng).tolist()
            if square:
                cv2.rectangle(image, (int(left), int(top)), (int(left + width), int(top + height)), colour, -1)
            else:
                centre = (int(left + width / 2), int(top + height / 2))
                cv2.ellipse(image, centre, (int(width / 2), int(height / 2)), 0, 0, 360, colour, -1)
    for _ in range(rng.integers(0, 4)):
        _letter(rng, image)
    return image


def _letter(rng: Rng, image: Image) -> None:
    """Lettering that stands upright on the object: texture rows run upwards, so it is drawn flipped."""
    text = "".join(rng.choice(list(string.ascii_letters + string.digits), rng.integers(2, 9)))
    flipped = np.ascontiguousarray(image[::-1])
    origin = (int(rng.integers(-10, 90)), int(rng.integers(15, TEXTURE_SIZE)))
    scale, thickness = float(rng.uniform(0.3, 1.4)), int(rng.integers(1, 4))
    cv2.putText(
        flipped, text, origin, int(rng.integers(0, 5)), scale, random_colour(rng).tolist(), thickness, cv2.LINE_AA
    )
    image[:] = flipped[::-1]


def finish(rng: Rng, texture: Image, **overrides: float) -> Material:
    """A material of random gloss around a texture: dull clay to lacquer."""
    values = {"gloss": float(rng.choice([0.0, 0.03, 0.06, 0.15])), "roughness": float(rng.uniform(0, 1))}
    return Material(texture, **{**values, **overrides})


def metal(rng: Rng) -> Material:
    """Bare metal: aluminium, steel, brass."""
    tint = np.clip(rng.uniform(150, 235) + rng.normal(0, 8, 3), 0, 255)
    return Material(plain(rng, tint), gloss=0.7, roughness=float(rng.uniform(0.1, 0.8)), metallic=1.0)
