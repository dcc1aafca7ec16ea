"""Photographic cameras: compact, mirrorless, single-lens reflex, rangefinder; any lens from pancake to tele."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import cv2
import numpy as np

from category_pose_ros.data.procedural import shapes, surfaces
from category_pose_ros.data.procedural.instance import Instance, Part
from category_pose_ros.data.procedural.surfaces import Image, Rng, TextureSource
from category_pose_ros.geometry.mesh import Mesh
from category_pose_ros.rendering.raytracer import TEXTURE_SIZE, Material

_FORWARD = shapes.about(1, np.pi / 2)  # turns what was lathed about z to look along x


@dataclass(frozen=True)
class _Body:
    """Measures in metres, the body's middle at the origin. The lens looks along +x, the grip is at -y."""

    kind: str
    depth: float
    width: float
    height: float
    corner: float
    grip: float  # how far the grip reaches beyond the front
    lens_radius: float
    lens_y: float
    lens_z: float


@dataclass(frozen=True)
class _Finish:
    """Materials that the parts of one camera share."""

    plates: Material  # top and bottom
    skin: Material  # the band between them, leather or rubber
    trim: Material  # dials, lugs, rings
    dark: Material


def make_camera(rng: Rng, source: TextureSource) -> Instance:
    """From pocket cameras to reflex cameras with a long lens; black, silver, two-coloured, toy-coloured."""
    body = _body(rng)
    finish = _finish(rng, source)
    parts = _housing(rng, body, finish)
    parts.extend(_lens(rng, source, body, finish))
    top = body.height / 2
    if body.kind in ("reflex", "bridge") or (body.kind == "mirrorless" and rng.random() < 0.6):
        parts.append((_hump(rng, body), finish.plates))
        top += _hump_height(body)
    elif rng.random() < 0.7:
        parts.extend(_front_windows(rng, body, finish))
    if body.kind != "compact" or rng.random() < 0.2:
        parts.append((shapes.moved(shapes.box([0.019, 0.02, 0.003]), -0.1 * body.depth, body.lens_y, top), finish.trim))
    parts.append((_controls(rng, body), finish.trim))
    parts.extend(_back(rng, source, body, finish))
    if rng.random() < 0.6:
        parts.append((_lugs(body), finish.trim))
    return Instance.centred("camera", parts)


def _body(rng: Rng) -> _Body:
    kinds = ["compact", "mirrorless", "reflex", "rangefinder", "bridge"]
    kind = str(rng.choice(kinds, p=[0.22, 0.24, 0.28, 0.16, 0.1]))
    depth, width, height = {
        "compact": ((0.018, 0.035), (0.085, 0.118), (0.052, 0.072)),
        "mirrorless": ((0.03, 0.045), (0.105, 0.14), (0.062, 0.085)),
        "reflex": ((0.036, 0.06), (0.12, 0.158), (0.075, 0.11)),
        "rangefinder": ((0.026, 0.04), (0.11, 0.145), (0.065, 0.084)),
        "bridge": ((0.038, 0.06), (0.11, 0.135), (0.068, 0.09)),
    }[kind]
    size = [float(rng.uniform(*span)) for span in (depth, width, height)]
    grip = {"compact": 0.25, "mirrorless": 0.6, "reflex": 0.85, "rangefinder": 0.15, "bridge": 1.0}[kind]
    reach = float(rng.uniform(0.006, 0.028)) if rng.random() < grip else 0.0
    radius = min(rng.uniform(0.3, 0.48) * size[2], 0.04)
    sideways = rng.uniform(0.0, 0.12) if rng.random() < 0.75 else rng.uniform(-0.15, 0.0)
    low = -rng.uniform(0.0, 0.5) * (size[2] / 2 - radius)
    corner = float(rng.uniform(0.15, 0.5)) * size[0] * (1.0 if kind != "reflex" else 1.2)
    return _Body(kind, size[0], size[1], size[2], corner, reach, radius, float(sideways * size[1]), float(low))


