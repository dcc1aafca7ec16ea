"""The solver and its terms: derivatives against autograd, and the rendered cuboid as the oracle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from cuboids import SIZE, correspondences, errors, intrinsics, perturbed, truth
from torch import Tensor
from torch.testing import assert_close

from category_pose_ros.estimation.solver import Linearised, SolverConfig, Term, minimise
from category_pose_ros.estimation.state import DIMENSION, Intrinsics, State, projection_jacobian
from category_pose_ros.estimation.terms import AxesTerm, BeliefTerm, CorrespondenceTerm, SizePriorTerm
from category_pose_ros.geometry import so3

CONFIG = SolverConfig(iterations=40)
BATCH = 4


def correspondence_term(
    state: State, scale: float = 1.0, optics: Intrinsics | None = None, weight: Tensor | None = None
) -> CorrespondenceTerm:
    optics = optics or intrinsics(len(state.log_size))
    points, cells, hit = correspondences(state, optics)
    return CorrespondenceTerm(optics, points, cells, hit if weight is None else weight, scale)


def size_prior_term(batch: int, deviation: float = 0.2) -> SizePriorTerm:
    information = torch.linalg.inv(deviation**2 * (torch.eye(3) + 0.5)).double()
    return SizePriorTerm(SIZE.log().expand(batch, 3), information.expand(batch, 3, 3))


def axes_term(state: State) -> AxesTerm:
    axes = state.camera_from_object.rotation[..., [0, 2]].transpose(-1, -2)
    return AxesTerm(axes, torch.tensor([5.0, 20.0]).double().expand(len(axes), 2))


def belief_term(state: State) -> BeliefTerm:
    generator = torch.Generator().manual_seed(4)
    root = torch.randn(len(state.log_size), DIMENSION, DIMENSION, generator=generator, dtype=torch.float64)
    return BeliefTerm(state, root @ root.transpose(-1, -2))


def derivative(function: Callable[[State], Tensor], state: State) -> Tensor:
    """Autograd's derivative of a per-hypothesis value (B, ...) by the step, (B, ..., 9)."""

    def by_step(step: Tensor) -> Tensor:
        return function(state.moved(step)).sum(0)

    found = torch.autograd.functional.jacobian(by_step, torch.zeros(len(state.log_size), DIMENSION).double())
    return found.movedim(-2, 0)


def test_the_projection_is_the_points_projection() -> None:
    state, optics = truth(batch=BATCH), intrinsics(BATCH)
    points, _, _ = correspondences(state, optics)
    cells, jacobian = projection_jacobian(state, optics, points)
    assert jacobian.shape == (*points.shape[:2], 2, DIMENSION)
    assert_close(cells, optics.project(state.points_camera(points)))


def test_the_projection_jacobian_agrees_with_autograd() -> None:
    state, optics = truth(batch=BATCH), intrinsics(BATCH)
    points = torch.rand(BATCH, 7, 3, dtype=torch.float64) - 0.5
    _, jacobian = projection_jacobian(state, optics, points)
    expected = derivative(lambda moved: optics.project(moved.points_camera(points)), state)
    assert_close(jacobian, expected, atol=1e-8, rtol=1e-8)


def test_the_projection_jacobian_agrees_with_finite_differences() -> None:
    """Autograd knows nothing of what a step means; this does, for every one of the nine."""
    state, optics = truth(batch=1), intrinsics()
    points = torch.rand(1, 5, 3, dtype=torch.float64) - 0.5
    _, jacobian = projection_jacobian(state, optics, points)
    for k in range(DIMENSION):
        step = torch.zeros(1, DIMENSION, dtype=torch.float64)
        step[0, k] = 1e-6
        ahead, behind = (optics.project(state.moved(sign * step).points_camera(points)) for sign in (1, -1))
        assert_close(jacobian[..., k], (ahead - behind) / 2e-6, atol=1e-4, rtol=1e-5)


TERMS: dict[str, Callable[[State], Term]] = {
    "correspondence": lambda state: correspondence_term(state, scale=1.0),
    "correspondence, far from robust": lambda state: correspondence_term(state, scale=100.0),
    "axes": lambda state: axes_term(state),
    "belief": lambda state: belief_term(state),
    "size prior": lambda state: size_prior_term(len(state.log_size)),
}


