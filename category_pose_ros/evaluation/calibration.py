"""Whether covariances hold: errors in units of their own standard deviations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import gammaincinv

from category_pose_ros.data.annotations import GroundTruthObject
from category_pose_ros.geometry import Symmetry, so3
from category_pose_ros.records import ObjectEstimate

Array = npt.NDArray[np.float64]

INNER, OUTER = 0.68, 0.95
"""Probabilities of the two ellipsoids in which errors are counted."""

GROUPS = ("line of sight", "lateral", "rotation", "pose")


@dataclass(frozen=True)
class NormalisedError:
    """The error of a group of variables, given their marginal covariance.

    Attributes:
        squared: normalised error squared (NEES, Bar-Shalom et al. 2001): error^T covariance^-1 error.
            Its mean is `freedom` where the covariance holds.
        freedom: number of variables.
    """

    squared: float
    freedom: int


def normalised_errors(estimate: ObjectEstimate, truth: GroundTruthObject) -> dict[str, NormalisedError]:
    """The error of one estimate per group of GROUPS.

    Line of sight (1 variable) and lateral (2) are the parts of the position error along and across
    the direction to the estimate; rotation (3) is the rotation vector from the estimate to the
    truth in the camera frame. About an axis of symmetry there is no error, and rotation has two
    variables. Pose is all of them together, with their correlations.
    """
    position = estimate.camera_from_object.translation.double().numpy()
    sight = position / np.linalg.norm(position)
    about = np.eye(3)
    if truth.seen_symmetry is Symmetry.AXIS_Z:
        about = _across(estimate.camera_from_object.rotation[:, 2].double().numpy())
    rows = {
        "line of sight": np.pad(sight[None], ((0, 0), (0, 3))),
        "lateral": np.pad(_across(sight), ((0, 0), (0, 3))),
        "rotation": np.pad(about, ((0, 0), (3, 0))),
    }
    rows["pose"] = np.vstack(list(rows.values()))
    error = pose_error(estimate, truth)
    return {name: _normalised(error, estimate.covariance, chosen) for name, chosen in rows.items()}


def pose_error(estimate: ObjectEstimate, truth: GroundTruthObject) -> Array:
    """From the estimate to the truth: (6,) translation and rotation vector in the camera frame, metres and radians."""
    found, true = estimate.camera_from_object, truth.camera_from_object
    first, second = found.rotation.double(), true.rotation.double()
    shift = (true.translation.double() - found.translation.double()).numpy()
    if truth.seen_symmetry is Symmetry.AXIS_Z:
        return np.concatenate([shift, _between(first[:, 2].numpy(), second[:, 2].numpy())])
    return np.concatenate([shift, so3.log(second @ first.T).numpy()])


def _between(first: Array, second: Array) -> Array:
    """The shortest rotation vector (3,) from one unit vector to another."""
    axis = np.cross(first, second)
    sine = float(np.linalg.norm(axis))
    # From a vector to its opposite any axis across it will do.
    unit = axis / sine if sine > 1e-9 else _across(first)[0]
    return np.asarray(unit * np.arctan2(sine, float(first @ second)))


def _across(direction: Array) -> Array:
    """Two orthonormal rows (2, 3) across a unit vector (3,)."""
    return np.asarray(np.linalg.svd(direction[None])[2][1:])


def _normalised(error: Array, covariance: Array, rows: Array) -> NormalisedError:
    part = rows @ error
    # Nothing is surer than to a micrometre or a microradian, which keeps the matrix invertible.
    squared = part @ np.linalg.solve(rows @ covariance @ rows.T + 1e-12 * np.eye(len(rows)), part)
    return NormalisedError(float(squared), len(rows))


@dataclass(frozen=True)
class Calibration:
    """How well the covariances of one group of variables hold.

    Attributes:
        count: errors.
        mean: of the squared normalised errors over their degrees of freedom. 1 where the covariances
            hold, more where they promise too much; a few gross errors decide it.
        median: the same of the median, over the median that the chi-square distribution has.
        inside_one, inside_two: share of the errors inside the ellipsoids that should hold INNER and OUTER
            of them.
    """

    count: int
    mean: float
    median: float
    inside_one: float
    inside_two: float


def calibrate(errors: Sequence[Mapping[str, NormalisedError]]) -> dict[str, Calibration]:
    """Per group of GROUPS; empty where there are no errors."""
    return {name: _calibrate([each[name] for each in errors]) for name in GROUPS} if errors else {}


def _calibrate(errors: Sequence[NormalisedError]) -> Calibration:
    squared = np.array([item.squared for item in errors])
    freedom = np.array([item.freedom for item in errors])
    return Calibration(
        count=len(errors),
        mean=float(np.mean(squared / freedom)),
        median=float(np.median(squared / _bound(0.5, freedom))),
        inside_one=float(np.mean(squared <= _bound(INNER, freedom))),
        inside_two=float(np.mean(squared <= _bound(OUTER, freedom))),
    )


def _bound(probability: float, freedom: npt.NDArray[np.int_]) -> Array:
    """Quantile of the chi-square distribution."""
    return np.asarray(2 * gammaincinv(freedom / 2, probability), dtype=np.float64)
