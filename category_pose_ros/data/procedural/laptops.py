"""Laptops: a base with keyboard and trackpad, and a lid with a screen, hinged at the back."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from category_pose_ros.data.procedural import shapes, surfaces
from category_pose_ros.data.procedural.instance import Instance, Part
from category_pose_ros.data.procedural.surfaces import Image, Rng, TextureSource
from category_pose_ros.geometry.mesh import Mesh
from category_pose_ros.rendering.raytracer import TEXTURE_SIZE, Material


@dataclass(frozen=True)
class _Build:
    """Measures in metres. While it is built the hinge is the y axis and the base reaches to +x."""

    depth: float
    width: float
    base: float  # thickness at the hinge
    front: float  # thickness at the front edge
    lid: float  # thickness of the lid
    corner: float
    opening: float  # radians between base and lid: 0 closed


def make_laptop(rng: Rng, source: TextureSource) -> Instance:
    """Netbooks to 17 inch machines, thin and thick, metal, black or coloured, closed to fully open."""
    build = _build(rng)
    shell = _shell(rng, source)
    deck = shell if rng.random() < 0.7 else _shell(rng, source)
    parts: list[Part] = [(_base(build), deck)]
    if build.opening > 0.15:  # a closed lid hides them
        parts.extend(_keyboard_side(rng, build, deck))
    opened, hinge = shapes.about(1, -build.opening), np.array([0.0, 0.0, 0.0008])
    parts.extend((mesh.transformed(opened, hinge), material) for mesh, material in _lid(rng, source, build, shell))
    parts.append((_hinge(rng, build), surfaces.finish(rng, surfaces.plain(rng, _dark(rng)))))
    return Instance.centred("laptop", parts)


def _build(rng: Rng) -> _Build:
    depth = rng.uniform(0.17, 0.275)
    width = depth * rng.uniform(1.3, 1.65)
    thick = rng.uniform(0.009, 0.018) if rng.random() < 0.65 else rng.uniform(0.018, 0.035)
    kind = rng.random()
    if kind < 0.06:
        opening = 0.0
    elif kind < 0.82:
        opening = np.radians(rng.triangular(60, 108, 145))
    else:
        opening = np.radians(rng.uniform(12, 180))
    lid = rng.uniform(0.004, 0.008) + 0.15 * (thick - 0.009)
    corner = rng.uniform(0.002, 0.02)
    return _Build(depth, width, thick, thick * rng.uniform(0.45, 1.0), lid, corner, float(opening))


def _shell(rng: Rng, source: TextureSource) -> Material:
    """Aluminium, black or white plastic, a colour, now and then stickers or a printed skin."""
    kind = rng.random()
    if kind < 0.4:
        tint = np.clip(rng.uniform(110, 225) + rng.normal(0, 6, 3), 0, 255)
        metallic = float(rng.choice([0.0, 0.5, 1.0]))
        return Material(surfaces.plain(rng, tint), gloss=0.35, roughness=float(rng.uniform(0.6, 1)), metallic=metallic)
    if kind < 0.65:
        return surfaces.finish(rng, surfaces.plain(rng, _dark(rng)))
    if kind < 0.9:
        return surfaces.finish(rng, surfaces.plain(rng))
    return surfaces.finish(rng, surfaces.label(rng, source, surfaces.patterned(rng, source)))


def _dark(rng: Rng) -> surfaces.Image:
    return np.clip(rng.uniform(8, 60) + rng.normal(0, 4, 3), 0, 255).astype(np.uint8)


def _base(build: _Build) -> Mesh:
    """A slab whose top is level at z = 0 and whose underside rises towards the front."""
    outline = shapes.rounded_rectangle(build.depth, build.width, build.corner)
    inset = 0.985 * outline
    slab = shapes.moved(shapes.stack([inset, outline, outline, inset], [-1.0, -0.75, -0.08, 0.0]), build.depth / 2)
    share = slab.vertices[:, 0] / np.float32(build.depth)
    thickness = build.base + (build.front - build.base) * share
    vertices = slab.vertices * np.stack([np.ones_like(share), np.ones_like(share), thickness], 1)
    return Mesh(vertices.astype(np.float32), slab.normals, slab.uv, slab.faces)


def _keyboard_side(rng: Rng, build: _Build, deck: Material) -> list[Part]:
    """Keyboard, trackpad and what else lies on the base."""
    gap = build.depth * rng.uniform(0.05, 0.16)
    length = build.depth * rng.uniform(0.36, 0.5)
    width = build.width * rng.uniform(0.78, 0.97)
    keys = shapes.panel(width, length).transformed(shapes.about(2, np.pi / 2), np.array([gap + length / 2, 0, 6e-4]))
    parts: list[Part] = [(keys, surfaces.finish(rng, _keys(rng, deck.texture[0, 0])))]
    if rng.random() < 0.93:
        room = build.depth - gap - length
        pad_depth, pad_width = room * rng.uniform(0.6, 0.9), build.width * rng.uniform(0.22, 0.42)
        x, y = gap + length + room / 2, build.width * rng.normal(0, 0.03)
        pad = shapes.moved(shapes.panel(pad_depth, pad_width), x, y, 8e-4)
        frame = shapes.moved(shapes.panel(pad_depth * 1.04, pad_width * 1.03), x, y, 5e-4)
        shade = np.clip(deck.texture[0, 0] * rng.uniform(0.6, 1.25), 0, 255)
        parts.append((frame, surfaces.finish(rng, surfaces.plain(rng, shade * 0.6))))
        parts.append((pad, surfaces.finish(rng, _pad(rng, surfaces.plain(rng, shade)))))
    if rng.random() < 0.35:  # stickers beside the trackpad
        sticker = shapes.panel(0.018, 0.02)
        side = rng.choice([-1, 1]) * build.width * 0.42
        parts.append((shapes.moved(sticker, build.depth * 0.9, side, 8e-4), surfaces.finish(rng, surfaces.plain(rng))))
    return parts


def _keys(rng: Rng, deck: Image) -> Image:
    """Rows of keys; row 0 is the front one, with the space bar."""
    well = np.clip(deck * rng.uniform(0.3, 1.0), 0, 255)
    image = surfaces.plain(rng, well)
    colour = (
        surfaces.random_colour(rng)
        if rng.random() < 0.3
        else rng.choice([_dark(rng).astype(float), rng.uniform(190, 250, 3)])
    )
    letters = (255 - colour) * rng.uniform(0.3, 1.0)
    rows = int(rng.integers(5, 7))
    edges = np.linspace(3, TEXTURE_SIZE - 3, rows + 1)
    for row in range(rows):
        count = int(rng.integers(12, 17))
        cuts = np.linspace(2, TEXTURE_SIZE - 2, count + 1)
        if row == 0:  # one wide key in the middle
            cuts = np.delete(cuts, np.arange(count // 2 - 1, count // 2 + 3))
        low, high = int(edges[row]), int(edges[row + 1]) - 2
        for left, right in zip(cuts[:-1].astype(int), cuts[1:].astype(int) - 2, strict=True):
            image[low:high, left : right + 1] = colour
            image[(low + high) // 2 : (low + high) // 2 + 2, left + 2 : left + 4] = letters
    return image


def _pad(rng: Rng, image: Image) -> Image:
    """A trackpad, sometimes with two buttons along an edge."""
    if rng.random() < 0.35:
        image[:, 96:99] = image[:, 96:99] // 2
        image[62:66, 99:] = image[62:66, 99:] // 2
    return image


def _lid(rng: Rng, source: TextureSource, build: _Build, shell: Material) -> list[Part]:
    """The lid as it lies closed on the base, its inner side down at z = 0."""
    outline = shapes.rounded_rectangle(build.depth, build.width, build.corner)
    inset = 0.985 * outline
    heights = np.array([0.0, 0.7, 1.0]) * build.lid
    slab = shapes.moved(shapes.stack([outline, outline, inset], heights), build.depth / 2)
    margin = rng.uniform(0.004, 0.02)
    chin = margin + rng.uniform(0.0, 0.02)
    height, width = build.depth - margin - chin, build.width - 2 * margin
    inwards = shapes.about(0, np.pi) @ shapes.about(2, -np.pi / 2)
    middle = np.array([chin + height / 2, 0, -6e-4])
    screen = shapes.panel(width, height).transformed(inwards, middle)
    bezel = shapes.panel(build.width * 0.985, build.depth * 0.985)
    bezel = bezel.transformed(inwards, np.array([build.depth / 2, 0, -3e-4]))
    border = surfaces.plain(rng, _dark(rng)) if rng.random() < 0.8 else surfaces.plain(rng)
    parts: list[Part] = [
        (slab, shell),
        (bezel, surfaces.finish(rng, border)),
        (screen, _screen(rng, source)),
    ]
    if rng.random() < 0.7:
        parts.append(_logo(rng, build))
    return parts


def _screen(rng: Rng, source: TextureSource) -> Material:
    """Off and glossy, a desktop, a text, a film."""
    roughness = float(rng.choice([0.0, 0.2, 0.8]))
    if rng.random() < 0.35:
        return Material(surfaces.plain(rng, _dark(rng)), gloss=float(rng.uniform(0.03, 0.12)), roughness=roughness)
    image = source.patch(rng, TEXTURE_SIZE, TEXTURE_SIZE)[::-1].copy()
    if rng.random() < 0.5:
        _windows(rng, image)
    return Material(image, gloss=float(rng.uniform(0.02, 0.08)), roughness=roughness)


def _windows(rng: Rng, image: Image) -> None:
    """Windows with lines of text and a task bar, in place."""
    for _ in range(rng.integers(1, 4)):
        left, low = (int(value) for value in rng.integers(0, 70, 2))
        right, high = left + int(rng.integers(30, 100)), low + int(rng.integers(30, 100))
        paper = rng.choice([245, 225, 30])
        image[low:high, left:right] = paper
        image[high - 6 : high, left:right] = surfaces.random_colour(rng)
        for row in range(low + 4, high - 8, 5):
            end = left + 4 + int(rng.uniform(0.3, 1.0) * (right - left - 8))
            image[row : row + 2, left + 4 : end] = abs(int(paper) - 170)
    if rng.random() < 0.6:
        image[:6] = surfaces.random_colour(rng)


def _logo(rng: Rng, build: _Build) -> Part:
    """On the outside of the lid: a disc, a bar or lettering."""
    size = build.depth * rng.uniform(0.06, 0.2)
    stretch = rng.uniform(1.0, 3.0)
    outline = shapes.rounded_rectangle(size, size * stretch, rng.choice([0.1, 0.5]) * size)
    height = np.array([build.lid - 0.001, build.lid + 0.0004])
    mark = shapes.moved(shapes.stack([outline, outline], height), build.depth * rng.uniform(0.4, 0.6))
    texture = surfaces.plain(rng)
    if rng.random() < 0.4:
        colour = surfaces.random_colour(rng).tolist()
        cv2.putText(texture, "xo", (10, 90), cv2.FONT_HERSHEY_DUPLEX, 2.5, colour, 8, cv2.LINE_AA)
    material = surfaces.metal(rng) if rng.random() < 0.4 else surfaces.finish(rng, texture)
    return mark, material


def _hinge(rng: Rng, build: _Build) -> Mesh:
    """One long or two short barrels at the back edge."""
    radius = build.base * rng.uniform(0.15, 0.3)
    barrel = shapes.revolve(np.array([[0.0, -0.5], [radius, -0.5], [radius, 0.5], [0.0, 0.5]]), sectors=10)
    if rng.random() < 0.5:
        spans = [(0.0, 0.7 * build.width)]
    else:
        spans = [(side * 0.36 * build.width, 0.08 * build.width) for side in (-1, 1)]
    sideways = shapes.about(0, np.pi / 2)
    pieces = []
    for y, length in spans:
        stretched = Mesh(
            barrel.vertices * np.array([1, 1, length], np.float32), barrel.normals, barrel.uv, barrel.faces
        )
        pieces.append(stretched.transformed(sideways, np.array([0.6 * radius, y, -0.5 * radius])))
    return shapes.merge(pieces)
