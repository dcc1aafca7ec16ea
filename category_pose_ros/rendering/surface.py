"""Triangle meshes as the rasterizer needs them: corners that are shared, edges that know their triangles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_WELD = 1e-5  # side of the cells, as a share of the mesh's diagonal, of which all vertices are one


@dataclass(frozen=True, eq=False)
class Surface:
    """Triangles and the edges between them.

    Attributes:
        vertices: (V, 3) or (B, V, 3) in the object frame.
        faces: (F, 3) indices of vertices, of any winding.
        edges: (E, 2) indices of vertices.
        opposite: (E, 2) the third corners of the two triangles at each edge. An edge of one triangle
            names its corner twice; one of three or more triangles is listed once for each of them.
    """

    vertices: Tensor
    faces: Tensor
    edges: Tensor
    opposite: Tensor

    @staticmethod
    def from_triangles(vertices: npt.ArrayLike, faces: npt.ArrayLike) -> Surface:
        """From vertices (V, 3) and faces (F, 3); vertices at one place are joined.

        Raises:
            ValueError: no triangle with three different corners, an index out of range, or a
                vertex that is not finite.
        """
        points, triangles = np.asarray(vertices, dtype=np.float64), np.asarray(faces, dtype=np.int64)
        if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
            raise ValueError(f"vertices: expected finite values of shape (V, 3), got shape {points.shape}")
        if triangles.ndim != 2 or triangles.shape[1] != 3 or len(triangles) == 0:
            raise ValueError(f"faces: expected at least one triangle, shape (F, 3), got shape {triangles.shape}")
        if triangles.min() < 0 or triangles.max() >= len(points):
            raise ValueError(f"faces: expected indices below {len(points)}, got up to {triangles.max()}")
        points, triangles = _welded(points, triangles)
        if len(triangles) == 0:
            raise ValueError("faces: expected a triangle with three different corners, got none")
        edges, opposite = _edges(triangles)
        tensors = (points.astype(np.float32), triangles, edges, opposite)
        return Surface(*(torch.from_numpy(np.ascontiguousarray(item)) for item in tensors))

    @staticmethod
    def stacked(surfaces: Sequence[Surface]) -> Surface:
        """Meshes (V, 3) as one batch with vertices (B, V, 3); one mesh many times stays as it is.

        Every triangle and every edge gets corners of its own, so that all meshes count them alike. What
        a mesh has fewer of is filled up with points, which cover nothing and have no outline.
        """
        if all(item is surfaces[0] for item in surfaces):
            return surfaces[0]
        parts = []
        for name in ("faces", "edges", "opposite"):
            found = [item.vertices[getattr(item, name).flatten()] for item in surfaces]
            parts.append(torch.nn.utils.rnn.pad_sequence(found, batch_first=True))
        vertices = torch.cat(parts, 1)
        index = torch.arange(vertices.shape[1], device=vertices.device)
        faces, edges, opposite = index.split([part.shape[1] for part in parts])
        return Surface(vertices, faces.view(-1, 3), edges.view(-1, 2), opposite.view(-1, 2))

    def scaled(self, size: Tensor) -> Surface:
        """With vertices times a size (3,) or (B, 3) along the axes."""
        return replace(self, vertices=self.vertices * size.unsqueeze(-2))

    def to(self, target: torch.device | torch.dtype | str) -> Surface:
        """On another device, or with vertices of another floating point type."""
        if isinstance(target, torch.dtype):
            return replace(self, vertices=self.vertices.to(target))
        return Surface(*(item.to(target) for item in (self.vertices, self.faces, self.edges, self.opposite)))


def simplified(
    vertices: npt.NDArray[np.floating], faces: npt.NDArray[np.integer], cells: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """A coarser mesh: vertices in one cell of a grid become their mean (Rossignac and Borrel 1993).

    Args:
        vertices: (V, 3).
        faces: (F, 3).
        cells: of the grid along each axis of the tight box.

    Returns:
        Vertices and faces; triangles that fall together or onto a line are gone.
    """
    low, extent = vertices.min(0), np.maximum(np.ptp(vertices, axis=0), 1e-9)
    cell = np.minimum(((vertices - low) / extent * cells).astype(np.int64), cells - 1)
    _, index = np.unique(cell, axis=0, return_inverse=True)
    index = index.reshape(-1)
    merged = np.stack([np.bincount(index, vertices[:, axis]) for axis in range(3)], 1) / np.bincount(index)[:, None]
    return _compact(merged, index[faces])


def _welded(
    points: npt.NDArray[np.float64], faces: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    step = _WELD * max(float(np.linalg.norm(np.ptp(points, axis=0))), 1e-12)
    _, first, index = np.unique(np.round(points / step), axis=0, return_index=True, return_inverse=True)
    return _compact(points[first], index.reshape(-1)[faces])


def _compact(
    points: npt.NDArray[np.float64], faces: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Without triangles that are a line, without one triangle twice, without unused vertices."""
    ordered = np.sort(faces, axis=1)
    proper = (ordered[:, 0] != ordered[:, 1]) & (ordered[:, 1] != ordered[:, 2])
    faces, ordered = faces[proper], ordered[proper]
    _, first = np.unique(ordered, axis=0, return_index=True)
    faces = faces[np.sort(first)]
    used, index = np.unique(faces, return_inverse=True)
    return points[used], index.reshape(-1, 3)


def _edges(faces: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Edges (E, 2) and the corners opposite them (E, 2)."""
    pairs = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    third = np.concatenate([faces[:, 2], faces[:, 0], faces[:, 1]])
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    pairs, third = pairs[order], third[order]
    _, start, count = np.unique(pairs, axis=0, return_index=True, return_counts=True)
    two = start[count == 2]
    alone = np.flatnonzero(np.repeat(count != 2, count))
    edges = np.concatenate([pairs[two], pairs[alone]])
    opposite = np.concatenate([np.stack([third[two], third[two + 1]], 1), np.stack([third[alone], third[alone]], 1)])
    return edges, opposite
