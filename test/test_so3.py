"""Rotations: group axioms, exp and log, gradients where formulas break."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from strategies import NEAR_PI, SMALL_ANGLES, directions, rotation_vectors
from torch import Tensor
from torch.testing import assert_close

from category_pose_ros.geometry import so3

TIGHT = {"atol": 1e-12, "rtol": 1e-12}
IDENTITY = torch.eye(3, dtype=torch.float64)
GRADIENT_ANGLES = [0.0, 1e-9, 9.9e-4, 1.01e-3, 0.3, 2.0, 3.1]


def rotation_vector(angle: float, dtype: torch.dtype = torch.float64) -> Tensor:
    axis = torch.tensor([0.48, -0.6, 0.64], dtype=torch.float64)
    return (axis * angle).to(dtype)


@given(rotation_vectors())
def test_exp_gives_a_rotation(phi: Tensor) -> None:
    rotation = so3.exp(phi)
    assert_close(rotation @ rotation.T, IDENTITY, **TIGHT)
    assert_close(torch.linalg.det(rotation), torch.ones((), dtype=torch.float64), **TIGHT)


@given(rotation_vectors())
def test_exp_is_the_matrix_exponential(phi: Tensor) -> None:
    assert_close(so3.exp(phi), torch.linalg.matrix_exp(so3.hat(phi)), **TIGHT)


@given(rotation_vectors())
def test_exp_of_the_opposite_is_the_inverse(phi: Tensor) -> None:
    assert_close(so3.exp(-phi), so3.exp(phi).T, **TIGHT)


@given(rotation_vectors(), st.floats(-1, 1), st.floats(-1, 1))
def test_rotations_about_one_axis_add(phi: Tensor, first: float, second: float) -> None:
    assert_close(so3.exp(first * phi) @ so3.exp(second * phi), so3.exp((first + second) * phi), **TIGHT)


@given(rotation_vectors(SMALL_ANGLES | st.floats(0, 3.1)))
def test_log_undoes_exp(phi: Tensor) -> None:
    assert_close(so3.log(so3.exp(phi)), phi, **TIGHT)


@given(rotation_vectors(NEAR_PI))
def test_exp_undoes_log_near_half_a_turn(phi: Tensor) -> None:
    rotation = so3.exp(phi)
    assert_close(so3.exp(so3.log(rotation)), rotation, **TIGHT)


@given(directions())
def test_log_of_half_a_turn_has_length_pi(axis: Tensor) -> None:
    half_turn = 2 * torch.outer(axis, axis) - IDENTITY
    phi = so3.log(half_turn)
    assert_close(phi.norm().item(), math.pi, **TIGHT)
    assert_close((phi @ axis).abs().item(), math.pi, **TIGHT)  # either direction of the axis


@given(rotation_vectors(), rotation_vectors())
def test_hat_is_the_cross_product(first: Tensor, second: Tensor) -> None:
    assert_close(so3.hat(first) @ second, torch.linalg.cross(first, second), **TIGHT)


@given(rotation_vectors())
def test_quaternion_agrees_with_scipy(phi: Tensor) -> None:
    w, x, y, z = so3.to_quaternion_wxyz(so3.exp(phi)).tolist()
    assert w >= 0
    expected = Rotation.from_rotvec(phi.numpy()).as_quat()
    # q and -q are one rotation; near half a turn rounding decides which of them has w >= 0.
    assert abs(np.dot([x, y, z, w], expected)) == pytest.approx(1, abs=1e-12)


@given(rotation_vectors(), st.floats(-100, 100).filter(lambda scale: abs(scale) > 1e-3))
def test_quaternion_round_trip_ignores_scale_and_sign(phi: Tensor, scale: float) -> None:
    rotation = so3.exp(phi)
    assert_close(so3.from_quaternion_wxyz(scale * so3.to_quaternion_wxyz(rotation)), rotation, **TIGHT)


@given(rotation_vectors(), rotation_vectors())
def test_angle_between_is_the_angle_of_the_difference(base: Tensor, phi: Tensor) -> None:
    first = so3.exp(base)
    angle = so3.angle_between(first, first @ so3.exp(phi))
    assert_close(angle, phi.norm(), **TIGHT)
    assert_close(so3.angle_between(first @ so3.exp(phi), first), angle, **TIGHT)


@pytest.mark.parametrize("angle", GRADIENT_ANGLES)
def test_exp_gradient_agrees_with_finite_differences(angle: float) -> None:
    assert torch.autograd.gradcheck(so3.exp, rotation_vector(angle).requires_grad_())


@pytest.mark.parametrize("angle", GRADIENT_ANGLES)
def test_log_gradient_agrees_with_finite_differences(angle: float) -> None:
    rotation = so3.exp(rotation_vector(angle))

    def log_of_perturbed(delta: Tensor) -> Tensor:
        return so3.log(rotation @ so3.exp(delta))

    assert torch.autograd.gradcheck(log_of_perturbed, torch.zeros(3, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_at_the_identity_are_those_of_the_linear_map(dtype: torch.dtype) -> None:
    zero = torch.zeros(3, dtype=dtype)
    generators = so3.hat(torch.eye(3, dtype=dtype))  # (3, 3, 3), one per axis
    jacobian = torch.autograd.functional.jacobian(so3.exp, zero)
    assert_close(jacobian, generators.movedim(0, -1))
    round_trip = torch.autograd.functional.jacobian(lambda phi: so3.log(so3.exp(phi)), zero)
    assert_close(round_trip, torch.eye(3, dtype=dtype))


def test_angle_between_equal_rotations_has_a_finite_gradient() -> None:
    phi = rotation_vector(0.4).requires_grad_()
    so3.angle_between(so3.exp(phi), so3.exp(phi.detach())).backward()
    assert phi.grad is not None
    assert phi.grad.isfinite().all()


@pytest.mark.parametrize("angle", [0.0, 1e-5, 9e-4, 1.1e-3, 1e-2, 1.0, 3.0])
def test_float32_is_as_good_as_float32_can_be(angle: float) -> None:
    phi = rotation_vector(angle, torch.float32)
    rotation = so3.exp(phi)
    assert_close(rotation.double(), so3.exp(phi.double()), atol=3e-7, rtol=0)
    assert_close(so3.log(rotation), phi, atol=1e-6, rtol=0)


@pytest.mark.parametrize("batch", [(), (4,), (2, 3), (0,)])
def test_leading_batch_axes(batch: tuple[int, ...]) -> None:
    phi = torch.linspace(-1.5, 1.5, 3 * math.prod(batch), dtype=torch.float64).reshape(*batch, 3)
    rotation = so3.exp(phi)
    assert rotation.shape == (*batch, 3, 3)
    assert so3.to_quaternion_wxyz(rotation).shape == (*batch, 4)
    assert so3.angle_between(rotation, IDENTITY).shape == batch
    assert_close(so3.log(rotation), phi, **TIGHT)
    each = [so3.exp(one) for one in phi.reshape(-1, 3)]
    assert_close(rotation.reshape(-1, 3, 3), torch.stack(each) if each else rotation.reshape(0, 3, 3), **TIGHT)
