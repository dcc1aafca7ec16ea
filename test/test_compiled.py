"""The compiled solver, with the terms in PyTorch as its oracle."""

from __future__ import annotations

import functools
import itertools
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from cuboids import SIZE, correspondences, intrinsics, perturbed, truth
from torch.testing import assert_close

from category_pose_ros.estimation import solver
from category_pose_ros.estimation.solver import Linearised, SolverConfig, Term
from category_pose_ros.estimation.state import DIMENSION, State
from category_pose_ros.estimation.terms import (
    AxesTerm,
    BeliefTerm,
    CorrespondenceTerm,
    DepthTerm,
    RestingTerm,
    SizePriorTerm,
)
from category_pose_ros.geometry import SE3, so3
from category_pose_ros.geometry.solids import Solid, Solids

pytest.importorskip("numba", reason="the solver is compiled by Numba")
from category_pose_ros.estimation import compiled

BATCH = 4
UPRIGHT = (1.0, -1.0, 0.0, 0.0)


def correspondence_term(state: State) -> CorrespondenceTerm:
    points, cells, hit = correspondences(state, intrinsics(len(state.log_size)))
    return CorrespondenceTerm(intrinsics(len(state.log_size)), points, cells, hit, 1.5)


def axes_term(state: State) -> AxesTerm:
    axes = state.camera_from_object.rotation[..., [0, 2]].transpose(-1, -2)
    return AxesTerm(axes, torch.tensor([5.0, 20.0]).double().expand(len(axes), 2))


def size_prior_term(state: State) -> SizePriorTerm:
    batch = len(state.log_size)
    information = torch.linalg.inv(0.04 * (torch.eye(3) + 0.5)).double()
    return SizePriorTerm(SIZE.log().expand(batch, 3), information.expand(batch, 3, 3))


def belief_term(state: State) -> BeliefTerm:
    source = torch.Generator().manual_seed(4)
    root = torch.randn(len(state.log_size), DIMENSION, DIMENSION, generator=source, dtype=torch.float64)
    return BeliefTerm(perturbed(state, 5), root @ root.transpose(-1, -2))


def resting_term(state: State) -> RestingTerm:
    """On planes of all directions, of objects that stand, are upside down and lie; the last counts for nothing."""
    batch, source = len(state.log_size), torch.Generator().manual_seed(6)
    normal = torch.nn.functional.normalize(torch.randn(batch, 3, generator=source, dtype=torch.float64), dim=-1)
    upright = torch.tensor(list(itertools.islice(itertools.cycle(UPRIGHT), batch))).double()
    weight = torch.ones(batch).double().index_fill(0, torch.tensor([batch - 1]), 0.0)
    deviation = torch.full((batch,), 0.1).double()
    return RestingTerm(normal, -0.7 * torch.ones(batch).double(), upright, weight, deviation, 0.5 * deviation)


def depth_term(state: State, solid: Solid, *others: Solid) -> DepthTerm:
    """Readings anywhere in and about the box, of solids of one kind and, beside them, of others."""
    batch, source = len(state.log_size), torch.Generator().manual_seed(7)
    kinds = [solid, *others][:batch]
    kinds += [solid] * (batch - len(kinds))
    points = state.points_camera(1.4 * torch.rand(batch, 200, 3, generator=source, dtype=torch.float64) - 0.7)
    deviation = 0.01 + 0.01 * torch.rand(batch, 200, generator=source, dtype=torch.float64)
    return DepthTerm(Solids.of(kinds, torch.float64), points, deviation, torch.ones_like(deviation), 2.5)


TERMS: dict[str, Callable[[State], Term]] = {
    "correspondences": correspondence_term,
    "axes": axes_term,
    "size prior": size_prior_term,
    "belief": belief_term,
    "resting": resting_term,
    **{f"depth of a {solid.name}": functools.partial(depth_term, solid=solid) for solid in Solid},
    "depth of several": lambda state: depth_term(state, Solid.CYLINDER, Solid.CAR, Solid.VESSEL, Solid.HINGE),
}
TOGETHER = ["correspondences", "axes", "size prior", "belief", "resting", "depth of a VESSEL"]


