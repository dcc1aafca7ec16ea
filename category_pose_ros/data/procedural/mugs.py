"""Mugs and cups: a lathed vessel with a swept handle at +x."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from category_pose_ros.data.procedural import shapes, surfaces
from category_pose_ros.data.procedural.instance import Instance, Part
from category_pose_ros.data.procedural.surfaces import Rng, TextureSource
from category_pose_ros.geometry.mesh import Mesh
from category_pose_ros.rendering.raytracer import Material


def make_mug(rng: Rng, source: TextureSource) -> Instance:
    """Straight, tapered, bulged, wide and tall mugs, tea cups, steins; glazed, printed, two-coloured."""
    height = rng.uniform(0.05, 0.14)
    top = height * rng.uniform(0.33, 0.6) if rng.random() < 0.8 else height * rng.uniform(0.55, 0.9)
    top = min(top, rng.uniform(0.04, 0.062))  # tall ones are slim: a body wider than 13 cm is a bowl
    bottom = top * (rng.uniform(0.85, 1.05) if rng.random() < 0.5 else rng.uniform(0.5, 1.1))
    bulge = rng.normal(0, 0.06) if rng.random() < 0.5 else rng.uniform(-0.08, 0.22)
    wall = rng.uniform(0.0025, 0.006)
    outer, inner = _walls(rng, height, top, bottom, bulge, wall)

    def radius(z: float) -> float:
        return float(np.interp(z, outer[:, 1], outer[:, 0]))

    base = surfaces.plain(rng)
    outside = surfaces.finish(rng, _print(rng, source, base))
    inside_colour = surfaces.plain(rng) if rng.random() < 0.3 else base
    if rng.random() < 0.35:
        inside_colour = surfaces.plain(rng, rng.uniform(200, 255, 3))
    shine = {"gloss": outside.gloss, "roughness": outside.roughness}
    handle_texture = base if rng.random() < 0.75 else surfaces.plain(rng)
    parts: list[Part] = [
        (shapes.revolve(outer), outside),
        (shapes.revolve(inner), Material(inside_colour, **shine)),
        (_handle(rng, height, radius, wall), Material(handle_texture, **shine)),
    ]
    if rng.random() < 0.3:
        parts.append(_contents(rng, height, radius, wall))
    return Instance.centred("mug", parts)


def beside_body(points: npt.NDArray[np.floating], size_m: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    """Which points (N, 3) of a mug, in its object frame in metres, are on its handle outside the round body."""
    radius = size_m[1] / 2  # the handle is narrower than the body, which fills the box along y
    axis_x = radius - size_m[0] / 2
    outside: npt.NDArray[np.bool_] = np.hypot(points[:, 0] - axis_x, points[:, 1]) > 1.03 * radius + 0.001
    return outside


def _walls(
    rng: Rng, height: float, top: float, bottom: float, bulge: float, wall: float
) -> tuple[shapes.Curve, shapes.Curve]:
    """Profiles from the foot over the outer wall to the lip, and from the lip down to the inner floor."""
    t = np.linspace(0, 1, 9)
    curve = rng.uniform(0.5, 2.0)  # where along the height the taper happens
    radii = bottom + (top - bottom) * t**curve + bulge * top * np.sin(np.pi * t)
    fillet = rng.uniform(0.0, 0.25) * bottom if rng.random() < 0.8 else 0.7 * bottom
    z = t * height
    rounded = np.minimum(z / max(fillet, 1e-6), 1)
    radii = radii - fillet * (1 - np.sqrt(1 - (1 - rounded) ** 2)) * 0.8
    dense = shapes.smooth_profile(np.stack([radii, z], 1), 2)
    outer = np.concatenate([[[0.0, 0.0]], dense])
    lip = [[top, height], [top - wall / 2, height + wall / 3], [top - wall, height]]
    floor = max(wall, 0.06 * height)
    inside = dense[dense[:, 1] > floor][::-1].copy()
    inside[:, 0] = np.maximum(inside[:, 0] - wall, 1e-3)
    around = np.interp(floor, dense[:, 1], dense[:, 0]) - wall  # a round foot may be narrow there
    edge = max(min(inside[-1, 0] * 0.9, around), 1e-3)
    inner = np.concatenate([lip, inside[1:], [[edge, floor], [0.0, floor]]])
    return outer, inner


def _handle(rng: Rng, height: float, radius: Callable[[float], float], wall: float) -> Mesh:
    """A tube between two points of the wall: ear, D, C, square or straight-topped."""
    high = height * rng.uniform(0.72, 0.95)
    low = height * rng.uniform(0.08, 0.4)
    reach = min(height * rng.uniform(0.25, 0.5), 0.05) * rng.uniform(0.7, 1.2)
    thick, wide = rng.uniform(0.0028, 0.006), rng.uniform(0.004, 0.011)
    exponent = rng.choice([rng.uniform(1.6, 2.4), rng.uniform(2.5, 6)])
    angle = np.linspace(np.pi / 2, -np.pi / 2, 17)
    x = np.abs(np.cos(angle)) ** (2 / exponent) * reach
    z = np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** (2 / exponent) * (high - low) / 2 + (high + low) / 2
    x *= 1 + rng.uniform(-0.35, 0.25) * (high - z) / (high - low)  # an ear hangs
    start = np.array([radius(v) for v in z]) - thick * 0.8
    blend = np.linspace(radius(high), radius(low), len(z)) - thick * 0.8
    x = x + np.where(x < reach * 0.1, np.minimum(start, blend), blend)
    path = np.stack([x, np.zeros_like(x), z], 1)
    tube = shapes.sweep(path, (thick, wide))
    # A thin wall would let its ends into the cavity.
    least = np.array([radius(v) for v in tube.vertices[:, 2]]) - wall / 2
    x = np.sqrt(np.maximum(least**2 - tube.vertices[:, 1] ** 2, 0)).astype(np.float32)
    vertices = np.stack([np.maximum(tube.vertices[:, 0], x), *tube.vertices[:, 1:].T], 1)
    return dataclasses.replace(tube, vertices=vertices)


def _contents(rng: Rng, height: float, radius: Callable[[float], float], wall: float) -> Part:
    """Coffee, tea, milk: a disc somewhere below the rim."""
    level = height * rng.uniform(0.4, 0.92)
    disc = shapes.revolve(np.array([[max(radius(level) - wall, 1e-3), level], [0.0, level]]))
    colour = rng.choice([[60, 35, 15], [120, 60, 20], [150, 105, 70], [230, 225, 215], [120, 150, 170]])
    return disc, surfaces.finish(rng, surfaces.plain(rng, colour), gloss=0.05, roughness=0.1)


def _print(rng: Rng, source: TextureSource, base: surfaces.Image) -> surfaces.Image:
    kind = rng.random()
    if kind < 0.4:
        return base
    if kind < 0.65:
        return surfaces.label(rng, source, base)
    if kind < 0.9:
        return surfaces.patterned(rng, source)
    banded = base.copy()  # dipped in a second glaze
    banded[: rng.integers(20, 100)] = surfaces.random_colour(rng)
    return banded
