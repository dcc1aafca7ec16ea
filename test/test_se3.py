"""Rigid transforms: group axioms, exp and log, batches, refusals."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import SMALL_ANGLES, points, transforms, twists
from torch import Tensor
from torch.testing import assert_close

from category_pose_ros.geometry import SE3, so3

TIGHT = {"atol": 1e-11, "rtol": 1e-11}  # metres at ten metres, a few of them added
GRADIENT_ANGLES = [0.0, 1e-9, 9.9e-3, 1.01e-2, 0.3, 2.0, 3.1]


def assert_same(first: SE3, second: SE3) -> None:
    assert_close(first.matrix(), second.matrix(), **TIGHT)


def random_transform(*batch: int, seed: int = 0) -> SE3:
    generator = torch.Generator().manual_seed(seed)
    return SE3.exp(torch.randn(*batch, 6, generator=generator, dtype=torch.float64))


def twist(angle: float) -> Tensor:
    return torch.tensor([0.3, -1.0, 2.0, 0.48 * angle, -0.6 * angle, 0.64 * angle], dtype=torch.float64)


@given(transforms())
def test_identity_is_neutral(a_from_b: SE3) -> None:
    identity = SE3.identity().to(torch.float64)
    assert_same(identity @ a_from_b, a_from_b)
    assert_same(a_from_b @ identity, a_from_b)


@given(transforms())
def test_inverse(a_from_b: SE3) -> None:
    identity = SE3.identity().to(torch.float64)
    assert_same(a_from_b.inverse() @ a_from_b, identity)
    assert_same(a_from_b @ a_from_b.inverse(), identity)


@given(transforms(), transforms(), transforms())
def test_composition_is_associative(a_from_b: SE3, b_from_c: SE3, c_from_d: SE3) -> None:
    assert_same((a_from_b @ b_from_c) @ c_from_d, a_from_b @ (b_from_c @ c_from_d))


@given(transforms(), transforms())
def test_composition_is_the_matrix_product(a_from_b: SE3, b_from_c: SE3) -> None:
    assert_close((a_from_b @ b_from_c).matrix(), a_from_b.matrix() @ b_from_c.matrix(), **TIGHT)


@given(transforms(), transforms(), st.lists(points(), min_size=1, max_size=4).map(torch.stack))
def test_points_move_with_the_composition(a_from_b: SE3, b_from_c: SE3, points_c: Tensor) -> None:
    points_a = a_from_b @ (b_from_c @ points_c)
    assert_close((a_from_b @ b_from_c) @ points_c, points_a, **TIGHT)
    homogeneous = torch.nn.functional.pad(points_c, (0, 1), value=1.0)
    assert_close((homogeneous @ (a_from_b @ b_from_c).matrix().T)[:, :3], points_a, **TIGHT)


@given(twists())
def test_exp_is_the_matrix_exponential(xi: Tensor) -> None:
    generator = torch.zeros(4, 4, dtype=torch.float64)
    generator[:3, :3], generator[:3, 3] = so3.hat(xi[3:]), xi[:3]
    assert_close(SE3.exp(xi).matrix(), torch.linalg.matrix_exp(generator), **TIGHT)


@given(twists(SMALL_ANGLES | st.floats(0, 3.1)))
def test_log_undoes_exp(xi: Tensor) -> None:
    assert_close(SE3.exp(xi).log(), xi, **TIGHT)


@given(twists())
def test_exp_undoes_log(xi: Tensor) -> None:
    a_from_b = SE3.exp(xi)
    assert_same(SE3.exp(a_from_b.log()), a_from_b)


@given(twists())
def test_exp_of_the_opposite_is_the_inverse(xi: Tensor) -> None:
    assert_same(SE3.exp(-xi), SE3.exp(xi).inverse())


@pytest.mark.parametrize("angle", GRADIENT_ANGLES)
def test_exp_gradient_agrees_with_finite_differences(angle: float) -> None:
    assert torch.autograd.gradcheck(lambda xi: SE3.exp(xi).matrix(), twist(angle).requires_grad_())


@pytest.mark.parametrize("angle", GRADIENT_ANGLES)
def test_log_gradient_agrees_with_finite_differences(angle: float) -> None:
    a_from_b = SE3.exp(twist(angle))

    def log_of_perturbed(delta: Tensor) -> Tensor:
        return (a_from_b @ SE3.exp(delta)).log()

    assert torch.autograd.gradcheck(log_of_perturbed, torch.zeros(6, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_round_trip_at_the_identity_has_the_identity_as_gradient(dtype: torch.dtype) -> None:
    jacobian = torch.autograd.functional.jacobian(lambda xi: SE3.exp(xi).log(), torch.zeros(6, dtype=dtype))
    assert_close(jacobian, torch.eye(6, dtype=dtype))


def test_gradient_reaches_the_tensors_that_a_pose_was_made_of() -> None:
    translation = torch.zeros(3, requires_grad=True)
    (SE3(torch.eye(3), translation) @ torch.ones(1, 3)).sum().backward()
    assert_close(translation.grad, torch.ones(3))


@pytest.mark.parametrize("angle", [0.0, 1e-5, 9.9e-3, 1.01e-2, 0.1, 3.0])
def test_float32_is_as_good_as_float32_can_be(angle: float) -> None:
    xi = twist(angle).float()
    a_from_b = SE3.exp(xi)
    assert_close(a_from_b.matrix().double(), SE3.exp(xi.double()).matrix(), atol=1e-6, rtol=0)
    assert_close(a_from_b.log(), xi, atol=3e-6, rtol=0)


@pytest.mark.parametrize(
    ("first", "second", "result"),
    [((), (), ()), ((4,), (), (4,)), ((), (4,), (4,)), ((1,), (4,), (4,)), ((2, 1), (3,), (2, 3)), ((0,), (), (0,))],
)
def test_composition_broadcasts(first: tuple[int, ...], second: tuple[int, ...], result: tuple[int, ...]) -> None:
    a_from_b, b_from_c = random_transform(*first, seed=1), random_transform(*second, seed=2)
    a_from_c = a_from_b @ b_from_c
    assert a_from_c.batch_shape == result
    assert_close(a_from_c.matrix(), a_from_b.matrix() @ b_from_c.matrix(), **TIGHT)


@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
def test_points_broadcast_over_the_batch(batch: tuple[int, ...]) -> None:
    a_from_b = random_transform(*batch)
    shared = torch.randn(5, 3, dtype=torch.float64)
    own = torch.randn(*batch, 5, 3, dtype=torch.float64)
    assert (a_from_b @ shared).shape == (*batch, 5, 3)
    assert_close(a_from_b.inverse() @ (a_from_b @ own), own, **TIGHT)


def test_indexing_takes_from_the_first_batch_axis() -> None:
    a_from_b = random_transform(4)
    assert a_from_b[1].batch_shape == ()
    assert a_from_b[1:3].batch_shape == (2,)
    assert_close(a_from_b[torch.tensor([3, 0])].translation, a_from_b.translation[[3, 0]])


def test_matrix_round_trip() -> None:
    a_from_b = random_transform(2)
    assert_same(SE3.from_matrix(a_from_b.matrix()), a_from_b)
    assert_same(SE3.from_matrix(a_from_b.matrix()[:, :3]), a_from_b)
    assert_same(SE3.identity(2).to(torch.float64), SE3.exp(torch.zeros(2, 6, dtype=torch.float64)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SE3(torch.eye(4), torch.zeros(3)), r"rotation: expected shape \(\.\.\., 3, 3\), got \(4, 4\)"),
        (lambda: SE3(torch.eye(3), torch.zeros(2, 3)), r"translation: expected shape \(3,\), got \(2, 3\)"),
        (lambda: SE3.from_matrix(torch.eye(3)), r"matrix: expected shape .* got \(3, 3\)"),
        (lambda: SE3.exp(torch.zeros(3)), r"tangent: expected shape \(\.\.\., 6\), got \(3,\)"),
        (lambda: SE3.identity() @ torch.zeros(3), r"points: expected shape \(\.\.\., N, 3\), got \(3,\)"),
        (lambda: SE3.identity() @ torch.zeros(5, 2), r"points: expected shape \(\.\.\., N, 3\), got \(5, 2\)"),
    ],
)
def test_wrong_shapes_are_refused_by_name(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
