"""What is none of our categories: cartons, balls, bowls, plates, cones, tools, fingers."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from category_pose_ros.data.procedural import shapes, surfaces
from category_pose_ros.data.procedural.instance import Instance, Part
from category_pose_ros.data.procedural.surfaces import Rng, TextureSource
from category_pose_ros.rendering.raytracer import Material


def make_distractor(rng: Rng, source: TextureSource, categories: Collection[str] = ()) -> Instance:
    """A random small object that must not be taken for one of ours.

    Args:
        categories: what is ours; nothing is made that looks like one of them.
    """
    makers = [_carton, _carton, _ball, _bowl, _plate, _cone, _tool, _screen]
    for category, alike in {"bowl": _bowl, "laptop": _screen}.items():
        if category in categories:
            makers.remove(alike)
    parts = makers[rng.integers(len(makers))](rng, source)
    return Instance.centred("distractor", parts)


def make_fingers(rng: Rng, source: TextureSource) -> Instance:
    """Three to five rounded bars side by side, skin, sleeve or glove coloured: a hand at an object."""
    skin = np.clip(np.array([210, 160, 130]) * rng.uniform(0.3, 1.15) + rng.normal(0, 12, 3), 0, 255)
    colour = skin if rng.random() < 0.75 else surfaces.random_colour(rng)
    material = surfaces.finish(rng, surfaces.plain(rng, colour), gloss=0.03)
    thick, length = rng.uniform(0.007, 0.012), rng.uniform(0.06, 0.12)
    parts: list[Part] = []
    for k in range(rng.integers(3, 6)):
        bar = shapes.ellipsoid([length * rng.uniform(0.4, 0.6), thick, thick])
        parts.append((shapes.moved(bar, rng.normal(0, 0.006), k * thick * 1.9, rng.normal(0, 0.004)), material))
    palm = shapes.moved(shapes.ellipsoid([0.05, 0.045, 0.018]), 0.07, 0.03)
    return Instance.centred("distractor", [*parts, (palm, material)])


def _surface(rng: Rng, source: TextureSource) -> Material:
    texture = surfaces.plain(rng) if rng.random() < 0.35 else surfaces.patterned(rng, source)
    return surfaces.finish(rng, texture)


def _carton(rng: Rng, source: TextureSource) -> list[Part]:
    texture = surfaces.label(rng, source, surfaces.patterned(rng, source))
    return [(shapes.box(rng.uniform(0.03, 0.2, 3)), surfaces.finish(rng, texture))]


def _ball(rng: Rng, source: TextureSource) -> list[Part]:
    radius = rng.uniform(0.02, 0.07)
    stretch = np.ones(3) if rng.random() < 0.6 else rng.uniform(0.5, 1.3, 3)
    return [(shapes.ellipsoid(radius * stretch), _surface(rng, source))]


def _bowl(rng: Rng, source: TextureSource) -> list[Part]:
    radius, depth = rng.uniform(0.05, 0.11), rng.uniform(0.35, 0.75)
    t = np.linspace(0.05, 1, 10)
    outer = np.stack([radius * t ** rng.uniform(0.4, 0.9), radius * depth * t**2], 1)
    inner = (outer - [0.004, -0.003])[::-1]
    profile = np.concatenate([[[0.0, outer[0, 1]]], outer, inner, [[0.0, inner[-1, 1]]]])
    profile[:, 0] = np.maximum(profile[:, 0], 0)
    return [(shapes.revolve(profile), _surface(rng, source))]


def _plate(rng: Rng, source: TextureSource) -> list[Part]:
    radius, rise = rng.uniform(0.07, 0.13), rng.uniform(0.008, 0.025)
    low = [[0.0, 0.0], [radius * 0.6, 0.0], [radius, rise]]
    profile = np.array([*low, [radius, rise + 0.003], [radius * 0.6, 0.004], [0.0, 0.004]])
    return [(shapes.revolve(profile), _surface(rng, source))]


def _cone(rng: Rng, source: TextureSource) -> list[Part]:
    radius, height = rng.uniform(0.02, 0.07), rng.uniform(0.05, 0.2)
    tip = rng.uniform(0.0, 0.4) * radius
    profile = np.array([[0.0, 0.0], [radius, 0.0], [tip, height], [0.0, height]])
    return [(shapes.revolve(profile, squareness=float(rng.choice([2.0, 6.0]))), _surface(rng, source))]


def _tool(rng: Rng, source: TextureSource) -> list[Part]:
    """A long thin bar with a head: pen, screwdriver, brush, banana-like bend left out."""
    length, thick = rng.uniform(0.1, 0.25), rng.uniform(0.004, 0.015)
    bar = shapes.box([length, thick, thick])
    head = shapes.ellipsoid([thick * rng.uniform(1, 3), thick * rng.uniform(0.8, 2), thick])
    return [(bar, _surface(rng, source)), (shapes.moved(head, length / 2), _surface(rng, source))]


def _screen(rng: Rng, source: TextureSource) -> list[Part]:
    """Two thin boards at an angle: a book, a picture frame."""
    width, depth, angle = rng.uniform(0.1, 0.35), rng.uniform(0.08, 0.25), rng.uniform(0.2, 2.2)
    board = shapes.box([depth, width, 0.01])
    lid = shapes.moved(shapes.moved(board, depth / 2).transformed(shapes.about(1, -angle), np.zeros(3)), -depth / 2)
    return [(board, _surface(rng, source)), (lid, _surface(rng, source))]


def make_street_distractor(rng: Rng, source: TextureSource) -> Instance:
    """What stands beside a road: houses, walls, hedges, lorries, trees, poles, bins, people."""
    makers = (_house, _house, _wall, _wall, _lorry, _tree, _tree, _pole, _pole, _bin, _pedestrian)
    parts = makers[rng.integers(len(makers))](rng, source)
    return Instance.centred("distractor", parts)


def _house(rng: Rng, source: TextureSource) -> list[Part]:
    front = surfaces.patterned(rng, source)
    if rng.random() < 0.7:  # windows
        front = surfaces.plain(rng)
        front[20:100, (np.arange(front.shape[1]) // int(rng.integers(8, 20))) % 2 == 0] = rng.uniform(20, 120, 3)
        front[54:66] = front[0, 0]
    return [(shapes.box(rng.uniform([6, 5, 3], [20, 10, 9])), surfaces.finish(rng, front, gloss=0.0))]


def _wall(rng: Rng, source: TextureSource) -> list[Part]:
    """A wall, fence or hedge along the road."""
    texture = surfaces.patterned(rng, source)
    if rng.random() < 0.4:  # leaves
        base = np.array([60, 85, 35]) * rng.uniform(0.4, 1.4)
        texture = np.clip(base + rng.normal(0, 28, (*texture.shape[:2], 1)), 0, 255).astype(np.uint8)
    size = rng.uniform([3, 0.1, 0.6], [14, 1.2, 2.4])
    return [(shapes.box(size), surfaces.finish(rng, texture, gloss=0.0))]


def _lorry(rng: Rng, source: TextureSource) -> list[Part]:
    """A box on wheels with a driver's cab, or a bus; taller and longer than any of our cars."""
    length, width, height = rng.uniform([5.5, 2.1, 2.3], [11, 2.5, 3.2])
    side = surfaces.label(rng, source, surfaces.plain(rng))
    cab_length = rng.uniform(1.6, 2.2)
    box = shapes.moved(shapes.box([length, width, height]), z=height / 2 + 0.9)
    cab = shapes.moved(shapes.box([cab_length, width, 2.2]), (length + cab_length) / 2, 0.0, 1.1 + 0.5)
    pane = shapes.moved(shapes.box([cab_length * 0.7, width + 0.02, 0.8]), length / 2 + 0.6 * cab_length, 0.0, 2.1)
    tyre = shapes.revolve(np.array([[0.0, -0.15], [0.48, -0.15], [0.48, 0.15], [0.0, 0.15]]), sectors=16)
    upright = shapes.about(0, np.pi / 2)
    axles = [0.55 * length, -0.3 * length, -0.42 * length]
    tyres = [tyre.transformed(upright, np.array([x, y * (width / 2 - 0.15), 0.48])) for x in axles for y in (-1, 1)]
    return [
        (box, surfaces.finish(rng, side)),
        (cab, surfaces.finish(rng, surfaces.plain(rng))),
        (pane, Material(surfaces.flat(25), gloss=0.12, roughness=0.0)),
        (shapes.merge(tyres), surfaces.finish(rng, surfaces.flat(30), gloss=0.0)),
    ]


