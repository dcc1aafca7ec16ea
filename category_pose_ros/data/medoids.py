"""Representative instances of a category: clusters of how meshes look, and the medoid of each.

As in Palazzi et al. 2018: histograms of oriented gradients (Dalal and Triggs 2005) of two standard
views, and the instance with the least distance to the others of its cluster stands for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from category_pose_ros.geometry import SE3, Camera
from category_pose_ros.rendering.rasterizer import rasterize
from category_pose_ros.rendering.surface import Surface

FloatArray = npt.NDArray[np.float64]

_VIEW_PX = 64
_CELL_PX = 8
_ORIENTATIONS = 9
_DISTANCE = 6.0  # of the camera, in largest extents: nearly parallel rays
# Object axes (x forward, z up) in a camera that looks from the left side and from the front.
_VIEWS = (
    ((-1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, -1.0, 0.0)),
    ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0), (-1.0, 0.0, 0.0)),
)


@dataclass(frozen=True, eq=False)
class Clusters:
    """Instances in groups.

    Attributes:
        label: (N,) cluster of each instance; the largest cluster is 0.
        medoid: (K,) instance that stands for each cluster.
    """

    label: npt.NDArray[np.int64]
    medoid: npt.NDArray[np.int64]


def descriptor(vertices: npt.NDArray[np.floating], faces: npt.NDArray[np.integer]) -> FloatArray:
    """How a mesh in the object frame looks from the side and from the front, whatever its size: a unit vector (D,).

    Raises:
        ValueError: a vertex that is not finite, all vertices at one place, or faces that are none.
    """
    if not np.isfinite(vertices).all() or not np.ptp(vertices, axis=0).any():
        raise ValueError("vertices: expected finite ones at more than one place")
    middle = (vertices.min(0) + vertices.max(0)) / 2
    surface = Surface.from_triangles((vertices - middle) / np.ptp(vertices, axis=0).max(), faces)
    focal = 0.85 * _VIEW_PX * _DISTANCE
    camera = Camera(focal, focal, (_VIEW_PX - 1) / 2, (_VIEW_PX - 1) / 2, _VIEW_PX, _VIEW_PX)
    rotations = torch.tensor(_VIEWS)
    poses = SE3(rotations, torch.tensor([0.0, 0.0, _DISTANCE]).expand(len(rotations), 3))
    with torch.no_grad():
        raster = rasterize(surface, poses, camera)
    nearness = torch.where(raster.covered, 1.5 + _DISTANCE - raster.depth, 0.0)  # depth shows the edges inside
    images = nearness.numpy().astype(np.float64)
    values = np.concatenate([_oriented_gradients(image) for image in images])
    return values / max(float(np.linalg.norm(values)), 1e-12)


def cluster(descriptors: Sequence[FloatArray], count: int) -> Clusters:
    """K-medoids (Kaufman and Rousseeuw 1990), started from instances that are far apart.

    Raises:
        ValueError: fewer instances than clusters, or fewer that differ.
    """
    if not 1 <= count <= len(descriptors):
        raise ValueError(f"clusters: expected between 1 and {len(descriptors)} (the instances), got {count}")
    points = np.stack(descriptors)
    squared = (points * points).sum(1)
    distance = np.sqrt(np.maximum(squared[:, None] + squared - 2 * points @ points.T, 0))
    different = len(np.unique(points, axis=0))
    if different < count:
        raise ValueError(f"clusters: expected at most {different} (the instances that differ), got {count}")
    medoid = _far_apart(distance, count)
    for _ in range(100):
        label = distance[:, medoid].argmin(1)
        members = [np.flatnonzero(label == k) for k in range(count)]
        better = np.array([own[distance[np.ix_(own, own)].sum(1).argmin()] for own in members])
        if (better == medoid).all():
            break
        medoid = better
    order = np.argsort(-np.bincount(label, minlength=count), kind="stable")
    return Clusters(np.argsort(order)[label], medoid[order])


def _oriented_gradients(image: FloatArray) -> FloatArray:
    """Histograms of gradients in cells, normalised over blocks of two by two cells."""
    down, right = np.gradient(image)
    size = np.hypot(right, down)
    angle = np.arctan2(down, right) % np.pi
    orientation = np.minimum((angle / np.pi * _ORIENTATIONS).astype(int), _ORIENTATIONS - 1)
    rows, columns = np.indices(image.shape) // _CELL_PX
    count = _VIEW_PX // _CELL_PX
    index = (rows * count + columns) * _ORIENTATIONS + orientation
    cells = np.bincount(index.ravel(), size.ravel(), count * count * _ORIENTATIONS).reshape(count, count, -1)
    blocks = np.concatenate([cells[:-1, :-1], cells[:-1, 1:], cells[1:, :-1], cells[1:, 1:]], -1)
    return (blocks / (np.linalg.norm(blocks, axis=-1, keepdims=True) + 0.1)).ravel()


def _far_apart(distance: FloatArray, count: int) -> npt.NDArray[np.int64]:
    """The overall medoid, then always the instance farthest from those chosen."""
    chosen = [int(distance.sum(1).argmin())]
    while len(chosen) < count:
        chosen.append(int(distance[:, chosen].min(1).argmax()))
    return np.array(chosen)
