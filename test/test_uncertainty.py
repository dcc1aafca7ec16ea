"""Covariances: positive definite, in the order and units of ROS, free where nobody can see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cuboids import SIZE, correspondences, intrinsics, truth

from category_pose_ros.estimation.solver import Linearised
from category_pose_ros.estimation.state import State
from category_pose_ros.estimation.terms import CorrespondenceTerm, SizePriorTerm
from category_pose_ros.estimation.uncertainty import (
    SystematicConfig,
    pose_covariance,
    systematic_covariance,
    tilt_variance,
)
from category_pose_ros.geometry import SE3, Symmetry

IDENTITY = SE3(torch.eye(3), torch.tensor([0.0, 0.0, 1.0]))


def curvature(state: State, size_deviation: float = 0.2) -> Linearised:
    optics = intrinsics()
    points, cells, hit = correspondences(state, optics)
    information = torch.eye(3).double().expand(1, 3, 3) / size_deviation**2
    prior = SizePriorTerm(SIZE.log().expand(1, 3), information)
    return CorrespondenceTerm(optics, points, cells, hit, 1.0).linearise(state) + prior.linearise(state)


@pytest.mark.parametrize("symmetry", Symmetry)
@pytest.mark.parametrize("seed", range(4))
def test_it_is_symmetric_and_positive_definite(symmetry: Symmetry, seed: int) -> None:
    state = truth(seed)
    covariance = pose_covariance(curvature(state).hessian[0], state.camera_from_object[0], symmetry)
    assert covariance.shape == (6, 6)
    assert covariance.dtype == np.float64
    assert (covariance == covariance.T).all()
    assert np.linalg.eigvalsh(covariance).min() > 0


def test_variances_come_in_the_order_of_the_step() -> None:
    deviations = np.array([0.01, 0.02, 0.03, 0.1, 0.2, 0.3, 0.5, 0.5, 0.5])
    covariance = pose_covariance(torch.diag(torch.from_numpy(deviations**-2)), IDENTITY, Symmetry.NONE)
    assert np.sqrt(np.diag(covariance)) == pytest.approx(deviations[:6], rel=1e-3)
    assert covariance - np.diag(np.diag(covariance)) == pytest.approx(0, abs=1e-9)


def test_the_pose_is_marginalised_over_the_size() -> None:
    """A distance that hangs on the size is as uncertain as the size."""
    rng = np.random.default_rng(0)
    root = rng.normal(0, 1, (9, 9))
    full = root @ root.T + np.eye(9)
    covariance = pose_covariance(torch.from_numpy(full), IDENTITY, Symmetry.NONE)
    assert covariance == pytest.approx(np.linalg.inv(full)[:6, :6], rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("deviation", [0.05, 0.3])
def test_without_depth_the_line_of_sight_is_as_uncertain_as_the_size(deviation: float) -> None:
    state = truth(1)
    covariance = pose_covariance(curvature(state, deviation).hessian[0], state.camera_from_object[0], Symmetry.NONE)
    translation = state.camera_from_object.translation[0].numpy()
    sight = translation / np.linalg.norm(translation)
    along = np.sqrt(sight @ covariance[:3, :3] @ sight)
    # Three independent log extents: their common part has a third of the variance.
    assert along == pytest.approx(np.linalg.norm(translation) * deviation / np.sqrt(3), rel=0.15)
    across = np.linalg.svd(np.eye(3) - np.outer(sight, sight))[0][:, :2]
    assert np.sqrt(np.linalg.eigvalsh(across.T @ covariance[:3, :3] @ across)).max() < 0.1 * along


def test_nothing_is_known_of_the_yaw_of_a_symmetric_object() -> None:
    state = truth(2)
    hessian, pose = curvature(state).hessian[0], state.camera_from_object[0]
    axis = pose.rotation[:, 2].numpy()
    known = pose_covariance(hessian, pose, Symmetry.NONE)
    free = pose_covariance(hessian, pose, Symmetry.AXIS_Z)
    assert axis @ (free - known)[3:, 3:] @ axis == pytest.approx(np.pi**2 / 3)  # uniform over the circle
    across = np.linalg.svd(np.eye(3) - np.outer(axis, axis))[0][:, :2]
    assert across.T @ (free - known)[3:, 3:] @ across == pytest.approx(0, abs=1e-9)
    assert free[:3, :3] == pytest.approx(known[:3, :3])


def test_a_direction_that_no_term_sees_stays_finite() -> None:
    covariance = pose_covariance(torch.zeros(9, 9), IDENTITY, Symmetry.NONE)
    assert np.isfinite(covariance).all()
    assert np.linalg.eigvalsh(covariance).min() > 0


def test_a_direction_that_rounding_has_left_less_than_nothing_is_unknown() -> None:
    hessian = torch.diag(torch.tensor([1e8] * 8 + [-1e-3]))
    turn = torch.linalg.qr(torch.from_numpy(np.random.default_rng(0).standard_normal((9, 9)))).Q
    covariance = pose_covariance(turn @ hessian.double() @ turn.T, IDENTITY, Symmetry.NONE)
    assert np.linalg.eigvalsh(covariance).min() > 0
    assert np.linalg.eigvalsh(covariance).max() > 1e5


def test_systematic_errors_lie_along_and_across_the_line_of_sight() -> None:
    ray = np.array([0.6, 0.0, 0.8])
    pose = SE3(torch.eye(3), torch.from_numpy(3.0 * ray))
    covariance = systematic_covariance(pose, 0.2, SystematicConfig(rotation_deg=10.0, sight=0.05, lateral=0.01))
    for direction, deviation in ((ray, 0.01), (np.array([0.0, 1.0, 0.0]), 0.002), (np.array([-0.8, 0.0, 0.6]), 0.002)):
        assert covariance[:3, :3] @ direction == pytest.approx(deviation**2 * direction, abs=1e-12)
    assert covariance[3:, 3:] == pytest.approx(np.radians(10.0) ** 2 * np.eye(3))
    assert covariance[:3, 3:] == pytest.approx(0)


def test_the_tilt_is_as_sure_as_the_turns_across_the_z_axis() -> None:
    information = torch.eye(9).repeat(2, 1, 1)
    information[:, 3:6, 3:6] = torch.diag(torch.tensor([25.0, 100.0, 1e-3]))
    along_x = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
    found = tilt_variance(information, torch.stack([torch.eye(3), along_x]))
    torch.testing.assert_close(found, torch.tensor([(0.04 + 0.01) / 2, (0.01 + 1000) / 2]), rtol=2e-3, atol=0)
