"""The size of the object is one of its category.

With RGB alone this is what fixes the scale: image terms cannot tell a small near object from a
large far one, so the solution slides along that line to the likeliest size, and the covariance
stays as long in that direction as the prior is.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import pad

from category_pose_ros.estimation.solver import Linearised
from category_pose_ros.estimation.state import State


@dataclass(frozen=True, eq=False)
class SizePriorTerm:
    """Gaussian on the log size.

    Attributes:
        mean: (B, 3).
        information: (B, 3, 3) inverse covariance.
    """

    mean: Tensor
    information: Tensor

    @property
    def scale_variance(self) -> Tensor:
        """(B,) of the log of the scale of an object whose proportions are known; infinite without information."""
        return 1 / self.information.sum((-1, -2))

    def linearise(self, state: State) -> Linearised:
        residual = (state.log_size - self.mean).unsqueeze(-1)  # (B, 3, 1)
        pull = self.information @ residual
        cost = 0.5 * (residual * pull).sum((-1, -2))
        return Linearised(cost, pad(pull.squeeze(-1), (6, 0)), pad(self.information, (6, 0, 6, 0)))

    def cost(self, state: State) -> Tensor:
        residual = (state.log_size - self.mean).unsqueeze(-1)
        return 0.5 * (residual * (self.information @ residual)).sum((-1, -2))
