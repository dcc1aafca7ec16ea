"""Solids from a few curves: surfaces of revolution, swept tubes, stacked outlines, boxes, ellipsoids.

Every function returns a `Mesh` in metres with z up. Normals are smooth except across corners
sharper than `_CREASE`, so that low-poly solids shade like round ones.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    # The gradient of the superellipse.
    normal_x, normal_y = (np.sign(value) * np.abs(value) ** (squareness - 1) for value in (cos, sin))
    normals = _around(ring_normals, normal_x, normal_y / flatness)
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
            # Counter-clockwise seen from outside, so that no print is mirrored.
            corner[:, first] = sign * np.array([-1, 1, 1, -1]) * half[first]
            corner[:, second] = np.array([-1, -1, 1, 1]) * half[second]
            faces.append(np.array([[0, 1, 2], [0, 2, 3]]) + 4 * len(faces))
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


def stack(outlines: npt.ArrayLike, heights: npt.ArrayLike) -> Mesh:
    """A solid from plan outlines at increasing heights, closed by flat caps.

    Args:
        outlines: (K, N, 2) x and y, counter-clockwise seen from above; every point of an outline is
            seen from its mean. Point n of one outline is joined to point n of the next.
        heights: (K,) metres.
    """
    plan = np.asarray(outlines, dtype=np.float64)
    height = np.broadcast_to(np.asarray(heights, dtype=np.float64)[:, None, None], (*plan.shape[:2], 1))
    rings = np.concatenate([plan, height], -1)
    wall = grid(np.concatenate([rings, rings[:, :1]], 1))
    return merge([wall, _cap(rings[0, ::-1]), _cap(rings[-1])])


def grid(points: npt.ArrayLike, normals: npt.ArrayLike | None = None) -> Mesh:
    """A surface through points (R, C, 3); u follows the columns, v the rows.

    Seen from its front, rows go up and columns to the right. Without normals they are found from the
    triangles.
    """
    p = np.asarray(points, dtype=np.float64)
    rows, columns = p.shape[:2]
    u, v = np.meshgrid(np.linspace(0, 1, columns), np.linspace(0, 1, rows))
    uv, faces = np.stack([u.ravel(), v.ravel()], 1), _strip_faces(rows, columns)
    if normals is None:
        return shaded(p.reshape(-1, 3), faces, uv)
    return _mesh(p.reshape(-1, 3), np.asarray(normals, dtype=np.float64).reshape(-1, 3), uv, faces)


def panel(width: float, height: float) -> Mesh:
    """A rectangle around the origin, facing +z; u follows x over the width, v follows y."""
    x, y = np.meshgrid([-width / 2, width / 2], [-height / 2, height / 2])
    return grid(np.stack([x, y, np.zeros((2, 2))], -1), np.broadcast_to([0.0, 0.0, 1.0], (2, 2, 3)))


def shaded(vertices: Curve, faces: npt.NDArray[np.integer], uv: Curve) -> Mesh:
    """Give triangles normals, averaged over the faces that meet at a vertex without a crease.

    Each corner of each triangle becomes a vertex of its own; triangles without area are left out.
    """
    # Vertices at one place (to 0.01 mm), as along a seam or at a pole, are one for this purpose.
    _, place = np.unique(np.rint(vertices * 1e5).astype(np.int64) @ [1, 1 << 21, 1 << 42], return_inverse=True)
    corners = vertices[faces]
    area = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    size = np.linalg.norm(area, axis=1)
    keep = size > 1e-12
    corners, area, faces = corners[keep], area[keep], faces[keep]
    flat = area / size[keep, None]
    around = _incident(place[faces])  # (F, 3, D)
    alike = (np.einsum("fc,fkdc->fkd", flat, flat[around]) > _CREASE) & (around >= 0)
    normals = np.einsum("fkd,fkdc->fkc", alike.astype(np.float64), area[around])
    own = np.arange(3 * len(faces)).reshape(-1, 3)
    return _mesh(corners.reshape(-1, 3), normals.reshape(-1, 3), uv[faces].reshape(-1, 2), own)


def merge(meshes: Sequence[Mesh]) -> Mesh:
    """Several meshes of one material as one."""
    starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes[:-1]]).astype(np.int32)
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.normals for mesh in meshes]),
        np.concatenate([mesh.uv for mesh in meshes]),
        np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts, strict=True)]),
    )


def moved(mesh: Mesh, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Mesh:
    """The mesh, shifted (metres)."""
    return mesh.transformed(np.eye(3), np.array([x, y, z]))


def about(axis: int, angle: float) -> npt.NDArray[np.float64]:
    """The rotation (3, 3) by an angle (radians) about a coordinate axis."""
    a, b = (axis + 1) % 3, (axis + 2) % 3
    rotation = np.eye(3)
    rotation[a, a] = rotation[b, b] = np.cos(angle)
    rotation[a, b], rotation[b, a] = -np.sin(angle), np.sin(angle)
    return rotation


def rounded_rectangle(x: float, y: float, radius: float, per_corner: int = 3, per_side: int = 1) -> Curve:
    """A counter-clockwise outline (N, 2) around the origin.

    Args:
        x, y: extents in metres.
        radius: of the corners.
        per_corner, per_side: segments of each corner and of each side.
    """
    radius = min(radius, 0.49 * x, 0.49 * y)
    quarter = np.linspace(0, np.pi / 2, per_corner + 1)
    arcs = []
    for k, (right, up) in enumerate([(1, 1), (-1, 1), (-1, -1), (1, -1)]):
        angle = quarter + k * np.pi / 2
        centre = np.array([right * (x / 2 - radius), up * (y / 2 - radius)])
        arcs.append(centre + radius * np.stack([np.cos(angle), np.sin(angle)], 1))
    sides = [np.linspace(arcs[k][-1], arcs[(k + 1) % 4][0], per_side + 1)[1:-1] for k in range(4)]
    return np.concatenate([piece for pair in zip(arcs, sides, strict=True) for piece in pair])


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


def _cap(ring: Curve) -> Mesh:
    """A flat fan over a ring (N, 3) that is counter-clockwise seen from its front; u and v follow x and y."""
    middle = ring.mean(0, keepdims=True)
    count = len(ring)
    k = np.arange(count)
    faces = np.stack([np.full(count, count), k, (k + 1) % count], 1)
    points = np.concatenate([ring, middle])
    low, high = ring[:, :2].min(0), ring[:, :2].max(0)
    return shaded(points, faces, (points[:, :2] - low) / np.maximum(high - low, 1e-9))


def _incident(faces: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """For each corner (F, 3) the faces at its vertex, (F, 3, D), padded with -1."""
    corner_vertex = faces.ravel()
    order = np.argsort(corner_vertex, kind="stable")
    counts = np.bincount(corner_vertex)
    slot = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    table = np.full((len(counts), int(counts.max())), -1, dtype=np.int64)
    table[corner_vertex[order], slot] = order // 3
    return table[faces]


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