def _finish(rng: Rng, source: TextureSource) -> _Finish:
    dark = surfaces.finish(rng, surfaces.plain(rng, np.clip(rng.uniform(5, 40) + rng.normal(0, 3, 3), 0, 255)))
    kind = rng.random()
    if kind < 0.5:  # all black or dark grey
        plates = surfaces.finish(rng, surfaces.plain(rng, np.clip(rng.uniform(8, 65) + rng.normal(0, 4, 3), 0, 255)))
    elif kind < 0.75:
        tint = np.clip(rng.uniform(130, 220) + rng.normal(0, 6, 3), 0, 255)
        plates = Material(surfaces.plain(rng, tint), gloss=0.4, roughness=float(rng.uniform(0.3, 0.9)), metallic=0.6)
    else:
        plates = surfaces.finish(rng, surfaces.plain(rng))
    skin = plates
    if rng.random() < 0.55:
        skin = surfaces.finish(rng, _leather(rng), gloss=0.03)
    elif rng.random() < 0.15:
        skin = surfaces.finish(rng, surfaces.label(rng, source, surfaces.patterned(rng, source)))
    trim = surfaces.metal(rng) if rng.random() < 0.45 else (dark if rng.random() < 0.7 else plates)
    return _Finish(plates, skin, trim, dark)


def _leather(rng: Rng) -> Image:
    """A pebbled dark skin, sometimes brown, red, green."""
    base = rng.uniform(15, 60, 3) if rng.random() < 0.3 else surfaces.random_colour(rng)
    if rng.random() < 0.6:
        base = np.full(3, rng.uniform(10, 50))
    # Higher than wide, since u spans the whole way around the body.
    pebbles = cv2.GaussianBlur(rng.normal(0, 50, (TEXTURE_SIZE, TEXTURE_SIZE)), (0, 0), sigmaX=0.4, sigmaY=2.0)
    return np.clip(base + pebbles[..., None], 0, 255).astype(np.uint8)


def _housing(rng: Rng, body: _Body, finish: _Finish) -> list[Part]:
    """Bottom plate, band and top plate: one outline, bevelled above and below."""
    outline = _outline(rng, body)
    bevel = 1 - rng.uniform(0.004, 0.012) / body.width * 2
    low, high = body.height * (rng.uniform(0.04, 0.12) - 0.5), body.height * (0.5 - rng.uniform(0.08, 0.3))
    bottom, top = -body.height / 2, body.height / 2
    edge = rng.uniform(0.0015, 0.005)
    proud = 1.0 if finish.skin is finish.plates else 0.992  # a skin lies a little below the plates
    return [
        (shapes.stack([outline * bevel, outline, outline], [bottom, bottom + edge, low]), finish.plates),
        (shapes.stack([outline * proud, outline * proud], [low, high]), finish.skin),
        (shapes.stack([outline, outline, outline * bevel], [high, top - edge, top]), finish.plates),
    ]


def _outline(rng: Rng, body: _Body) -> shapes.Curve:
    """The plan of the body with its grip at -y."""
    outline = shapes.rounded_rectangle(body.depth, body.width, body.corner, per_corner=4, per_side=12)
    share = (outline[:, 1] / body.width + 0.5) / rng.uniform(0.2, 0.34)  # 0 at the outer end, 1 where the grip ends
    bulge = np.where(share < 1, np.sin(np.pi * np.clip(share, 0, 1)) ** rng.uniform(0.3, 0.8), 0.0)
    in_front = np.clip(outline[:, 0] / body.depth + 0.5, 0, 1)
    return outline + np.stack([bulge * body.grip * in_front, np.zeros(len(outline))], 1)