def _tree(rng: Rng, source: TextureSource) -> list[Part]:
    height, trunk = rng.uniform(1.0, 3.0), rng.uniform(0.08, 0.3)
    stem = shapes.revolve(np.array([[trunk, 0.0], [trunk * 0.8, height]]), sectors=10)
    crown = shapes.ellipsoid(rng.uniform([0.6, 0.6, 0.7], [2.5, 2.5, 3.0]), sectors=12)
    leaves = np.clip(np.array([55, 80, 30]) * rng.uniform(0.4, 1.5) + rng.normal(0, 35, (128, 128, 1)), 0, 255)
    return [
        (stem, surfaces.finish(rng, surfaces.flat([70, 55, 45]), gloss=0.0)),
        (shapes.moved(crown, z=height + 0.5), surfaces.finish(rng, leaves.astype(np.uint8), gloss=0.0)),
    ]


def _pole(rng: Rng, source: TextureSource) -> list[Part]:
    """A post, most with a sign or a lamp on it."""
    height, radius = rng.uniform(0.9, 5.0), rng.uniform(0.03, 0.12)
    post = shapes.revolve(np.array([[radius, 0.0], [radius, height], [0.0, height]]), sectors=10)
    parts: list[Part] = [(post, surfaces.metal(rng))]
    if rng.random() < 0.7:
        sign = shapes.moved(shapes.box(rng.uniform([0.04, 0.3, 0.3], [0.4, 0.9, 1.0])), 0.1, 0.0, height)
        parts.append((sign, surfaces.finish(rng, surfaces.label(rng, source, surfaces.plain(rng)))))
    return parts


def _bin(rng: Rng, source: TextureSource) -> list[Part]:
    return [(shapes.box(rng.uniform([0.4, 0.4, 0.7], [1.6, 1.2, 1.5])), _surface(rng, source))]


def _pedestrian(rng: Rng, source: TextureSource) -> list[Part]:
    """Head, trunk and legs: enough for something upright that moves on pavements."""
    clothes = surfaces.finish(rng, surfaces.plain(rng), gloss=0.0)
    skin = surfaces.finish(rng, surfaces.flat(np.array([210, 160, 130]) * rng.uniform(0.4, 1.1)), gloss=0.0)
    legs = [shapes.ellipsoid([0.09, 0.09, 0.45], sectors=10) for _ in range(2)]
    stride = rng.uniform(0.0, 0.2)
    pair = [shapes.moved(leg, side * stride, side * 0.1, 0.44) for leg, side in zip(legs, (-1, 1), strict=True)]
    return [
        (shapes.merge(pair), surfaces.finish(rng, surfaces.plain(rng), gloss=0.0)),
        (shapes.moved(shapes.ellipsoid([0.16, 0.24, 0.38], sectors=12), z=1.15), clothes),
        (shapes.moved(shapes.ellipsoid([0.1, 0.09, 0.13], sectors=10), z=1.62), skin),
    ]
