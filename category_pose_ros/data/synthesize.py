"""Annotated images and sequences of procedural scenes, as a camera on a robot would take them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from category_pose_ros.config import setting, validate
from category_pose_ros.data.annotations import AnnotatedFrame, GroundTruthObject
from category_pose_ros.data.procedural.scenes import PlacedObject, Scene, canonical_box, make_scene
from category_pose_ros.data.procedural.surfaces import Rng, TextureSource
from category_pose_ros.data.procedural.views import degrade, look_at
from category_pose_ros.geometry import SE3, Camera
from category_pose_ros.records import Frame
from category_pose_ros.rendering.raytracer import Rendering

# Instances made from these seeds are never seen in training, whose seeds are pairs (seed, number).
_HELD_OUT = 0x5EED


@dataclass(frozen=True)
class SynthesisConfig:
    """Camera and scenes of synthetic data sets."""

    categories: tuple[str, ...] = setting(("bottle", "can", "mug"), "Categories that appear.")
    width: int = setting(640, "Image width in pixels.", minimum=64, maximum=4096)
    height: int = setting(480, "Image height in pixels.", minimum=64, maximum=4096)
    focal_px: float = setting(600.0, "Focal length in pixels.", minimum=10.0)
    least_objects: int = setting(4, "Fewest objects of the categories in a scene.", minimum=1, maximum=20)
    most_objects: int = setting(5, "Most objects of the categories in a scene.", minimum=1, maximum=20)
    nearest_m: float = setting(0.45, "Least distance of the camera from the scene's centre.", minimum=0.2)
    farthest_m: float = setting(1.1, "Greatest distance of the camera from the scene's centre.", minimum=0.2)
    on_table: float = setting(1.0, "Share of scenes whose objects rest on a table.", minimum=0.0, maximum=1.0)
    least_visible: float = setting(
        0.25, "Objects seen less than this share are to be ignored.", minimum=0.0, maximum=1.0
    )

    def __post_init__(self) -> None:
        validate(self)

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
    source = TextureSource.from_folder(backgrounds, held_out=True)
    for number in range(count):
        rng = np.random.default_rng([_HELD_OUT, seed, number])
        scene = _populated(rng, source, config)
        centre = np.mean([item.world_from_object.translation.numpy() for item in scene.objects], axis=0)
        view = _handheld(rng, centre, config, scene.supported)
        yield _photograph(rng, source, scene, view, config, f"{number:06d}", 0)


def synthesize_sequence(
    count: int,
    rate_hz: float,
    seed: int,
    config: SynthesisConfig = SynthesisConfig(),
    backgrounds: Path | None = None,
) -> Iterator[AnnotatedFrame]:
    """A camera moving around objects that stand on a table.

    Args:
        count: images.
        rate_hz: images per second.
        seed: decides objects, light and the camera's path.
    """
    source = TextureSource.from_folder(backgrounds, held_out=True)
    rng = np.random.default_rng([_HELD_OUT, seed])
    scene = _populated(rng, source, dataclasses.replace(config, on_table=1.0))
    background = source.patch(rng, config.width, config.height)
    target = np.mean([item.world_from_object.translation.numpy() for item in scene.objects], axis=0)
    start, sweep = rng.uniform(-np.pi, np.pi), rng.uniform(1.2, 2.0) * rng.choice([-1, 1])
    exposure = np.random.default_rng([_HELD_OUT, seed, 1])
    for number in range(count):
        phase = number / max(count - 1, 1)
        azimuth = start + sweep * (0.5 - 0.5 * np.cos(np.pi * phase))
        elevation = np.radians(38 + 14 * np.sin(2 * np.pi * phase))
        distance = config.nearest_m + (config.farthest_m - config.nearest_m) * (0.45 + 0.35 * np.cos(2 * np.pi * phase))
        outward = [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
        view = look_at(target + distance * np.array(outward), target, roll=0.06 * np.sin(5 * phase))
        rendering = scene.render(config.camera(), view, background, rng, supersampling=1.5)
        noisy = np.clip(rendering.rgb + exposure.normal(0, 1.5, rendering.rgb.shape), 0, 255).astype(np.uint8)
        stamp_ns = round(number * 1e9 / rate_hz)
        yield _annotated(noisy, rendering, scene, view, config, f"{number:06d}", stamp_ns)


def _populated(rng: Rng, source: TextureSource, config: SynthesisConfig) -> Scene:
    count = int(rng.integers(config.least_objects, config.most_objects + 1))
    return make_scene(rng, source, config.categories, count, config.on_table)


def _handheld(rng: Rng, centre: npt.NDArray[np.floating], config: SynthesisConfig, supported: bool) -> SE3:
    azimuth = rng.uniform(-np.pi, np.pi)
    elevation = np.radians(rng.triangular(8, 35, 80)) if supported else rng.uniform(-np.pi / 2, np.pi / 2)
    outward = [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
    distance = rng.uniform(config.nearest_m, config.farthest_m)
    target = centre + rng.normal(0, 0.04, 3)
    return look_at(target + distance * np.array(outward), target, roll=rng.normal(0, 0.08))


def _photograph(
    rng: Rng, source: TextureSource, scene: Scene, view: SE3, config: SynthesisConfig, name: str, stamp_ns: int
) -> AnnotatedFrame:
    background = source.patch(rng, config.width, config.height)
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
            visible = min(float((rendering.owner == number).sum()) / max(alone, 1), 1.0)
            if visible > 0:
                objects.append(_truth(item, view, visible, config.least_visible))
    frame = Frame(rgb, config.camera(), rendering.depth, stamp_ns)
    return AnnotatedFrame(frame, tuple(objects), name)


def _truth(item: PlacedObject, view: SE3, visible: float, least_visible: float) -> GroundTruthObject:
    pose, size_m = canonical_box(view @ item.world_from_object, item.instance)
    exact = SE3(pose.rotation.double(), pose.translation.double())
    return GroundTruthObject(
        item.instance.category, exact, size_m, ignore=visible < least_visible, visible_fraction=visible
    )


def _silhouette_px(item: PlacedObject, view: SE3, camera: Camera) -> float:
    """Pixels that the object would cover with nothing in front, those outside the image included."""
    pose = view @ item.world_from_object
    canvas = np.zeros((3 * camera.height, 3 * camera.width), np.uint8)
    for mesh, _ in item.instance.parts:
        points = pose @ torch.from_numpy(mesh.vertices)
        if float(points[:, 2].min()) <= 0.02:
            return float("inf")  # it reaches behind the camera; its share cannot be told
        pixels = camera.project(points).numpy() + np.array([camera.width, camera.height])
        for triangle in np.rint(pixels[mesh.faces]).astype(np.int32):
            cv2.fillConvexPoly(canvas, triangle, 1)
    return float(canvas.sum())
