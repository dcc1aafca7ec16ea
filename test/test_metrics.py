"""Metrics against cases worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from category_pose_ros.evaluation import metrics
from category_pose_ros.evaluation.overlap import box_iou_2d, box_iou_3d, projected_box
from category_pose_ros.geometry import SE3, Camera, Symmetry, so3
from category_pose_ros.geometry.symmetry import symmetry_of

CUBE = np.array([0.1, 0.1, 0.1])
TALL = np.array([0.1, 0.1, 0.3])
UP = (0.0, 0.0, 1.0)
SIDE = (1.0, 0.0, 0.0)


def pose(axis=UP, degrees=0.0, at=(0.0, 0.0, 1.0)):
    vector = torch.tensor(axis, dtype=torch.float64) * math.radians(degrees)
    return SE3(so3.exp(vector), torch.tensor(at, dtype=torch.float64))


@pytest.mark.parametrize(
    ("axis", "degrees", "symmetry", "expected"),
    [
        (UP, 0, Symmetry.NONE, 0),
        (UP, 90, Symmetry.NONE, 90),
        (UP, 90, Symmetry.AXIS_Z, 0),
        (SIDE, 40, Symmetry.NONE, 40),
        (SIDE, 40, Symmetry.AXIS_Z, 40),
        (SIDE, 180, Symmetry.AXIS_Z, 180),  # a bottle on its head is wrong
    ],
)
def test_rotation_error(axis, degrees, symmetry, expected):
    error = metrics.rotation_error(pose(axis, degrees), pose(), symmetry)
    assert math.degrees(error) == pytest.approx(expected, abs=1e-5)


def test_translation_error_is_the_distance_of_the_centres():
    assert metrics.translation_error(pose(at=(0.3, 0.0, 1.4)), pose()) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("category", "symmetry"),
    [(name, Symmetry.AXIS_Z) for name in ("bottle", "bowl", "can")]
    + [(name, Symmetry.NONE) for name in ("mug", "camera", "laptop", "car")],
)
def test_symmetry_of_category(category, symmetry):
    assert symmetry_of(category) is symmetry


def test_size_error_is_the_mean_over_the_axes():
    assert metrics.size_error(np.array([0.11, 0.1, 0.24]), np.array([0.1, 0.1, 0.3])) == pytest.approx(0.1)
    assert metrics.size_error(CUBE, CUBE) == 0


def test_area_under_a_curve():
    assert metrics.area_under_curve(np.array([0.0, 1.0])) == 0.5
    assert metrics.area_under_curve(np.array([0.0, 1.0, 1.0])) == 0.75
    assert metrics.area_under_curve(np.ones(7)) == 1


def test_box_points_are_corners_and_a_grid_of_the_surface():
    points = metrics.box_points(np.array([2.0, 4.0, 6.0]))
    assert points.shape == (98, 3)  # 5^3 grid points less the 3^3 inside
    assert (np.abs(points).max(0) == [1, 2, 3]).all()
    assert (np.isclose(np.abs(points), [1, 2, 3])).any(axis=1).all()
    assert np.isclose(np.abs(points), [1, 2, 3]).all(axis=1).sum() == 8


def test_add_of_a_shift_is_the_shift_whatever_the_symmetry():
    for symmetry in Symmetry:
        shifted = metrics.average_distance(pose(at=(0.03, 0.04, 1.0)), pose(), CUBE, symmetry)
        assert shifted == pytest.approx(0.05)


def test_add_of_half_a_turn():
    """Every point moves by twice its distance from the axis."""
    points = metrics.box_points(TALL)
    expected = 2 * np.hypot(points[:, 0], points[:, 1]).mean()
    assert metrics.average_distance(pose(UP, 180), pose(), TALL, Symmetry.NONE) == pytest.approx(expected)
    assert metrics.average_distance(pose(UP, 180), pose(), TALL, Symmetry.AXIS_Z) == pytest.approx(0, abs=1e-9)


def test_add_of_a_bottle_on_its_head_is_wrong():
    """Every point moves by at least twice its height."""
    least = 2 * np.abs(metrics.box_points(TALL)[:, 2]).mean()
    assert metrics.average_distance(pose(SIDE, 180), pose(), TALL, Symmetry.AXIS_Z) >= least


@given(yaw=st.floats(-180, 180), tilt=st.floats(-60, 60))
@settings(max_examples=30)
def test_symmetric_add_is_least_in_the_mean_square_over_all_yaws(yaw, tilt):
    size = np.array([0.1, 0.06, 0.2])
    estimate = pose(SIDE, tilt)
    turned = SE3(estimate.rotation @ pose(UP, yaw).rotation, estimate.translation)
    first = metrics.average_distance(estimate, pose(), size, Symmetry.AXIS_Z)
    assert metrics.average_distance(turned, pose(), size, Symmetry.AXIS_Z) == pytest.approx(first, abs=1e-9)
    assert first <= metrics.average_distance(turned, pose(), size, Symmetry.NONE) + 0.05 * size.max()


@pytest.mark.parametrize(
    ("estimate", "expected"),
    [
        (pose(), 1.0),
        (pose(at=(0.05, 0.0, 1.0)), 1 / 3),  # half of each overlaps: 0.5 / 1.5
        (pose(at=(0.1, 0.0, 1.0)), 0.0),  # they touch
        (pose(at=(0.05, 0.05, 1.05)), 0.125 / 1.875),
        (pose(UP, 90), 1.0),
        # Two squares at 45 degrees overlap in a regular octagon of area 2 (sqrt 2 - 1).
        (pose(UP, 45), 2 * (math.sqrt(2) - 1) / (2 - 2 * (math.sqrt(2) - 1))),
        (pose(at=(0.0, 0.0, 9.0)), 0.0),
    ],
)
def test_iou_of_cubes(estimate, expected):
    assert metrics.intersection_over_union(estimate, CUBE, pose(), CUBE, Symmetry.NONE) == pytest.approx(expected)


def test_iou_of_nested_boxes_is_the_ratio_of_volumes():
    for turn in (0, 30, 45):
        assert box_iou_3d(pose(UP, turn), CUBE / 2, pose(), CUBE) == pytest.approx(1 / 8)


def test_symmetric_iou_is_the_maximum_over_yaw():
    arguments = (pose(UP, 45), CUBE, pose(), CUBE)
    assert metrics.intersection_over_union(*arguments, Symmetry.AXIS_Z) == pytest.approx(1.0)
    assert metrics.intersection_over_union(*arguments, Symmetry.NONE) < 0.75


@given(
    axis=st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1),
    shift=st.tuples(*[st.floats(-0.08, 0.08)] * 3),
)
@settings(max_examples=15)
def test_iou_agrees_with_counting_points(axis, shift):
    """The slow way: a point in each cell of a fine grid over one box, and which of them lie in the other.

    Their places in the cells are random, because faces that are parallel to a grid cut it unevenly.
    """
    first, second = np.array([0.1, 0.2, 0.15]), np.array([0.12, 0.1, 0.18])
    other = pose(axis, 57.0, tuple(np.array([0, 0, 1.0]) + shift))
    corners = np.stack(np.meshgrid(*[np.arange(40)] * 3, indexing="ij"), -1).reshape(-1, 3)
    grid = ((corners + np.random.default_rng(0).random(corners.shape)) / 40 - 0.5) * first
    inside = (other.inverse() @ (pose() @ torch.from_numpy(grid))).abs().numpy() <= second / 2
    intersection = inside.all(1).mean() * first.prod()
    expected = intersection / (first.prod() + second.prod() - intersection)
    assert box_iou_3d(pose(), first, other, second) == pytest.approx(expected, abs=0.01)
    assert box_iou_3d(other, second, pose(), first) == pytest.approx(box_iou_3d(pose(), first, other, second))


def test_average_precision_by_hand():
    """Right, wrong, right; three objects: precision 1 at recall 1/3, 2/3 at recall 2/3."""
    scores = np.array([0.5, 0.9, 0.7])
    positive = np.array([True, True, False])
    assert metrics.average_precision(scores, positive, 3) == pytest.approx((1 + 2 / 3) / 3)


def test_average_precision_lifts_a_precision_to_the_best_at_higher_recall():
    """Wrong, right, right: precisions 1/2 and 2/3 become 2/3 twice."""
    scores = np.array([0.9, 0.8, 0.7])
    assert metrics.average_precision(scores, np.array([False, True, True]), 2) == pytest.approx(2 / 3)


def test_average_precision_does_not_depend_on_the_order_of_equal_scores():
    """One right of ten, all as sure: precision is a tenth."""
    positive = np.arange(10) == 0
    for order in (positive, positive[::-1]):
        assert metrics.average_precision(np.full(10, 0.5), order, 1) == pytest.approx(0.1)


def test_average_precision_at_the_ends():
    nothing = np.array([]), np.array([], dtype=bool)
    assert metrics.average_precision(*nothing, 2) == 0
    assert math.isnan(metrics.average_precision(*nothing, 0))


def test_box_iou_2d():
    boxes = np.array([[0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 5, 9]], dtype=float)
    iou = box_iou_2d(boxes, boxes)
    assert np.allclose(iou, [[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 0]])


def test_projected_box_is_that_of_the_near_face():
    camera = Camera(fx=100.0, fy=100.0, cx=50.0, cy=40.0, width=101, height=81)
    # The near face of a 0.2 m cube around (0, 0, 1.1) lies at 1 m: +-0.1 m are +-10 pixels.
    box = projected_box(camera, pose(at=(0.0, 0.0, 1.1)), np.full(3, 0.2))
    assert np.allclose(box, [40, 30, 60, 50])


def test_projected_box_is_cut_at_the_image_and_at_the_camera():
    camera = Camera(fx=100.0, fy=100.0, cx=50.0, cy=40.0, width=101, height=81)
    assert np.allclose(projected_box(camera, pose(at=(0.0, 0.0, 0.0)), np.ones(3)), [-0.5, -0.5, 100.5, 80.5])
    behind = projected_box(camera, pose(at=(0.0, 0.0, -2.0)), np.ones(3))
    assert (behind[2:] - behind[:2]).prod() == 0
    beside = projected_box(camera, pose(at=(9.0, 0.0, 1.0)), np.full(3, 0.2))
    assert (beside[2:] - beside[:2]).prod() == 0
