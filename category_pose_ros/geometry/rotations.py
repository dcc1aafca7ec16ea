"""Even samplings of rotations."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from category_pose_ros.geometry import so3

_PHI = math.sqrt(2.0)
_PSI = 1.533751168755204288118041  # real root of psi^4 = psi + 4


def super_fibonacci(count: int) -> Tensor:
    """Evenly spread rotations (count, 3, 3) by the super-Fibonacci spiral (Alexa, CVPR 2022)."""
    s = torch.arange(count, dtype=torch.float64) + 0.5
    t = s / count
    d = 2 * math.pi * s
    r, big_r = t.sqrt(), (1 - t).sqrt()
    alpha, beta = d / _PHI, d / _PSI
    quaternion = torch.stack([r * alpha.sin(), r * alpha.cos(), big_r * beta.sin(), big_r * beta.cos()], -1)
    return so3.from_quaternion_wxyz(quaternion).float()


def fibonacci_axes(count: int) -> Tensor:
    """Rotations (count, 3, 3) whose z axes are evenly spread on the sphere (yaw is arbitrary)."""
    index = torch.arange(count, dtype=torch.float64) + 0.5
    z = 1 - 2 * index / count
    angle = math.pi * (1 + math.sqrt(5.0)) * index
    radius = (1 - z * z).sqrt()
    axis = torch.stack([radius * angle.cos(), radius * angle.sin(), z], -1)
    helper = torch.where(axis[:, :1].abs() < 0.9, axis.new_tensor([[1.0, 0, 0]]), axis.new_tensor([[0, 1.0, 0]]))
    x = torch.nn.functional.normalize(torch.linalg.cross(helper, axis), dim=-1)
    return torch.stack([x, torch.linalg.cross(axis, x), axis], dim=-1).float()


def line_of_sight(ray: Tensor) -> Tensor:
    """The smallest rotation that takes the optical axis to a ray.

    Its inverse times an object's rotation is how the object appears, wherever in the image it is
    (the allocentric rotation of Kundu et al. 2018).

    Args:
        ray: (..., 3) in the camera frame, not zero.

    Returns:
        (..., 3, 3).
    """
    ahead = ray.new_tensor([0.0, 0.0, 1.0])
    unit = ray / ray.norm(dim=-1, keepdim=True)
    axis = torch.linalg.cross(ahead.expand_as(unit), unit)
    sine = axis.norm(dim=-1, keepdim=True)
    angle = torch.atan2(sine, unit[..., 2:])
    return so3.exp(axis * (angle / sine.clamp_min(1e-9)))
