"""Objects on a table or in the air, in a room."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from category_pose_ros.data.procedural import shapes, surfaces
from category_pose_ros.data.procedural.instance import Instance
from category_pose_ros.data.procedural.placement import BACKDROP, Matrix, Part, PlacedObject, random_rotation
from category_pose_ros.data.procedural.surfaces import Rng, TextureSource
from category_pose_ros.geometry.mesh import Mesh
from category_pose_ros.rendering.raytracer import Lighting

_Ball = tuple[npt.NDArray[np.float64], float]  # centre and radius, metres; a disc on a table

_UPRIGHT = {"laptop": 0.85}  # share of those that never lie on a side, whatever the others do


def place_on_table(rng: Rng, instances: list[Instance]) -> list[PlacedObject]:
    """Standing (mostly), lying or upside down, without touching each other."""
    placed: list[PlacedObject] = []
    discs: list[_Ball] = []
    for instance in instances:
        rotation = _resting_rotation(rng, instance.category)
        extent = instance.extent(rotation)
        radius = float(np.hypot(extent[0], extent[1])) / 2
        centre = _free_centre(rng, discs, radius, 0.04 + 0.05 * len(instances), 0.85, axes=2)
        if centre is not None:
            discs.append((centre, radius))
            placed.append(PlacedObject.at(instance, rotation, np.array([*centre, -instance.lowest(rotation)])))
    return placed


def place_in_air(rng: Rng, instances: list[Instance]) -> list[PlacedObject]:
    """Anywhere and anyhow, the first one at the origin."""
    placed: list[PlacedObject] = []
    balls: list[_Ball] = []
    for instance in instances:
        reach = float(np.linalg.norm(instance.size_m)) / 2
        centre = _free_centre(rng, balls, reach, 0.13, 0.7, axes=3)
        if centre is not None:
            balls.append((centre, reach))
            placed.append(PlacedObject.at(instance, random_rotation(rng), centre))
    return placed


def table_top(rng: Rng, source: TextureSource, reach: float) -> Part:
    """A top that holds what lies within reach (metres) of the origin."""
    offset = np.array([*rng.uniform(-0.25, 0.25, 2), -0.02])
    half = np.maximum(rng.uniform(0.3, 1.5, 2), reach + float(np.linalg.norm(offset[:2])))
    top = shapes.box([2 * half[0], 2 * half[1], 0.04])
    yaw = shapes.about(2, rng.uniform(-np.pi, np.pi)).astype(np.float32)
    texture = surfaces.patterned(rng, source) if rng.random() < 0.75 else surfaces.plain(rng)
    repeat = Mesh(top.vertices, top.normals, top.uv * np.float32(rng.uniform(1, 4)), top.faces)
    return repeat.transformed(yaw, offset), surfaces.finish(rng, texture), BACKDROP


def room_light(rng: Rng, source: TextureSource) -> Lighting:
    """A photograph as surroundings, one to three lamps, total brightness near one."""
    photograph = source.patch(rng, 128, 64).astype(np.float32) / 255
    environment = cv2.GaussianBlur(photograph, (0, 0), 0.8) ** 2
    environment[: rng.integers(8, 40)] += rng.uniform(0, 0.8)  # it is brighter above
    environment *= rng.uniform(0.25, 1.0) / max(float(environment.mean()), 0.05)
    count = int(rng.integers(1, 4))
    directions = rng.standard_normal((count, 3))
    directions[:, 2] = np.abs(directions[:, 2]) + 0.2
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    warmth = rng.uniform(0.75, 1.0, (count, 3))
    colours = warmth * rng.exponential(0.6, (count, 1))
    return Lighting.from_panorama(
        environment.astype(np.float32),
        directions.astype(np.float32),
        colours.astype(np.float32),
        float(rng.choice([0.01, 0.05, 0.2])),
    )


def _free_centre(
    rng: Rng, taken: list[_Ball], radius: float, spread: float, apart: float, axes: int
) -> npt.NDArray[np.float64] | None:
    """The origin for the first, around it (`axes` coordinates, metres) for others; None: no room was found.

    Args:
        taken: where others are.
        radius: of the ball, or the disc on a table, that covers the object.
        spread: standard deviation of the first attempt, metres.
        apart: least distance of two objects as a share of the sum of their radii.
    """
    for attempt in range(30):
        centre = rng.normal(0, spread * (1 + 0.15 * attempt), axes) * (len(taken) > 0)
        if all(np.linalg.norm(centre - other) > apart * (radius + size) for other, size in taken):
            return centre
    return None


def _resting_rotation(rng: Rng, category: str) -> Matrix:
    yaw = shapes.about(2, rng.uniform(-np.pi, np.pi))
    if category in _UPRIGHT and rng.random() < _UPRIGHT[category]:
        return yaw
    kind = rng.random()
    if kind < 0.68:
        return yaw
    if kind < 0.78:
        return yaw @ shapes.about(0, np.pi)
    if kind < 0.93:
        return yaw @ shapes.about(1, np.pi / 2) @ shapes.about(2, rng.uniform(-np.pi, np.pi))
    return random_rotation(rng)
