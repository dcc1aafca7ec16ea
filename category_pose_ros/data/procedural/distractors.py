"""What is none of our categories: cartons, balls, bowls, plates, cones, tools, fingers."""

from __future__ import annotations

import numpy as np

from category_pose_ros.data.procedural import shapes, surfaces
from category_pose_ros.data.procedural.instance import Instance, Part
from category_pose_ros.data.procedural.surfaces import Rng, TextureSource
from category_pose_ros.rendering.raytracer import Material


def make_distractor(rng: Rng, source: TextureSource) -> Instance:
    """A random object that must not be taken for one of ours."""
    makers = (_carton, _carton, _ball, _bowl, _plate, _cone, _tool, _screen)
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
        offset = np.array([rng.normal(0, 0.006), k * thick * 1.9, rng.normal(0, 0.004)])
        parts.append((bar.transformed(np.eye(3, dtype=np.float32), offset), material))
    palm = shapes.ellipsoid([0.05, 0.045, 0.018]).transformed(np.eye(3, dtype=np.float32), np.array([0.07, 0.03, 0.0]))
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
    moved = head.transformed(np.eye(3, dtype=np.float32), np.array([length / 2, 0.0, 0.0]))
    return [(bar, _surface(rng, source)), (moved, _surface(rng, source))]


def _screen(rng: Rng, source: TextureSource) -> list[Part]:
    """Two thin boards at an angle: a book, a laptop, a picture frame."""
    width, depth, angle = rng.uniform(0.1, 0.35), rng.uniform(0.08, 0.25), rng.uniform(0.2, 2.2)
    board = shapes.box([depth, width, 0.01])
    turn = np.array(
        [[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]], dtype=np.float32
    )
    lid = board.transformed(turn, np.array([-depth / 2, 0, 0]) + turn @ [depth / 2, 0, 0])
    return [(board, _surface(rng, source)), (lid, _surface(rng, source))]
