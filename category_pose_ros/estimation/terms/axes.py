"""The object's axes point where its cells say that they do.

A direct vote for the rotation, learned by regression, beside the correspondences: it knows what a
cuboid cannot carry, such as how round a rim looks, which decides the tilt of an upright object.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from category_pose_ros.estimation.solver import Linearised
from category_pose_ros.estimation.state import State


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
        weight = self.information.unsqueeze(-1)
        # Turned by a rotation vector v an axis moves by v x axis: its derivative is the skew matrix of -axis.
        gradient = (weight * torch.linalg.cross(self.axes, seen)).sum(1)
        identity = torch.eye(3, dtype=seen.dtype, device=seen.device)
        hessian = weight.sum(1, keepdim=True) * identity - (weight * seen).transpose(-1, -2) @ seen
        return Linearised(self._cost(seen), pad(gradient, (3, 3)), pad(hessian, (3, 3, 3, 3)))

    def cost(self, state: State) -> Tensor:
        return self._cost(self._seen(state))

    @staticmethod
    def _seen(state: State) -> Tensor:
        return state.camera_from_object.rotation[..., [0, 2]].transpose(-1, -2)  # (B, 2, 3)

    def _cost(self, seen: Tensor) -> Tensor:
        """Half the square of the difference is one minus the cosine."""
        return 0.5 * (self.information * (seen - self.axes).square().sum(-1)).sum(-1)
