"""Bowls: lathed vessels, shallow to deep; ceramic, metal, glass, wood, plastic; empty or filled."""

from __future__ import annotations

import numpy as np

from category_pose_ros.data.procedural import shapes, surfaces
from category_pose_ros.data.procedural.instance import Instance, Part
from category_pose_ros.data.procedural.surfaces import Image, Rng, TextureSource
from category_pose_ros.geometry.mesh import Mesh
from category_pose_ros.rendering.raytracer import Material


def make_bowl(rng: Rng, source: TextureSource) -> Instance:
    """Rice, cereal, salad and mixing bowls, dishes for pasta, snacks and pets."""
    radius = rng.uniform(0.045, 0.1) if rng.random() < 0.75 else rng.uniform(0.1, 0.16)
    height = 2 * radius * (rng.uniform(0.3, 0.55) if rng.random() < 0.7 else rng.uniform(0.17, 0.65))
    wall = rng.uniform(0.0015, 0.006) * min(1.0, radius / 0.06)
    squareness = rng.uniform(2.5, 4.5) if rng.random() < 0.08 else 2.0
    outer = _outside(rng, radius, height)
    inner = _inside(rng, outer, wall)
    outside, inside = _glazes(rng, source)
    parts: list[Part] = [
        (shapes.revolve(outer, squareness=squareness), outside),
        (shapes.revolve(inner, squareness=squareness), inside),
    ]
    if rng.random() < 0.15:
        parts.append((_rim_ring(outer, wall, squareness), surfaces.finish(rng, surfaces.plain(rng))))
    if rng.random() < 0.25:
        parts.extend(_contents(rng, source, inner, squareness))
    return Instance.centred("bowl", parts)


def _outside(rng: Rng, radius: float, height: float) -> shapes.Curve:
    """Profile from the foot over the wall to the lip."""
    foot = radius * rng.uniform(0.3, 0.65)
    ring = height * rng.uniform(0.04, 0.14) if rng.random() < 0.6 else 0.0  # the foot ring
    roundness = rng.uniform(1.4, 3.2)  # 1 a cone, 2 a hemisphere, above a pot
    angle = np.linspace(0, np.pi / 2, 10)
    wall_radius = foot + (radius - foot) * np.sin(angle) ** (2 / roundness)
    wall_height = ring + (height - ring) * (1 - np.cos(angle) ** (2 / roundness))
    if rng.random() < 0.3:  # a lip that flares, or turns in
        wall_radius = wall_radius + radius * rng.uniform(-0.06, 0.14) * np.linspace(0, 1, 10) ** 6
    if rng.random() < 0.15:  # steps of a thrown or pressed wall
        wall_radius = wall_radius * (1 - 0.012 * (np.arange(10) % 2) * (np.arange(10) < 9))
    base = [[0.0, ring * 0.6], [foot * 0.85, ring * 0.6], [foot * 0.96, 0.0]]
    return np.concatenate([base, np.stack([wall_radius, wall_height], 1)])


def _inside(rng: Rng, outer: shapes.Curve, wall: float) -> shapes.Curve:
    """Profile from the lip down to the middle of the floor; rolled lips are thicker than the wall."""
    top, height = outer[-1]
    roll = wall * rng.uniform(1.0, 2.5) if rng.random() < 0.25 else wall
    lip = [[top, height], [top - roll / 2, height + wall / 3], [top - roll, height]]
    wall_part = outer[3:-1][::-1]
    floor = float(outer[3, 1]) + wall
    shrunk = np.stack([np.maximum(wall_part[:, 0] - wall, 1e-3), np.maximum(wall_part[:, 1], floor)], 1)
    return np.concatenate([lip, shrunk, [[0.0, floor]]])


