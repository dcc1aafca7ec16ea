"""How sure a pose is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

from category_pose_ros.geometry import SE3, Symmetry

_FREE_YAW = np.pi**2 / 3  # variance of an angle of which nothing is known


def pose_covariance(hessian: Tensor, camera_from_object: SE3, symmetry: Symmetry) -> npt.NDArray[np.float64]:
    """Covariance (6, 6) of (x, y, z, rotation about x, y, z) in the camera frame.

    The inverse of the solver's Gauss-Newton matrix, size included, of which the pose's block is
    kept: so the pose is marginalised over the size, and without depth the line of sight is as
    uncertain as the category's size. About an axis of symmetry nothing is known.

    Args:
        hessian: (9, 9) of the negative log posterior.
        camera_from_object: one pose.
    """
    information = hessian.double().cpu().numpy()
    # Directions that no term sees are bounded by 1 km and many turns, which keeps the inverse finite.
    covariance = np.linalg.inv(information + 1e-6 * np.eye(len(information)))[:6, :6]
    if symmetry is Symmetry.AXIS_Z:
        axis = camera_from_object.rotation[:, 2].double().cpu().numpy()
        covariance[3:, 3:] += _FREE_YAW * np.outer(axis, axis)
    symmetric: npt.NDArray[np.float64] = (covariance + covariance.T) / 2
    return symmetric