def _lens(rng: Rng, source: TextureSource, body: _Body, finish: _Finish) -> list[Part]:
    """Barrel rings of different radii, a front rim, glass; now and then a cap or a hood."""
    length = _lens_length(rng, body)
    count = int(rng.integers(2, 5)) if length > 0.02 else 1
    cuts = np.concatenate([[0.0], np.sort(rng.uniform(0.1, 0.9, count - 1)), [1.0]]) * length
    taper = rng.uniform(0.8, 1.12)
    radius, parts = body.lens_radius, []
    for number, (low, high) in enumerate(itertools.pairwise(cuts)):
        radius = body.lens_radius * (1 + (taper - 1) * number / count) * rng.uniform(0.92, 1.04)
        radius = min(radius, 0.048)
        bevel = min(0.12 * (high - low), 0.003)
        wall = [[radius, low - 0.004], [radius, high - bevel], [radius - bevel, high]]
        profile = np.array([[0.0, low - 0.004], *wall, [0.0, high]])
        parts.append((shapes.revolve(profile, sectors=32), _ring(rng, finish)))
    parts.extend(_front_element(rng, source, radius - min(0.003, 0.1 * radius), length, finish))
    if length > 0.03 and rng.random() < 0.15:
        hood = radius * rng.uniform(1.02, 1.3)
        cone = np.array([[radius, length - 0.006], [hood, length + rng.uniform(0.01, 0.035)]])
        parts.append((shapes.revolve(cone, sectors=32), finish.dark))
    place = np.array([body.depth / 2, body.lens_y, body.lens_z])
    return [(mesh.transformed(_FORWARD, place), material) for mesh, material in parts]


def _lens_length(rng: Rng, body: _Body) -> float:
    """From the front of the body, in metres."""
    shortest, longest = {
        "compact": (0.003, 0.035),
        "mirrorless": (0.02, 0.085),
        "reflex": (0.03, 0.1),
        "rangefinder": (0.012, 0.055),
        "bridge": (0.03, 0.09),
    }[body.kind]
    if body.kind in ("mirrorless", "reflex") and rng.random() < 0.12:
        longest = 0.17
    return float(rng.uniform(shortest, longest))


