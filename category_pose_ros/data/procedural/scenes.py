"""Scenes of several objects, on a table or in the air, with light, surroundings and a camera."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch

from category_pose_ros.data.procedural import shapes, surfaces
from category_pose_ros.data.procedural.bottles import make_bottle
from category_pose_ros.data.procedural.cans import make_can
from category_pose_ros.data.procedural.distractors import make_distractor, make_fingers
from category_pose_ros.data.procedural.instance import Instance
from category_pose_ros.data.procedural.mugs import make_mug
from category_pose_ros.data.procedural.surfaces import Rng, TextureSource
from category_pose_ros.geometry import SE3, Camera
from category_pose_ros.geometry.mesh import Mesh
from category_pose_ros.geometry.symmetry import canonical, symmetry_of
from category_pose_ros.rendering.raytracer import Lighting, Material, RayTracer, Rendering

Matrix = npt.NDArray[np.float64]
Part = tuple[Mesh, Material, int]

FAMILIES: dict[str, Callable[[Rng, TextureSource], Instance]] = {
    "bottle": make_bottle,
    "can": make_can,
    "mug": make_mug,
}
SYMMETRIES = {name: symmetry_of(name) for name in FAMILIES}
_TABLE = -2  # owner number of the table top; objects count from 0


@dataclass(frozen=True, eq=False)
class PlacedObject:
    """An instance somewhere in the world."""

    instance: Instance
    world_from_object: SE3


@dataclass(frozen=True, eq=False)
class Scene:
    """Objects with light and surroundings, ready to be rendered from anywhere.

    Attributes:
        objects: those of our categories and distractors alike.
        supported: the objects stand or lie on a table top at z = 0.
    """

    objects: tuple[PlacedObject, ...]
    lighting: Lighting
    tracer: RayTracer
    supported: bool

    def render(
        self, camera: Camera, camera_from_world: SE3, background: surfaces.Image, rng: Rng, supersampling: float = 1.0
    ) -> Rendering:
        """One view; `owner` counts `objects`, -1 is everything else."""
        rendering = self.tracer.render(camera, camera_from_world, self.lighting, background, rng, supersampling)
        return Rendering(rendering.rgb, np.maximum(rendering.owner, -1), rendering.depth)


def make_scene(
    rng: Rng,
    source: TextureSource,
    categories: Sequence[str] = tuple(FAMILIES),
    object_count: int | None = None,
    on_table: float = 0.7,
) -> Scene:
    """A random scene around the world's origin; the first object is always of one of the categories.

    Args:
        categories: of the objects; one named twice is drawn twice as often.
        object_count: objects of our categories; None: one to three.
        on_table: chance that the objects rest on a table instead of floating in the air.
    """
    supported = bool(rng.random() < on_table)
    wanted = object_count or int(rng.integers(1, 4))
    instances = [FAMILIES[str(rng.choice(list(categories)))](rng, source) for _ in range(wanted)]
    instances += [make_distractor(rng, source) for _ in range(rng.integers(0, 4))]
    if rng.random() < 0.2:
        instances.append(make_fingers(rng, source))
    placed = _on_table(rng, instances) if supported else _in_air(rng, instances)
    parts = [part for number, item in enumerate(placed) for part in _world_parts(item, number)]
    if supported:
        reach = max(float(np.abs(mesh.vertices[:, :2]).max()) for mesh, _, _ in parts) * float(np.sqrt(2))
        parts.append(_table(rng, source, reach))
    return Scene(tuple(placed), random_lighting(rng, source), RayTracer(parts), supported)


def canonical_box(camera_from_object: SE3, instance: Instance) -> tuple[SE3, npt.NDArray[np.float64]]:
    """The pose that we want as the answer, and the object's extent (3,) along its axes in metres."""
    pose = canonical(camera_from_object, SYMMETRIES[instance.category])
    return pose, instance.extent((pose.inverse() @ camera_from_object).rotation.numpy())


