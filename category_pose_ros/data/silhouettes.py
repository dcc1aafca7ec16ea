"""Masks of procedural instances with their poses: what the pose encoder learns from and is judged on.

Cars follow the protocol of Palazzi et al. 2018: on the ground, seen by a camera 1.5 m above it that
looks ahead, at the places of a grid and with any heading. Small objects are seen from anywhere above.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from category_pose_ros.data.medoids import FloatArray, cluster, descriptor
from category_pose_ros.data.procedural import shapes
from category_pose_ros.data.procedural.scenes import FAMILIES, SYMMETRIES
from category_pose_ros.data.procedural.surfaces import Rng, TextureSource
from category_pose_ros.data.procedural.views import look_at, outward
from category_pose_ros.geometry import SE3, Camera, so3
from category_pose_ros.geometry.rotations import line_of_sight
from category_pose_ros.geometry.symmetry import canonical
from category_pose_ros.rendering.rasterizer import NEAR_M
from category_pose_ros.rendering.surface import Surface, simplified
from category_pose_ros.rendering.visibility import visible_faces

# 35 mm lens before a sensor 32 mm wide, as in the authors' code.
CAMERA = Camera(280.0, 280.0, 127.5, 127.5, 256, 256)
CAMERA_HEIGHT_M = 1.5
# Of each five instances three are for training, one for choosing and one for testing.
_SPLITS = {"training": (0, 1, 2), "choosing": (3,), "testing": (4,)}
_LATERAL_M = (-6.0, -3.0, 0.0, 3.0, 6.0)
_AHEAD_M = (7.0, 10.0, 13.0, 16.0, 19.0)
_TEXTURES = TextureSource()  # families want one; a silhouette shows none of it
# x right, y ahead and z up to the axes of a camera that looks ahead.
_AHEAD = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])


@dataclass(frozen=True, eq=False)
class Shape:
    """An instance without its looks.

    Attributes:
        category: of the object.
        surface: mesh in the object frame, metres.
        size_m: (3,) tight extent.
    """

    category: str
    surface: Surface
    size_m: Tensor


@dataclass(frozen=True, eq=False)
class Representatives:
    """Instances that stand for a category.

    Attributes:
        medoids: one instance per cluster, the largest cluster first.
        log_size_covariance: (K, 3, 3) of each cluster about its medoid.
    """

    medoids: tuple[Shape, ...]
    log_size_covariance: Tensor


@dataclass(frozen=True)
class Family:
    """The endless, numbered instances of a procedural category.

    Attributes:
        category: name.
        seed: decides all instances.
        cells: meshes are simplified to a grid of this many cells along each axis.
        gallery: as many of the first instances are for choosing representatives, and in none of the splits.
    """

    category: str
    seed: int
    cells: int
    gallery: int

    def instance(self, number: int) -> Shape:
        """The same for the same number."""
        rng = np.random.default_rng([self.seed, number])
        made = FAMILIES[self.category](rng, _TEXTURES)
        mesh = shapes.merge([part for part, _ in made.parts])
        surface = Surface.from_triangles(*simplified(mesh.vertices, mesh.faces, self.cells))
        return Shape(self.category, surface, torch.from_numpy(made.size_m).float())

    def split(self, name: str) -> Iterator[Shape]:
        """The instances for `training`, `choosing` or `testing` (0.6, 0.2 and 0.2 of all), without end."""
        for number in itertools.count(self.gallery):
            if number % 5 in _SPLITS[name]:
                yield self.instance(number)

    def representatives(self, clusters: int) -> Representatives:
        """Cluster the gallery; its medoids stand for the category."""
        found = [self.instance(number) for number in range(self.gallery)]
        groups = cluster([look(item.surface) for item in found], clusters)
        logs = torch.stack([item.size_m.log() for item in found])
        covariances = []
        for label in range(clusters):
            own = logs[torch.from_numpy(groups.label == label)]
            away = own - found[groups.medoid[label]].size_m.log()
            covariances.append(away.T @ away / len(own) + 4e-4 * torch.eye(3))  # at least 2 % of each extent
        return Representatives(tuple(found[index] for index in groups.medoid), torch.stack(covariances))


def look(surface: Surface) -> FloatArray:
    """The descriptor of a mesh; instances belong to the cluster whose medoid's is nearest."""
    return descriptor(surface.vertices.numpy(), surface.faces.numpy())


def nearest(found: FloatArray, medoids: Sequence[FloatArray]) -> int:
    """Which medoid's descriptor is nearest."""
    return int(np.argmin([np.linalg.norm(found - item) for item in medoids]))


def random_views(rng: Rng, shape: Shape, count: int) -> SE3:
    """Poses (count,) of an instance in CAMERA's frame."""
    view = _on_ground if shape.category == "car" else _from_above
    found = [view(rng, shape.size_m) for _ in range(count)]
    batch = SE3(torch.stack([item.rotation for item in found]), torch.stack([item.translation for item in found]))
    return canonical(batch, SYMMETRIES[shape.category])


def crop_boxes(surface: Surface, camera_from_object: SE3, camera: Camera) -> Tensor:
    """Boxes (B, 4) of left, top, right, bottom around the projections of all vertices."""
    pixels = camera.project(camera_from_object @ surface.vertices)
    return torch.cat([pixels.amin(1), pixels.amax(1)], -1)


def render_masks(surface: Surface, camera_from_object: SE3, cameras: Sequence[Camera]) -> Tensor:
    """Masks (B, H, W) bool of one mesh at B poses, each seen by its own camera; all of one size."""
    matrices = torch.from_numpy(np.stack([camera.matrix() for camera in cameras])).to(surface.vertices)
    homogeneous = (camera_from_object @ surface.vertices) @ matrices.transpose(-1, -2)
    width, height = cameras[0].width, cameras[0].height
    return visible_faces(homogeneous[:, surface.faces], width, height, NEAR_M) >= 0


def _on_ground(rng: Rng, size_m: Tensor) -> SE3:
    x, ahead = rng.choice(_LATERAL_M), rng.choice(_AHEAD_M)
    yaw = so3.exp(torch.tensor([0.0, 0.0, rng.uniform(-np.pi, np.pi)]))
    place = torch.tensor([x, CAMERA_HEIGHT_M - float(size_m[2]) / 2, ahead])
    return SE3((_AHEAD @ yaw).float(), place.float())


def _from_above(rng: Rng, size_m: Tensor) -> SE3:
    elevation, azimuth = np.radians(rng.uniform(0, 80)), rng.uniform(-np.pi, np.pi)
    distance = rng.uniform(2.5, 8.0) * float(size_m.norm())
    seen = look_at(distance * outward(elevation, azimuth), np.zeros(3), rng.normal(0, 0.15))
    aside = line_of_sight(torch.tensor([*rng.uniform(-0.3, 0.3, 2), 1.0]).float())
    return SE3(aside, torch.zeros(3)) @ seen
