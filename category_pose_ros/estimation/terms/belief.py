"""The object is where it was believed to be, as far as that was known."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

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
        step, turn = self._step(state)
        identity = torch.eye(DIMENSION, dtype=step.dtype, device=step.device)
        trace = turn.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None]
        jacobian = identity.repeat(len(step), 1, 1)
        jacobian[:, 3:6, 3:6] = 0.5 * (trace * identity[:3, :3] - turn)
        pull = jacobian.transpose(-1, -2) @ self.information
        gradient = (pull @ step.unsqueeze(-1)).squeeze(-1)
        return Linearised(self._cost(step), gradient, pull @ jacobian)

    def cost(self, state: State) -> Tensor:
        return self._cost(self._step(state)[0])

    def _cost(self, step: Tensor) -> Tensor:
        return 0.5 * (step * (self.information @ step.unsqueeze(-1)).squeeze(-1)).sum(-1)

    def _step(self, state: State) -> tuple[Tensor, Tensor]:
        """(B, 9) from the mean to a state, and the turn (B, 3, 3) between them.

        A turn by an angle counts as its sine, which spares a logarithm; beliefs are narrower than that.
        """
        mean, pose = self.mean.camera_from_object, state.camera_from_object
        turn = pose.rotation @ mean.rotation.transpose(-1, -2)
        skew = 0.5 * (turn - turn.transpose(-1, -2))
        axis = torch.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]], dim=-1)
        shift = pose.translation - mean.translation
        return torch.cat([shift, axis, state.log_size - self.mean.log_size], dim=-1), turn
