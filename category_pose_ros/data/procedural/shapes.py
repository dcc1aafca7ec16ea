"""Solids from a few curves: surfaces of revolution, swept tubes, boxes, ellipsoids.

Every function returns a `Mesh` in metres with z up. Normals are smooth except across corners
sharper than `_CREASE`, so that low-poly solids shade like round ones.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from category_pose_ros.geometry.mesh import Mesh

Curve = npt.NDArray[np.floating]
_CREASE = np.cos(np.radians(40))


def revolve(profile: Curve, sectors: int = 28, squareness: float = 2.0, flatness: float = 1.0) -> Mesh:
    """Turn a profile about z.

    Args:
        profile: (N, 2) radius and height, ordered so that the outside is on the right of the
            direction of travel seen with the radius to the right (bottom to top on the outer wall).
        sectors: samples around the axis.
        squareness: exponent of the superellipse of the cross section; 2 is round.
        flatness: y extent over x extent.
    """
    angles = np.linspace(0, 2 * np.pi, sectors + 1)
    cos, sin = np.cos(angles), np.sin(angles)
    if squareness != 2.0:
        scale = (np.abs(cos) ** squareness + np.abs(sin) ** squareness) ** (-1 / squareness)
        cos, sin = cos * scale, sin * scale
    start_normals, end_normals = _profile_normals(profile)
    arc = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(profile, axis=0), axis=1))])
    arc = arc / max(float(arc[-1]), 1e-9)
    # Each segment owns both its rings, so that a crease has two normals.
    rings = np.stack([profile[:-1], profile[1:]], 1).reshape(-1, 2)  # (2S, 2)
    ring_normals = np.stack([start_normals, end_normals], 1).reshape(-1, 2)
    ring_arc = np.stack([arc[:-1], arc[1:]], 1).reshape(-1)
    vertices = _around(rings, cos, sin * flatness)
    normals = _around(ring_normals, np.cos(angles) * flatness, np.sin(angles))
    u, v = np.meshgrid(angles / (2 * np.pi), ring_arc, indexing="xy")
    faces = _strip_faces(len(rings), sectors + 1)[: (len(rings) - 1) * sectors * 2]
    keep = (np.arange(len(faces)) // (2 * sectors)) % 2 == 0  # no strip between two segments
    return _mesh(vertices, normals, np.stack([u.ravel(), v.ravel()], 1), faces[keep])


def sweep(path: Curve, radii: tuple[float, float], sectors: int = 10) -> Mesh:
    """An elliptical tube along a path in the xz plane.

    Args:
        path: (N, 3) metres with y = 0.
        radii: half-axes in the plane of the path and across it (along y).
    """
    tangents = np.gradient(path, axis=0)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    across = np.array([0.0, 1.0, 0.0])
    inward = np.cross(across, tangents)
    angles = np.linspace(0, 2 * np.pi, sectors + 1)
    cos, sin = np.cos(angles)[None, :, None], np.sin(angles)[None, :, None]
    offsets = radii[0] * cos * inward[:, None] + radii[1] * sin * across
    normals = cos / radii[0] * inward[:, None] + sin / radii[1] * across
    vertices = (path[:, None] + offsets).reshape(-1, 3)
    normals = normals.reshape(-1, 3)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    u, v = np.meshgrid(angles / (2 * np.pi), np.linspace(0, 1, len(path)))
    return _mesh(vertices, normals, np.stack([u.ravel(), v.ravel()], 1), _strip_faces(len(path), sectors + 1))


def box(size: npt.ArrayLike) -> Mesh:
    """An axis-aligned box around the origin; each face carries the whole texture."""
    half = np.asarray(size, dtype=np.float64) / 2
    vertices, normals, uv = [], [], []
    faces: list[npt.NDArray[np.int64]] = []
    for axis in range(3):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        for sign in (-1, 1):
            normal = np.zeros(3)
            normal[axis] = sign
            corner = np.zeros((4, 3))
            corner[:, axis] = sign * half[axis]
            corner[:, first] = np.array([-1, 1, 1, -1]) * half[first]
            corner[:, second] = np.array([-1, -1, 1, 1]) * half[second]
            outwards = np.array([[0, 1, 2], [0, 2, 3]])[:, ::sign]
            faces.append(outwards + 4 * len(faces))
            vertices.append(corner)
            normals.append(np.tile(normal, (4, 1)))
            uv.append(np.array([[0, 0], [1, 0], [1, 1], [0, 1]]))
    return _mesh(np.concatenate(vertices), np.concatenate(normals), np.concatenate(uv), np.concatenate(faces))


def ellipsoid(radii: npt.ArrayLike, sectors: int = 16) -> Mesh:
    """An ellipsoid around the origin with half-axes (3,)."""
    half = np.asarray(radii, dtype=np.float64)
    latitude = np.linspace(-np.pi / 2, np.pi / 2, sectors // 2 + 1)
    sphere = revolve(np.stack([np.cos(latitude), np.sin(latitude)], 1), sectors)
    normals = sphere.normals / half
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return _mesh(sphere.vertices * half, normals, sphere.uv, sphere.faces)


def smooth_profile(points: npt.ArrayLike, per_segment: int = 4) -> Curve:
    """A Catmull-Rom curve through profile points (N, 2), with its end points kept."""
    p = np.asarray(points, dtype=np.float64)
    padded = np.concatenate([p[:1], p, p[-1:]])
    t = np.linspace(0, 1, per_segment, endpoint=False)[:, None]
    pieces = []
    for k in range(len(p) - 1):
        a, b, c, d = padded[k : k + 4]
        pieces.append(0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3))
    curve = np.concatenate([*pieces, p[-1:]])
    curve[:, 0] = np.maximum(curve[:, 0], 0)
    return curve


def _around(rings: Curve, cos: Curve, sin: Curve) -> Curve:
    radial, height = rings[:, :1], rings[:, 1:]
    return np.stack([radial * cos, radial * sin, np.broadcast_to(height, (len(rings), len(cos)))], -1).reshape(-1, 3)


def _profile_normals(profile: Curve) -> tuple[Curve, Curve]:
    """Normals (S, 2) at the start and the end of every segment, averaged where it is smooth."""
    step = np.diff(profile, axis=0)
    flat = np.stack([step[:, 1], -step[:, 0]], 1)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
    start, end = flat.copy(), flat.copy()
    smooth = (flat[:-1] * flat[1:]).sum(1) > _CREASE
    mean = flat[:-1] + flat[1:]
    mean /= np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
    end[:-1][smooth] = mean[smooth]
    start[1:][smooth] = mean[smooth]
    return start, end


def _strip_faces(rows: int, columns: int) -> npt.NDArray[np.int64]:
    """Two triangles per cell of a (rows, columns) grid of vertices, row by row."""
    i = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    return np.stack([i, i + 1, i + columns + 1, i, i + columns + 1, i + columns], 1).reshape(-1, 3)


def _mesh(vertices: Curve, normals: Curve, uv: Curve, faces: npt.NDArray[np.integer]) -> Mesh:
    length = np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    return Mesh(
        vertices.astype(np.float32),
        (normals / length).astype(np.float32),
        uv.astype(np.float32),
        faces.astype(np.int32),
    )
