"""Solids: closed, of the right extent and volume, and with normals that point outward."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from category_pose_ros.data.procedural import shapes
from category_pose_ros.geometry.mesh import Mesh

CYLINDER = np.array([[0.0, 0.0], [0.03, 0.0], [0.03, 0.1], [0.0, 0.1]])
HALF_RING = np.linspace(np.pi / 2, -np.pi / 2, 17)
SOLIDS = {
    "cylinder": shapes.revolve(CYLINDER),
    "square cylinder": shapes.revolve(CYLINDER, squareness=4.0, flatness=0.6),
    "cone": shapes.revolve(np.array([[0.0, 0.0], [0.05, 0.0], [0.0, 0.1]])),
    "box": shapes.box((0.1, 0.2, 0.3)),
    "ellipsoid": shapes.ellipsoid((0.05, 0.1, 0.02)),
}
TUBE = shapes.sweep(np.stack([0.05 * np.cos(HALF_RING), 0 * HALF_RING, 0.05 * np.sin(HALF_RING)], 1), (0.004, 0.008))


def corners(mesh: Mesh) -> npt.NDArray[np.float64]:
    """Corners (F, 3, 3) of the triangles that have an area."""
    found = mesh.vertices.astype(np.float64)[mesh.faces]
    return found[np.linalg.norm(_cross(found), axis=1) > 1e-12]


def _cross(triangles: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])


def volume(mesh: Mesh) -> float:
    """Signed; positive where the triangles are counter-clockwise seen from outside."""
    a, b, c = corners(mesh).transpose(1, 0, 2)
    return float(np.einsum("fk,fk->f", a, np.cross(b, c)).sum() / 6)


def open_edges(mesh: Mesh) -> int:
    """Edges that do not belong to two triangles; vertices at one place count as one."""
    triangles = np.rint(corners(mesh) * 1e6).astype(int)
    edges: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
    for triangle in triangles.tolist():
        for k in range(3):
            first, second = tuple(triangle[k]), tuple(triangle[(k + 1) % 3])
            key = (min(first, second), max(first, second))
            edges[key] = edges.get(key, 0) + 1
    return sum(count != 2 for count in edges.values())


@pytest.mark.parametrize("name", [*SOLIDS, "tube"])
def test_a_solid_is_finite_and_its_normals_are_unit_vectors(name: str) -> None:
    mesh = {**SOLIDS, "tube": TUBE}[name]
    for values in (mesh.vertices, mesh.normals, mesh.uv):
        assert values.dtype == np.float32
        assert np.isfinite(values).all()
        assert len(values) == len(mesh.vertices)
    assert np.linalg.norm(mesh.normals, axis=1) == pytest.approx(1, abs=1e-5)
    assert mesh.faces.min() == 0
    assert mesh.faces.max() < len(mesh.vertices)


@pytest.mark.parametrize("name", SOLIDS)
def test_a_solid_is_closed(name: str) -> None:
    assert open_edges(SOLIDS[name]) == 0


@pytest.mark.parametrize("name", ["box", "ellipsoid"])
def test_the_normals_of_a_convex_solid_point_away_from_its_centre(name: str) -> None:
    mesh = SOLIDS[name]
    assert (mesh.vertices * mesh.normals).sum(1).min() > 0


@pytest.mark.parametrize("name", [*SOLIDS, "tube"])
def test_vertex_normals_agree_with_the_faces(name: str) -> None:
    """And both point outward: the volume of the solids, below, is positive."""
    mesh = {**SOLIDS, "tube": TUBE}[name]
    triangles = mesh.vertices[mesh.faces].astype(np.float64)
    face_normals = _cross(triangles)
    real = np.linalg.norm(face_normals, axis=1) > 1e-12
    face_normals = face_normals[real] / np.linalg.norm(face_normals[real], axis=1, keepdims=True)
    agreement = np.einsum("fk,fvk->fv", face_normals, mesh.normals[mesh.faces[real]])
    assert agreement.min() > 0.5


@pytest.mark.parametrize(("squareness", "flatness"), [(2.0, 1.0), (2.0, 0.5), (3.0, 1.0), (4.5, 1.0), (4.5, 0.5)])
@pytest.mark.parametrize("profile", [[[0.03, 0.0], [0.03, 0.1]], [[0.05, 0.0], [0.03, 0.05]]])
def test_what_is_turned_is_shaded_as_it_is_shaped(
    profile: list[list[float]], squareness: float, flatness: float
) -> None:
    mesh = shapes.revolve(np.array(profile), sectors=720, squareness=squareness, flatness=flatness)
    triangles = corners(mesh)
    face_normals = _cross(triangles) / np.linalg.norm(_cross(triangles), axis=1, keepdims=True)
    shading = mesh.normals[mesh.faces].mean(1)
    cosine = (face_normals * shading).sum(1) / np.linalg.norm(shading, axis=1)
    assert np.degrees(np.arccos(cosine.min())) < 2


def test_no_face_of_a_box_carries_a_mirrored_print() -> None:
    box = SOLIDS["box"]
    a, b, c = box.vertices[box.faces].astype(np.float64).transpose(1, 0, 2)
    first, second, third = box.uv[box.faces].astype(np.float64).transpose(1, 0, 2)
    print_area = np.linalg.det(np.stack([second - first, third - first], 1))
    seen_area = (np.cross(b - a, c - a) * box.normals[box.faces[:, 0]]).sum(1)
    assert (print_area * seen_area > 0).all()


@pytest.mark.parametrize(
    ("name", "expected", "tolerance"),
    [
        ("cylinder", np.pi * 0.03**2 * 0.1, 0.02),
        ("cone", np.pi * 0.05**2 * 0.1 / 3, 0.02),
        ("ellipsoid", 4 / 3 * np.pi * 0.05 * 0.1 * 0.02, 0.1),
    ],
)
def test_a_solid_has_its_volume(name: str, expected: float, tolerance: float) -> None:
    assert volume(SOLIDS[name]) == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cylinder", (0.06, 0.06, 0.1)),
        ("square cylinder", (0.06, 0.036, 0.1)),
        ("box", (0.1, 0.2, 0.3)),
        ("ellipsoid", (0.1, 0.2, 0.04)),
    ],
)
def test_a_solid_has_its_extent(name: str, expected: tuple[float, float, float]) -> None:
    vertices = SOLIDS[name].vertices
    assert np.ptp(vertices, axis=0) == pytest.approx(expected, abs=1e-6)


def test_a_tube_keeps_its_radii() -> None:
    assert np.abs(TUBE.vertices[:, 1]).max() == pytest.approx(0.008, rel=0.05)
    distance = np.hypot(TUBE.vertices[:, 0], TUBE.vertices[:, 2])
    assert (distance.min(), distance.max()) == pytest.approx((0.046, 0.054), abs=2e-4)


def test_a_crease_has_two_normals_and_a_gentle_bend_one() -> None:
    cylinder = SOLIDS["cylinder"]
    rim = np.isclose(cylinder.vertices[:, 2], 0.1) & np.isclose(cylinder.vertices[:, 0], 0.03)
    assert {tuple(np.rint(normal).astype(int).tolist()) for normal in cylinder.normals[rim]} == {(1, 0, 0), (0, 0, 1)}
    barrel = shapes.revolve(np.array([[0.03, 0.0], [0.035, 0.05], [0.03, 0.1]]))
    middle = np.isclose(barrel.vertices[:, 2], 0.05)
    assert np.abs(barrel.normals[middle][:, 2]).max() < 1e-6


def test_a_smooth_profile_goes_through_its_points() -> None:
    points = np.array([[0.03, 0.0], [0.04, 0.02], [0.02, 0.05], [0.0, 0.06]])
    curve = shapes.smooth_profile(points, 4)
    assert curve[::4] == pytest.approx(points)
    assert len(curve) == 13
    assert (curve[:, 0] >= 0).all()


def test_texture_coordinates_run_upwards() -> None:
    """Labels are drawn with row 0 at the bottom."""
    wall = shapes.revolve(np.array([[0.03, 0.0], [0.03, 0.1]]))
    low, high = (wall.uv[np.isclose(wall.vertices[:, 2], z), 1] for z in (0.0, 0.1))
    assert low.max() < high.min()


def test_stacked_outlines_are_closed_and_have_their_volume() -> None:
    outline = shapes.rounded_rectangle(0.1, 0.06, 0.0)
    slab = shapes.stack([outline, outline], [0.0, 0.02])
    assert open_edges(slab) == 0
    assert volume(slab) == pytest.approx(0.1 * 0.06 * 0.02, rel=1e-4)
    rounded = shapes.stack([0.9 * outline, outline, outline], [0.0, 0.002, 0.02])
    assert open_edges(rounded) == 0
    assert 0.9 * 0.1 * 0.06 * 0.02 < volume(rounded) < 0.1 * 0.06 * 0.02


def test_a_rounded_rectangle_keeps_its_extent_and_turns_left() -> None:
    outline = shapes.rounded_rectangle(0.2, 0.1, 0.03, per_corner=4, per_side=3)
    assert np.ptp(outline, axis=0) == pytest.approx([0.2, 0.1])
    x, y = outline.T
    area = 0.5 * float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))
    assert area == pytest.approx(0.02 - (4 - np.pi) * 0.03**2, rel=0.01)
    assert len(outline) == 4 * (5 + 2)


def test_a_panel_faces_up_and_carries_the_whole_texture() -> None:
    panel = shapes.panel(0.2, 0.1)
    assert (panel.normals == [0, 0, 1]).all()
    assert np.ptp(panel.vertices, axis=0) == pytest.approx([0.2, 0.1, 0])
    right, top = panel.vertices[:, 0] > 0, panel.vertices[:, 1] > 0
    assert (panel.uv[:, 0] == right).all()
    assert (panel.uv[:, 1] == top).all()
    assert np.cross(*np.diff(panel.vertices[panel.faces[0]], axis=0))[2] > 0


def test_shading_is_smooth_over_a_bend_and_not_over_a_corner() -> None:
    def strip(angle: float) -> Mesh:
        ridge = np.array([[-1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [np.cos(angle), 0.0, -np.sin(angle)]])
        return shapes.grid(np.stack([ridge, ridge + np.array([0, 1, 0])]))

    def normals_at_the_ridge(mesh: Mesh) -> int:
        there = np.linalg.norm(mesh.vertices, axis=1) < 1e-6
        return len({tuple(np.round(normal, 3).tolist()) for normal in mesh.normals[there]})

    assert normals_at_the_ridge(strip(0.3)) == 1
    assert normals_at_the_ridge(strip(1.2)) == 2
    assert (strip(0.3).normals[:, 2] > 0).all()


def test_triangles_without_area_are_left_out() -> None:
    fan = np.array([[[0.0, 0, 0], [0, 0, 0]], [[1, 0, 0], [1, 1, 0]]])[:, ::-1]
    mesh = shapes.grid(fan)
    assert len(mesh.faces) == 1
    assert np.isfinite(mesh.normals).all()


def test_merged_meshes_keep_their_triangles() -> None:
    first, second = SOLIDS["box"], shapes.moved(SOLIDS["ellipsoid"], x=1.0)
    both = shapes.merge([first, second])
    assert volume(both) == pytest.approx(volume(first) + volume(second))
    assert len(both.faces) == len(first.faces) + len(second.faces)
    assert both.faces.max() == len(both.vertices) - 1


def test_about_turns_counter_clockwise() -> None:
    for axis in range(3):
        turn = shapes.about(axis, np.pi / 2)
        assert np.linalg.det(turn) == pytest.approx(1)
        assert turn @ np.eye(3)[(axis + 1) % 3] == pytest.approx(np.eye(3)[(axis + 2) % 3])
