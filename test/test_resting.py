"""Planes in depth images, and objects that stand or lie on them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from category_pose_ros.estimation.resting import (
    Planes,
    RestingConfig,
    find_planes,
    resting_term,
    scale_to_planes,
    shared_plane_term,
    shared_up_term,
)
from category_pose_ros.estimation.solver import SolverConfig, minimise
from category_pose_ros.estimation.state import DIMENSION, State
from category_pose_ros.estimation.terms import BeliefTerm, RestingTerm, SizePriorTerm
from category_pose_ros.geometry import SE3, Camera, so3

CAMERA = Camera(300.0, 300.0, 159.5, 119.5, 320, 240)
CONFIG = RestingConfig()
SIZE = torch.tensor([0.08, 0.1, 0.2], dtype=torch.float64)
TABLE_UP = torch.tensor([0.1, -0.8, -0.6], dtype=torch.float64)
TABLE_UP = TABLE_UP / TABLE_UP.norm()
TABLE = Planes(TABLE_UP[None], torch.tensor([0.5], dtype=torch.float64))
STANDING, UPSIDE_DOWN, LYING = [0.0, 0.0, 0.0], [np.pi, 0.0, 0.0], [0.0, np.pi / 2, 0.0]


def plane_depth(*planes: tuple[list[float], float]) -> npt.NDArray[np.float32]:
    """Depth (H, W) of the nearest of planes, each a normal to the camera's side and the camera's distance."""
    pixels = torch.from_numpy(np.stack(np.meshgrid(np.arange(CAMERA.width), np.arange(CAMERA.height)), -1)).float()
    rays = CAMERA.rays(pixels).numpy()
    depths = []
    for normal, distance in planes:
        along = rays @ (np.array(normal) / np.linalg.norm(normal))
        depths.append(np.where(along < -1e-3, -distance / np.minimum(along, -1e-3), np.inf))
    return np.min(depths, axis=0).astype(np.float32)


def at_rest(posture: list[float], gap_m: float = 0.0, tilt: float = 0.0) -> State:
    """An object on the table in front of the camera, turned about its own z axis by some angle."""
    up = TABLE_UP
    side = torch.linalg.cross(torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64), up)
    side = side / side.norm()
    table = torch.stack([side, torch.linalg.cross(up, side), up], -1)  # axes of the table as columns
    turn = table @ so3.exp(torch.tensor(posture, dtype=torch.float64)) @ so3.exp(torch.tensor([0.0, 0.0, 0.4]).double())
    leaning = so3.exp(tilt * side) @ turn
    reach = 0.5 * ((turn.T @ up) * SIZE).norm()
    ahead = torch.tensor([0.0, 0.0, 0.8], dtype=torch.float64)
    position = ahead + (reach + gap_m - 0.5 - up @ ahead) * up
    return State(SE3(leaning[None], position[None]), SIZE.log()[None])


@given(st.integers(0, 1000), st.floats(0.3, 2.0))
@settings(max_examples=20, deadline=None)
def test_a_noisy_plane_is_found_where_it_is(seed: int, distance: float) -> None:
    rng = np.random.default_rng(seed)
    normal = np.array([*rng.uniform(-0.5, 0.5, 2), -1.0])
    normal /= np.linalg.norm(normal)
    depth = plane_depth((normal.tolist(), distance))
    depth *= 1 + 0.002 * rng.standard_normal(depth.shape).astype(np.float32)
    depth[rng.random(depth.shape) < 0.3] = rng.choice([0.0, np.nan, np.inf])
    found = find_planes(depth, CAMERA, replace(CONFIG, planes=1))
    assert len(found) == 1
    assert float(found.normal[0] @ torch.from_numpy(normal).float()) > np.cos(np.radians(0.5))
    assert float(found.offset_m[0]) == pytest.approx(distance, rel=0.01)


def test_table_and_wall_are_two_planes_that_face_the_camera() -> None:
    depth = plane_depth(([0.0, -1.0, 0.0], 0.4), ([0.3, 0.0, -1.0], 1.2))
    found = find_planes(depth, CAMERA, CONFIG)
    assert len(found) == 2
    assert bool((found.offset_m > 0).all())
    truth = torch.nn.functional.normalize(torch.tensor([[0.0, -1.0, 0.0], [0.3, 0.0, -1.0]]))
    assert_close((found.normal @ truth.T).amax(0), torch.ones(2), atol=1e-3, rtol=0)


@pytest.mark.parametrize("left", [0, 40])
def test_depth_without_enough_readings_has_no_planes(left: int) -> None:
    depth = np.zeros((CAMERA.height, CAMERA.width), dtype=np.float32)
    depth.reshape(-1)[:: max(depth.size // max(left, 1), 1)] = 1.0 if left else 0.0
    assert len(find_planes(depth, CAMERA, CONFIG)) == 0


def test_readings_that_mean_none_do_not_hide_the_table() -> None:
    depth = plane_depth(([0.0, -1.0, -1.0], 0.5))
    depth[:, CAMERA.width // 2 :] = 1e20
    depth[:, -20:] = np.finfo(np.float32).max
    found = find_planes(depth, CAMERA, CONFIG)
    assert len(found) == 1
    assert float(found.offset_m[0]) == pytest.approx(0.5, rel=0.01)


def test_what_is_round_or_rough_is_no_plane() -> None:
    rng = np.random.default_rng(1)
    rough = rng.uniform(0.5, 2.0, (CAMERA.height, CAMERA.width)).astype(np.float32)
    assert len(find_planes(rough, CAMERA, CONFIG)) == 0


def test_no_planes_are_looked_for_where_none_are_wanted() -> None:
    depth = plane_depth(([0.0, -1.0, -1.0], 0.5))
    assert len(find_planes(depth, CAMERA, replace(CONFIG, planes=0))) == 0


@pytest.mark.parametrize("posture", [STANDING, UPSIDE_DOWN, LYING])
def test_an_object_that_leans_a_little_is_set_down(posture: list[float]) -> None:
    truth = at_rest(posture)
    start = at_rest(posture, gap_m=0.02, tilt=0.3)
    term = resting_term(start, TABLE, CONFIG)
    assert float(term.weight[0]) == 1
    size = SizePriorTerm(truth.log_size, 1e4 * torch.eye(3, dtype=torch.float64)[None])
    state, _ = minimise([term, size], start, SolverConfig(iterations=40))
    assert_close(term.cost(state), torch.zeros(1, dtype=torch.float64), atol=1e-3, rtol=0)
    along, expected = (item.camera_from_object.rotation[0, :, 2] @ TABLE_UP for item in (state, truth))
    assert_close(along, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("gap_m", "tilt"), [(0.1, 0.0), (-0.1, 0.0), (0.0, 0.75)])
def test_an_object_in_the_air_or_aslant_is_left_alone(gap_m: float, tilt: float) -> None:
    state = at_rest(STANDING, gap_m, tilt)
    term = resting_term(state, TABLE, CONFIG)
    assert float(term.weight[0]) == 0
    there = term.linearise(state)
    assert float(there.cost.abs().max()) == float(there.gradient.abs().max()) == float(there.hessian.abs().max()) == 0


def test_of_two_planes_the_one_that_the_object_touches_counts() -> None:
    floor = Planes(TABLE_UP.expand(2, 3), torch.tensor([1.2, 0.5], dtype=torch.float64))
    assert_close(resting_term(at_rest(STANDING), floor, CONFIG).offset_m, floor.offset_m[1:])


@pytest.mark.parametrize("posture", [STANDING, UPSIDE_DOWN, LYING])
def test_of_an_object_at_rest_the_plane_tells_the_scale(posture: list[float]) -> None:
    far = at_rest(posture)
    floor = Planes(TABLE.normal.repeat(2, 1), torch.tensor([0.5, 1.2], dtype=torch.float64))
    for factor in (0.6, 1.0, 1.4):
        assert_close(
            scale_to_planes(far.scaled(torch.tensor([factor])), floor, CONFIG), torch.tensor([1 / factor]).double()
        )


def test_a_plane_says_nothing_of_what_leans_or_is_behind_it() -> None:
    behind = Planes(-TABLE.normal, -TABLE.offset_m)
    for state, planes in ((at_rest(STANDING, tilt=0.75), TABLE), (at_rest(STANDING), behind)):
        assert scale_to_planes(state, planes, CONFIG).tolist() == [1.0]


def shared(states: list[State], variance: float = 0.01) -> RestingTerm:
    count = len(states)
    sure = torch.full((count,), variance, dtype=torch.float64)
    return shared_up_term(State.cat(states), sure, torch.ones(count, dtype=torch.float64), CONFIG)


def test_objects_that_stand_learn_from_each_other_which_way_is_up() -> None:
    states = [at_rest(STANDING, tilt=0.1), at_rest(UPSIDE_DOWN), at_rest(STANDING), at_rest(LYING)]
    term = shared(states)
    assert_close(term.weight, torch.ones(4, dtype=torch.float64))
    assert term.upright.tolist() == [1, -1, 1, 0]
    up = TABLE_UP.expand(4, 3)
    assert float((term.normal * up).sum(-1).min()) > np.cos(0.07)
    assert_close(term.normal[0], TABLE_UP)  # what the others say, without itself
    assert_close(term.deviation_rad.square(), torch.tensor([0.005, 0.005, 0.005, 0.01 / 3], dtype=torch.float64))
    own = SizePriorTerm(SIZE.log().expand(4, 3), torch.eye(3, dtype=torch.float64).expand(4, 3, 3))
    state, _ = minimise([term, own], State.cat(states), SolverConfig(iterations=40))
    tilt = torch.arccos((state.camera_from_object.rotation[:2, :, 2] @ TABLE_UP).abs().clamp_max(1))
    assert float(tilt[0]) < 0.01
    assert_close(state.camera_from_object.translation, State.cat(states).camera_from_object.translation)


def grown(state: State, scale: float) -> State:
    """The object at another scale, which looks the same."""
    pose = state.camera_from_object
    return State(SE3(pose.rotation, pose.translation * scale), state.log_size + float(np.log(scale)))


def sharing_a_plane(states: list[State], variance: float = 0.04) -> RestingTerm:
    alike = torch.ones(len(states), dtype=torch.float64)
    return shared_plane_term(State.cat(states), shared(states), variance * alike, alike, CONFIG)


def test_objects_learn_from_each_other_how_far_below_they_stand() -> None:
    """Three of four have their true size; the mean of what the others say holds the fourth with half its variance."""
    states = [grown(at_rest(STANDING), scale) for scale in (1.3, 1.0, 1.0, 1.0)]
    height = float(at_rest(STANDING).size_m[0, 2] / 2 - at_rest(STANDING).camera_from_object.translation[0] @ TABLE_UP)
    term = sharing_a_plane(states)
    assert_close(term.offset_m[0], torch.tensor(height, dtype=torch.float64))
    assert float(term.offset_m[1]) == pytest.approx(height * 1.3 ** (1 / 3), rel=1e-6)
    assert 0.2 / np.sqrt(3) < float(term.deviation_m[0]) / height < 0.2
    prior = SizePriorTerm(State.cat(states).log_size, 25 / 9 * torch.ones(4, 3, 3, dtype=torch.float64))
    rigid = BeliefTerm(State.cat(states), 1e6 * across_the_line_of_sight(State.cat(states)))
    found, _ = minimise([term, prior, rigid], State.cat(states), SolverConfig(iterations=60))
    scale = (found.log_size - at_rest(STANDING).log_size).mean(-1).exp()
    assert 1.05 < float(scale[0]) < 1.2
    assert float(scale[1:].max()) < 1.08


def across_the_line_of_sight(states: State) -> Tensor:
    """Information on all but the scale: what an image of an object tells."""
    along = torch.cat([states.camera_from_object.translation, torch.zeros(4, 3), torch.ones(4, 3)], -1).double()
    along = along / along.norm(dim=-1, keepdim=True)
    return torch.eye(9, dtype=torch.float64) - along.unsqueeze(-1) * along.unsqueeze(-2)


@pytest.mark.parametrize("alone", ["one", "leaning", "below"])
def test_who_shares_no_plane_is_left_alone(alone: str) -> None:
    upside = SE3(torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))[None], torch.zeros(1, 3).double())
    states = {
        "one": [at_rest(STANDING)],
        "leaning": [at_rest(STANDING, tilt=0.7), at_rest(STANDING)],
        "below": [State(upside @ at_rest(UPSIDE_DOWN).camera_from_object, at_rest(STANDING).log_size)] * 2,
    }[alone]
    assert sharing_a_plane(states).deviation_m.isinf().all()


@pytest.mark.parametrize("others", [[], [STANDING], [STANDING, STANDING]])
def test_an_object_that_leans_learns_nothing_from_others(others: list[list[float]]) -> None:
    term = shared([at_rest(STANDING, tilt=0.7), *map(at_rest, others)])
    assert float(term.weight[0]) == 0
    assert term.weight[1:].tolist() == [float(len(others) > 1)] * len(others)


@pytest.mark.parametrize("posture", [STANDING, UPSIDE_DOWN, LYING])
def test_gradient_agrees_with_finite_differences(posture: list[float]) -> None:
    state = at_rest(posture, gap_m=0.01, tilt=0.2)
    term = resting_term(state, TABLE, CONFIG)
    assert float(term.weight[0]) == 1
    assert_close(term.linearise(state).gradient, numeric_gradient(term, state), atol=1e-4, rtol=1e-4)


def numeric_gradient(term: RestingTerm, state: State, small: float = 1e-6) -> Tensor:
    steps = small * torch.eye(DIMENSION, dtype=torch.float64).unsqueeze(1)
    return torch.stack([term.cost(state.moved(step)) - term.cost(state.moved(-step)) for step in steps], -1) / (
        2 * small
    )
