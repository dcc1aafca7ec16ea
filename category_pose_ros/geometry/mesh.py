"""Triangle meshes with what a renderer needs, and cuboids."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles with a normal and a texture coordinate at each vertex.

    Attributes:
        vertices: (V, 3) float32 metres.
        normals: (V, 3) float32 unit vectors.
        uv: (V, 2) float32; the texture repeats outside [0, 1].
        faces: (F, 3) int32 indices of vertices.
    """

    vertices: FloatArray
    normals: FloatArray
    uv: FloatArray
    faces: npt.NDArray[np.int32]

    def transformed(self, rotation: npt.NDArray[np.floating], translation: npt.NDArray[np.floating]) -> Mesh:
        """Rotate by (3, 3), then move by (3,)."""
        rotation = rotation.astype(np.float32)
        return replace(
            self,
            vertices=self.vertices @ rotation.T + translation.astype(np.float32),
            normals=self.normals @ rotation.T,
        )


def box_corners(size_m: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Corners (8, 3) of the box of extent (3,) around the origin; bit k of the row is the sign of axis k."""
    signs = np.array([[(row >> axis) & 1 for axis in range(3)] for row in range(8)]) - 0.5
    return signs * np.asarray(size_m, dtype=np.float64)


def cuboid_grid(size_m: npt.ArrayLike, vertex_count: int) -> tuple[FloatArray, FloatArray]:
    """A regular grid of points on the six faces of a box, spaced alike on every face.

    Each face has its own points up to, but not on, its edges, so that every point has one normal
    and is visible exactly when its face is turned to the camera (Ma et al. 2022, section 3.1, use
    shared edge vertices instead).

    Args:
        size_m: (3,) extent of the box.
        vertex_count: wished number of points, met approximately.

    Returns:
        Points (V, 3) in units of the box, each coordinate in [-0.5, 0.5], and normals (V, 3).
    """
    size = np.asarray(size_m, dtype=np.float64)
    area = 2 * (size[0] * size[1] + size[1] * size[2] + size[0] * size[2])
    step = np.sqrt(area / vertex_count)
    counts = np.maximum(np.round(size / step).astype(int), 2)
    points, normals = [], []
    for axis in range(3):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        a, b = np.meshgrid(*((np.arange(counts[k]) + 0.5) / counts[k] - 0.5 for k in (first, second)), indexing="ij")
        for sign in (-1.0, 1.0):
            face = np.zeros((a.size, 3))
            face[:, axis], face[:, first], face[:, second] = 0.5 * sign, a.ravel(), b.ravel()
            normal = np.zeros((a.size, 3))
            normal[:, axis] = sign
            points.append(face)
            normals.append(normal)
    return np.concatenate(points).astype(np.float32), np.concatenate(normals).astype(np.float32)
