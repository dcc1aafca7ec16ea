"""The object is where it was believed to be, as far as that was known."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from category_pose_ros.estimation.solver import Linearised
from category_pose_ros.estimation.state import DIMENSION, State
from category_pose_ros.geometry import so3


@dataclass(frozen=True, eq=False)
class BeliefTerm:
    """Gaussian on the step from a mean state: the prediction of an iterated extended Kalman filter.

    In information form (Bell and Cathey 1993): the solver's minimum is the updated state and its
    matrix there the updated information.

    Attributes:
        mean: (B,) states.
        information: (B, 9, 9) inverse covariance of `State.moved` steps from the mean.
    """

    mean: State
    information: Tensor

    def linearise(self, state: State) -> Linearised:
        step = self._step(state)
        pull = (self.information @ step.unsqueeze(-1)).squeeze(-1)
        jacobian = torch.eye(DIMENSION, dtype=step.dtype, device=step.device).repeat(len(step), 1, 1)
        jacobian[:, 3:6, 3:6] = so3.inverse_left_jacobian(step[:, 3:6])
        gradient = (jacobian.transpose(-1, -2) @ pull.unsqueeze(-1)).squeeze(-1)
        return Linearised(
            0.5 * (step * pull).sum(-1), gradient, jacobian.transpose(-1, -2) @ self.information @ jacobian
        )

    def cost(self, state: State) -> Tensor:
        step = self._step(state)
        return 0.5 * (step * (self.information @ step.unsqueeze(-1)).squeeze(-1)).sum(-1)

    def _step(self, state: State) -> Tensor:
        """(B, 9) that takes the mean to a state."""
        mean, pose = self.mean.camera_from_object, state.camera_from_object
        turned = so3.log(pose.rotation @ mean.rotation.transpose(-1, -2))
        return torch.cat([pose.translation - mean.translation, turned, state.log_size - self.mean.log_size], dim=-1)