def random_lighting(rng: Rng, source: TextureSource) -> Lighting:
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


def random_rotation(rng: Rng) -> Matrix:
    """Uniform on SO(3) (Shoemake 1992)."""
    quaternion = rng.standard_normal(4)
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _on_table(rng: Rng, instances: list[Instance]) -> list[PlacedObject]:
    """Standing (mostly), lying or upside down, without touching each other."""
    placed: list[PlacedObject] = []
    discs: list[tuple[npt.NDArray[np.float64], float]] = []
    spread = 0.04 + 0.05 * len(instances)
    for instance in instances:
        rotation = _resting_rotation(rng)
        extent = instance.extent(rotation)
        radius = float(np.hypot(extent[0], extent[1])) / 2
        for attempt in range(30):
            centre = rng.normal(0, spread * (1 + 0.15 * attempt), 2) * (len(placed) > 0)
            if all(np.linalg.norm(centre - other) > 0.85 * (radius + size) for other, size in discs):
                break
        else:
            continue
        discs.append((centre, radius))
        placed.append(PlacedObject(instance, _pose(rotation, np.array([*centre, extent[2] / 2]))))
    return placed


def _resting_rotation(rng: Rng) -> Matrix:
    yaw = _about(2, rng.uniform(-np.pi, np.pi))
    kind = rng.random()
    if kind < 0.68:
        return yaw
    if kind < 0.78:
        return yaw @ _about(0, np.pi)
    if kind < 0.93:
        return yaw @ _about(1, np.pi / 2) @ _about(2, rng.uniform(-np.pi, np.pi))
    return random_rotation(rng)


def _in_air(rng: Rng, instances: list[Instance]) -> list[PlacedObject]:
    """Anywhere and anyhow, the first one at the origin."""
    placed: list[PlacedObject] = []
    for instance in instances:
        centre = rng.normal(0, 0.13, 3) * (len(placed) > 0)
        near = [float(np.linalg.norm(centre - item.world_from_object.translation.numpy())) for item in placed]
        reach = float(np.linalg.norm(instance.size_m)) / 2
        if near and min(near) < 0.7 * reach + 0.03:
            continue
        placed.append(PlacedObject(instance, _pose(random_rotation(rng), centre)))
    return placed


def _table(rng: Rng, source: TextureSource, reach: float) -> Part:
    """A top that holds what lies within reach (metres) of the origin."""
    offset = np.array([*rng.uniform(-0.25, 0.25, 2), -0.02])
    half = np.maximum(rng.uniform(0.3, 1.5, 2), reach + float(np.linalg.norm(offset[:2])))
    top = shapes.box([2 * half[0], 2 * half[1], 0.04])
    yaw = _about(2, rng.uniform(-np.pi, np.pi)).astype(np.float32)
    texture = surfaces.patterned(rng, source) if rng.random() < 0.75 else surfaces.plain(rng)
    repeat = Mesh(top.vertices, top.normals, top.uv * np.float32(rng.uniform(1, 4)), top.faces)
    return repeat.transformed(yaw, offset), surfaces.finish(rng, texture), _TABLE


def _world_parts(item: PlacedObject, number: int) -> list[Part]:
    rotation = item.world_from_object.rotation.numpy()
    translation = item.world_from_object.translation.numpy()
    return [(mesh.transformed(rotation, translation), material, number) for mesh, material in item.instance.parts]


def _pose(rotation: Matrix, translation: npt.NDArray[np.float64]) -> SE3:
    return SE3(torch.from_numpy(rotation).float(), torch.from_numpy(translation).float())


def _about(axis: int, angle: float) -> Matrix:
    a, b = (axis + 1) % 3, (axis + 2) % 3
    rotation = np.eye(3)
    rotation[a, a] = rotation[b, b] = np.cos(angle)
    rotation[a, b], rotation[b, a] = -np.sin(angle), np.sin(angle)
    return rotation