@pytest.mark.parametrize("name", TERMS)
def test_a_terms_gradient_agrees_with_autograd(name: str) -> None:
    term, state = TERMS[name](truth(batch=BATCH)), perturbed(truth(batch=BATCH), 1)
    linearised = term.linearise(state)
    assert_close(linearised.cost, term.cost(state))
    assert_close(linearised.gradient, derivative(term.cost, state), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", TERMS)
def test_a_terms_matrix_is_symmetric_and_never_negative(name: str) -> None:
    term, state = TERMS[name](truth(batch=BATCH)), perturbed(truth(batch=BATCH), 1)
    hessian = term.linearise(state).hessian
    assert_close(hessian, hessian.transpose(-1, -2))
    assert (torch.linalg.eigvalsh(hessian) > -1e-8 * hessian.abs().amax((-1, -2)).unsqueeze(-1)).all()


@pytest.mark.parametrize("name", TERMS)
def test_a_terms_matrix_is_the_second_derivative_where_nothing_is_left_to_explain(name: str) -> None:
    """Gauss-Newton leaves out only what is multiplied with the residual."""
    state = truth(batch=2)
    term = TERMS[name](state)
    expected = derivative(lambda moved: term.linearise(moved).gradient, state)
    assert_close(term.linearise(state).hessian, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_the_pose_of_a_rendered_cuboid_is_recovered(seed: int) -> None:
    """Up to scale, which one camera cannot see and the prior decides."""
    expected = truth(seed, batch=BATCH)
    start = perturbed(expected, seed, rotation_deg=25, shift_m=0.03, log_size=0.2)
    terms: list[Term] = [correspondence_term(expected), size_prior_term(BATCH)]
    found, linearised = minimise(terms, start, CONFIG)
    assert errors(found, expected) == pytest.approx((0, 0, 0), abs=1e-3)
    assert_close(linearised.cost, sum(term.cost(found) for term in terms))
    assert linearised.gradient.abs().max() < 1e-3


def test_size_and_distance_slide_together_without_a_prior() -> None:
    expected = truth(3, batch=BATCH)
    found, _ = minimise([correspondence_term(expected)], perturbed(expected, 3), CONFIG)
    ratio = found.size_m / expected.size_m
    assert_close(ratio, ratio[:, :1].expand(BATCH, 3), atol=1e-3, rtol=0)
    depth = found.camera_from_object.translation[:, 2] / expected.camera_from_object.translation[:, 2]
    assert_close(depth, ratio[:, 0], atol=1e-3, rtol=0)


def test_single_precision_is_enough() -> None:
    expected = truth(4, batch=BATCH)
    exact, prior = correspondence_term(expected), size_prior_term(BATCH)
    optics = Intrinsics(exact.intrinsics.focal.float(), exact.intrinsics.centre.float())
    terms: list[Term] = [
        CorrespondenceTerm(optics, exact.points_box.float(), exact.cells.float(), exact.weight.float(), exact.scale),
        SizePriorTerm(prior.mean.float(), prior.information.float()),
    ]
    start = perturbed(expected, 4)
    single = State(start.camera_from_object.to(torch.float32), start.log_size.float())
    found, _ = minimise(terms, single, CONFIG)
    angle, distance, log_size = errors(
        State(found.camera_from_object.to(torch.float64), found.log_size.double()), expected
    )
    assert angle < 0.05
    assert distance < 2e-3
    assert log_size < 2e-3


def test_a_third_of_the_correspondences_may_lie() -> None:
    expected = truth(5, batch=BATCH)
    term = correspondence_term(expected)
    generator = torch.Generator().manual_seed(0)
    wrong = torch.rand(term.weight.shape, generator=generator) < 0.3
    lies = torch.rand(term.points_box.shape, generator=generator, dtype=torch.float64) - 0.5
    points = torch.where(wrong.unsqueeze(-1), lies, term.points_box)
    start = perturbed(expected, 5, rotation_deg=15)

    def solve(scale: float) -> tuple[float, float, float]:
        robust = CorrespondenceTerm(term.intrinsics, points, term.cells, term.weight, scale)
        return errors(minimise([robust, size_prior_term(BATCH)], start, CONFIG)[0], expected)

    angle, distance, log_size = solve(scale=1.0)
    assert angle < 2
    assert distance < 0.02
    assert log_size < 0.03
    assert solve(scale=1e3)[0] > 2 * angle  # without the robust kernel they win


@dataclass(frozen=True)
class Recorded:
    """Keeps the cost of every state that was asked about."""

    term: Term
    costs: list[Tensor]

    def linearise(self, state: State) -> Linearised:
        linearised = self.term.linearise(state)
        self.costs.append(linearised.cost)
        return linearised

    def cost(self, state: State) -> Tensor:
        return self.term.cost(state)


@pytest.mark.parametrize("damping", [1e-9, 1e-2, 1e3])
def test_the_cost_never_rises(damping: float) -> None:
    """From far away, where full steps overshoot."""
    expected = truth(6, batch=BATCH)
    start = perturbed(expected, 6, rotation_deg=120, shift_m=0.2, log_size=0.6)
    term = correspondence_term(expected, scale=3.0)
    before = term.cost(start)
    for iterations in range(1, 12):
        found, linearised = minimise([term], start, SolverConfig(iterations=iterations, damping=damping))
        assert (linearised.cost <= before).all()
        assert_close(linearised.cost, term.cost(found))
        before = linearised.cost


def test_the_best_state_seen_is_the_one_returned() -> None:
    expected = truth(7, batch=BATCH)
    recorded = Recorded(correspondence_term(expected, scale=3.0), [])
    start = perturbed(expected, 7, rotation_deg=150, shift_m=0.2, log_size=0.6)
    _, linearised = minimise([recorded], start, SolverConfig(iterations=10, damping=1e-9))
    assert_close(linearised.cost, torch.stack(recorded.costs).amin(0))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_broken_evidence_stays_where_it_was_and_hurts_nobody(value: float) -> None:
    expected = truth(8, batch=BATCH)
    start = perturbed(expected, 8)
    term = correspondence_term(expected)
    healthy, _ = minimise([term, size_prior_term(BATCH)], start, CONFIG)
    points = term.points_box.clone()
    points[1] = value
    broken = CorrespondenceTerm(term.intrinsics, points, term.cells, term.weight, term.scale)
    found, _ = minimise([broken, size_prior_term(BATCH)], start, CONFIG)
    assert torch.equal(found.camera_from_object.matrix()[1], start.camera_from_object.matrix()[1])
    assert torch.equal(found.log_size[1], start.log_size[1])
    others = torch.tensor([0, 2, 3])
    assert_close(found.camera_from_object.matrix()[others], healthy.camera_from_object.matrix()[others])


def test_no_evidence_leaves_everything_to_the_prior() -> None:
    expected = truth(9, batch=2)
    term = correspondence_term(expected, weight=torch.zeros(2, 576).double())
    start = perturbed(expected, 9)
    found, _ = minimise([term, size_prior_term(2)], start, CONFIG)
    assert_close(found.log_size, SIZE.log().expand(2, 3), atol=1e-4, rtol=0)
    assert_close(found.camera_from_object.matrix(), start.camera_from_object.matrix())


def test_steps_are_bounded() -> None:
    expected = truth(10, batch=BATCH)
    start = perturbed(expected, 10, rotation_deg=100, shift_m=0.3, log_size=1.0)
    config = SolverConfig(iterations=1, damping=1e-9, max_rotation_deg=5.0, max_log_step=0.05)
    found, _ = minimise([correspondence_term(expected, scale=50.0), size_prior_term(BATCH)], start, config)
    angle, distance, log_size = errors(found, start)
    assert angle < 5.001
    assert distance < 0.0501 * float(start.camera_from_object.translation.norm(dim=-1).max())
    assert log_size < 0.0501


def test_hypotheses_do_not_know_each_other() -> None:
    expected = truth(11, batch=BATCH)
    start = perturbed(expected, 11)
    together, _ = minimise([correspondence_term(expected)], start, SolverConfig())
    for k in range(BATCH):
        one = torch.tensor([k])
        alone, _ = minimise([correspondence_term(expected[one])], start[one], SolverConfig())
        assert_close(
            alone.camera_from_object.matrix()[0], together.camera_from_object.matrix()[k], atol=1e-8, rtol=1e-6
        )


def test_moving_turns_about_the_objects_centre_in_the_camera_frame() -> None:
    state = truth(12)
    turn = torch.tensor([[0.0, 0, 0, 0, 0, torch.pi / 2, 0, 0, 0]], dtype=torch.float64)
    moved = state.moved(turn)
    assert torch.equal(moved.camera_from_object.translation, state.camera_from_object.translation)
    x, y, z = state.camera_from_object.rotation[0]
    assert_close(moved.camera_from_object.rotation[0], torch.stack([-y, x, z]))


def test_states_are_chosen_and_joined() -> None:
    first, second = truth(1, batch=3), truth(2, batch=3)
    mixed = first.where(torch.tensor([True, False, True]), second)
    assert torch.equal(mixed.camera_from_object.translation[1], second.camera_from_object.translation[1])
    assert torch.equal(mixed.camera_from_object.rotation[2], first.camera_from_object.rotation[2])
    joined = State.cat([first, second])
    assert torch.equal(joined[torch.tensor([3, 4, 5])].camera_from_object.matrix(), second.camera_from_object.matrix())


def test_the_axes_alone_turn_an_object_to_them() -> None:
    expected = truth(batch=BATCH)
    start = perturbed(expected, 3, rotation_deg=60)
    reached, _ = minimise([axes_term(expected), size_prior_term(BATCH)], start, CONFIG)
    turned = so3.angle_between(reached.camera_from_object.rotation, expected.camera_from_object.rotation)
    assert turned.max() < 1e-3
    assert_close(reached.camera_from_object.translation, start.camera_from_object.translation)
