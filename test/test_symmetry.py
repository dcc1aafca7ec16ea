"""Symmetries: one representative of all poses that look the same, and distances up to symmetry."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import rotation_vectors, transforms
from torch import Tensor
from torch.testing import assert_close

from category_pose_ros.geometry import SE3, Symmetry, so3
from category_pose_ros.geometry.symmetry import canonical, rotation_distance

TIGHT = {"atol": 1e-9, "rtol": 1e-9}
YAWS = st.floats(-math.pi, math.pi)


def turned(yaw: float) -> Tensor:
    return so3.exp(torch.tensor([0.0, 0.0, yaw], dtype=torch.float64))


def has_a_yaw(camera_from_object: SE3) -> bool:
    """Whether the object is seen from elsewhere than along its own axis."""
    translation, z_axis = camera_from_object.translation, camera_from_object.rotation[:, 2]
    return bool(torch.linalg.cross(translation, z_axis).norm() > 1e-3 * translation.norm() + 1e-6)


@given(transforms())
def test_without_symmetry_a_pose_represents_itself(camera_from_object: SE3) -> None:
    assert canonical(camera_from_object, Symmetry.NONE) is camera_from_object


@given(transforms())
def test_canonical_keeps_what_can_be_seen(camera_from_object: SE3) -> None:
    answer = canonical(camera_from_object, Symmetry.AXIS_Z)
    assert_close(answer.translation, camera_from_object.translation)
    assert_close(answer.rotation[:, 2], camera_from_object.rotation[:, 2])
    assert_close(answer.rotation.T @ answer.rotation, torch.eye(3, dtype=torch.float64), **TIGHT)
    assert torch.linalg.det(answer.rotation) > 0


@given(transforms())
def test_canonical_is_idempotent(camera_from_object: SE3) -> None:
    once = canonical(camera_from_object, Symmetry.AXIS_Z)
    assert_close(canonical(once, Symmetry.AXIS_Z).matrix(), once.matrix(), **TIGHT)


@given(transforms(), YAWS)
def test_canonical_is_the_same_for_every_yaw(camera_from_object: SE3, yaw: float) -> None:
    assume(has_a_yaw(camera_from_object))
    other = SE3(camera_from_object.rotation @ turned(yaw), camera_from_object.translation)
    answers = [canonical(pose, Symmetry.AXIS_Z).matrix() for pose in (camera_from_object, other)]
    assert_close(*answers, **TIGHT)


@given(transforms())
def test_canonical_x_axis_points_to_the_camera(camera_from_object: SE3) -> None:
    assume(has_a_yaw(camera_from_object))
    camera_in_object = canonical(camera_from_object, Symmetry.AXIS_Z).inverse().translation
    assert camera_in_object[0] > 0
    assert_close(camera_in_object[1].item(), 0.0, **TIGHT)


def test_seen_along_its_axis_a_pose_keeps_its_yaw() -> None:
    camera_from_object = SE3(turned(0.7), torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
    assert_close(canonical(camera_from_object, Symmetry.AXIS_Z).rotation, turned(0.7))


@pytest.mark.parametrize("tilt", [0.0, 1e-7, 1e-6, 1e-5, 1e-4, 1e-2])
def test_float32_gives_a_rotation_almost_along_the_axis(tilt: float) -> None:
    camera_from_object = SE3(so3.exp(torch.tensor([0.3, tilt, 0.2])), torch.tensor([0.1, -0.2, 0.5]))
    along = SE3(camera_from_object.rotation, camera_from_object.rotation[:, 2] + torch.tensor([tilt, 0.0, 0.0]))
    for pose in (camera_from_object, along):
        rotation = canonical(pose, Symmetry.AXIS_Z).rotation
        assert_close(rotation.T @ rotation, torch.eye(3), atol=1e-6, rtol=0)


def test_canonical_takes_batches() -> None:
    poses = SE3.exp(torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    answers = canonical(poses, Symmetry.AXIS_Z)
    assert answers.batch_shape == (2, 5)
    assert_close(answers[1][3].matrix(), canonical(poses[1][3], Symmetry.AXIS_Z).matrix())


@given(rotation_vectors(), rotation_vectors())
def test_without_symmetry_distance_is_the_angle(first: Tensor, second: Tensor) -> None:
    rotations = so3.exp(first), so3.exp(second)
    assert_close(rotation_distance(*rotations, Symmetry.NONE), so3.angle_between(*rotations))


@given(rotation_vectors(), rotation_vectors(), YAWS, YAWS)
def test_distance_ignores_rotation_about_the_axis(first: Tensor, second: Tensor, yaw: float, other: float) -> None:
    distance = rotation_distance(so3.exp(first), so3.exp(second), Symmetry.AXIS_Z)
    moved = rotation_distance(so3.exp(first) @ turned(yaw), so3.exp(second) @ turned(other), Symmetry.AXIS_Z)
    assert_close(moved, distance, **TIGHT)


@given(rotation_vectors(), rotation_vectors())
def test_distance_is_the_smallest_over_all_yaws(first: Tensor, second: Tensor) -> None:
    yaws = torch.linspace(-math.pi, math.pi, 721, dtype=torch.float64)  # every half degree
    turns = so3.exp(torch.nn.functional.pad(yaws[:, None], (2, 0)))
    searched = so3.angle_between(so3.exp(first) @ turns, so3.exp(second)).min()
    distance = rotation_distance(so3.exp(first), so3.exp(second), Symmetry.AXIS_Z)
    assert distance - 1e-9 <= searched <= distance + math.radians(0.5)


def test_upside_down_is_half_a_turn_away() -> None:
    upside_down = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    for symmetry in Symmetry:
        assert rotation_distance(torch.eye(3), upside_down, symmetry).item() == pytest.approx(math.pi)
