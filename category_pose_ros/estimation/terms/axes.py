"""The object's axes point where its cells say that they do.

A direct vote for the rotation, learned by regression, beside the correspondences: it knows what a
cuboid cannot carry, such as how round a rim looks, which decides the tilt of an upright object.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from category_pose_ros.estimation.solver import Linearised, gauss_newton
from category_pose_ros.estimation.state import DIMENSION, State
from category_pose_ros.geometry import so3


@dataclass(frozen=True, eq=False)
class AxesTerm:
    """Von Mises-Fisher log likelihood of the x and z axis.

    Attributes:
        axes: (B, 2, 3) voted directions of the x and z axis, unit vectors in the camera frame.
        information: (B, 2) concentration of each; 0 drops it.
    """

    axes: Tensor
    information: Tensor

    def linearise(self, state: State) -> Linearised:
        seen = self._seen(state)
        residual = seen - self.axes  # half its square is one minus the cosine
        jacobian = torch.zeros(*seen.shape, DIMENSION, dtype=seen.dtype, device=seen.device)
        jacobian[..., 3:6] = -so3.hat(seen)
        gradient, hessian = gauss_newton(residual, jacobian, self.information)
        return Linearised(self._cost(residual), gradient, hessian)

    def cost(self, state: State) -> Tensor:
        return self._cost(self._seen(state) - self.axes)

    @staticmethod
    def _seen(state: State) -> Tensor:
        return state.camera_from_object.rotation[..., [0, 2]].transpose(-1, -2)  # (B, 2, 3)

    def _cost(self, residual: Tensor) -> Tensor:
        return 0.5 * (self.information * residual.square().sum(-1)).sum(-1)
