"""Measured points lie on the object: robust distance to the surface of its solid.

With RGB alone the size prior fixes the scale; a few measured points fix it far better, because the
other terms leave exactly one direction open, size and distance together. The surface is that of
the solid which stands for the category in the box (`geometry.solids`). Its distance is linearised
in place: point to plane (Chen and Medioni 1992), with the plane where the solid is nearest.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from category_pose_ros.estimation.solver import Linearised, gauss_newton
from category_pose_ros.estimation.state import State
from category_pose_ros.geometry.solids import Solids, signed_distance


@dataclass(frozen=True, eq=False)
class DepthTerm:
    """Geman-McClure robust distance to the surface (Geman and McClure 1987).

    Attributes:
        solids: what stands in the boxes.
        points_camera: (B, N, 3) measured points in metres.
        deviation_m: (B, N) standard deviation of their distance to the surface.
        weight: (B, N) share of an independent measurement that each is; 0 drops it.
        scale: distance in standard deviations at which a point's pull is a quarter of its squared error's.
    """

    solids: Solids
    points_camera: Tensor
    deviation_m: Tensor
    weight: Tensor
    scale: float

    def __getitem__(self, index: Tensor) -> DepthTerm:
        """The term of some of the hypotheses."""
        readings = self.points_camera[index], self.deviation_m[index], self.weight[index]
        return DepthTerm(self.solids[index], *readings, self.scale)

    def linearise(self, state: State) -> Linearised:
        distance, by_point, by_log_size = self._distance(state)
        residual = distance / self.deviation_m
        cost, weight = self._robust(residual)
        normal = by_point @ state.camera_from_object.rotation.transpose(-1, -2)  # (B, N, 3) camera frame
        arm = self.points_camera - state.camera_from_object.translation.unsqueeze(-2)
        jacobian = torch.cat([-normal, torch.linalg.cross(normal, arm), by_log_size], dim=-1)  # (B, N, 9)
        jacobian = jacobian / self.deviation_m.unsqueeze(-1)
        gradient, hessian = gauss_newton(residual.unsqueeze(-1), jacobian.unsqueeze(-2), weight * self.weight)
        return Linearised((self.weight * cost).sum(-1), gradient, hessian)

    def cost(self, state: State) -> Tensor:
        cost, _ = self._robust(self._distance(state)[0] / self.deviation_m)
        return (self.weight * cost).sum(-1)

    def inliers(self, state: State) -> Tensor:
        """Share (B,) of the weight that lies within the kernel's scale of the surface; 0 without points."""
        residual = self._distance(state)[0] / self.deviation_m
        near = self.weight * (residual.abs() < self.scale)
        return near.sum(-1) / self.weight.sum(-1).clamp_min(1e-9)

    def _distance(self, state: State) -> tuple[Tensor, Tensor, Tensor]:
        object_from_camera = state.camera_from_object.inverse()
        points_object = object_from_camera @ self.points_camera
        return signed_distance(self.solids, state.size_m, points_object, object_from_camera.translation)

    def _robust(self, residual: Tensor) -> tuple[Tensor, Tensor]:
        """Cost and derivative weight: rho = 0.5 c^2 r^2 / (c^2 + r^2)."""
        c2 = self.scale**2
        squared = residual.square()
        share = c2 / (c2 + squared)
        return 0.5 * squared * share, share.square()
