"""How much a pixel belongs to a silhouette: three ways, all differentiable.

`distance_membership`: the default, a sigmoid of the distance to the outline. `paper_membership`: that
of Palazzi et al. 2018. `box_membership`: for boxes alone, in closed form.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from category_pose_ros.geometry import SE3
from category_pose_ros.geometry.box import cross_slabs
from category_pose_ros.rendering.outline import pixel_centres

PAPER_TRIANGLES = 1000  # as many as the authors' code keeps
_ELEMENTS = 1 << 24  # numbers per edge function that are held at once


def distance_membership(distance_px: Tensor, softness_px: float) -> Tensor:
    """Occupancy (...) of pixels at a distance from the outline, negative inside: 0.5 on it.

    Its derivative reaches pixels inside and outside alike, and falls off over `softness_px`.
    """
    return torch.sigmoid(-distance_px / softness_px)


def paper_membership(corners: Tensor, width: int, height: int, triangles: int = PAPER_TRIANGLES) -> Tensor:
    """Equation 5 of Palazzi et al., "End-to-end 6-DoF object pose estimation through differentiable rasterization".

    Per triangle the product of its three edge functions, each cut off at zero, normalised to [0, 1]
    over the image, through tanh; summed over the triangles that appear largest, without a depth test.
    It is no occupancy: it is zero on the edges of every triangle, exceeds one where triangles overlap,
    and is flat outside. Memory is bounded: beyond one part, parts are computed again for the gradient.

    Args:
        corners: (B, F, 3 corners, 3) as (u z, v z, z); triangles not wholly in front are left out.

    Returns:
        (B, H, W).
    """
    behind = (corners[..., 2] <= 0).any(-1)
    depth = torch.where(behind.unsqueeze(-1), 1.0, corners[..., 2])
    pixel = torch.where(behind[..., None, None], 0.0, corners[..., :2] / depth.unsqueeze(-1))  # (B, F, 3, 2)
    doubled = _edge_function(pixel[..., 0, :], pixel[..., 1, :], pixel[..., 2, :])
    kept = doubled.abs().topk(min(triangles, doubled.shape[1]), dim=1).indices
    pixel = pixel.gather(1, kept[..., None, None].expand(-1, -1, 3, 2))
    centre = pixel_centres(width, height, corners).flatten(0, 1)  # (P, 2)
    at_once = max(1, _ELEMENTS // (len(pixel) * len(centre)))
    parts = pixel.split(at_once, dim=1)
    if len(parts) == 1 or not corners.requires_grad:
        sums = [_paper_sum(part, centre) for part in parts]
    else:
        sums = [checkpoint(_paper_sum, part, centre, use_reentrant=False) for part in parts]
    return torch.stack(sums).sum(0).view(-1, height, width)


def _paper_sum(pixel: Tensor, centre: Tensor) -> Tensor:
    """Sum (B, P) over triangles (B, T, 3, 2)."""
    a, b, c = (corner.unsqueeze(2) for corner in pixel.unbind(2))  # (B, T, 1, 2)
    sign = _edge_function(a, b, c).sign()
    product = torch.relu(sign * _edge_function(a, b, centre))
    product = product * torch.relu(sign * _edge_function(b, c, centre))
    product = product * torch.relu(sign * _edge_function(c, a, centre))  # (B, T, P)
    low, high = product.amin(-1, keepdim=True), product.amax(-1, keepdim=True)
    return torch.tanh((product - low) / (high - low).clamp_min(1e-9)).sum(1)


def _edge_function(start: Tensor, end: Tensor, point: Tensor) -> Tensor:
    """Twice the signed area of three points (..., 2)."""
    one, other = end - start, point - start
    return one[..., 0] * other[..., 1] - one[..., 1] * other[..., 0]


def box_membership(camera_from_object: SE3, size_m: Tensor, rays: Tensor, softness_m: float) -> Tensor:
    """Occupancy (B, N) of a box along rays: a sigmoid of how far the ray runs inside (slab test).

    The way inside is negative for a ray that misses: by how much it leaves one slab before it
    enters the last. So the derivative reaches rays that miss, in closed form.

    Args:
        camera_from_object: (B,) poses of the centre.
        size_m: (3,) or (B, 3) extent.
        rays: (N, 3) directions with z = 1.
        softness_m: along the ray, in metres of depth.
    """
    _, _, entry, leave = cross_slabs(camera_from_object, size_m, rays)
    return torch.sigmoid((leave - entry.clamp_min(0)) / softness_m)
