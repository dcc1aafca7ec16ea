"""Solids inscribed in the box of an object: where its surface is, as far as the category tells.

A ray enters the box before it meets a round object, so measured points lie behind the faces of the
box. These solids stand nearer to the surface and have closed forms for what depth needs: the
distance of a point with its derivatives, and the place where a ray meets the surface.

Object frame: origin at the centre of the box, z up, metres.
"""

from __future__ import annotations

import enum

import torch
from torch import Tensor

from category_pose_ros.geometry.se3 import SE3
from category_pose_ros.geometry.symmetry import Symmetry, symmetry_of

_TINY = 1e-9


class Solid(enum.IntEnum):
    """What stands in the box."""

    BOX = 0
    CYLINDER = 1  # elliptic, upright, closed: bottle, can
    VESSEL = 2  # round, as wide as the box along y, at its -x side, open at the top: mug without its handle


def solid_of(category: str) -> Solid:
    """The solid of a category: VESSEL for mugs, CYLINDER for what is symmetric about z, else BOX."""
    if category == "mug":
        return Solid.VESSEL
    return Solid.CYLINDER if symmetry_of(category) is Symmetry.AXIS_Z else Solid.BOX


def signed_distance(solid: Tensor, size_m: Tensor, points_object: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distance of points to the surface of solids, negative inside, with derivatives.

    It is the largest of the distances to the faces: exact inside and next to a face, too small
    outside an edge. That to an elliptic side is exact for a circle. The open top of a VESSEL is no
    face for what is below it, so that the inside of the wall is surface like its outside.

    Args:
        solid: (B,) values of `Solid`.
        size_m: (B, 3) extents of the boxes.
        points_object: (B, N, 3).

    Returns:
        Distance (B, N) in metres, its derivatives by the point (B, N, 3) and by the log of the
        extents (B, N, 3).
    """
    flat, flat_by_point, flat_by_log_size = _nearest_flat_face(solid, size_m, points_object)
    side, side_by_point, side_by_log_size = _round_side(solid, size_m, points_object)
    is_side = (solid != Solid.BOX).unsqueeze(-1) & (side > flat)  # (B, N)
    distance = torch.where(is_side, side, flat)
    is_side = is_side.unsqueeze(-1)
    by_point = torch.where(is_side, side_by_point, flat_by_point)
    return distance, by_point, torch.where(is_side, side_by_log_size, flat_by_log_size)


def depth_along(solid: Tensor, size_m: Tensor, camera_from_object: SE3, rays: Tensor) -> Tensor:
    """Depth at which rays from the camera meet the surface.

    Args:
        solid: (B,) values of `Solid`.
        size_m: (B, 3) extents of the boxes.
        camera_from_object: batch (B,).
        rays: (B, N, 3) directions in the camera frame with z = 1.

    Returns:
        (B, N) metres along the camera's z; NaN where a ray misses or starts inside.
    """
    object_from_camera = camera_from_object.inverse()
    centre, half = _body(solid, size_m)
    origin = ((object_from_camera.translation - centre) / half).unsqueeze(1)  # (B, 1, 3) in half extents
    direction = (rays @ camera_from_object.rotation) / half.unsqueeze(1)
    direction = torch.where(direction.abs() < _TINY, torch.full_like(direction, _TINY), direction)
    low, high = (-1 - origin) / direction, (1 - origin) / direction
    slab_entry, slab_leave = torch.minimum(low, high), torch.maximum(low, high)  # (B, N, 3)
    side_entry, side_leave = _circle(origin[..., :2], direction[..., :2])
    is_box = (solid == Solid.BOX).unsqueeze(-1)
    side_entry = torch.where(is_box, slab_entry[..., :2].amax(-1), side_entry)
    side_leave = torch.where(is_box, slab_leave[..., :2].amin(-1), side_leave)
    entry = torch.maximum(side_entry, slab_entry[..., 2])
    leave = torch.minimum(side_leave, slab_leave[..., 2])
    through_top = (slab_entry[..., 2] > side_entry) & (direction[..., 2] < 0)
    into_vessel = through_top & (solid == Solid.VESSEL).unsqueeze(-1)
    met = (entry < leave) & (entry > 0)  # False for the NaN of a ray that misses the circle
    return torch.where(met, torch.where(into_vessel, leave, entry), torch.full_like(entry, torch.nan))


def _body(solid: Tensor, size_m: Tensor) -> tuple[Tensor, Tensor]:
    """Centre and half extents (B, 3) of the solids."""
    x, y, _ = size_m.unbind(-1)
    vessel = solid == Solid.VESSEL
    zero = torch.zeros_like(x)
    centre = torch.stack([torch.where(vessel, (y - x) / 2, zero), zero, zero], dim=-1)
    half = torch.stack([torch.where(vessel, y, x), y, size_m[..., 2]], dim=-1) / 2
    return centre, half


def _nearest_flat_face(solid: Tensor, size_m: Tensor, points_object: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Largest distance to the flat faces, bottom and top and those of a box's sides, and its derivatives."""
    unit = torch.eye(3, dtype=points_object.dtype, device=points_object.device)
    normals = torch.cat([-unit, unit])  # (F, 3)
    half = size_m.unsqueeze(-2) / 2  # (B, 1, 3)
    distance = points_object @ normals.T - half @ normals.abs().T  # (B, N, F)
    is_side = normals[:, 2] == 0
    is_top = normals[:, 2] > 0
    kind = solid[:, None, None]
    absent = (is_side & (kind != Solid.BOX)) | (is_top & (kind == Solid.VESSEL) & (distance < 0))
    nearest, face = distance.masked_fill(absent, -torch.inf).max(-1)
    normal = normals[face]
    return nearest, normal, -half * normal.abs()


def _round_side(solid: Tensor, size_m: Tensor, points_object: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distance to the elliptic side, (rho - 1) sqrt(ab) with rho = |(x / a, y / b)|, and its derivatives."""
    centre, half = _body(solid, size_m)
    semi = half[:, None, :2]  # (B, 1, 2), a and b
    across = points_object[..., :2] - centre[:, None, :2]
    scaled = across / semi
    rho = scaled.norm(dim=-1).clamp_min(1e-6)
    mean = semi.prod(-1).sqrt()
    distance = (rho - 1) * mean
    slope = mean.unsqueeze(-1) * scaled / (semi * rho.unsqueeze(-1))  # by x and y
    by_log_semi = distance.unsqueeze(-1) / 2 - slope * across
    # A vessel is as deep as it is wide, and moves along x as the box grows around its handle.
    vessel = (solid == Solid.VESSEL).unsqueeze(-1)
    by_log_x = torch.where(vessel, slope[..., 0] * size_m[:, None, 0] / 2, by_log_semi[..., 0])
    both = by_log_semi.sum(-1) - slope[..., 0] * size_m[:, None, 1] / 2
    by_log_y = torch.where(vessel, both, by_log_semi[..., 1])
    zero = torch.zeros_like(distance)
    by_point = torch.cat([slope, zero.unsqueeze(-1)], dim=-1)
    return distance, by_point, torch.stack([by_log_x, by_log_y, zero], dim=-1)


def _circle(origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Where lines enter and leave the unit circle, as multiples of the direction; NaN where they miss it."""
    square = direction.square().sum(-1)
    middle = -(origin * direction).sum(-1) / square
    distance = origin[..., 0] * direction[..., 1] - origin[..., 1] * direction[..., 0]
    reach = (square - distance.square()).sqrt() / square
    return middle - reach, middle + reach
