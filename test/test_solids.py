"""Solids in boxes: distances against brute force, derivatives against differences, rays against distances."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import rotation_vectors
from torch import Tensor
from torch.testing import assert_close

from category_pose_ros.geometry import SE3, so3
from category_pose_ros.geometry.solids import Solid, Solids, depth_along, is_beside_body, signed_distance, solid_of

SIZE = torch.tensor([0.12, 0.08, 0.1], dtype=torch.float64)
KINDS = list(Solid)


def kinds(*solids: Solid) -> Solids:
    return Solids.of(solids, torch.float64)


def distance(solid: Solid, points: object, viewpoint: tuple[float, ...], size: Tensor = SIZE) -> list[float]:
    stacked = torch.tensor(points, dtype=torch.float64)[None]
    eye = torch.tensor([viewpoint], dtype=torch.float64)
    return signed_distance(kinds(solid), size[None], stacked, eye)[0][0].tolist()


def test_solid_of_category() -> None:
    expected = {
        "mug": Solid.VESSEL,
        "bottle": Solid.CYLINDER,
        "can": Solid.CYLINDER,
        "bowl": Solid.BOWL,
        "laptop": Solid.HINGE,
        "car": Solid.CAR,
        "camera": Solid.CAMERA,
        "chair": Solid.BOX,
    }
    assert {name: solid_of(name) for name in expected} == expected


def test_distances_to_a_box() -> None:
    points = [[0, 0, 0.04], [0, 0, 0.06], [0.07, 0, 0], [0, 0.05, 0], [0.05, 0.03, 0.01]]
    assert distance(Solid.BOX, points, (1, 1, 1)) == pytest.approx([-0.01, 0.01, 0.01, 0.01, -0.01])


def test_faces_that_are_turned_away_attract_nothing() -> None:
    """Only the face at +x is seen. To it, a point a little behind the box is inside; one well behind is nothing."""
    points = [[0.07, 0, 0], [-0.07, 0, 0], [0, 0, 0.06]]
    assert distance(Solid.BOX, points, (1, 0, 0)) == pytest.approx([0.01, -0.13, -0.06])
    assert distance(Solid.BOX, [[-0.1, 0, 0], [0.05, 0, 0.1]], (1, 0, 0)) == [1000, 1000]
    assert distance(Solid.CYLINDER, points, (1, 0, 0)) == pytest.approx([math.sqrt(0.06 * 0.04) / 6, -1000, -1000])


def test_distances_to_a_cylinder() -> None:
    size = torch.tensor([0.08, 0.08, 0.2], dtype=torch.float64)
    points = [[0.05, 0, 0], [0.03 / math.sqrt(2), 0.03 / math.sqrt(2), 0], [0, 0, 0.11], [0, 0.04, 0.05]]
    assert distance(Solid.CYLINDER, points, (1, 1, 1), size) == pytest.approx([0.01, -0.01, 0.01, 0.0])


def test_the_elliptic_side_passes_through_the_middles_of_the_faces() -> None:
    points = [[0.06, 0, 0], [0, 0.04, 0], [0.06 * math.cos(1), 0.04 * math.sin(1), 0]]
    assert distance(Solid.CYLINDER, points, (1, 1, 0)) == pytest.approx([0, 0, 0], abs=1e-12)


def test_a_bowl_is_half_an_ellipsoid_that_is_open() -> None:
    size = torch.tensor([0.16, 0.16, 0.08], dtype=torch.float64)
    shell = [[0, 0, -0.04], [0.08, 0, 0.04], [0.08 * math.sin(1), 0, 0.04 - 0.08 * math.cos(1)]]
    for eye in ((0, 0, 1), (1, 0, -1)):
        assert distance(Solid.BOWL, shell, eye, size) == pytest.approx([0, 0, 0], abs=1e-12)
    assert distance(Solid.BOWL, [[0, 0, -0.03], [0, 0, 0.05]], (0, 0, 1), size) == pytest.approx([-0.01, 0.01])


def test_a_hinge_is_two_plates_that_are_seen_from_both_sides() -> None:
    points = [[0.02, 0, -0.05], [-0.06, 0, 0.02], [-0.05, 0, 0.02], [0.02, 0, -0.03]]
    for eye in ((1, 0, 1), (-1, 0, -1)):
        assert distance(Solid.HINGE, points, eye) == pytest.approx([0, 0, -0.01, -0.02])
    assert distance(Solid.HINGE, [[0.07, 0, 0]], (1, 0, 1)) == pytest.approx([0.01])


def test_a_vessel_is_round_at_the_far_side_of_the_handle_and_open() -> None:
    """Its axis is at x = -0.02, its radius 0.04; the bottom at z = -0.05 is closed, the top is not."""
    wall = [[-0.06, 0, 0], [0.02, 0, 0], [-0.02, 0.04, 0], [-0.02, 0, -0.05]]
    assert distance(Solid.VESSEL, wall, (0, 0, 1)) == pytest.approx([0, 0, 0, 0], abs=1e-12)
    inside = [[-0.02, 0, 0.049], [-0.02, 0, -0.04]]  # far from the wall just below the rim; near the bottom
    assert distance(Solid.VESSEL, inside, (0, 0, 1)) == pytest.approx([-0.04, -0.01])
    assert distance(Solid.VESSEL, [[-0.02, 0, 0.06]], (0, 0, 1)) == pytest.approx([0.01])
    assert max(distance(Solid.VESSEL, wall[:1], (1, 0, 0))) < -1  # the far wall, from beside


def test_a_car_is_a_cabin_on_a_body() -> None:
    """4 m long, 2 m wide and 1 m high; the hood is at z = 0.12, the cabin from x = -1.6 to 0.56 and y = +-0.88."""
    size = torch.tensor([4.0, 2.0, 1.0], dtype=torch.float64)
    surface = [[1.5, 0, 0.12], [0.56, 0, 0.3], [0, 0.5, 0.5], [2, 0.3, -0.2], [0.5, 1, 0], [0, 0.88, 0.3]]
    assert distance(Solid.CAR, surface, (9, 9, 4), size) == pytest.approx([0] * 6, abs=1e-12)
    assert distance(Solid.CAR, [[1.5, 0, 0.3], [0, 0, 0.4]], (9, 9, 4), size) == pytest.approx([0.18, -0.1])


@pytest.mark.parametrize("solid", KINDS)
def test_derivatives_agree_with_finite_differences(solid: Solid) -> None:
    generator = torch.Generator().manual_seed(int(solid))
    points = (torch.rand(1, 400, 3, generator=generator, dtype=torch.float64) - 0.5) * 1.4 * SIZE
    log_size = SIZE.log()[None]
    which, eye = kinds(solid), torch.tensor([[0.5, 0.4, 0.6]], dtype=torch.float64)
    found, by_point, by_log_size = signed_distance(which, log_size.exp(), points, eye)
    small = 1e-7
    for axis in range(3):
        step = torch.zeros(3, dtype=torch.float64)
        step[axis] = small
        ahead, behind = (signed_distance(which, log_size.exp(), points + sign * step, eye)[0] for sign in (1, -1))
        resized = [signed_distance(which, (log_size + sign * step).exp(), points, eye)[0] for sign in (1, -1)]
        # Where the nearest face changes between the two there is no derivative, nor where there is no distance.
        near = found.abs() < 1
        smooth = (((ahead - found) - (found - behind)).abs() < 1e-10) & near
        smooth &= ((resized[0] - found) - (found - resized[1])).abs() < 1e-10
        assert near.float().mean() > 0.5
        assert smooth[near].float().mean() > 0.95
        assert_close(by_point[..., axis][smooth], ((ahead - behind) / (2 * small))[smooth], atol=1e-5, rtol=1e-5)
        numeric = (resized[0] - resized[1]) / (2 * small)
        assert_close(by_log_size[..., axis][smooth], numeric[smooth], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("solid", KINDS)
@given(turn=rotation_vectors(), size=st.tuples(*[st.floats(0.05, 0.3)] * 3))
@settings(max_examples=25, deadline=None)
def test_where_a_ray_meets_the_surface_the_distance_is_zero(
    solid: Solid, turn: Tensor, size: tuple[float, ...]
) -> None:
    pose = SE3(so3.exp(turn)[None], torch.tensor([[0.03, -0.02, 1.0]], dtype=torch.float64))
    extent = torch.tensor([size], dtype=torch.float64)
    steps = torch.linspace(-0.2, 0.2, 21, dtype=torch.float64)
    across, down = torch.meshgrid(steps, steps, indexing="ij")
    rays = torch.stack([across, down, torch.ones_like(across)], -1).reshape(1, -1, 3)
    depth = depth_along(kinds(solid), extent, pose, rays)
    met = depth.isfinite()
    object_from_camera = pose.inverse()
    points = object_from_camera @ (rays * depth.nan_to_num(1.0).unsqueeze(-1))
    found, _, _ = signed_distance(kinds(solid), extent, points, object_from_camera.translation)
    assert met.any()
    assert found[met].abs().max() < 1e-7


def test_a_camera_is_a_lens_on_a_body() -> None:
    """The front of the body is at x = 0.012, the end of the lens at 0.06 and its side at y = 0.0176."""
    surface = [[0.012, 0.03, 0], [0.06, 0, 0], [0.04, 0.0176, 0], [0, 0.04, 0], [0.04, 0, 0.022]]
    assert distance(Solid.CAMERA, surface, (1, 1, 1)) == pytest.approx([0] * 5, abs=1e-12)
    assert distance(Solid.CAMERA, [[0.03, 0.03, 0], [0.05, 0, 0]], (1, 0, 0)) == pytest.approx([0.018, -0.01])


def test_a_mug_has_its_handle_beside_its_body() -> None:
    """Seen from +y: the body ends at x = 0.02, the handle goes on to 0.06 and is 0.0096 wide."""
    points = [[0.04, 0.0048, 0.0], [0.04, 0.0148, 0.0], [0.07, 0.0, 0.0], [-0.02, 0.04, 0.0]]
    assert distance(Solid.VESSEL, points, (0, 1, 0)) == pytest.approx([0, 0.01, 1e3, 0], abs=1e-12)
    beside = is_beside_body(
        kinds(Solid.VESSEL, Solid.CYLINDER),
        torch.tensor([[0.11, 0.08, 0.1]]).expand(2, 3),
        torch.tensor([[0.04, 0.0, 0.0], [0.0, 0.0, 0.0], [0.04, 0.0, 0.06], [0.2, 0.0, 0.0]]).expand(2, 4, 3),
    )
    assert beside.tolist() == [[True, False, False, False], [False] * 4]


def test_rays_meet_the_front_of_a_cylinder_and_the_bottom_of_a_vessel() -> None:
    ahead = torch.tensor([[[0.0, 0.0, 1.0]]], dtype=torch.float64)
    size = torch.tensor([[0.08, 0.08, 0.2]], dtype=torch.float64)
    # z of the object up in the image, then towards the camera.
    upright = so3.exp(torch.tensor([[math.pi / 2, 0.0, 0.0]], dtype=torch.float64))
    from_above = so3.exp(torch.tensor([[math.pi, 0.0, 0.0]], dtype=torch.float64))
    at = torch.tensor([[0.0, 0.0, 0.5]], dtype=torch.float64)
    for solid, rotation, expected in (
        (Solid.CYLINDER, upright, 0.46),
        (Solid.VESSEL, upright, 0.46),
        (Solid.BOX, upright, 0.46),
        (Solid.CYLINDER, from_above, 0.4),
        (Solid.VESSEL, from_above, 0.6),
        (Solid.BOWL, from_above, 0.6),
        (Solid.HINGE, from_above, 0.6),
        (Solid.BOWL, upright, 0.5 - 0.04 * math.sqrt(0.75)),  # at half its height
    ):
        assert float(depth_along(kinds(solid), size, SE3(rotation, at), ahead)) == pytest.approx(expected)


def test_rays_that_miss_have_no_depth() -> None:
    pose = SE3(torch.eye(3)[None], torch.tensor([[0.0, 0.0, 0.5]]))
    aside, behind = torch.tensor([[[0.5, 0.0, 1.0]]]), SE3(pose.rotation, -pose.translation)
    for solid in KINDS:
        assert depth_along(kinds(solid), SIZE.float()[None], pose, aside).isnan().all()
        assert depth_along(kinds(solid), SIZE.float()[None], behind, aside * torch.tensor([0.0, 0, 1])).isnan().all()


def test_a_batch_may_mix_solids() -> None:
    points = (torch.rand(len(KINDS), 50, 3, dtype=torch.float64) - 0.5) * 1.4 * SIZE
    eye = torch.tensor([[0.5, 0.4, 0.6]], dtype=torch.float64)
    together = signed_distance(kinds(*KINDS), SIZE.expand(len(KINDS), 3), points, eye.expand(len(KINDS), 3))
    for k, solid in enumerate(KINDS):
        alone = signed_distance(kinds(solid), SIZE[None], points[k : k + 1], eye)
        for mixed, single in zip(together, alone, strict=True):
            assert_close(mixed[k], single[0])