def _ring(rng: Rng, finish: _Finish) -> Material:
    """Smooth, ribbed, or engraved with white scales."""
    kind = rng.random()
    if kind < 0.3:
        return finish.dark
    if kind < 0.5:
        return finish.trim
    if kind < 0.58:
        return surfaces.finish(rng, surfaces.plain(rng))
    dark = rng.uniform(8, 50) if rng.random() < 0.85 else rng.uniform(120, 220)
    texture = surfaces.plain(rng, np.full(3, dark))
    if kind < 0.85:
        ribs = (np.arange(TEXTURE_SIZE) // int(rng.integers(1, 4))) % 2 == 0
        texture[:, ribs] = (texture[:, ribs] * rng.uniform(0.3, 0.8)).astype(np.uint8)
    else:
        _engrave(rng, texture)
    return surfaces.finish(rng, texture)


def _engrave(rng: Rng, texture: Image) -> None:
    """Short strokes around the ring and an index line, in place."""
    ink = rng.choice([[235, 235, 235], [230, 160, 40], [220, 60, 50]])
    row = int(rng.integers(45, 85))
    for column in rng.integers(0, TEXTURE_SIZE - 8, 12):
        texture[row : row + int(rng.integers(5, 14)), column : column + int(rng.integers(1, 6))] = ink
    if rng.random() < 0.4:
        texture[90:96] = ink


def _front_element(
    rng: Rng, source: TextureSource, radius: float, length: float, finish: _Finish
) -> list[tuple[Mesh, Material]]:
    """What looks at one: a rim, a dark funnel with coated glass in it; or the cap."""
    if rng.random() < 0.13:
        cap = [[radius * 1.02, length], [radius * 1.02, length + 0.004], [0.0, length + 0.0045]]
        print_ = surfaces.label(rng, source, finish.dark.texture) if rng.random() < 0.6 else finish.dark.texture
        return [(shapes.revolve(np.array(cap), sectors=32), Material(print_, gloss=0.05, roughness=0.5))]
    opening = radius * rng.uniform(0.4, 0.92)
    lip, level = length + 0.0004, length + 0.0008
    rim = np.array([[radius, lip - 0.001], [radius, level], [radius * 0.97, level]])
    funnel = np.array([[radius * 0.97, level], [opening, lip]])
    dome = opening * rng.uniform(0.02, 0.18)
    glass = np.array([[opening, lip], [0.7 * opening, lip + 0.5 * dome], [0.0, lip + dome]])
    name_ring = finish.dark.texture.copy()
    if rng.random() < 0.7:
        _engrave(rng, name_ring)
    return [
        (shapes.revolve(rim, sectors=32), finish.trim),
        (shapes.revolve(funnel, sectors=32), Material(name_ring, gloss=0.04, roughness=0.6)),
        (shapes.revolve(glass, sectors=32), _coated_glass(rng)),
    ]


def _coated_glass(rng: Rng) -> Material:
    """Nearly black, with a violet, green or amber sheen and darker rings inwards."""
    sheen = rng.choice([[60, 30, 90], [20, 70, 50], [80, 50, 20], [20, 40, 90], [15, 15, 18]]) * rng.uniform(0.3, 1.2)
    rows = np.linspace(1.0, rng.uniform(0.0, 0.5), TEXTURE_SIZE)[:, None, None]  # v runs from the edge to the middle
    rings = 0.75 + 0.25 * np.sign(np.sin(rows * rng.uniform(6, 20)))
    image = np.broadcast_to(sheen * rows * rings, (TEXTURE_SIZE, TEXTURE_SIZE, 3))
    return Material(np.clip(image, 0, 255).astype(np.uint8), gloss=float(rng.uniform(0.08, 0.25)), roughness=0.0)


def _hump_height(body: _Body) -> float:
    return 0.24 * body.height if body.kind in ("reflex", "bridge") else 0.16 * body.height


def _hump(rng: Rng, body: _Body) -> Mesh:
    """The viewfinder's prism above the lens: broad below, narrow above, overhanging at the front."""
    broad, narrow = rng.uniform(0.3, 0.42) * body.width, rng.uniform(0.5, 0.8)
    deep, radius = body.depth * rng.uniform(0.85, 1.25), rng.uniform(0.002, 0.009)
    front = rng.uniform(-0.1, 0.3) * body.depth
    base, top = body.height / 2 - 0.002, body.height / 2 + _hump_height(body)
    levels = [(1.0, 1.0, base), (0.95, 0.98, base + 0.35 * (top - base)), (narrow, 0.85, top - 0.002)]
    levels.append((narrow * 0.94, 0.8, top))
    shift = [front, body.lens_y]
    outlines = [shapes.rounded_rectangle(deep * y, broad * x, radius) + shift for x, y, _ in levels]
    return shapes.stack(outlines, [z for _, _, z in levels])


def _front_windows(rng: Rng, body: _Body, finish: _Finish) -> list[Part]:
    """Flash, viewfinder and light meter windows high on the front of a flat-topped camera."""
    parts: list[Part] = []
    pane = Material(surfaces.plain(rng, rng.uniform(20, 60, 3)), gloss=0.15, roughness=0.0)
    flash = Material(surfaces.plain(rng, rng.uniform(150, 250, 3)), gloss=0.1, roughness=0.2)
    spots = rng.choice([-0.3, -0.12, 0.1, 0.3, 0.4], int(rng.integers(1, 4)), replace=False)
    for number, spot in enumerate(spots):
        width, height = rng.uniform(0.007, 0.022), rng.uniform(0.005, 0.011)
        z = body.height / 2 - height / 2 - rng.uniform(0.003, 0.007)
        frame = shapes.box([0.002, width + 0.003, height + 0.003])
        window = shapes.box([0.003, width, height])
        x = body.depth / 2 + (body.grip * 0.9 if spot < -0.15 else 0.0)
        parts.append((shapes.moved(frame, x, spot * body.width, z), finish.dark if number else finish.trim))
        parts.append((shapes.moved(window, x, spot * body.width, z), flash if number == 0 else pane))
    return parts


def _controls(rng: Rng, body: _Body) -> Mesh:
    """Shutter release at the grip, dials and levers on the top plate."""
    pieces = [_button(rng.uniform(0.004, 0.007), rng.uniform(0.002, 0.005), body, -0.38, 0.2 * body.grip / body.depth)]
    for place in rng.choice([-0.25, 0.28, 0.4], int(rng.integers(0, 4)), replace=False):
        radius = rng.uniform(0.006, min(0.012, 0.4 * body.depth))
        pieces.append(_button(radius, rng.uniform(0.002, 0.009), body, float(place), float(rng.uniform(-0.15, 0.1))))
    return shapes.merge(pieces)


def _button(radius: float, height: float, body: _Body, across: float, along: float) -> Mesh:
    """A disc on the top plate; its place in widths and depths of the body."""
    profile = [[radius, -0.001], [radius, height - 0.0008], [radius - 0.0008, height], [0.0, height]]
    disc = shapes.revolve(np.array(profile), sectors=16)
    return shapes.moved(disc, along * body.depth, across * body.width, body.height / 2)


def _back(rng: Rng, source: TextureSource, body: _Body, finish: _Finish) -> list[Part]:
    """Screen (off, a menu or a picture), eyepiece, buttons; film cameras have a plain back."""
    back = -body.depth / 2
    parts: list[Part] = []
    if body.kind != "rangefinder" or rng.random() < 0.5:
        height = body.height * rng.uniform(0.5, 0.78)
        width = min(height * rng.uniform(1.3, 1.55), 0.72 * body.width)
        y = body.width * rng.uniform(0.02, 0.1)  # away from the thumb
        frame = shapes.box([0.004, width + 0.006, height + 0.005])
        shown = surfaces.plain(rng, rng.uniform(5, 45, 3))
        if rng.random() < 0.35:
            shown = source.patch(rng, TEXTURE_SIZE, TEXTURE_SIZE)[::-1].copy()
        glass = Material(shown, gloss=float(rng.uniform(0.04, 0.1)), roughness=0.05)
        parts.append((shapes.moved(frame, back, y, -0.07 * body.height), finish.dark))
        parts.append((shapes.moved(shapes.box([0.005, width, height]), back, y, -0.07 * body.height), glass))
        parts.append((_back_buttons(rng, body), finish.trim if rng.random() < 0.5 else finish.dark))
    if body.kind != "compact":
        raised = _hump_height(body) * 0.4 if body.kind in ("reflex", "bridge") else -0.1 * body.height
        y = body.lens_y if body.kind in ("reflex", "bridge") else body.width * rng.choice([0.0, 0.35])
        depth = rng.uniform(0.006, 0.018)
        cup = shapes.box([depth, rng.uniform(0.016, 0.034), rng.uniform(0.01, 0.02)])
        parts.append((shapes.moved(cup, back - depth / 3, float(y), body.height / 2 + raised), finish.dark))
    return parts


def _back_buttons(rng: Rng, body: _Body) -> Mesh:
    """A pad and a few buttons at the thumb."""
    backwards = shapes.about(1, -np.pi / 2)
    pieces = []
    for radius, z in [(rng.uniform(0.006, 0.01), -0.1), (0.003, -0.33), (0.003, 0.12), (0.0035, 0.26)]:
        disc = shapes.revolve(np.array([[radius, 0.0], [radius, 0.0015], [0.0, 0.002]]), sectors=14)
        pieces.append(disc.transformed(backwards, np.array([-body.depth / 2, -0.41 * body.width, z * body.height])))
    return shapes.merge(pieces)


def _lugs(body: _Body) -> Mesh:
    """The two rings for the strap."""
    angle = np.linspace(0, 2 * np.pi, 13)
    circle = 0.005 * np.stack([np.cos(angle), 0 * angle, np.sin(angle)], 1)
    ring = shapes.sweep(circle, (0.0009, 0.0009), sectors=6).transformed(shapes.about(2, np.pi / 2), np.zeros(3))
    places = [side * (body.width / 2 + 0.003) for side in (-1, 1)]
    return shapes.merge([shapes.moved(ring, 0.0, y, 0.32 * body.height) for y in places])
