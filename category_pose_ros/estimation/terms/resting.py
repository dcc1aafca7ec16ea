"""An object that stands or lies on a plane is parallel to it and touches it.

What shows the tilt of an object worst is the image of the object itself; what it stands on shows it
at once. The solid of the object is taken for the ellipsoid in its box, whose reach along the normal
is exact wherever an axis of the box is parallel to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from category_pose_ros.estimation.solver import Linearised, gauss_newton
from category_pose_ros.estimation.state import DIMENSION, State
from category_pose_ros.geometry import so3


@dataclass(frozen=True, eq=False)
class RestingTerm:
    """Gaussian on the angle between z axis and plane, and on the gap below the object.

    Attributes:
        normal: (B, 3) unit normal of the plane in the camera frame, to the side of the object.
        offset_m: (B,) distance of the camera from the plane, positive on that side.
        upright: (B,) 1 for an object that stands, -1 upside down, 0 lying: its z axis is parallel to the plane.
        weight: (B,) 0 drops the term.
        deviation_rad: (B,) standard deviation of the angle.
        deviation_m: (B,) standard deviation of the gap; infinite where only the direction of the plane is known.
    """

    normal: Tensor
    offset_m: Tensor
    upright: Tensor
    weight: Tensor
    deviation_rad: Tensor
    deviation_m: Tensor

    def __getitem__(self, index: Tensor) -> RestingTerm:
        tables = (self.normal, self.offset_m, self.upright, self.weight, self.deviation_rad, self.deviation_m)
        return RestingTerm(*(table[index] for table in tables))

    def linearise(self, state: State) -> Linearised:
        (tilt, by_tilt), (gap, by_gap) = self._tilt(state), self._gap(state)
        residual = torch.cat([tilt, gap.unsqueeze(-1)], dim=-1).unsqueeze(1)  # (B, 1, 4)
        jacobian = torch.cat([by_tilt, by_gap.unsqueeze(1)], dim=1).unsqueeze(1)
        gradient, hessian = gauss_newton(residual, jacobian, self.weight.unsqueeze(-1))
        return Linearised(self._cost(tilt, gap), gradient, hessian)

    def cost(self, state: State) -> Tensor:
        return self._cost(self._tilt(state)[0], self._gap(state)[0])

    def _cost(self, tilt: Tensor, gap: Tensor) -> Tensor:
        return 0.5 * self.weight * (tilt.square().sum(-1) + gap.square())

    def _tilt(self, state: State) -> tuple[Tensor, Tensor]:
        """(B, 3) in standard deviations and (B, 3, 9)."""
        axis = state.camera_from_object.rotation[..., 2]
        along = self.normal.unsqueeze(-1) * self.normal.unsqueeze(-2)  # what counts of the axis of one that lies
        lies = (self.upright == 0).to(axis.dtype)[:, None, None]
        counted = lies * along + (1 - lies) * torch.eye(3, dtype=axis.dtype, device=axis.device)
        residual = (counted @ axis.unsqueeze(-1)).squeeze(-1) - self.upright.unsqueeze(-1) * self.normal
        jacobian = torch.zeros(len(axis), 3, DIMENSION, dtype=axis.dtype, device=axis.device)
        jacobian[..., 3:6] = -counted @ so3.hat(axis)
        deviation = self.deviation_rad.unsqueeze(-1)
        return residual / deviation, jacobian / deviation.unsqueeze(-1)

    def _gap(self, state: State) -> tuple[Tensor, Tensor]:
        """(B,) in standard deviations and (B, 9)."""
        size = state.size_m
        pose = state.camera_from_object
        scaled = (pose.rotation.transpose(-1, -2) @ self.normal.unsqueeze(-1)).squeeze(-1) * size
        reach = 0.5 * scaled.norm(dim=-1).clamp_min(1e-9)
        gap = (self.normal * pose.translation).sum(-1) + self.offset_m - reach
        lever = (pose.rotation @ (scaled * size).unsqueeze(-1)).squeeze(-1) / (4 * reach).unsqueeze(-1)
        by_rotation = -torch.linalg.cross(lever, self.normal, dim=-1)
        by_log_size = -scaled.square() / (4 * reach).unsqueeze(-1)
        jacobian = torch.cat([self.normal, by_rotation, by_log_size], dim=-1)
        return gap / self.deviation_m, jacobian / self.deviation_m.unsqueeze(-1)
