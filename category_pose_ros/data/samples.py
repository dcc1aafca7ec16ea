"""Training samples: crops of procedural scenes with a target for every cell of the feature map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from category_pose_ros.config import setting, validate
from category_pose_ros.data.procedural.occluders import cover, hold, occlude
from category_pose_ros.data.procedural.placement import PlacedObject
from category_pose_ros.data.procedural.scenes import Scene, canonical_box, make_scene
from category_pose_ros.data.procedural.surfaces import Rng, TextureSource
from category_pose_ros.data.procedural.views import backdrop, cut_off, degrade, random_distance, random_view
from category_pose_ros.geometry import SE3, Camera
from category_pose_ros.geometry.box import enter_box
from category_pose_ros.geometry.rotations import line_of_sight
from category_pose_ros.records import STRIDE_PX

BACKGROUND, UNKNOWN = -1, -2  # where there is no object; where there is one of which nothing is asked


@dataclass(frozen=True)
class SampleConfig:
    """What the training crops look like."""

    size_px: int = setting(128, "Side of the square crops, in pixels.", minimum=64, maximum=640)
    smallest_px: float = setting(46.0, "Least apparent diagonal of the object aimed at.", minimum=8.0)
    largest_px: float = setting(118.0, "Greatest apparent diagonal of the object aimed at.", minimum=8.0)
    on_table: float = setting(0.85, "Share of scenes whose objects rest on a table.", minimum=0.0, maximum=1.0)
    empty: float = setting(0.12, "Share of scenes that are photographs without any object.", minimum=0.0, maximum=1.0)
    emphasis: tuple[str, ...] = setting(("mug",), "Categories drawn twice as often as the others.")
    centred: float = setting(
        0.65, "Share of crops centred on their object at one size, as refinement sees them.", minimum=0.0, maximum=1.0
    )
    beyond: float = setting(
        0.12, "Share of crops that reach beyond their image, on one side.", minimum=0.0, maximum=1.0
    )
    covered: float = setting(
        0.0, "Share of crops in which something hides a tenth to two thirds of an object.", minimum=0.0, maximum=1.0
    )
    held: float = setting(
        0.0, "Share of crops, of small objects, in which a hand reaches for the object.", minimum=0.0, maximum=1.0
    )
    centred_px: float = setting(106.0, "Apparent diagonal of the object in a centred crop.", minimum=8.0)
    views_per_scene: int = setting(
        2, "Crops rendered of each scene; each is also used mirrored.", minimum=1, maximum=16
    )
    supersampling: float = setting(1.1, "Rays per pixel along each image axis.", minimum=1.0, maximum=4.0)

    def __post_init__(self) -> None:
        validate(self)
        if self.size_px % 32:
            raise ValueError(f"size_px: expected a multiple of 32, got {self.size_px}")
        if self.covered + self.held > 1:
            raise ValueError(f"held: expected at most what covered leaves, {1 - self.covered:g}, got {self.held:g}")


@dataclass(frozen=True, eq=False)
class Samples:
    """A batch of crops and targets; S is the side of the feature map.

    Attributes:
        image: (B, 3, H, W) uint8.
        category: (B, S, S) int64 index into the categories, BACKGROUND or UNKNOWN.
        box_point: (B, S, S, 3) where the cell's ray enters the object's box, in units of the box.
        centre: (B, S, S, 2) from the cell to the projected centre of its object, in cells.
        log_diagonal: (B, S, S) log of the apparent diagonal of the object, in cells.
        axes: (B, S, S, 2, 3) the object's x and z axis, seen along the line of sight to its centre.
        log_shape: (B, S, S, 3) log of the extents of its box, in diagonals.
    """

    image: Tensor
    category: Tensor
    box_point: Tensor
    centre: Tensor
    log_diagonal: Tensor
    axes: Tensor
    log_shape: Tensor

    def mirrored(self) -> Samples:
        """Left and right exchanged.

        All categories are nearly their own mirror images in their xz plane, a camera but for its grip.
        """
        point = self.box_point.flip(2) * torch.tensor([1.0, -1.0, 1.0])
        centre = self.centre.flip(2) * torch.tensor([-1.0, 1.0])
        axes = self.axes.flip(2) * torch.tensor([-1.0, 1.0, 1.0])
        diagonal, shape = self.log_diagonal.flip(2), self.log_shape.flip(2)
        return Samples(self.image.flip(3), self.category.flip(2), point, centre, diagonal, axes, shape)

    def to(self, device: torch.device) -> Samples:
        return Samples(*(getattr(self, field.name).to(device) for field in fields(self)))

    @staticmethod
    def cat(parts: Sequence[Samples]) -> Samples:
        return Samples(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Samples)))


class SceneSamples(Dataset[Samples]):
    """Endless samples: item i depends on the seed and i alone, so that training resumes exactly."""

    def __init__(
        self, categories: Sequence[str], config: SampleConfig, seed: int, backgrounds: Path | None = None
    ) -> None:
        self._categories = tuple(categories)
        self._config = config
        self._seed = seed
        self._backgrounds = backgrounds

    @cached_property
    def _source(self) -> TextureSource:
        """Read at first use, so that a worker process reads its own instead of being sent it."""
        return TextureSource.from_folder(self._backgrounds)

    def __getitem__(self, index: int) -> Samples:
        rng = np.random.default_rng([self._seed, index])
        if rng.random() < self._config.empty:
            return Samples.cat([self._nothing(rng) for _ in range(2 * self._config.views_per_scene)])
        emphasis = [name for name in self._config.emphasis if name in self._categories]
        scene = make_scene(rng, self._source, (*self._categories, *emphasis), on_table=self._config.on_table)
        views = [view for _ in range(self._config.views_per_scene) for view in self._views(rng, scene)]
        return Samples.cat(views)

    def _nothing(self, rng: Rng) -> Samples:
        """A photograph without any object, so that what photographs are full of is known for clutter."""
        size, cells = self._config.size_px, self._config.size_px // STRIDE_PX
        image = degrade(rng, self._source.patch(rng, size, size))
        tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        grid = (1, cells, cells)
        return Samples(
            tensor[None],
            torch.full(grid, BACKGROUND),
            torch.zeros(*grid, 3),
            torch.zeros(*grid, 2),
            torch.zeros(grid),
            torch.zeros(*grid, 2, 3),
            torch.zeros(*grid, 3),
        )

    def _views(self, rng: Rng, scene: Scene) -> list[Samples]:
        """One rendering and its mirror image, each with occluders and sensor faults of its own."""
        size = self._config.size_px
        known = [k for k, item in enumerate(scene.objects) if item.instance.category in self._categories]
        number = known[rng.integers(len(known))]
        aimed = scene.objects[number]
        camera, camera_from_world = self._aim(rng, scene, aimed)
        background = backdrop(rng, self._source, scene, size, size)
        rendering = scene.render(camera, camera_from_world, background, rng, self._config.supersampling)
        views = []
        for _ in range(2):
            image, owner = rendering.rgb.copy(), rendering.owner.copy()
            if rng.random() < 0.4:
                occlude(rng, self._source, image, owner)
            in_front = rng.random()
            if in_front < self._config.covered:
                cover(rng, self._source, image, owner)
            elif in_front < self._config.covered + self._config.held and _is_small(aimed):
                distance = float((camera_from_world @ aimed.world_from_object).translation[2])
                hold(rng, image, owner, number, camera.fx / distance)
            image = degrade(rng, image)
            if rng.random() < self._config.beyond:
                cut_off(rng, image, owner)
            views.append(self._targets(image, owner, camera, camera_from_world, scene))
        return [views[0], views[1].mirrored()]

    def _aim(self, rng: Rng, scene: Scene, item: PlacedObject) -> tuple[Camera, SE3]:
        """A crop's camera: the object somewhere in it, itself somewhere in a wider image."""
        size = self._config.size_px
        diagonal = float(np.linalg.norm(item.instance.size_m))
        distance = random_distance(rng, scene, diagonal)
        direction = np.array([*np.clip(rng.normal(0, 0.22, 2), -0.55, 0.55), 1.0])
        if rng.random() < self._config.centred:
            apparent = self._config.centred_px * np.exp(rng.normal(0, 0.15))
            aim = (size - 1) / 2 + rng.normal(0, 0.06 * size, 2)
        else:
            apparent = np.exp(rng.uniform(np.log(self._config.smallest_px), np.log(self._config.largest_px)))
            reach = max(size - 0.35 * apparent, 0.2 * size) / 2  # up to a third of it may be cut off
            aim = (size - 1) / 2 + rng.uniform(-reach, reach, 2)
        focal = apparent * distance / (diagonal * np.linalg.norm(direction))
        centre = aim - focal * direction[:2]
        camera = Camera(focal, focal, float(centre[0]), float(centre[1]), size, size)
        target = item.world_from_object.translation.numpy().astype(np.float64)
        return camera, random_view(rng, scene, target, direction, distance)

    def _targets(
        self, image: npt.NDArray[np.uint8], owner: npt.NDArray[np.int32], camera: Camera, view: SE3, scene: Scene
    ) -> Samples:
        cells = self._config.size_px // STRIDE_PX
        cell_camera = camera.resized(cells, cells)
        # A cell belongs to what its centre sees.
        cell_owner = cv2.resize(owner, (cells, cells), interpolation=cv2.INTER_NEAREST_EXACT)
        rows, columns = torch.meshgrid(torch.arange(cells), torch.arange(cells), indexing="ij")
        pixels = torch.stack([columns, rows], -1).float()  # (S, S, 2)
        rays = cell_camera.rays(pixels)
        category = torch.full((cells, cells), BACKGROUND)
        box_point, centre = torch.zeros(cells, cells, 3), torch.zeros(cells, cells, 2)
        log_diagonal = torch.zeros(cells, cells)
        axes, log_shape = torch.zeros(cells, cells, 2, 3), torch.zeros(cells, cells, 3)
        for number in np.unique(cell_owner[cell_owner >= 0]):
            item = scene.objects[number]
            name = item.instance.category
            if name not in self._categories:
                continue
            camera_from_object, extent_m = canonical_box(view @ item.world_from_object, item.instance)
            size_m = torch.from_numpy(extent_m).float()
            mask = torch.from_numpy(cell_owner == number)
            # An object so near that its centre is beside or behind the camera has no apparent size.
            if camera_from_object.translation[2] < 0.25 * size_m.norm():
                category[mask] = UNKNOWN
                continue
            point, _ = enter_box(camera_from_object, size_m, rays[mask])
            category[mask] = self._categories.index(name)
            box_point[mask] = point
            centre[mask] = cell_camera.project(camera_from_object.translation) - pixels[mask]
            apparent = cell_camera.fx * size_m.norm() / camera_from_object.translation[2]
            log_diagonal[mask] = apparent.log()
            seen = line_of_sight(camera_from_object.translation).T @ camera_from_object.rotation
            axes[mask] = seen[:, [0, 2]].T
            log_shape[mask] = (size_m / size_m.norm()).log()
        tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        found = (tensor, category, box_point, centre, log_diagonal, axes, log_shape)
        return Samples(*(values[None] for values in found))


def _is_small(item: PlacedObject) -> bool:
    """Whether a hand could hold it: nothing of half a metre and more."""
    return float(np.linalg.norm(item.instance.size_m)) < 0.5
