"""A rasterizer that is obviously right and slow: one ray and one triangle at a time."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from category_pose_ros.geometry import Camera

Array = npt.NDArray[np.float64]


def trace(points_camera: Array, faces: npt.NDArray[np.integer], camera: Camera, near: float) -> tuple[Array, Array]:
    """Depth (H, W), 0 where nothing is met beyond `near`, and the triangle met, -1 for none.

    Each ray is intersected with each triangle by solving for depth and barycentric coordinates.
    """
    depth = np.zeros((camera.height, camera.width))
    face = np.full((camera.height, camera.width), -1)
    for row in range(camera.height):
        for column in range(camera.width):
            ray = np.array([(column - camera.cx) / camera.fx, (row - camera.cy) / camera.fy, 1.0])
            for number, corners in enumerate(points_camera[faces]):
                # depth * ray = a + s (b - a) + t (c - a)
                matrix = np.stack([ray, corners[0] - corners[1], corners[0] - corners[2]], 1)
                if abs(np.linalg.det(matrix)) < 1e-15:
                    continue
                z, s, t = np.linalg.solve(matrix, corners[0])
                nearer = face[row, column] < 0 or z < depth[row, column]
                if s >= 0 and t >= 0 and s + t <= 1 and z >= near and nearer:
                    depth[row, column], face[row, column] = z, number
    return depth, face


def distance_to_polygon(polygon: Array, width: int, height: int) -> Array:
    """Signed distance (H, W) of every pixel to a closed polygon (N, 2), negative inside."""
    contour = polygon.astype(np.float32)
    distance = [
        [-cv2.pointPolygonTest(contour, (float(column), float(row)), True) for column in range(width)]
        for row in range(height)
    ]
    return np.array(distance)


def paper_membership(pixels: Array, width: int, height: int) -> Array:
    """Equation 5 of Palazzi et al. 2018 for projected triangles (F, 3, 2), word for word."""
    total = np.zeros((height, width))
    for a, b, c in pixels:
        area = _edge(a, b, c)
        member = np.zeros((height, width))
        for row in range(height):
            for column in range(width):
                p = np.array([column, row], dtype=float)
                values = [max(np.sign(area) * _edge(*edge, p), 0.0) for edge in ((a, b), (b, c), (c, a))]
                member[row, column] = np.prod(values)
        span = member.max() - member.min()
        if span > 0:
            total += np.tanh((member - member.min()) / span)
    return total


def _edge(start: Array, end: Array, point: Array) -> float:
    (x, y), (u, v) = end - start, point - start
    return float(x * v - y * u)
