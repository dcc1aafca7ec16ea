"""Instances somewhere in the world, and what else a scene consists of."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from category_pose_ros.data.procedural.instance import Instance
from category_pose_ros.data.procedural.surfaces import Rng
from category_pose_ros.geometry import SE3
from category_pose_ros.geometry.mesh import Mesh
from category_pose_ros.rendering.raytracer import Material

Matrix = npt.NDArray[np.float64]
Part = tuple[Mesh, Material, int]

BACKDROP = -2  # owner number of table tops, roads and the like; objects count from 0


class Surroundings(enum.Enum):
    """Where the objects of a scene are; it decides from where a camera looks at them."""

    AIR = "air"
    TABLE = "table"
    STREET = "street"


@dataclass(frozen=True, eq=False)
class PlacedObject:
    """An instance somewhere in the world."""

    instance: Instance
    world_from_object: SE3

    @staticmethod
    def at(instance: Instance, rotation: Matrix, centre: npt.NDArray[np.float64]) -> PlacedObject:
        """With its centre (3,) at a world point, turned by world_from_object (3, 3)."""
        pose = SE3(torch.from_numpy(rotation).float(), torch.from_numpy(centre).float())
        return PlacedObject(instance, pose)

    def parts(self, number: int) -> list[Part]:
        """Its meshes in the world frame, owned by a number."""
        rotation = self.world_from_object.rotation.numpy()
        translation = self.world_from_object.translation.numpy()
        parts = (*self.instance.parts, *self.instance.attached)
        return [(mesh.transformed(rotation, translation), material, number) for mesh, material in parts]


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
