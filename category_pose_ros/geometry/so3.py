"""Rotations: exponential and logarithm of SO(3), quaternions, distances.

All functions take leading batch axes. exp and log have finite gradients at the identity: exp is made
of cardinal sines; the small-angle branch of log is a Taylor series, and `torch.where` sees safe operands
on both sides.
"""

from __future__ import annotations

import torch
from torch import Tensor

_SMALL_ANGLE = 1e-3  # below this the Taylor series are exact to float64


def hat(vector: Tensor) -> Tensor:
    """Skew-symmetric matrix of a vector: `hat(a) @ b == cross(a, b)`.

    Args:
        vector: (..., 3).

    Returns:
        (..., 3, 3).
    """
    identity = torch.eye(3, dtype=vector.dtype, device=vector.device)
    return torch.linalg.cross(vector.unsqueeze(-2), identity.expand(*vector.shape, 3)).transpose(-1, -2)


def exp(rotation_vector: Tensor) -> Tensor:
    """Rotation matrix of a rotation vector (Rodrigues' formula).

    Args:
        rotation_vector: (..., 3) axis times angle, radians.

    Returns:
        (..., 3, 3).
    """
    half_turns = rotation_vector.norm(dim=-1)[..., None, None] / torch.pi
    sine_ratio = torch.sinc(half_turns)  # sin(a) / a
    cosine_ratio = 0.5 * torch.sinc(half_turns / 2).square()  # (1 - cos(a)) / a^2 without its cancellation
    skew = hat(rotation_vector)
    identity = torch.eye(3, dtype=skew.dtype, device=skew.device)
    return identity + sine_ratio * skew + cosine_ratio * (skew @ skew)


def log(rotation: Tensor) -> Tensor:
    """Rotation vector of a rotation matrix, angle in [0, pi].

    Goes through the unit quaternion, which is well conditioned at both ends of the interval.

    Args:
        rotation: (..., 3, 3).

    Returns:
        (..., 3) axis times angle, radians.
    """
    quaternion = to_quaternion_wxyz(rotation)
    real, imaginary = quaternion[..., :1], quaternion[..., 1:]
    norm_squared = (imaginary * imaginary).sum(-1, keepdim=True)
    small = norm_squared < _SMALL_ANGLE**2
    norm = torch.where(small, torch.ones_like(norm_squared), norm_squared).sqrt()
    safe_real = real.clamp_min(0.5)  # near 1 where the series is taken
    series = 2 / safe_real * (1 - norm_squared / (3 * safe_real**2))
    ratio = torch.where(small, series, 2 * torch.atan2(norm, real) / norm)
    return ratio * imaginary


def to_quaternion_wxyz(rotation: Tensor) -> Tensor:
    """Unit quaternion (w, x, y, z) with w >= 0 of a rotation matrix.

    Of the four equivalent formulas the one with the largest pivot is taken (Shepperd 1978).

    Args:
        rotation: (..., 3, 3).

    Returns:
        (..., 4).
    """
    m = rotation
    m00, m11, m22 = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    squares = torch.stack(
        [1 + m00 + m11 + m22, 1 + m00 - m11 - m22, 1 - m00 + m11 - m22, 1 - m00 - m11 + m22], -1
    )  # (..., 4), four times the squared components
    x, y, z = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    candidates = torch.stack(
        [
            torch.stack([squares[..., 0], x, y, z], -1),
            torch.stack([x, squares[..., 1], xy, xz], -1),
            torch.stack([y, xy, squares[..., 2], yz], -1),
            torch.stack([z, xz, yz, squares[..., 3]], -1),
        ],
        -2,
    )  # (..., 4 candidates, 4)
    pivot = squares.argmax(-1)
    index = pivot[..., None, None].expand(*pivot.shape, 1, 4)
    quaternion = candidates.gather(-2, index).squeeze(-2)
    quaternion = torch.nn.functional.normalize(quaternion, dim=-1)
    return torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def from_quaternion_wxyz(quaternion: Tensor) -> Tensor:
    """Rotation matrix of a quaternion (w, x, y, z), normalised first.

    Args:
        quaternion: (..., 4), not zero.

    Returns:
        (..., 3, 3).
    """
    quaternion = torch.nn.functional.normalize(quaternion, dim=-1)
    real, skew = quaternion[..., 0, None, None], hat(quaternion[..., 1:])
    identity = torch.eye(3, dtype=skew.dtype, device=skew.device)
    return identity + 2 * real * skew + 2 * (skew @ skew)


def angle_between(first: Tensor, second: Tensor) -> Tensor:
    """Geodesic distance of two rotations.

    Args:
        first, second: (..., 3, 3).

    Returns:
        (...) radians in [0, pi].
    """
    return log(first.transpose(-1, -2) @ second).norm(dim=-1)
