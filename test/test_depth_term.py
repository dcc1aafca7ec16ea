"""The depth term: derivatives against finite differences, and surfaces whose points are exact."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from cuboids import SIZE, correspondences, errors, intrinsics, perturbed, truth
from torch import Tensor
from torch.testing import assert_close

from category_pose_ros.estimation.depth import resolve_scale
from category_pose_ros.estimation.solver import SolverConfig, Term, minimise
from category_pose_ros.estimation.state import DIMENSION, State
from category_pose_ros.estimation.terms import CorrespondenceTerm, DepthTerm, SizePriorTerm
from category_pose_ros.geometry.solids import Solid, Solids, depth_along

CONFIG = SolverConfig(iterations=40)


def seen_points(state: State, solid: Solid, count: int = 24) -> tuple[Tensor, Tensor]:
    """Points (B, N, 3) of the surface on a grid of rays, and whether the rays meet it, (B, N)."""
    steps = torch.linspace(-0.12, 0.12, count, dtype=torch.float64)
    across, down = torch.meshgrid(steps, steps, indexing="ij")
    rays = torch.stack([across, down, torch.ones_like(across)], -1).reshape(1, -1, 3).expand(len(state.log_size), -1, 3)
    kinds = Solids.of([solid] * len(state.log_size), torch.float64)
    depth = depth_along(kinds, state.size_m, state.camera_from_object, rays)
    return rays * depth.nan_to_num(1.0).unsqueeze(-1), depth.isfinite().double()


def depth_term(state: State, solid: Solid = Solid.BOX, deviation_m: float = 0.01, scale: float = 3.0) -> DepthTerm:
    points, met = seen_points(state, solid)
    kinds = Solids.of([solid] * len(state.log_size), torch.float64)
    return DepthTerm(kinds, points, torch.full_like(met, deviation_m), met, scale)


def image_terms(state: State) -> list[Term]:
    """All that one camera tells of a box, and a size prior that is 20 % off."""
    batch = len(state.log_size)
    points, cells, hit = correspondences(state, intrinsics(batch))
    information = torch.linalg.inv(0.05 * torch.eye(3) + 0.05).double().expand(batch, 3, 3)
    wrong = (SIZE.log() + 0.2).expand(batch, 3)
    return [CorrespondenceTerm(intrinsics(batch), points, cells, hit, 1.0), SizePriorTerm(wrong, information)]


def numeric_gradient(cost: Callable[[State], Tensor], state: State, small: float = 1e-6) -> Tensor:
    columns = []
    for k in range(DIMENSION):
        step = torch.zeros(len(state.log_size), DIMENSION, dtype=torch.float64)
        step[:, k] = small
        columns.append((cost(state.moved(step)) - cost(state.moved(-step))) / (2 * small))
    return torch.stack(columns, -1)


@pytest.mark.parametrize("solid", list(Solid))
def test_gradient_agrees_with_finite_differences(solid: Solid) -> None:
    expected = truth(batch=3)
    term, state = depth_term(expected, solid), perturbed(expected, 1)
    linearised = term.linearise(state)
    assert_close(linearised.cost, term.cost(state))
    numeric = numeric_gradient(term.cost, state)
    assert_close(linearised.gradient, numeric, atol=2e-3 * float(numeric.abs().max()), rtol=1e-4)


@pytest.mark.parametrize("solid", list(Solid))
def test_points_of_the_surface_cost_nothing(solid: Solid) -> None:
    expected = truth(batch=3)
    term = depth_term(expected, solid)
    linearised = term.linearise(expected)
    assert linearised.cost.max() < 1e-12
    assert linearised.gradient.abs().max() < 1e-6
    assert_close(term.inliers(expected), torch.ones(3, dtype=torch.float64))
    assert_close(linearised.hessian, linearised.hessian.transpose(-1, -2))
    assert torch.linalg.eigvalsh(linearised.hessian).min() > -1e-6 * linearised.hessian.abs().max()


@pytest.mark.parametrize("seed", range(3))
def test_depth_fixes_the_scale_that_the_prior_gets_wrong(seed: int) -> None:
    expected = truth(seed, batch=2)
    start = perturbed(expected, seed, rotation_deg=10, shift_m=0.02, log_size=0.1)
    without, _ = minimise(image_terms(expected), start, CONFIG)
    assert errors(without, expected)[1] > 0.1
    found, _ = minimise([*image_terms(expected), depth_term(expected)], start, CONFIG)
    angle, distance, log_size = errors(found, expected)
    assert angle < 0.5
    assert distance < 0.004
    assert log_size < 0.05  # extents that the view does not show are left to the prior


def test_a_handful_of_points_will_do() -> None:
    """Projected lidar: of the grid of rays ten are left."""
    expected = truth(1, batch=2)
    term = depth_term(expected)
    kept = torch.zeros_like(term.weight)
    for row in range(2):
        kept[row, torch.nonzero(term.weight[row]).squeeze(-1)[::20][:10]] = 1
    sparse = DepthTerm(term.solids, term.points_camera, term.deviation_m, kept, term.scale)
    found, _ = minimise([*image_terms(expected), sparse], perturbed(expected, 1, 10, 0.02, 0.1), CONFIG)
    assert errors(found, expected)[1] < 0.03


def test_a_third_of_the_points_may_lie_elsewhere() -> None:
    expected = truth(2, batch=2)
    term = depth_term(expected)
    generator = torch.Generator().manual_seed(0)
    behind = torch.rand(term.weight.shape, generator=generator) < 0.33
    points = torch.where(behind.unsqueeze(-1), term.points_camera * 1.3, term.points_camera)
    lied = DepthTerm(term.solids, points, term.deviation_m, term.weight, term.scale)
    image = image_terms(expected)
    start, _ = minimise(image, perturbed(expected, 2, 10, 0.02, 0.1), CONFIG)
    found, _ = minimise([*image, lied], resolve_scale(start, lied), CONFIG)
    assert errors(found, expected)[1] < 0.01


def test_the_line_of_sight_becomes_certain() -> None:
    expected = truth(3)
    image = [term.linearise(expected).hessian for term in image_terms(expected)]
    without = torch.linalg.inv(sum(image))[0, 2, 2].sqrt()
    measured = torch.linalg.inv(sum(image) + depth_term(expected).linearise(expected).hessian)[0, 2, 2].sqrt()
    assert without > 0.1
    assert measured < 0.05 * without


def test_points_of_no_weight_are_not_there() -> None:
    expected = truth(4)
    term = depth_term(expected)
    empty = DepthTerm(term.solids, term.points_camera, term.deviation_m, term.weight * 0, term.scale)
    linearised = empty.linearise(perturbed(expected, 4))
    for value in (linearised.cost, linearised.gradient, linearised.hessian, empty.inliers(expected)):
        assert (value == 0).all()
