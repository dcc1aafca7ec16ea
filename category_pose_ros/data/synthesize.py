"""Annotated images and sequences of procedural scenes, as a camera on a robot would take them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from category_pose_ros.config import setting, validate
from category_pose_ros.data.annotations import AnnotatedFrame, GroundTruthObject
from category_pose_ros.data.procedural.mugs import beside_body
from category_pose_ros.data.procedural.placement import PlacedObject, Surroundings
from category_pose_ros.data.procedural.scenes import (
    DEFAULT_CATEGORIES,
    Scene,
    canonical_box,
    known_families,
    make_scene,
)
from category_pose_ros.data.procedural.streets import sees
from category_pose_ros.data.procedural.surfaces import Rng, TextureSource
from category_pose_ros.data.procedural.views import backdrop, degrade, look_at, outward
from category_pose_ros.geometry import SE3, Camera, Symmetry
from category_pose_ros.records import SECOND_NS, Frame
from category_pose_ros.rendering.raytracer import Rendering

# Random numbers come from (_HELD_OUT, seed, number, purpose). NumPy takes missing words of a seed for zeros, so
# training, whose seeds are pairs (seed, number), never sees these instances: no purpose is 0.
_HELD_OUT = 0x5EED
_IMAGE, _SEQUENCE, _EXPOSURE = 1, 2, 3
_HANDLE_SHARE = 0.01  # of a mug's visible pixels; less than this of its handle does not show where it is
_DRAWN_PX = 600  # long side at which silhouettes are measured
_DEPTH_REACH_M = 65.0  # beyond it depth is 0, unknown: 16 bits of millimetres end there


@dataclass(frozen=True)
class SynthesisConfig:
    """Camera and scenes of synthetic data sets."""

    categories: tuple[str, ...] = setting(DEFAULT_CATEGORIES, "Categories that appear; cars stand on streets.")
    width: int = setting(640, "Image width in pixels.", minimum=64, maximum=4096)
    height: int = setting(480, "Image height in pixels.", minimum=64, maximum=4096)
    focal_px: float = setting(600.0, "Focal length in pixels.", minimum=10.0, maximum=5000.0)
    least_objects: int = setting(4, "Fewest objects of the categories in a scene.", minimum=1, maximum=20)
    most_objects: int = setting(5, "Most objects of the categories in a scene.", minimum=1, maximum=20)
    nearest_m: float = setting(0.45, "Least distance of the camera from small objects.", minimum=0.2, maximum=10.0)
    farthest_m: float = setting(1.1, "Greatest distance of the camera from small objects.", minimum=0.2, maximum=10.0)
    nearest_car_m: float = setting(
        6.0, "Least distance of a street's camera from the car in the middle.", minimum=4.0, maximum=200.0
    )
    farthest_car_m: float = setting(
        40.0, "Greatest distance of a street's camera from that car.", minimum=4.0, maximum=200.0
    )
    on_table: float = setting(1.0, "Share of scenes whose objects rest on a table.", minimum=0.0, maximum=1.0)
    least_visible: float = setting(
        0.25, "Objects seen less than this share are to be ignored.", minimum=0.0, maximum=1.0
    )
    photographs: str = setting(
        "held_out",
        "Which photographs appear: the tenth that training never shows, or, to train a judge of answers, the others.",
        choices=("held_out", "training"),
    )

    def __post_init__(self) -> None:
        validate(self)
        known_families(self.categories)
        for low, high in (
            ("least_objects", "most_objects"),
            ("nearest_m", "farthest_m"),
            ("nearest_car_m", "farthest_car_m"),
        ):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(f"{low}: expected at most {high}, {getattr(self, high)}, got {getattr(self, low)}")

    def textures(self, backgrounds: Path | None) -> TextureSource:
        return TextureSource.from_folder(backgrounds, held_out=self.photographs == "held_out")

    def camera(self) -> Camera:
        centre = ((self.width - 1) / 2, (self.height - 1) / 2)
        return Camera(self.focal_px, self.focal_px, *centre, self.width, self.height)


def synthesize_images(
    count: int, seed: int, config: SynthesisConfig = SynthesisConfig(), backgrounds: Path | None = None
) -> Iterator[AnnotatedFrame]:
    """One view each of different scenes; image k depends on the seed and k alone.

    Args:
        count: images.
        backgrounds: folder of photographs to put behind objects and on them; None: noise instead.
    """
    source = config.textures(backgrounds)
    for number in range(count):
        rng = np.random.default_rng([_HELD_OUT, seed, number, _IMAGE])
        scene = _populated(rng, source, config)
        centre = np.mean([item.world_from_object.translation.numpy() for item in scene.objects], axis=0)
        if scene.surroundings is Surroundings.STREET:
            view = _on_road(rng, scene, config)
        else:
            view = _handheld(rng, centre, config, scene.surroundings is Surroundings.TABLE)
        yield _photograph(rng, source, scene, view, config, f"{number:06d}", 0)


def synthesize_sequence(
    count: int,
    rate_hz: float,
    seed: int,
    config: SynthesisConfig = SynthesisConfig(),
    backgrounds: Path | None = None,
) -> Iterator[AnnotatedFrame]:
    """A camera moving around objects that stand on a table, or driving along a street.

    Args:
        count: images.
        rate_hz: images per second.
        seed: decides objects, light and the camera's path.
    """
    source = config.textures(backgrounds)
    rng = np.random.default_rng([_HELD_OUT, seed, 0, _SEQUENCE])
    start, sweep = rng.uniform(-np.pi, np.pi), rng.uniform(1.2, 2.0) * rng.choice([-1, 1])
    first, last = (_driving(start, phase, config).inverse().translation.numpy() for phase in (0.0, 1.0))
    scene = _populated(rng, source, dataclasses.replace(config, on_table=1.0), np.linspace(first, last, 1000)[:, :2])
    background = backdrop(rng, source, scene, config.width, config.height)
    target = np.mean([item.world_from_object.translation.numpy() for item in scene.objects], axis=0)
    exposure = np.random.default_rng([_HELD_OUT, seed, 0, _EXPOSURE])
    for number in range(count):
        phase = number / max(count - 1, 1)
        if scene.surroundings is Surroundings.STREET:
            view = _driving(start, phase, config)
        else:
            view = _orbiting(target, start, sweep, phase, config)
        rendering = scene.render(config.camera(), view, background, rng, supersampling=1.5)
        noisy = np.clip(rendering.rgb + exposure.normal(0, 1.5, rendering.rgb.shape), 0, 255).astype(np.uint8)
        stamp_ns = round(number * SECOND_NS / rate_hz)
        there = view.to(torch.float64).inverse()
        annotated = _annotated(noisy, rendering, scene, view, config, f"{number:06d}", stamp_ns)
        yield dataclasses.replace(annotated, world_from_camera=there)


def _populated(
    rng: Rng, source: TextureSource, config: SynthesisConfig, way: npt.NDArray[np.floating] | None = None
) -> Scene:
    """A scene; on a street the way of its camera, (N, 2) points, is free."""
    count = int(rng.integers(config.least_objects, config.most_objects + 1))
    return make_scene(rng, source, config.categories, count, config.on_table, way)


def _handheld(rng: Rng, centre: npt.NDArray[np.floating], config: SynthesisConfig, supported: bool) -> SE3:
    azimuth = rng.uniform(-np.pi, np.pi)
    elevation = np.radians(rng.triangular(8, 35, 80)) if supported else rng.uniform(-np.pi / 2, np.pi / 2)
    distance = rng.uniform(config.nearest_m, config.farthest_m)
    target = centre + rng.normal(0, 0.04, 3)
    return look_at(target + distance * outward(elevation, azimuth), target, roll=rng.normal(0, 0.08))


def _on_road(rng: Rng, scene: Scene, config: SynthesisConfig) -> SE3:
    """Carried by a car or a robot that looks along the road, towards the middle of the scene."""
    for _ in range(20):
        distance = np.exp(rng.uniform(np.log(config.nearest_car_m), np.log(config.farthest_car_m)))
        eye = np.array([-distance, rng.normal(0, 1.5), rng.uniform(1.2, 2.2)])
        if sees(scene.objects, eye, eye):
            break
    ahead = eye + np.array([1.0, rng.normal(0, 0.12), rng.normal(0, 0.02)])
    return look_at(eye, ahead, roll=rng.normal(0, 0.01))


def _driving(start: float, phase: float, config: SynthesisConfig) -> SE3:
    """Between two lanes towards the scene; start, an angle, shifts it sideways, phase runs from 0 to 1."""
    way = config.farthest_car_m - config.nearest_car_m
    eye = np.array([-config.farthest_car_m + way * phase, -1.65 + 0.15 * start / np.pi, 1.6])
    return look_at(eye, eye + np.array([1.0, 0.06 * np.sin(4 * phase + start), -0.01]), roll=0.01 * np.sin(5 * phase))


def _orbiting(
    target: npt.NDArray[np.floating], start: float, sweep: float, phase: float, config: SynthesisConfig
) -> SE3:
    """Around the target: from azimuth start through sweep (radians), phase runs from 0 to 1."""
    azimuth = start + sweep * (0.5 - 0.5 * np.cos(np.pi * phase))
    elevation = np.radians(38 + 14 * np.sin(2 * np.pi * phase))
    distance = config.nearest_m + (config.farthest_m - config.nearest_m) * (0.45 + 0.35 * np.cos(2 * np.pi * phase))
    return look_at(target + distance * outward(elevation, azimuth), target, roll=0.06 * np.sin(5 * phase))


def _photograph(
    rng: Rng, source: TextureSource, scene: Scene, view: SE3, config: SynthesisConfig, name: str, stamp_ns: int
) -> AnnotatedFrame:
    background = backdrop(rng, source, scene, config.width, config.height)
    rendering = scene.render(config.camera(), view, background, rng, supersampling=1.5)
    return _annotated(degrade(rng, rendering.rgb), rendering, scene, view, config, name, stamp_ns)


def _annotated(
    rgb: npt.NDArray[np.uint8],
    rendering: Rendering,
    scene: Scene,
    view: SE3,
    config: SynthesisConfig,
    name: str,
    stamp_ns: int,
) -> AnnotatedFrame:
    objects = []
    for number, item in enumerate(scene.objects):
        if item.instance.category in config.categories:
            alone = _silhouette_px(item, view, config.camera())
            mask = rendering.owner == number
            seen = int(mask.sum())
            if seen > 0:
                truth = _truth(item, view, min(seen / max(alone, 1), 1.0), config.least_visible)
                symmetry = _symmetry(truth, rendering, number, config.camera())
                objects.append(dataclasses.replace(truth, track_id=number, symmetry=symmetry, mask=mask))
    depth = np.where(rendering.depth < _DEPTH_REACH_M, rendering.depth, np.float32(0))
    frame = Frame(rgb, config.camera(), depth, stamp_ns)
    return AnnotatedFrame(frame, tuple(objects), name)


def _truth(item: PlacedObject, view: SE3, visible: float, least_visible: float) -> GroundTruthObject:
    pose, size_m = canonical_box(view @ item.world_from_object, item.instance)
    exact = SE3(pose.rotation.double(), pose.translation.double())
    return GroundTruthObject(
        item.instance.category, exact, size_m, ignore=visible < least_visible, visible_fraction=visible
    )


def _symmetry(truth: GroundTruthObject, rendering: Rendering, number: int, camera: Camera) -> Symmetry | None:
    """About z for a mug whose handle nobody can see; None: that of its category."""
    if truth.category != "mug":
        return None
    rows, columns = np.nonzero(rendering.owner == number)
    rays = camera.rays(torch.from_numpy(np.stack([columns, rows], -1)).double())
    points = rays * torch.from_numpy(rendering.depth[rows, columns]).double().unsqueeze(-1)
    on_handle = beside_body((truth.camera_from_object.inverse() @ points).numpy(), truth.size_m)
    return Symmetry.AXIS_Z if on_handle.mean() < _HANDLE_SHARE else None


def _silhouette_px(item: PlacedObject, view: SE3, camera: Camera) -> float:
    """Pixels that the object would cover with nothing in front, those outside the image included."""
    pose = view @ item.world_from_object
    pieces = []
    for mesh, _ in (*item.instance.parts, *item.instance.attached):
        points = pose @ torch.from_numpy(mesh.vertices)
        if float(points[:, 2].min()) <= 0.02:
            return float("inf")  # it reaches behind the camera; its share cannot be told
        pieces.append(camera.project(points).numpy()[mesh.faces])
    triangles = np.concatenate(pieces)
    corner = triangles.min((0, 1))
    width, height = triangles.max((0, 1)) - corner
    # All at one size: what is filled is half a pixel too wide all around, which of something far away is a lot.
    scale = float(_DRAWN_PX / max(width, height))
    canvas = np.zeros((math.ceil(height * scale) + 1, math.ceil(width * scale) + 1), np.uint8)
    for triangle in np.rint((triangles - corner) * scale).astype(np.int32):
        cv2.fillConvexPoly(canvas, triangle, 1)
    return float(canvas.sum()) / scale**2