def _glazes(rng: Rng, source: TextureSource) -> tuple[Material, Material]:
    """Materials of the outside and the inside."""
    kind = rng.choice(["ceramic", "metal", "glass", "wood"], p=[0.68, 0.12, 0.08, 0.12])
    if kind == "metal":
        skin = surfaces.metal(rng)
        return skin, skin if rng.random() < 0.7 else surfaces.finish(rng, surfaces.plain(rng))
    if kind == "glass":
        tint = np.clip(rng.uniform(150, 245) + rng.normal(0, 25, 3), 0, 255)
        skin = Material(surfaces.plain(rng, tint), gloss=0.1, roughness=0.1, opacity=float(rng.uniform(0.25, 0.7)))
        return skin, skin
    if kind == "wood":
        skin = surfaces.finish(rng, surfaces.wood(rng))
        return skin, skin
    base = surfaces.plain(rng) if rng.random() < 0.7 else surfaces.plain(rng, rng.uniform(205, 255, 3))
    outside = surfaces.finish(rng, _print(rng, source, base))
    inner = base if rng.random() < 0.5 else surfaces.plain(rng)
    if rng.random() < 0.25:
        inner = surfaces.plain(rng, rng.uniform(205, 255, 3))
    if rng.random() < 0.25:
        inner = _print(rng, source, inner)
    return outside, Material(inner, gloss=outside.gloss, roughness=outside.roughness)


def _print(rng: Rng, source: TextureSource, base: Image) -> Image:
    kind = rng.random()
    if kind < 0.45:
        return base
    if kind < 0.6:
        return surfaces.label(rng, source, base)
    if kind < 0.75:
        return surfaces.patterned(rng, source)
    banded = base.copy()  # painted rings
    for _ in range(rng.integers(1, 4)):
        low = int(rng.integers(0, 120))
        banded[low : low + int(rng.integers(2, 20))] = surfaces.random_colour(rng)
    return banded


def _rim_ring(outer: shapes.Curve, wall: float, squareness: float) -> Mesh:
    """A painted edge, a hair outside the lip."""
    top, height = outer[-1]
    edge = [[top * 1.004, height - 2 * wall], [top * 1.004, height + wall / 3], [top - wall, height + wall / 2.5]]
    return shapes.revolve(np.array(edge), squareness=squareness)


def _contents(rng: Rng, source: TextureSource, inner: shapes.Curve, squareness: float) -> list[Part]:
    """Soup and rice as a level, fruit and snacks as a heap of balls."""
    floor, top = float(inner[-1, 1]), float(inner[0, 1])
    level = floor + (top - floor) * rng.uniform(0.25, 0.85)
    wall = inner[2:][::-1]
    reach = float(np.interp(level, wall[:, 1], wall[:, 0])) * 0.99
    texture = surfaces.plain(rng) if rng.random() < 0.5 else surfaces.patterned(rng, source)
    middle = level + (0.15 * reach if rng.random() < 0.4 else 0.0)
    heap = np.array([[reach, level], [0.6 * reach, (level + 2 * middle) / 3], [0.0, middle]])
    parts: list[Part] = [(shapes.revolve(heap, squareness=squareness), surfaces.finish(rng, texture))]
    if rng.random() < 0.4:
        size = reach * rng.uniform(0.15, 0.4)
        spots = rng.uniform(-0.6, 0.6, (int(rng.integers(2, 6)), 2)) * reach
        farthest = min(reach, float(wall[-1, 0])) - size
        spots *= np.minimum(1, farthest / np.linalg.norm(spots, axis=1, keepdims=True))
        ball = shapes.ellipsoid([size, size, 0.8 * size], sectors=12)
        balls = [shapes.moved(ball, x, y, max(middle, _rest(wall, np.hypot(x, y), size))) for x, y in spots.tolist()]
        parts.append((shapes.merge(balls), surfaces.finish(rng, surfaces.plain(rng))))
    return parts


def _rest(wall: shapes.Curve, away: float, size: float) -> float:
    """Height (m) of the middle of a ball, of half-axes size and 0.8 size, that touches the bowl's inside.

    Args:
        wall: (N, 2) radius and height of the inside, from the middle of the floor to the lip.
        away: distance of the ball's middle from the bowl's axis.
    """
    angle = np.linspace(0, np.pi / 2, 10)
    radius = away + size * np.cos(angle)
    below = np.interp(radius, np.maximum.accumulate(wall[:, 0]), wall[:, 1])
    return float((below + 0.8 * size * np.sin(angle)).max())
