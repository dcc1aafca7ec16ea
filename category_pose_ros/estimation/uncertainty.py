"""How sure a pose is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from category_pose_ros.config import setting, validate
from category_pose_ros.geometry import SE3, Symmetry

Covariance = npt.NDArray[np.float64]
_FREE_YAW = np.pi**2 / 3  # variance of an angle of which nothing is known


@dataclass(frozen=True)
class SystematicConfig:
    """Errors that all cells of an object share, and all its frames: neither averages them out.

    No box and no solid is the object, and the network errs alike on what looks alike.
    """

    rotation_deg: float = setting(
        5.0, "Standard deviation of the rotation about each axis.", minimum=0.0, maximum=180.0
    )
    sight: float = setting(
        0.04, "Standard deviation of the position along the line of sight, in diagonals.", minimum=0.0, maximum=10.0
    )
    lateral: float = setting(
        0.02, "Standard deviation of the position across the line of sight, in diagonals.", minimum=0.0, maximum=10.0
    )

    def __post_init__(self) -> None:
        validate(self)


def tilt_variance(hessian: Tensor, rotation: Tensor) -> Tensor:
    """Variance (B,) of the direction of the z axis, in radians squared per axis across it.

    Args:
        hessian: (B, 9, 9) of the negative log posterior.
        rotation: (B, 3, 3) of the poses, in the camera frame.
    """
    free = 1e-6 * torch.eye(hessian.shape[-1], dtype=torch.float64, device=hessian.device)
    turn = torch.linalg.inv_ex(hessian.double() + free).inverse[:, 3:6, 3:6]
    axis = rotation[..., 2:].double()
    about = (axis.transpose(-1, -2) @ turn @ axis).flatten()
    return (0.5 * (turn.diagonal(dim1=-2, dim2=-1).sum(-1) - about)).to(rotation.dtype)


def pose_covariance(hessian: Tensor, camera_from_object: SE3, symmetry: Symmetry) -> Covariance:
    """Covariance (6, 6) of (x, y, z, rotation about x, y, z) in the camera frame.

    The inverse of the solver's Gauss-Newton matrix, size included, of which the pose's block is
    kept: so the pose is marginalised over the size, and without depth the line of sight is as
    uncertain as the category's size. About an axis of symmetry nothing is known.

    Args:
        hessian: (9, 9) of the negative log posterior.
        camera_from_object: one pose.
    """
    values, vectors = np.linalg.eigh(hessian.double().cpu().numpy())
    # Directions that no term sees are bounded by 1 km and many turns, which keeps the inverse finite, and positive
    # where rounding has left them none.
    covariance = ((vectors / (np.maximum(values, 0.0) + 1e-6)) @ vectors.T)[:6, :6]
    if symmetry is Symmetry.AXIS_Z:
        axis = camera_from_object.rotation[:, 2].double().cpu().numpy()
        covariance[3:, 3:] += _FREE_YAW * np.outer(axis, axis)
    symmetric: Covariance = (covariance + covariance.T) / 2
    return symmetric


def systematic_covariance(camera_from_object: SE3, diagonal_m: float, config: SystematicConfig) -> Covariance:
    """Covariance (6, 6) of the errors that no number of cells or frames averages out, as in `pose_covariance`.

    What is added to it here is considered and not estimated (Schmidt 1966): it moves no pose.

    Args:
        camera_from_object: one pose.
        diagonal_m: of the object's box.
    """
    position = camera_from_object.translation.double().cpu().numpy()
    along = np.outer(position, position) / (position @ position)
    covariance = np.zeros((6, 6))
    covariance[:3, :3] = config.sight**2 * along + config.lateral**2 * (np.eye(3) - along)
    covariance[:3, :3] *= diagonal_m**2
    covariance[3:, 3:] = np.deg2rad(config.rotation_deg) ** 2 * np.eye(3)
    return covariance
