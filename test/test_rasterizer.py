"""The rasterizer against a slow reference, exact polygons and finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_rasterizer import distance_to_polygon, paper_membership, trace
from torch import Tensor

from category_pose_ros.data.procedural import shapes
from category_pose_ros.data.procedural.views import look_at
from category_pose_ros.geometry import SE3, Camera, so3
from category_pose_ros.geometry.box import enter_box
from category_pose_ros.geometry.mesh import box_corners
from category_pose_ros.rendering import membership
from category_pose_ros.rendering.outline import nearest_outline, pixel_centres, signed_distance
from category_pose_ros.rendering.rasterizer import NEAR_M, Raster, homogeneous_pixels, rasterize
from category_pose_ros.rendering.surface import Surface, simplified

CAMERA = Camera(fx=60.0, fy=55.0, cx=23.0, cy=16.5, width=48, height=36)
SIZE = (0.3, 0.2, 0.25)


def box(size: tuple[float, float, float] = SIZE) -> Surface:
    mesh = shapes.box(size)
    return Surface.from_triangles(mesh.vertices, mesh.faces)


def ring() -> Surface:
    """A torus, which has a hole and hides a part of itself."""
    angle = np.linspace(0, 2 * np.pi, 25)
    path = np.stack([0.15 * np.cos(angle), 0.15 * np.sin(angle), 0 * angle], 1)
    mesh = shapes.sweep(path, (0.05, 0.05), 8)
    return Surface.from_triangles(mesh.vertices, mesh.faces)


def poses(*vectors: list[float]) -> SE3:
    """Each three of translation, three of rotation vector."""
    values = torch.tensor(vectors, dtype=torch.float64)
    return SE3(so3.exp(values[:, 3:]), values[:, :3])


def distances(surface: Surface, pose: SE3, camera: Camera = CAMERA) -> Tensor:
    surface = surface.to(torch.float64)
    homogeneous = homogeneous_pixels(pose @ surface.vertices, camera)
    covered = rasterize(surface, pose, camera).covered
    return signed_distance(homogeneous, nearest_outline(homogeneous, surface, covered, NEAR_M))


POSE = poses([0.03, -0.02, 0.8, 0.4, 0.7, -0.2])
COORDINATES = st.floats(-1, 1, width=32)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(COORDINATES, COORDINATES, COORDINATES), min_size=6, max_size=9))
def test_every_pixel_sees_what_the_slow_reference_sees(vertices: list[tuple[float, float, float]]) -> None:
    """Triangles anywhere around the camera, behind it and through its plane included."""
    camera = Camera(fx=9.3, fy=8.7, cx=6.1, cy=4.2, width=12, height=9)
    points = np.array(vertices, dtype=np.float64)
    faces = np.array([[0, 1, 2], [3, 4, 5], [0, 3, 5], [1, 4, 2]])
    surface = Surface(torch.from_numpy(points), torch.from_numpy(faces), *box().edges.new_zeros(2, 0, 2))
    raster = rasterize(surface, poses([0.0] * 6), camera)
    depth, face = trace(points, faces, camera, NEAR_M)
    # A pixel may lie on an edge, where rounding decides; no more than a few do.
    differs = np.abs(raster.depth[0].numpy() - depth) > 1e-5 * (1 + depth)
    assert ((raster.face[0].numpy() >= 0) == (face >= 0)).mean() > 0.95
    assert differs.mean() < 0.05


@pytest.mark.parametrize(
    "vector", [[0.03, -0.02, 0.8, 0.4, 0.7, -0.2], [0, 0, 0.45, 0, 0, 0], [0.3, 0.1, 0.7, 2, 1, 3]]
)
def test_depth_and_coordinates_of_a_box_are_the_analytic_ones(vector: list[float]) -> None:
    pose, surface = poses(vector), box().to(torch.float64)
    raster = rasterize(surface, pose, CAMERA)
    size = torch.tensor(SIZE, dtype=torch.float64)
    rays = CAMERA.rays(pixel_centres(48, 36, size))
    points, hit = enter_box(pose[0], size, rays.flatten(0, 1))
    hit = hit.view(36, 48)
    assert torch.equal(raster.covered[0], hit)
    seen = raster.interpolate(surface.vertices)[0]
    torch.testing.assert_close(seen[hit], points.view(36, 48, 3)[hit] * size, atol=1e-6, rtol=0)
    assert (seen[~hit] == 0).all()
    assert (raster.depth[0][~hit] == 0).all()
    torch.testing.assert_close(raster.depth[0][hit], (pose[0] @ seen[hit])[:, 2], atol=1e-6, rtol=0)


@pytest.mark.parametrize("seed", range(12))
def test_distance_to_a_box_is_that_to_its_convex_hull(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pose = poses([0.0, 0.02, rng.uniform(0.7, 3.0), *rng.uniform(-2, 2, 3)])
    corners = pose[0] @ torch.from_numpy(box_corners(SIZE))
    polygon = cv2.convexHull(CAMERA.project(corners).numpy().astype(np.float32))[:, 0]
    expected = distance_to_polygon(polygon, 48, 36)
    found = distances(box(), pose)[0].numpy()
    error = np.abs(found - expected)
    assert error[np.abs(expected) < 6].max() < 0.02
    # Farther away a neighbour of the nearest edge may be taken for it.
    assert (error < 0.02 + 0.03 * np.abs(expected)).all()


def test_an_outline_goes_round_holes_but_not_round_what_is_in_front_of_the_mesh_itself() -> None:
    camera = CAMERA.resized(192, 144)
    pose = poses([0.02, -0.01, 0.5, 0.9, 0.3, 0.2])
    found = distances(ring(), pose, camera)[0].numpy()
    covered = rasterize(ring().to(torch.float64), pose, camera).covered[0].numpy()
    outside = cv2.distanceTransform((~covered).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    inside = cv2.distanceTransform(covered.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # The transform measures to the nearest pixel's centre, between nothing and a pixel's diagonal beyond the outline.
    assert np.abs(found - np.where(covered, 0.5 - inside, outside - 0.5)).max() < 1.0
    assert cv2.connectedComponents((~covered).astype(np.uint8))[0] == 3  # nothing, outside, hole


def test_occupancy_is_one_half_on_the_outline_and_reaches_both_sides() -> None:
    raster = rasterize(box(), POSE.to(torch.float32), CAMERA, softness_px=0.5)
    assert ((raster.occupancy > 0.5) == raster.covered).all()
    assert raster.occupancy.max() > 0.999
    assert raster.occupancy.min() < 0.001


Reading = Callable[[Raster, Surface], Tensor]
READINGS: dict[str, Reading] = {
    "occupancy": lambda raster, surface: raster.occupancy,
    "depth": lambda raster, surface: raster.depth,
    "coordinates": lambda raster, surface: raster.interpolate(surface.vertices.detach()),
}


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("surface", [box(), ring()], ids=["box", "ring"])
def test_gradients_by_the_pose_are_finite_differences(reading: str, surface: Surface) -> None:
    surface = surface.to(torch.float64)
    torch.manual_seed(0)
    start = rasterize(surface, POSE, CAMERA)
    weights = torch.randn(READINGS[reading](start, surface).shape, dtype=torch.float64)

    def value(step: Tensor) -> tuple[Tensor, Tensor]:
        moved = SE3(so3.exp(step[3:]) @ POSE.rotation, POSE.translation + step[:3])
        raster = rasterize(surface, moved, CAMERA, softness_px=1.5)
        return READINGS[reading](raster, surface), raster.face

    at = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    here, face = value(at)
    for axis in range(6):
        step = torch.zeros(6, dtype=torch.float64)
        step[axis] = 1e-6
        (above, face_above), (below, face_below) = value(step), value(-step)
        # Where a pixel changes its triangle, depth jumps and no derivative is right.
        same = ((face_above == face) & (face_below == face)).view(*face.shape, *[1] * (here.ndim - 3))
        (gradient,) = torch.autograd.grad((here * weights * same).sum(), at, retain_graph=True)
        difference = ((above - below) / 2e-6 * weights * same).sum()
        torch.testing.assert_close(gradient[axis], difference, rtol=2e-4, atol=1e-5 * float(here.detach().abs().sum()))


def test_gradients_by_the_size_are_finite_differences() -> None:
    unit = box((1.0, 1.0, 1.0)).to(torch.float64)
    size = torch.tensor([SIZE], dtype=torch.float64, requires_grad=True)
    weights = torch.randn(1, 36, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def value(size_m: Tensor) -> Tensor:
        return (rasterize(unit.scaled(size_m), POSE, CAMERA).occupancy * weights).sum()

    assert torch.autograd.gradcheck(value, (size,), eps=1e-6, atol=1e-4)


def test_a_step_along_the_gradient_brings_a_silhouette_that_misses_its_target_onto_it() -> None:
    target = rasterize(box(), POSE.to(torch.float32), CAMERA).covered.float()
    away = POSE.to(torch.float32)
    shift = torch.tensor([[0.12, 0.05, 0.0]], requires_grad=True)

    def loss() -> Tensor:
        raster = rasterize(box(), SE3(away.rotation, away.translation + shift), CAMERA, softness_px=2.0)
        return (raster.occupancy - target).square().mean()

    optimiser = torch.optim.Adam([shift], lr=0.02)
    for _ in range(40):
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
    # Distance shows in the size alone, and a soft edge blurs that.
    assert shift.detach()[0, :2].norm() < 0.02


@pytest.mark.parametrize(
    "vector",
    [
        [0.0, 0.0, 0.05, 0.3, 0.2, 0.1],  # the camera is inside
        [0.1, 0.0, 0.02, 0.5, 0.9, 0.1],  # partly behind it
        [0.0, 0.0, -0.8, 0.0, 0.4, 0.0],  # wholly behind it
        [3.0, 0.0, 0.8, 0.0, 0.4, 0.0],  # outside the image
        [0.0, 0.0, 500.0, 0.0, 0.4, 0.0],  # smaller than a pixel
        [0.0, 0.0, 0.8, 0.0, 0.0, 0.0],  # its sides seen edge on
    ],
)
@pytest.mark.parametrize("membership_name", ["distance", "paper"])
def test_no_pose_gives_values_or_gradients_that_are_not_finite(vector: list[float], membership_name: str) -> None:
    step = torch.zeros(1, 3, requires_grad=True)
    pose = poses(vector).to(torch.float32)
    raster = rasterize(box(), SE3(pose.rotation, pose.translation + step), CAMERA, membership_name)
    (raster.occupancy.sum() + raster.depth.sum() + raster.weights.square().sum()).backward()
    assert raster.occupancy.isfinite().all()
    assert raster.depth.isfinite().all()
    assert step.grad is not None
    assert step.grad.isfinite().all()


@settings(max_examples=30, deadline=None)
@given(st.floats(-8, -1), st.integers(0, 2))
def test_slivers_give_finite_gradients(exponent: float, collapsed: int) -> None:
    """A tetrahedron pressed flat, down to nothing."""
    points = np.array([[0, 0, 0], [0.3, 0, 0], [0, 0.3, 0], [0, 0, 0.3]])
    points[:, collapsed] *= 10**exponent
    surface = Surface.from_triangles(points, [[0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3]])
    vertices = surface.vertices.clone().requires_grad_()
    moving = Surface(vertices, surface.faces, surface.edges, surface.opposite)
    for name in ("distance", "paper"):
        raster = rasterize(moving, SE3.exp(torch.tensor([[-0.1, -0.1, 0.6, 0, 0, 0]])), CAMERA, name)
        (gradient,) = torch.autograd.grad(raster.occupancy.sum() + raster.depth.sum(), vertices)
        assert gradient.isfinite().all()


def test_the_winding_of_triangles_does_not_matter() -> None:
    surface, pose = box(), POSE.to(torch.float32)
    turned = Surface(surface.vertices, surface.faces.flip(-1), surface.edges, surface.opposite)
    torch.testing.assert_close(rasterize(turned, pose, CAMERA).depth, rasterize(surface, pose, CAMERA).depth)


def test_a_batch_is_its_elements_one_by_one() -> None:
    surface = ring()
    batch = poses([0, 0, 0.6, 0.1, 0, 0], [0.1, 0, 0.9, 0, 1, 0], [5, 0, 0.9, 0, 1, 0], [0, 0, 2.0, 1, 1, 1])
    batch = batch.to(torch.float32)
    together = rasterize(surface, batch, CAMERA)
    for index in range(4):
        alone = rasterize(surface, batch[index : index + 1], CAMERA)
        torch.testing.assert_close(together.occupancy[index], alone.occupancy[0])
        torch.testing.assert_close(together.depth[index], alone.depth[0])
        torch.testing.assert_close(together.face[index], alone.face[0])


def test_triangles_in_many_parts_are_those_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    pose = POSE.to(torch.float32)
    whole = rasterize(ring(), pose, CAMERA)
    monkeypatch.setattr("category_pose_ros.rendering.visibility._FRAGMENTS", 100)
    assert torch.equal(rasterize(ring(), pose, CAMERA).face, whole.face)


def test_the_papers_membership_is_its_formula_in_one_part_or_many(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = Camera(fx=20.0, fy=20.0, cx=8.0, cy=6.0, width=16, height=12)
    surface = box().to(torch.float64)
    points = (POSE @ surface.vertices)[0]
    expected = paper_membership(camera.project(points)[surface.faces].numpy(), 16, 12)
    gradients = []
    for elements in (1 << 24, 16 * 12 * 5):
        monkeypatch.setattr(membership, "_ELEMENTS", elements)
        shift = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
        moved = SE3(POSE.rotation, POSE.translation + shift)
        found = rasterize(surface, moved, camera, "paper").occupancy
        np.testing.assert_allclose(found[0].detach().numpy(), expected, atol=1e-9)
        gradients.append(torch.autograd.grad((found * torch.arange(16)).sum(), shift)[0])
    torch.testing.assert_close(*gradients)


def test_the_papers_membership_keeps_the_widest_triangles() -> None:
    points = torch.tensor([[0, 0, 1.0], [8, 0, 1], [0, 8, 1], [9, 9, 1], [12, 9, 1], [9, 12, 1]])
    corners = points.view(1, 2, 3, 3)
    both = membership.paper_membership(corners, 14, 14)
    widest = membership.paper_membership(corners, 14, 14, triangles=1)
    assert both[0, 9:, 9:].max() > 0
    assert widest[0, 9:, 9:].max() == 0
    assert torch.equal(widest[0, :8, :8], both[0, :8, :8])


def test_rays_run_inside_a_box_where_they_meet_it_and_feel_it_where_they_do_not() -> None:
    size = torch.tensor(SIZE, dtype=torch.float64)
    rays = CAMERA.rays(pixel_centres(48, 36, size)).flatten(0, 1)
    found = membership.box_membership(POSE, size, rays, 0.02)[0]
    _, hit = enter_box(POSE[0], size, rays)
    assert torch.equal(found > 0.5, hit)
    shift = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    outside = rays[~hit][::37]

    def value(step: Tensor) -> Tensor:
        return membership.box_membership(SE3(POSE.rotation, POSE.translation + step), size, outside, 0.5)

    assert torch.autograd.gradcheck(value, (shift,))
    (gradient,) = torch.autograd.grad(value(shift).sum(), shift)
    assert gradient.abs().max() > 1e-3


def test_wrong_arguments_are_refused_by_name() -> None:
    pose = POSE.to(torch.float32)
    with pytest.raises(ValueError, match="faces: expected at least one triangle"):
        Surface.from_triangles(np.zeros((3, 3)), np.zeros((0, 3), int))
    with pytest.raises(ValueError, match="faces: expected a triangle with three different corners"):
        Surface.from_triangles(np.zeros((3, 3)), [[0, 1, 2]])
    with pytest.raises(ValueError, match="faces: expected indices below 3"):
        Surface.from_triangles(np.eye(3), [[0, 1, 3]])
    with pytest.raises(ValueError, match="vertices: expected finite"):
        Surface.from_triangles(np.full((3, 3), math.nan), [[0, 1, 2]])
    with pytest.raises(ValueError, match="membership: expected one of distance, paper, got 'soft'"):
        rasterize(box(), pose, CAMERA, "soft")
    with pytest.raises(ValueError, match="softness_px: expected a positive"):
        rasterize(box(), pose, CAMERA, softness_px=0.0)
    distorted = Camera(60, 60, 23, 16, 48, 36, "plumb_bob", (0.1, 0, 0, 0))
    with pytest.raises(ValueError, match="camera: expected no distortion"):
        rasterize(box(), pose, distorted)


def test_a_surface_joins_vertices_and_knows_the_triangles_at_its_edges() -> None:
    surface = box()  # made with four vertices per side
    assert len(surface.vertices) == 8
    assert len(surface.edges) == 18  # twelve and six diagonals
    assert (surface.opposite[:, 0] != surface.opposite[:, 1]).all()
    open_sheet = Surface.from_triangles([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], [[0, 1, 2], [1, 3, 2]])
    assert int((open_sheet.opposite[:, 0] == open_sheet.opposite[:, 1]).sum()) == 4


def test_a_simplified_mesh_keeps_its_silhouette() -> None:
    mesh = shapes.ellipsoid((0.2, 0.1, 0.15), 40)
    surface = Surface.from_triangles(mesh.vertices, mesh.faces)
    coarse = Surface.from_triangles(*simplified(mesh.vertices, mesh.faces, 12))
    assert len(coarse.faces) < 0.6 * len(surface.faces)
    pose = look_at(np.array([0.4, 0.3, 0.3]), np.zeros(3))
    pose = SE3(pose.rotation[None], pose.translation[None])
    full, less = (rasterize(item, pose, CAMERA).covered for item in (surface, coarse))
    assert (full & less).sum() / (full | less).sum() > 0.93


def test_pytorch3d_sees_the_same() -> None:
    pytest.importorskip("pytorch3d", reason="pytorch3d is not installed; it is an optional yardstick")
    from pytorch3d.renderer import MeshRasterizer, PerspectiveCameras, RasterizationSettings
    from pytorch3d.structures import Meshes

    surface, pose = ring(), POSE.to(torch.float32)
    ours = rasterize(surface, pose, CAMERA)
    points = (pose @ surface.vertices)[0] * torch.tensor([-1.0, -1.0, 1.0])  # its x points left, its y up
    cameras = PerspectiveCameras(
        focal_length=((CAMERA.fx, CAMERA.fy),),
        principal_point=((CAMERA.cx + 0.5, CAMERA.cy + 0.5),),
        image_size=((CAMERA.height, CAMERA.width),),
        in_ndc=False,
    )
    settings_ = RasterizationSettings(image_size=(CAMERA.height, CAMERA.width), faces_per_pixel=1)
    theirs = MeshRasterizer(cameras, settings_)(Meshes([points], [surface.faces])).zbuf[..., 0]
    seen = ours.covered & (theirs > 0)
    assert (ours.covered == (theirs > 0)).float().mean() > 0.99
    torch.testing.assert_close(ours.depth[seen], theirs[seen], atol=1e-4, rtol=1e-3)
