"""Symmetries of a category: which rotations about its own axes nobody can see."""

from __future__ import annotations

import enum

import torch
from torch import Tensor

from category_pose_ros.geometry import so3
from category_pose_ros.geometry.se3 import SE3


class Symmetry(enum.Enum):
    """The symmetry of an object about its z axis."""

    NONE = "none"
    AXIS_Z = "axis_z"  # any rotation about z looks the same: bottle, bowl, can


AXIS_SYMMETRIC = frozenset({"bottle", "bowl", "can"})


def symmetry_of(category: str) -> Symmetry:
    """The symmetry of a category, in data, training and evaluation alike."""
    return Symmetry.AXIS_Z if category in AXIS_SYMMETRIC else Symmetry.NONE


def canonical(camera_from_object: SE3, symmetry: Symmetry) -> SE3:
    """The representative of a pose that we answer with.

    For AXIS_Z it is the one whose x axis points towards the camera: x is the direction from the
    object's centre to the camera, less its part along z. Seen exactly along z any yaw will do and
    the given one is kept.

    Args:
        camera_from_object: batch (...).
        symmetry: of the category.

    Returns:
        Batch (...) of equivalent poses.
    """
    if symmetry is Symmetry.NONE:
        return camera_from_object
    rotation, translation = camera_from_object.rotation, camera_from_object.translation
    z_axis = rotation[..., :, 2]
    to_camera = -translation / translation.norm(dim=-1, keepdim=True).clamp_min(1e-9)
    across = _across(to_camera, z_axis)
    length = across.norm(dim=-1, keepdim=True)
    # Almost along z little more than rounding is left, and part of that is along z: once more.
    x_axis = torch.nn.functional.normalize(_across(across / length.clamp_min(1e-6), z_axis), dim=-1)
    x_axis = torch.where(length > 1e-6, x_axis, rotation[..., :, 0])
    y_axis = torch.linalg.cross(z_axis, x_axis)
    return SE3(torch.stack([x_axis, y_axis, z_axis], dim=-1), translation)


def rotation_distance(first: Tensor, second: Tensor, symmetry: Symmetry) -> Tensor:
    """Angle between two rotations up to symmetry.

    For AXIS_Z this is the angle between the z axes, the smallest geodesic distance over all
    rotations about z (as in the NOCS evaluation, Wang et al. 2019).

    Args:
        first, second: (..., 3, 3).
        symmetry: of the category.

    Returns:
        (...) radians in [0, pi].
    """
    if symmetry is Symmetry.NONE:
        return so3.angle_between(first, second)
    z_first, z_second = first[..., :, 2], second[..., :, 2]
    sine = torch.linalg.cross(z_first, z_second).norm(dim=-1)
    return torch.atan2(sine, (z_first * z_second).sum(-1))


def _across(vector: Tensor, axis: Tensor) -> Tensor:
    """The part of a vector that is perpendicular to a unit axis."""
    return vector - (vector * axis).sum(-1, keepdim=True) * axis
