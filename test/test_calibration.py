"""Errors in units of their covariance, worked out by hand and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from category_pose_ros import SE3, ObjectEstimate
from category_pose_ros.data.annotations import GroundTruthObject
from category_pose_ros.evaluation.calibration import GROUPS, NormalisedError, calibrate, normalised_errors
from category_pose_ros.geometry import Symmetry, so3

SIZE = np.array([0.1, 0.08, 0.12])


def pose(x: float, y: float, z: float, *turn: float) -> SE3:
    rotation = so3.exp(torch.tensor(turn or (0.0, 0.0, 0.0), dtype=torch.float64))
    return SE3(rotation, torch.tensor([x, y, z], dtype=torch.float64))


def errors(
    found: SE3, true: SE3, covariance: np.ndarray, category: str = "mug", symmetry: Symmetry | None = None
) -> dict[str, NormalisedError]:
    estimate = ObjectEstimate(category, found, SIZE, 0.9, 1.0, covariance)
    return normalised_errors(estimate, GroundTruthObject(category, true, SIZE, symmetry=symmetry))


def test_each_group_has_its_own_part_of_the_error() -> None:
    deviations = np.array([0.01, 0.01, 0.05, 0.1, 0.1, 0.2])
    found, true = pose(0, 0, 1), pose(0.02, 0.01, 1.15, 0, 0, 0.4)
    seen = errors(found, true, np.diag(deviations**2))
    assert seen["line of sight"] == NormalisedError(pytest.approx(9.0), 1)
    assert seen["lateral"] == NormalisedError(pytest.approx(5.0), 2)
    assert seen["rotation"] == NormalisedError(pytest.approx(4.0), 3)
    assert seen["pose"] == NormalisedError(pytest.approx(18.0), 6)


def test_the_line_of_sight_goes_to_the_object_and_not_along_the_optical_axis() -> None:
    direction = np.array([0.6, 0.0, 0.8])
    covariance = np.eye(6) * 1e-4
    covariance[:3, :3] += np.outer(direction, direction) * (0.3**2 - 1e-4)
    seen = errors(pose(0.6, 0, 0.8), pose(0.78, 0, 1.04), covariance)
    assert seen["line of sight"].squared == pytest.approx(1.0)
    assert seen["lateral"].squared == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("category", ["can", "mug"])
def test_about_an_axis_of_symmetry_there_is_no_error(category: str) -> None:
    """A mug whose handle is hidden is judged as a can is."""
    found, true = pose(0, 0, 1, 0.2, 0, 0), pose(0, 0, 1)
    spun = SE3(true.rotation @ so3.exp(torch.tensor([0.0, 0.0, 2.0], dtype=torch.float64)), true.translation)
    covariance = np.diag([1, 1, 1, 0.01, 0.01, 3.0])
    plain, turned = (errors(found, item, covariance, category, Symmetry.AXIS_Z) for item in (true, spun))
    assert plain["rotation"] == NormalisedError(pytest.approx(4.0), 2)
    assert turned["rotation"].squared == pytest.approx(4.0)
    assert turned["pose"].freedom == 5


def test_upside_down_is_an_error_of_half_a_turn() -> None:
    found, true = pose(0, 0, 1), pose(0, 0, 1, math.pi, 0, 0)
    for symmetry in Symmetry:
        seen = errors(found, true, np.eye(6), "can", symmetry)
        assert seen["rotation"].squared == pytest.approx(math.pi**2)


def test_shares_and_means_of_errors_that_are_what_they_say() -> None:
    """Errors drawn from the covariance itself; 500 of them are within a few hundredths of what is expected."""
    rng = np.random.default_rng(0)
    root = rng.normal(0, 0.02, (6, 6))
    covariance = root @ root.T + np.eye(6) * 1e-5
    drawn = rng.multivariate_normal(np.zeros(6), covariance, 500)
    seen = [errors(pose(0, 0, 1), pose(x, y, 1 + z, *turn), covariance) for x, y, z, *turn in drawn]
    for name, item in calibrate(seen).items():
        assert item.count == 500
        assert item.mean == pytest.approx(1.0, abs=0.15), name
        assert item.median == pytest.approx(1.0, abs=0.15), name
        assert item.inside_one == pytest.approx(0.683, abs=0.05), name
        assert item.inside_two == pytest.approx(0.954, abs=0.025), name


@pytest.mark.parametrize("factor", [1.5, 10.0])
def test_a_covariance_that_promises_too_much_is_found_out(factor: float) -> None:
    rng = np.random.default_rng(1)
    drawn = [pose(x, y, 1 + z, *turn) for x, y, z, *turn in rng.normal(0, 0.01, (30, 6))]
    honest, proud = (
        calibrate([errors(pose(0, 0, 1), item, np.eye(6) * (0.01 / scale) ** 2) for item in drawn])
        for scale in (1.0, factor)
    )
    for name in GROUPS:
        assert proud[name].mean == pytest.approx(honest[name].mean * factor**2)
        assert proud[name].inside_two <= honest[name].inside_two


def test_of_no_errors_nothing_is_said() -> None:
    assert calibrate([]) == {}