def assert_alike(found: tuple[State, Linearised], expected: tuple[State, Linearised]) -> None:
    for (state, around), (other, about) in [(found, expected)]:
        assert_close(state.camera_from_object.rotation, other.camera_from_object.rotation, atol=1e-6, rtol=0)
        assert_close(state.camera_from_object.translation, other.camera_from_object.translation, atol=1e-6, rtol=0)
        assert_close(state.log_size, other.log_size, atol=1e-6, rtol=0)
        assert_close(around.cost, about.cost, atol=1e-6, rtol=1e-5)
        assert_close(around.gradient, about.gradient, atol=1e-3, rtol=1e-4)
        assert_close(around.hessian, about.hessian, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("name", TERMS)
def test_a_compiled_term_is_the_term(name: str) -> None:
    """Cost, gradient and matrix where the solver ends, which is near where it began."""
    start = perturbed(truth(batch=BATCH), 1)
    terms = [TERMS[name](truth(batch=BATCH))]
    state, around = compiled.minimise(terms, start, SolverConfig(iterations=1, damping=1e3))
    expected = terms[0].linearise(state)
    assert expected.gradient.abs().max() > 1e-3
    assert_close(around.cost, expected.cost)
    assert_close(around.gradient, expected.gradient)
    assert_close(around.hessian, expected.hessian)


@pytest.mark.parametrize("names", [*([name] for name in TERMS), TOGETHER], ids=lambda names: " and ".join(names))
def test_it_takes_the_same_steps(names: list[str]) -> None:
    start = perturbed(truth(batch=BATCH), 1)
    terms = [TERMS[name](truth(batch=BATCH)) for name in names]
    for iterations in (1, 2, 5):
        config = SolverConfig(iterations=iterations)
        assert_alike(compiled.minimise(terms, start, config), solver.minimise(terms, start, config))


@pytest.mark.parametrize("view", ["above", "below", "side"])
@pytest.mark.parametrize("solid", list(Solid))
def test_solids_are_seen_from_everywhere(solid: Solid, view: str) -> None:
    """Which faces are seen, and whether a camera looks into an open top, decides what depth says."""
    tilt = {"above": -2.2, "below": -0.9, "side": -math.pi / 2}[view]
    rotation = so3.exp(torch.tensor([[tilt, 0.0, 0.0]] * BATCH).double())
    rotation = rotation @ so3.exp(torch.tensor([[0.0, 0.0, 1.1 * k] for k in range(BATCH)]).double())
    state = State(SE3(rotation, truth(batch=BATCH).camera_from_object.translation), SIZE.log().expand(BATCH, 3))
    term = depth_term(state, solid)
    found, around = compiled.minimise([term], state, SolverConfig(iterations=1, damping=1e3))
    expected = term.linearise(found)
    assert_close(around.cost, expected.cost)
    assert_close(around.gradient, expected.gradient)
    assert_close(around.hessian, expected.hessian)


def test_states_of_single_precision_stay_so_and_their_curvature_is_as_exact_as_it_was_computed() -> None:
    start = truth()
    pose = start.camera_from_object
    single = State(SE3(pose.rotation.float(), pose.translation.float()), start.log_size.float())
    state, around = compiled.minimise([size_prior_term(start)], single, SolverConfig())
    assert state.log_size.dtype == state.camera_from_object.rotation.dtype == torch.float32
    assert around.hessian.dtype == torch.float64


def test_the_start_is_left_as_it_was() -> None:
    start = perturbed(truth(batch=2), 3)
    before = [start.log_size.clone(), start.camera_from_object.rotation.clone()]
    compiled.minimise([correspondence_term(truth(batch=2))], start, SolverConfig())
    assert_close([start.log_size, start.camera_from_object.rotation], before, atol=0, rtol=0)


@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_a_broken_measurement_moves_nothing(broken: float) -> None:
    start, truthful = perturbed(truth(batch=2), 3), correspondence_term(truth(batch=2))
    points = truthful.points_box.clone()
    points[0, 0] = broken
    state, _ = compiled.minimise([replace(truthful, points_box=points)], start, SolverConfig())
    assert_close(state.log_size[0], start.log_size[0], atol=0, rtol=0)
    assert (state.log_size[1] - start.log_size[1]).abs().max() > 1e-3


def test_it_is_compiled_once_for_all_terms() -> None:
    """Another form of the arrays would cost seconds in the middle of a stream."""
    compiled.warm_up()
    for state in (truth(), truth(batch=BATCH)):
        for name, term in TERMS.items():
            compiled.minimise([term(state)], state, SolverConfig(iterations=1))
            assert len(compiled._minimise.signatures) == 1, name


def test_terms_that_it_does_not_know_are_refused() -> None:
    state = truth()
    with pytest.raises(TypeError, match=r"terms: \['_Unknown'\] cannot be compiled"):
        compiled.minimise([axes_term(state), _Unknown()], state, SolverConfig())
    with pytest.raises(TypeError, match="terms: expected one of each kind"):
        compiled.minimise([axes_term(state), axes_term(state)], state, SolverConfig())


class _Unknown:
    def linearise(self, state: State) -> Linearised:
        raise AssertionError("is refused before")

    cost = linearise


def test_the_solver_is_compiled_on_a_cpu_where_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    assert solver.fastest_minimise(torch.device("cpu")) is compiled.minimise
    assert solver.fastest_minimise(torch.device("cuda")) is solver.minimise
    monkeypatch.setattr(solver, "find_spec", lambda name: None)
    assert solver.fastest_minimise(torch.device("cpu")) is solver.minimise


def test_where_nothing_can_be_kept_it_works_all_the_same() -> None:
    """A package in a place that cannot be written to, of a user without a home."""
    program = """
import numba.core.caching as caching
caching.CacheImpl._locator_classes = []
from category_pose_ros.estimation import compiled
assert not hasattr(compiled._minimise, "_cache") or isinstance(compiled._minimise._cache, caching.NullCache)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
