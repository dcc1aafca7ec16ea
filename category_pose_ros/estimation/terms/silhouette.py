"""The object covers the pixels that its mask covers, and no others.

The residual of a pixel is the difference between the occupancy that the rasterizer gives it and the
mask. Its derivative is the motion of the nearest point of the outline along the normal, so the
Gauss-Newton matrix comes from the same rasterization, without automatic differentiation. A
residual far from the outline has no derivative; one beside it always points the right way, so that
silhouettes which barely overlap still find each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from category_pose_ros.estimation.solver import Linearised, gauss_newton
from category_pose_ros.estimation.state import Intrinsics, State, projection_jacobian
from category_pose_ros.rendering.membership import distance_membership
from category_pose_ros.rendering.outline import Nearest, nearest_outline, signed_distance
from category_pose_ros.rendering.rasterizer import NEAR_M
from category_pose_ros.rendering.surface import Surface
from category_pose_ros.rendering.visibility import visible_faces

# Per hypothesis the pixels whose occupancy changes most, at least so many and this share of all; the rest changes
# next to nothing.
_PIXELS, _SHARE = 1024, 0.25


@dataclass(frozen=True, eq=False)
class SilhouetteTerm:
    """Squared difference of occupancy and mask.

    Attributes:
        surface: mesh of the category or of a representative instance, in units of the box.
        intrinsics: of the B crops, in pixels of the mask.
        mask: (B, H, W) probability that a pixel shows the object.
        weight: (B, H, W) what each pixel counts; 0 where something else may be in front, so that what
            others cover is not held against the silhouette.
        softness_px: width of the outline's edge, which is also how far one step can reach.
        deviation_px: standard deviation of the mask's outline.
    """

    surface: Surface
    intrinsics: Intrinsics
    mask: Tensor
    weight: Tensor
    softness_px: float = 2.0
    deviation_px: float = 3.0

    def linearise(self, state: State) -> Linearised:
        nearest, distance = self._distance(state)
        occupancy = distance_membership(distance, self.softness_px)
        steepness = occupancy * (1 - occupancy) / self.softness_px * nearest.found  # by pixels of the outline's motion
        count = min(max(_PIXELS, round(_SHARE * steepness[0].numel())), steepness[0].numel())
        chosen = (steepness * self.weight).flatten(1).topk(count, dim=1).indices  # (B, N)
        points = _pick(nearest.points(self._vertices(state)), chosen)
        _, jacobian = projection_jacobian(state, self.intrinsics, points)
        normal = _pick(nearest.normal, chosen) * _pick(steepness.unsqueeze(-1), chosen)
        jacobian = (normal.unsqueeze(-2) @ jacobian).squeeze(-2)  # (B, N, 9): an outline that moves out fills pixels
        residual = _pick((occupancy - self.mask).unsqueeze(-1), chosen)
        weight = self._information() * _pick(self.weight.unsqueeze(-1), chosen).squeeze(-1)
        gradient, hessian = gauss_newton(residual, jacobian.unsqueeze(-2), weight)
        return Linearised(self._cost(occupancy), gradient, hessian)

    def cost(self, state: State) -> Tensor:
        return self._cost(distance_membership(self._distance(state)[1], self.softness_px))

    def _distance(self, state: State) -> tuple[Nearest, Tensor]:
        homogeneous = self._homogeneous(state)
        covered = self._covered(state, homogeneous)
        nearest = nearest_outline(homogeneous, self.surface, covered, NEAR_M)
        return nearest, signed_distance(homogeneous, nearest)

    def _covered(self, state: State, homogeneous: Tensor) -> Tensor:
        height, width = self.mask.shape[1:]
        return visible_faces(homogeneous[:, self.surface.faces], width, height, NEAR_M) >= 0

    def _homogeneous(self, state: State) -> Tensor:
        points = state.points_camera(self._vertices(state))
        focal, centre = self.intrinsics.focal.unsqueeze(1), self.intrinsics.centre.unsqueeze(1)
        return torch.cat([points[..., :2] * focal + points[..., 2:] * centre, points[..., 2:]], -1)

    def _vertices(self, state: State) -> Tensor:
        return self.surface.vertices.expand(len(state.log_size), -1, -1)

    def _cost(self, occupancy: Tensor) -> Tensor:
        return 0.5 * self._information() * (self.weight * (occupancy - self.mask).square()).sum((1, 2))

    def _information(self) -> float:
        """Of a pixel's residual: so that an outline off by one deviation costs one half per pixel of its length.

        Across an edge the squared slope of the sigmoid sums to 1 / (6 softness).
        """
        return 6 * self.softness_px / self.deviation_px**2


def _pick(values: Tensor, chosen: Tensor) -> Tensor:
    """Of values (B, H, W, C) those (B, N, C) at flat pixels (B, N)."""
    flat = values.flatten(1, 2)
    return flat.gather(1, chosen.unsqueeze(-1).expand(-1, -1, flat.shape[-1]))
