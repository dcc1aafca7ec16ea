"""One object with its surfaces, centred in its tight box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from category_pose_ros.geometry.mesh import Mesh
from category_pose_ros.rendering.raytracer import Material

Part = tuple[Mesh, Material]


@dataclass(frozen=True, eq=False)
class Instance:
    """An object of a family.

    Attributes:
        category: its category, or "distractor".
        parts: meshes in the object frame with their materials.
        size_m: (3,) tight extent.
        attached: more of it, which nobody counts in its size, such as the wing mirrors of a car.
    """

    category: str
    parts: tuple[Part, ...]
    size_m: npt.NDArray[np.float64]
    attached: tuple[Part, ...] = ()

    @staticmethod
    def centred(category: str, parts: list[Part], attached: Sequence[Part] = ()) -> Instance:
        """Move parts so that the centre of their tight box is the origin."""
        points = np.concatenate([mesh.vertices for mesh, _ in parts])
        low, high = points.min(0), points.max(0)
        unturned, to_origin = np.eye(3, dtype=np.float32), -(low + high) / 2
        moved, beside = (
            tuple((mesh.transformed(unturned, to_origin), material) for mesh, material in some)
            for some in (parts, attached)
        )
        return Instance(category, moved, (high - low).astype(np.float64), beside)

    def extent(self, rotation: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Tight extent (3,) along the axes of a frame, given `frame_from_object` (3, 3)."""
        return np.ptp(self._turned(rotation), axis=0).astype(np.float64)

    def lowest(self, rotation: npt.NDArray[np.floating]) -> float:
        """Height (m) of its lowest point over its centre, given `world_from_object` (3, 3), z up.

        Turned, its tight box is not always around its centre.
        """
        return float(self._turned(rotation)[:, 2].min())

    def _turned(self, rotation: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """The vertices (N, 3) of its parts along the axes of a frame, given `frame_from_object` (3, 3)."""
        turned: npt.NDArray[np.floating] = np.concatenate([mesh.vertices for mesh, _ in self.parts]) @ rotation.T
        return turned
