"""Cells that know their place on the box: robust reprojection error.

Every cell of the object predicts, through the vertex memory, the point of the box that it sees.
The displacement between that point's projection and the cell is the residual; carried to the pose
through the projection it is the step of Grabner et al. 2020 with a Gauss-Newton matrix beside it.
It does not depend on the start, so its basin is the widest of all terms.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from category_pose_ros.estimation.solver import Linearised, gauss_newton
from category_pose_ros.estimation.state import Intrinsics, State, projection_jacobian


@dataclass(frozen=True, eq=False)
class CorrespondenceTerm:
    """Geman-McClure robust reprojection error (Geman and McClure 1987).

    Attributes:
        intrinsics: of the B crops.
        points_box: (B, N, 3) predicted points in units of the box.
        cells: (B, N, 2) where the cells are.
        weight: (B, N) confidence of each cell; 0 drops it.
        scale: residual in cells at which a cell's pull is a quarter of its squared error's.
    """

    intrinsics: Intrinsics
    points_box: Tensor
    cells: Tensor
    weight: Tensor
    scale: float

    def linearise(self, state: State) -> Linearised:
        projected, jacobian = projection_jacobian(state, self.intrinsics, self.points_box)
        residual = projected - self.cells
        squared = residual.square().sum(-1)
        cost, weight = self._robust(squared)
        gradient, hessian = gauss_newton(residual, jacobian, weight * self.weight)
        return Linearised((self.weight * cost).sum(-1), gradient, hessian)

    def cost(self, state: State) -> Tensor:
        projected = self.intrinsics.project(state.points_camera(self.points_box))
        cost, _ = self._robust((projected - self.cells).square().sum(-1))
        return (self.weight * cost).sum(-1)

    def _robust(self, squared: Tensor) -> tuple[Tensor, Tensor]:
        """Cost and derivative weight: rho = 0.5 c^2 r^2 / (c^2 + r^2)."""
        c2 = self.scale**2
        share = c2 / (c2 + squared)
        return 0.5 * squared * share, share.square()
