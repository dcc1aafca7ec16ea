"""Readings on an object, its scale in closed form, and depth that is not to be believed."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from neural_models import tiny_model
from torch import Tensor
from torch.testing import assert_close

from category_pose_ros.estimation.depth import (
    DepthConfig,
    depth_term,
    resolve_scale,
    sample_points,
    to_scale,
    turn_to_handles,
    weigh_handles,
)
from category_pose_ros.estimation.evidence import Evidence
from category_pose_ros.estimation.images import rectify_depth
from category_pose_ros.estimation.resting import Planes
from category_pose_ros.estimation.state import Intrinsics, State
from category_pose_ros.estimation.terms import DepthTerm, SizePriorTerm
from category_pose_ros.geometry import SE3, Camera, so3
from category_pose_ros.geometry.solids import Solid, Solids, body_axis, depth_along, solid_of
from category_pose_ros.models.backbone import FeatureMap
from category_pose_ros.models.posterior import Posterior
from category_pose_ros.records import Frame

CAMERA = Camera(300.0, 300.0, 79.5, 59.5, 160, 120)
CELLS = 24
TABLE = Posterior(tiny_model(), ("can",), torch.device("cpu")).tables[0]
CONFIG = DepthConfig()
NO_PLANES = Planes(torch.empty(0, 3), torch.empty(0))


def object_state(scale: float = 1.0) -> State:
    """A can of the mean size, seen a little from above, 0.6 m away where the scale is 1."""
    turn = so3.exp(torch.tensor([[2.0, 0.1, 0.0]]))
    return State(SE3(turn, torch.tensor([[0.02, 0.01, 0.6]]) * scale), TABLE.log_size_mean[None] + float(np.log(scale)))


def depth_image(state: State, background_m: float = 1.5) -> np.ndarray:
    rows, columns = torch.meshgrid(torch.arange(CAMERA.height), torch.arange(CAMERA.width), indexing="ij")
    rays = CAMERA.rays(torch.stack([columns, rows], -1).float()).reshape(1, -1, 3)
    solid = Solids.of([solid_of("can")])
    depth = depth_along(solid, state.size_m, state.camera_from_object, rays)
    return depth.nan_to_num(background_m).view(CAMERA.height, CAMERA.width).numpy()


def evidence(state: State) -> Evidence:
    """Cells of a crop around the object that know which of them show it."""
    centre = CAMERA.project(state.camera_from_object.translation[0])
    crop = CAMERA.cropped(int(centre[0]) - 48, int(centre[1]) - 48, 96, 96).resized(CELLS, CELLS)
    rows, columns = torch.meshgrid(torch.arange(CELLS), torch.arange(CELLS), indexing="ij")
    rays = crop.rays(torch.stack([columns, rows], -1).float()).reshape(1, -1, 3)
    met = depth_along(Solids.of([Solid.CYLINDER]), state.size_m, state.camera_from_object, rays).isfinite()
    optics = Intrinsics(torch.tensor([[crop.fx, crop.fy]]), torch.tensor([[crop.cx, crop.cy]]))
    nothing = torch.zeros(0)
    return Evidence(
        met.view(CELLS, CELLS).float(),
        torch.ones(CELLS, CELLS, dtype=torch.bool),
        optics,
        crop.project(state.camera_from_object.translation[0]),
        torch.tensor(10.0),
        FeatureMap(*[nothing] * 5),
        TABLE,
        *[nothing] * 6,
    )


def readings(depth: np.ndarray, config: DepthConfig = CONFIG) -> DepthTerm:
    """The term of two hypotheses of the object that stands at scale 1."""
    seen = evidence(object_state())
    return depth_term([sample_points(depth, CAMERA, seen, config, NO_PLANES)], [seen], 2, config.robust)


def prior() -> SizePriorTerm:
    return SizePriorTerm(TABLE.log_size_mean.expand(2, 3), TABLE.log_size_information.expand(2, 3, 3))


def hypotheses(*scales: float) -> State:
    return State.cat([object_state(scale) for scale in scales])


def distances(state: State) -> Tensor:
    return state.camera_from_object.translation.norm(dim=-1)


TRUE_M = float(distances(object_state())[0])


def test_readings_lie_on_the_object() -> None:
    term = readings(depth_image(object_state()))
    assert term.points_camera.shape == (2, CONFIG.points, 3)
    assert_close(term.weight.sum(-1), torch.full((2,), CONFIG.independent))
    assert term.inliers(hypotheses(1.0, 1.1))[0] > 0.9
    assert (term.solids.kind == Solid.CYLINDER).all()


@pytest.mark.parametrize("hole", [0.0, np.nan, np.inf, -np.inf])
def test_holes_are_no_readings(hole: float) -> None:
    depth = depth_image(object_state())
    depth[:, ::2] = hole
    term = readings(depth)
    used = term.points_camera[0][term.weight[0] > 0]
    columns = CAMERA.project(used)[:, 0].round()
    assert (columns % 2 == 1).all()
    assert_close(distances(resolve_scale(hypotheses(1.2, 0.8), term)), torch.full((2,), TRUE_M), atol=0.004, rtol=0)


def test_a_single_reading_is_no_evidence_and_no_error() -> None:
    whole = depth_image(object_state())
    column, row = CAMERA.project(object_state().camera_from_object.translation[0]).round().int().tolist()
    depth = np.zeros_like(whole)
    depth[row, column] = whole[row, column]
    points = sample_points(depth, CAMERA, evidence(object_state()), DepthConfig(membership=0.0), NO_PLANES)
    assert (points.points_camera[:, 2] != 1.0).sum() == 1
    assert (points.weight == 0).all()


def test_readings_that_are_surely_something_else_weigh_nothing_and_are_no_error() -> None:
    seen = evidence(object_state())
    seen = dataclasses.replace(seen, presence=torch.zeros_like(seen.presence))
    points = sample_points(depth_image(object_state()), CAMERA, seen, DepthConfig(membership=0.0), NO_PLANES)
    assert (points.weight == 0).all()


@pytest.mark.parametrize("shape", ["empty", "elsewhere"])
def test_nothing_measured_changes_nothing(shape: str) -> None:
    depth = np.zeros((CAMERA.height, CAMERA.width), np.float32)
    if shape == "elsewhere":
        depth[:4, :4] = 1.0
    start = hypotheses(1.2, 0.8)
    scaled, term, contradicted = to_scale(start, readings(depth), prior(), CONFIG)
    assert torch.equal(contradicted, torch.zeros(2))
    assert torch.equal(scaled.camera_from_object.matrix(), start.camera_from_object.matrix())
    assert (term.weight == 0).all()


def test_a_crop_outside_the_image_has_no_readings() -> None:
    seen = evidence(object_state())
    aside = dataclasses.replace(seen, intrinsics=Intrinsics(seen.intrinsics.focal, seen.intrinsics.centre + 500.0))
    points = sample_points(depth_image(object_state()), CAMERA, aside, CONFIG, NO_PLANES)
    assert (points.weight == 0).all()


@given(scale=st.floats(0.7, 1.4))
@settings(max_examples=15, deadline=None)
def test_scale_is_resolved_in_closed_form(scale: float) -> None:
    found = resolve_scale(hypotheses(scale, 1.0), readings(depth_image(object_state())))
    assert_close(distances(found), torch.full((2,), TRUE_M), atol=0.003, rtol=0)
    assert_close(found.log_size, object_state().log_size.expand(2, 3), atol=0.006, rtol=0)


def test_forty_percent_may_be_background() -> None:
    depth = depth_image(object_state())
    depth[np.random.default_rng(0).random(depth.shape) < 0.4] = 1.5
    found = resolve_scale(hypotheses(1.2, 0.8), readings(depth))
    assert_close(distances(found), torch.full((2,), TRUE_M), atol=0.01, rtol=0)


def test_sparse_readings_are_used_in_full() -> None:
    """As of projected lidar: one pixel in two hundred."""
    depth = depth_image(object_state())
    sparse = np.where(np.random.default_rng(0).random(depth.shape) < 0.005, depth, np.float32(0))
    term = readings(sparse)
    assert 5 < int((term.weight[0] > 0).sum()) < 40
    scaled, term, contradicted = to_scale(hypotheses(1.2, 0.8), term, prior(), CONFIG)
    assert torch.equal(contradicted, torch.zeros(2))
    assert (term.weight.sum(-1) > 0).all()
    assert_close(distances(scaled), torch.full((2,), TRUE_M), atol=0.01, rtol=0)


@pytest.mark.parametrize("left", [1, 6])
def test_the_edges_of_a_hole_are_not_taken_for_the_object(left: int) -> None:
    """Of an object of glass a few pixels still show what is behind it; where depth is sparse all over, they count."""
    seen = evidence(object_state())
    depth = depth_image(object_state())
    sparse = np.zeros_like(depth)
    sparse[::left, ::left] = depth[::left, ::left]
    assert (sample_points(sparse, CAMERA, seen, CONFIG, NO_PLANES).weight > 0).any()
    is_own = depth < 1.5
    sparse[is_own] = 0
    rows, columns = np.nonzero(is_own)
    edge = slice(0, len(rows), 12)
    sparse[rows[edge], columns[edge]] = 1.5
    assert (sample_points(sparse, CAMERA, seen, CONFIG, NO_PLANES).weight > 0).any() == (left > 1)


@pytest.mark.parametrize("around", [True, False])
def test_a_plane_that_shows_through_an_object_is_not_taken_for_it(around: bool) -> None:
    """An object of glass before a wall; where the plane ends with the object, it is a face of the object."""
    behind_m = 0.9
    wall = Planes(torch.tensor([[0.0, 0.0, -1.0]]), torch.tensor([behind_m]))
    depth = np.full((CAMERA.height, CAMERA.width), behind_m, np.float32)
    if not around:
        depth[depth_image(object_state()) == 1.5] = 1.5
    points = sample_points(depth, CAMERA, evidence(object_state()), CONFIG, wall)
    assert (points.weight > 0).any() == (not around)
    flat = depth - np.float32(0.01) * (depth_image(object_state()) < 1.5)  # a centimetre before the plane, as a laptop
    for shown in (depth_image(object_state(), behind_m), flat):
        assert (sample_points(shown, CAMERA, evidence(object_state()), CONFIG, wall).weight > 0).all()


def test_a_reading_is_as_sure_as_its_distance_and_the_shape_of_the_object_allow() -> None:
    """Sparse readings, of which no step between neighbours tells the noise."""
    config = DepthConfig(noise_m=0.02, surface=1e-3)
    for distance_m in (1.0, 3.0):
        depth = np.zeros((CAMERA.height, CAMERA.width), np.float32)
        depth[::3, ::3] = distance_m
        points = sample_points(depth, CAMERA, evidence(object_state()), config, NO_PLANES)
        surface_m = config.surface * float(TABLE.log_size_mean.exp().norm())
        expected_m = math.hypot(config.noise_m * distance_m**2, surface_m)
        assert points.deviation_m[points.weight > 0].tolist() == pytest.approx([expected_m] * 100, rel=1e-4)


def test_noise_is_measured_and_widens_the_tolerance() -> None:
    depth = depth_image(object_state())
    noisy = depth + np.random.default_rng(0).normal(0, 0.05, depth.shape).astype(np.float32)
    assert float(readings(noisy).deviation_m[0, 0]) == pytest.approx(0.05, rel=0.15)
    assert float(readings(depth).deviation_m[0, 0]) < 0.01
    scaled, term, contradicted = to_scale(hypotheses(1.2, 0.8), readings(noisy), prior(), CONFIG)
    assert torch.equal(contradicted, torch.zeros(2))
    assert (term.weight.sum(-1) > 0).all()
    assert_close(distances(scaled), torch.full((2,), TRUE_M), atol=0.03, rtol=0)


@pytest.mark.parametrize("factor", [0.3, 3.0])
def test_depth_that_makes_the_object_absurdly_large_or_small_is_not_believed(factor: float) -> None:
    start = hypotheses(1.0, 1.1)
    depth = depth_image(object_state()) * np.float32(factor)
    scaled, term, contradicted = to_scale(start, readings(depth), prior(), CONFIG)
    assert torch.equal(contradicted, torch.ones(2))
    assert (term.weight == 0).all()
    assert torch.equal(scaled.log_size, start.log_size)


def test_depth_that_has_another_shape_is_not_believed() -> None:
    """A ramp that crosses the object and half a metre on each side of it."""
    depth = depth_image(object_state())
    ramp = np.linspace(0.2, 1.0, depth.shape[0], dtype=np.float32)[:, None] + 0 * depth
    _, term, contradicted = to_scale(hypotheses(1.0, 1.0), readings(ramp), prior(), CONFIG)
    assert torch.equal(contradicted, torch.ones(2))
    assert (term.weight == 0).all()


def test_a_few_readings_that_contradict_an_object_do_not_make_it_doubtful() -> None:
    depth = depth_image(object_state()) * np.float32(3.0)
    few = np.where(np.random.default_rng(0).random(depth.shape) < 0.003, depth, np.float32(0))
    seen = readings(few)
    assert CONFIG.least_points <= int((seen.weight[0] > 0).sum()) < CONFIG.enough_points
    _, term, contradicted = to_scale(hypotheses(1.0, 1.0), seen, prior(), CONFIG)
    assert (term.weight == 0).all()
    assert torch.equal(contradicted, torch.zeros(2))


def test_a_prior_without_information_believes_any_scale() -> None:
    nothing = SizePriorTerm(prior().mean, torch.zeros(2, 3, 3))
    depth = depth_image(object_state()) * np.float32(3.0)
    _, term, contradicted = to_scale(hypotheses(1.0, 1.0), readings(depth), nothing, CONFIG)
    assert torch.equal(contradicted, torch.zeros(2))
    assert (term.weight.sum(-1) > 0).all()


def test_depth_of_a_lens_is_rectified_without_mixing() -> None:
    camera = dataclasses.replace(CAMERA, distortion=(-0.2, 0.05, 0.0, 0.0))
    rgb = np.zeros((CAMERA.height, CAMERA.width, 3), np.uint8)
    depth = np.where(np.arange(CAMERA.width) < 80, np.float32(0.5), np.float32(2.0)) * np.ones((120, 1), np.float32)
    moved = rectify_depth(Frame(rgb, camera, depth.astype(np.float32)))
    assert moved is not None
    assert set(np.unique(moved)) <= {0.0, 0.5, 2.0}
    assert rectify_depth(Frame(rgb, camera)) is None
    assert rectify_depth(Frame(rgb, camera, np.full_like(moved, np.nan))) is None  # as if there were no depth at all
    assert rectify_depth(Frame(rgb, CAMERA, depth.astype(np.float32))) is not None


def mug(yaw: float, look: tuple[float, float, float] = (2.0, 0.0, 0.0)) -> State:
    """A mug seen from the side and a little from above, with its handle at a yaw about the axis of its body."""
    size_m = torch.tensor([[0.12, 0.08, 0.1]])
    rotation = so3.exp(torch.tensor([look])) @ so3.exp(torch.tensor([[0.0, 0.0, yaw]]))
    axis = body_axis(size_m).unsqueeze(-1)
    return State(SE3(rotation, torch.tensor([[0.0, 0.0, 0.6]]) - (rotation @ axis).squeeze(-1)), size_m.log())


def seen_of(state: State) -> DepthTerm:
    """What depth would measure of a mug, as independent readings."""
    steps = torch.linspace(-0.12, 0.12, 49)
    across, down = torch.meshgrid(steps, steps, indexing="ij")
    rays = torch.stack([across, down, torch.ones_like(across)], -1).reshape(1, -1, 3)
    solid = Solids.of([Solid.VESSEL])
    depth = depth_along(solid, state.size_m, state.camera_from_object, rays)
    met = depth.isfinite()
    points = rays * depth.nan_to_num(1.0).unsqueeze(-1)
    return DepthTerm(solid, points, torch.full_like(depth, 0.005), met * 10 / met.sum(), CONFIG.robust)


def yaw_error(found: State, expected: State) -> float:
    turn = expected.camera_from_object.rotation.mT @ found.camera_from_object.rotation
    return float(so3.log(turn).norm())


@pytest.mark.parametrize("off", [-0.6, -0.2, 0.0, 0.35, 0.7])
def test_depth_turns_a_mug_to_its_handle(off: float) -> None:
    """The handle at 50 degrees beside the line of sight, seen at once with the body."""
    expected, start = mug(0.7), mug(0.7 + off)
    term = weigh_handles(start, seen_of(expected), CONFIG.handle_weight)
    assert (term.weight > seen_of(expected).weight).any()
    assert yaw_error(turn_to_handles(start, term), expected) < 0.1
    found = turn_to_handles(start, term).camera_from_object @ body_axis(start.size_m).unsqueeze(1)
    assert_close(found, torch.tensor([[[0.0, 0.0, 0.6]]]), atol=1e-6, rtol=0)


def test_a_handle_that_is_hidden_turns_nothing() -> None:
    from_beside = (1.6, 0.0, 0.0)
    expected = mug(math.pi / 2, from_beside)
    for off in (-0.3, 0.0, 0.3):
        start = mug(math.pi / 2 + off, from_beside)
        term = weigh_handles(start, seen_of(expected), CONFIG.handle_weight)
        assert turn_to_handles(start, term).camera_from_object.rotation.equal(start.camera_from_object.rotation)


def test_only_mugs_are_turned() -> None:
    start = hypotheses(1.0, 1.1)
    term = readings(depth_image(object_state()))
    assert turn_to_handles(start, term) is start
    assert weigh_handles(start, term, 10.0).weight.equal(term.weight)
