"""Rigid transforms as frozen records of tensors.

Names say frames: `camera_from_object @ points_object` gives points in the camera frame, and
`camera_from_world @ world_from_object` is `camera_from_object`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import overload

import torch
from torch import Tensor

from category_pose_ros.geometry import so3


@dataclass(frozen=True, eq=False)
class SE3:
    """A batch of rigid transforms.

    Attributes:
        rotation: (..., 3, 3).
        translation: (..., 3), metres.
    """

    rotation: Tensor
    translation: Tensor

    def __post_init__(self) -> None:
        if self.rotation.shape[-2:] != (3, 3):
            raise ValueError(f"rotation: expected shape (..., 3, 3), got {tuple(self.rotation.shape)}")
        if self.translation.shape != self.rotation.shape[:-1]:
            expected = tuple(self.rotation.shape[:-1])
            raise ValueError(f"translation: expected shape {expected}, got {tuple(self.translation.shape)}")

    @staticmethod
    def identity(*batch: int) -> SE3:
        return SE3(torch.eye(3).expand(*batch, 3, 3), torch.zeros(*batch, 3))

    @staticmethod
    def from_matrix(matrix: Tensor) -> SE3:
        """From (..., 4, 4) or (..., 3, 4) homogeneous matrices."""
        if matrix.shape[-1] != 4 or matrix.shape[-2] not in (3, 4):
            raise ValueError(f"matrix: expected shape (..., 4, 4) or (..., 3, 4), got {tuple(matrix.shape)}")
        return SE3(matrix[..., :3, :3], matrix[..., :3, 3])

    @staticmethod
    def exp(tangent: Tensor) -> SE3:
        """Exponential of a twist (..., 6): translation part first, then rotation vector.

        V is the left Jacobian of SO(3) (Barfoot, State Estimation for Robotics, eq. 7.85).
        """
        if tangent.shape[-1:] != (6,):
            raise ValueError(f"tangent: expected shape (..., 6), got {tuple(tangent.shape)}")
        rho, phi = tangent[..., :3], tangent[..., 3:]
        return SE3(so3.exp(phi), (_left_jacobian(phi) @ rho.unsqueeze(-1)).squeeze(-1))

    def log(self) -> Tensor:
        """Twist (..., 6) with `SE3.exp(twist) == self`; rotation angle in [0, pi]."""
        phi = so3.log(self.rotation)
        rho = torch.linalg.solve(_left_jacobian(phi), self.translation.unsqueeze(-1)).squeeze(-1)
        return torch.cat([rho, phi], dim=-1)

    @property
    def batch_shape(self) -> torch.Size:
        return self.translation.shape[:-1]

    def matrix(self) -> Tensor:
        """Homogeneous matrices (..., 4, 4)."""
        top = torch.cat([self.rotation, self.translation.unsqueeze(-1)], dim=-1)
        bottom = top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*self.batch_shape, 1, 4)
        return torch.cat([top, bottom], dim=-2)

    def inverse(self) -> SE3:
        rotation = self.rotation.transpose(-1, -2)
        return SE3(rotation, -(rotation @ self.translation.unsqueeze(-1)).squeeze(-1))

    @overload
    def __matmul__(self, other: SE3) -> SE3: ...
    @overload
    def __matmul__(self, other: Tensor) -> Tensor: ...
    def __matmul__(self, other: SE3 | Tensor) -> SE3 | Tensor:
        """Compose with a transform, or transform points (..., N, 3)."""
        if isinstance(other, SE3):
            moved = (self.rotation @ other.translation.unsqueeze(-1)).squeeze(-1)
            return SE3(self.rotation @ other.rotation, moved + self.translation)
        if other.ndim < 2 or other.shape[-1] != 3:
            raise ValueError(f"points: expected shape (..., N, 3), got {tuple(other.shape)}")
        return other @ self.rotation.transpose(-1, -2) + self.translation.unsqueeze(-2)

    def __getitem__(self, index: object) -> SE3:
        """Index the first batch axis."""
        return SE3(self.rotation[index], self.translation[index])  # type: ignore[index]

    def to(self, target: torch.device | torch.dtype | str) -> SE3:
        return SE3(self.rotation.to(target), self.translation.to(target))


def _left_jacobian(phi: Tensor) -> Tensor:
    angle_squared = (phi * phi).sum(-1, keepdim=True).unsqueeze(-1)
    # a - sin(a) loses its digits early, so the series reach further than in so3.exp.
    small = angle_squared < 1e-2
    series = torch.where(small, angle_squared, torch.zeros_like(angle_squared))
    angle = torch.where(small, torch.ones_like(angle_squared), angle_squared).sqrt()
    a_series = 1 / 2 - series / 24 * (1 - series / 30 * (1 - series / 56))
    b_series = 1 / 6 - series / 120 * (1 - series / 42 * (1 - series / 72))
    a = torch.where(small, a_series, 2 * ((angle / 2).sin() / angle) ** 2)
    b = torch.where(small, b_series, (angle - angle.sin()) / angle**3)
    skew = so3.hat(phi)
    return torch.eye(3, dtype=phi.dtype, device=phi.device) + a * skew + b * (skew @ skew)
