"""Cans: drink cans with necks, lid recess and tab; food cans with rims and ribs."""

from __future__ import annotations

import numpy as np

from category_pose_ros.data.procedural import shapes, surfaces
from category_pose_ros.data.procedural.instance import Instance, Part
from category_pose_ros.data.procedural.surfaces import Image, Rng, TextureSource
from category_pose_ros.rendering.raytracer import Material


def make_can(rng: Rng, source: TextureSource) -> Instance:
    """Drink cans (slim, standard, tall) and food cans (flat to high)."""
    return _drink_can(rng, source) if rng.random() < 0.6 else _food_can(rng, source)


def _drink_can(rng: Rng, source: TextureSource) -> Instance:
    radius = rng.uniform(0.025, 0.037)
    height = radius * rng.uniform(3.0, 5.0)
    neck = rng.uniform(0.74, 0.9) * radius
    slope, foot = rng.uniform(0.08, 0.18) * height, rng.uniform(0.04, 0.09) * height
    side = np.array(
        [
            [neck * 0.95, 0.0],
            [neck, 0.002],
            [radius, foot],
            [radius, height - slope],
            [neck, height - 0.002],
            [neck, height],
        ]
    )
    recess = rng.uniform(0.003, 0.007)
    lid = np.array([[neck, height], [neck * 0.93, height], [neck * 0.9, height - recess], [0.0, height - recess]])
    dome = rng.uniform(0.006, 0.012)
    base = np.array([[0.0, dome], [neck * 0.5, dome * 0.75], [neck * 0.85, 0.0], [neck * 0.95, 0.0]])
    bare = surfaces.metal(rng)
    parts: list[Part] = [
        (shapes.revolve(side), _side(rng, source)),
        (shapes.revolve(lid), bare),
        (shapes.revolve(base), bare),
    ]
    if rng.random() < 0.85:
        parts.extend(_tab(rng, neck, height - recess, bare))
    return Instance.centred("can", parts)


def _food_can(rng: Rng, source: TextureSource) -> Instance:
    radius = rng.uniform(0.03, 0.055)
    height = radius * (rng.uniform(1.7, 3.2) if rng.random() < 0.75 else rng.uniform(1.0, 1.7))
    rim, lip = radius * rng.uniform(1.01, 1.04), rng.uniform(0.002, 0.005)
    heights = np.linspace(lip, height - lip, 17)
    depth = rng.uniform(0.0, 0.02) * radius if rng.random() < 0.5 else 0.0
    ribs = np.where(np.arange(17) % 2 == 1, radius - depth, radius)
    side = np.stack([ribs, heights], 1)
    bare = surfaces.metal(rng)
    recess = rng.uniform(0.002, 0.006)
    top = [[rim, height - lip], [rim, height], [rim * 0.95, height], [rim * 0.94, height - recess]]
    steps = [[rim * 0.7, height - recess], [rim * 0.68, height - recess * 1.3], [0.0, height - recess * 1.3]]
    bottom = [[0.0, recess], [rim * 0.93, recess], [rim * 0.94, 0.0], [rim, 0.0], [rim, lip]]
    parts: list[Part] = [
        (shapes.revolve(side), _side(rng, source)),
        (shapes.revolve(np.array([side[-1].tolist(), *top, *steps])), bare),
        (shapes.revolve(np.array([*bottom, side[0].tolist()])), bare),
    ]
    if rng.random() < 0.4:
        parts.extend(_tab(rng, rim * 0.9, height - recess * 1.3, bare))
    return Instance.centred("can", parts)


def _tab(rng: Rng, neck: float, level: float, bare: Material) -> list[Part]:
    """The ring pull: a flat plate with a hole that reads as a dark spot, and the mouth beside it."""
    turn = shapes.about(2, rng.uniform(0, 2 * np.pi))
    plate = shapes.box([neck * 0.75, neck * 0.45, 0.0012]).transformed(turn, turn @ [0.1 * neck, 0, level + 0.0015])
    hole = shapes.box([neck * 0.25, neck * 0.22, 0.0014]).transformed(turn, turn @ [0.27 * neck, 0, level + 0.0016])
    mouth = shapes.ellipsoid([neck * 0.28, neck * 0.24, 0.0006]).transformed(turn, turn @ [-0.5 * neck, 0, level])
    dark = surfaces.finish(rng, surfaces.plain(rng, rng.uniform(20, 110, 3)))
    tab = bare if rng.random() < 0.7 else surfaces.finish(rng, surfaces.plain(rng))
    parts: list[Part] = [(plate, tab), (hole, dark)]
    if rng.random() < 0.5:
        parts.append((mouth, dark))
    return parts


def _side(rng: Rng, source: TextureSource) -> Material:
    """Printed metal, a paper label, or bare."""
    if rng.random() < 0.1:
        return surfaces.metal(rng)
    base: Image = surfaces.plain(rng) if rng.random() < 0.7 else surfaces.patterned(rng, source)
    texture = surfaces.label(rng, source, base) if rng.random() < 0.8 else base
    if rng.random() < 0.4:
        return Material(texture, gloss=0.4, roughness=float(rng.uniform(0.1, 0.6)), metallic=0.5)
    return surfaces.finish(rng, texture)
