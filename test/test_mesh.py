"""Meshes: the grid on a cuboid, its normals and spacing; corners; rigid motion."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from category_pose_ros.data.procedural import shapes
from category_pose_ros.geometry.mesh import box_corners, cuboid_grid

SIZES = [(0.1, 0.1, 0.1), (0.08, 0.08, 0.25), (0.12, 0.09, 0.1), (0.4, 0.02, 0.1)]


@pytest.mark.parametrize("size", SIZES)
def test_grid_points_lie_inside_the_faces_that_their_normals_name(size: tuple[float, float, float]) -> None:
    points, normals = cuboid_grid(size, 320)
    assert points.shape == normals.shape
    assert points.dtype == normals.dtype == np.float32
    assert (np.sort(np.abs(normals), axis=1) == [0, 0, 1]).all()
    assert (points * normals).sum(1) == pytest.approx(0.5)
    on_face = np.abs(points)[normals == 0]
    assert (on_face < 0.5).all()  # never on an edge, where a second face would claim the point


@pytest.mark.parametrize("size", SIZES)
def test_the_grid_has_about_the_wished_number_of_points(size: tuple[float, float, float]) -> None:
    points, _ = cuboid_grid(size, 320)
    assert 0.75 * 320 < len(points) < 1.35 * 320


@pytest.mark.parametrize("size", SIZES[:3])
def test_the_grid_is_spaced_alike_on_every_face(size: tuple[float, float, float]) -> None:
    points, normals = cuboid_grid(size, 320)
    placed = points * np.array(size)
    expected = np.sqrt(2 * (size[0] * size[1] + size[1] * size[2] + size[0] * size[2]) / 320)
    for axis in range(3):
        face = placed[normals[:, axis] == 1]
        distances = np.linalg.norm(face[:, None] - face, axis=-1) + np.eye(len(face))
        nearest = distances.min(1)
        assert nearest == pytest.approx(nearest[0], rel=1e-4)
        assert nearest[0] == pytest.approx(expected, rel=0.2)


def _as_set(points: npt.NDArray[np.floating]) -> set[tuple[int, ...]]:
    return set(map(tuple, np.rint(points * 10000).astype(int).tolist()))


def test_the_grid_is_symmetric() -> None:
    points, _ = cuboid_grid((0.1, 0.2, 0.3), 200)
    for signs in ([-1, 1, 1], [1, -1, 1], [1, 1, -1]):
        assert _as_set(points * signs) == _as_set(points)


def test_thin_boxes_keep_two_points_across() -> None:
    points, normals = cuboid_grid((1.0, 1.0, 0.001), 100)
    assert len(np.unique(points[normals[:, 0] == 1][:, 2])) == 2


def test_corners_are_numbered_by_the_signs_of_their_axes() -> None:
    corners = box_corners((2.0, 4.0, 6.0))
    assert corners.tolist()[0] == [-1, -2, -3]
    assert corners.tolist()[0b001] == [1, -2, -3]
    assert corners.tolist()[0b110] == [-1, 2, 3]
    assert len(np.unique(corners, axis=0)) == 8


def test_moving_a_mesh_turns_its_normals_and_keeps_the_rest() -> None:
    mesh = shapes.box((0.1, 0.2, 0.3))
    quarter = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    moved = mesh.transformed(quarter, np.array([1.0, 2.0, 3.0]))
    assert moved.vertices == pytest.approx(mesh.vertices @ quarter.T + [1, 2, 3])
    assert moved.normals == pytest.approx(mesh.normals @ quarter.T)
    assert moved.vertices.dtype == moved.normals.dtype == np.float32
    assert moved.faces is mesh.faces
    assert moved.uv is mesh.uv
