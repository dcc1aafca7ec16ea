"""The object is where it was believed to be, as far as that was known."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from category_pose_ros.estimation.solver import Linearised
from category_pose_ros.estimation.state import DIMENSION, State


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
        mean, pose = self.mean.camera_from_object.rotation, state.camera_from_object.rotation
        turn = pose @ mean.transpose(-1, -2)
        trace = (pose * mean).sum((-1, -2))[:, None, None]
        identity = torch.eye(DIMENSION, dtype=step.dtype, device=step.device)
        by_turn = 0.5 * (trace * identity[:3, :3] - turn)
        jacobian = identity + pad(by_turn - identity[:3, :3], (3, 3, 3, 3))
        pull = jacobian.transpose(-1, -2) @ self.information
        gradient = (pull @ step.unsqueeze(-1)).squeeze(-1)
        return Linearised(self._cost(step), gradient, pull @ jacobian)

    def cost(self, state: State) -> Tensor:
        return self._cost(self._step(state))

    def _cost(self, step: Tensor) -> Tensor:
        return 0.5 * (step * (self.information @ step.unsqueeze(-1)).squeeze(-1)).sum(-1)

    def _step(self, state: State) -> Tensor:
        """(B, 9) from the mean to a state.

        A turn by an angle counts as its sine, which spares a logarithm; beliefs are narrower than that.
        """
        mean, pose = self.mean.camera_from_object, state.camera_from_object
        axis = 0.5 * torch.linalg.cross(mean.rotation, pose.rotation, dim=-2).sum(-1)  # of the turn, times its sine
        shift = pose.translation - mean.translation
        return torch.cat([shift, axis, state.log_size - self.mean.log_size], dim=-1)
