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
_FAR_M = 1e3  # no object is as large
_BEHIND = 0.1  # in diagonals: what is farther out behind a face that is not seen is not of the object


class Solid(enum.IntEnum):
    """What stands in the box."""

    BOX = 0
    CYLINDER = 1  # elliptic, upright, closed: bottle, can
    VESSEL = 2  # round, as wide as the box along y, at its -x side, open at the top, a slab for the handle: mug
    BOWL = 3  # lower half of an ellipsoid, a shell that is open at the top
    HINGE = 4  # the bottom of the box and its back, at -x: laptop
    CAR = 5  # two boxes: from the wheels to hood and belt line, and the cabin above
    CAMERA = 6  # two boxes: the body, and the lens in front of it, at +x


_SOLIDS = {
    "bowl": Solid.BOWL,
    "camera": Solid.CAMERA,
    "car": Solid.CAR,
    "laptop": Solid.HINGE,
    "mug": Solid.VESSEL,
}
# Places of the faces of two boxes, as shares of the extents from the centre out: at -x, -y, -z, +x, +y, +z.
_WHOLE = (0.5, 0.5, 0.5, 0.5, 0.5, 0.5)
_BOXES = {
    # Slanting screens are taken at half their height. A mean of the usual body styles.
    Solid.CAR: ((0.5, 0.5, 0.5, 0.5, 0.5, 0.12), (0.4, 0.44, -0.12, 0.14, 0.44, 0.5)),
    # Medians over the procedural family. Lenses are of all lengths: the front of the body is a centimetre off.
    Solid.CAMERA: ((0.5, 0.5, 0.5, 0.1, 0.5, 0.45), (-0.1, 0.22, 0.36, 0.5, 0.22, 0.22)),
    # Bottom and top of the round body, and the handle, which alone tells the yaw of a mug.
    Solid.VESSEL: (_WHOLE, (0.5, 0.06, 0.3, 0.5, 0.06, 0.4)),
}
_NEAREST_HANDLE, _FARTHEST_HANDLE = 1.12, 2.5  # in radii of the body: beside it, and still of the mug
_HANDLE = 1  # the second box of a VESSEL; at -x it ends where the body does, an extent along y from the box's -x


def solid_of(category: str) -> Solid:
    """The solid of a category; unless named here, CYLINDER for what is symmetric about z, else BOX."""
    if category in _SOLIDS:
        return _SOLIDS[category]
    return Solid.CYLINDER if symmetry_of(category) is Symmetry.AXIS_Z else Solid.BOX


def signed_distance(
    solid: Tensor, size_m: Tensor, points_object: Tensor, viewpoint: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Distance of points to the surface of solids that is seen from somewhere, with derivatives.

    It is the largest of the signed distances, negative inside, to the faces that are turned to the
    viewpoint: exact next to a face, too small outside an edge. A face that is turned away was not
    measured and would attract what is behind the object: it has no distance, and what is well
    behind it none at all. That to an elliptic side is exact for a circle. An open top is no face
    for what is below it; from above, the wall and the bottom are seen from the inside. Nor are the
    four open sides of a HINGE for what is between its two plates, which are seen from both sides.

    Args:
        solid: (B,) values of `Solid`.
        size_m: (B, 3) extents of the boxes.
        points_object: (B, N, 3).
        viewpoint: (B, 3) in the object frame.

    Returns:
        Distance (B, N) in metres, a kilometre for what has none, its derivatives by the point
        (B, N, 3) and by the log of the extents (B, N, 3).
    """
    from_inside = _is_open(solid) & (viewpoint[:, 2] > size_m[:, 2] / 2)  # (B,)
    # Of each of two boxes (B, K, N), and of one round side (B, N).
    flat, flat_by_point, flat_by_log_size = _flat_faces(solid, size_m, points_object, viewpoint, from_inside)
    side, side_by_point, side_by_log_size = _round_side(solid, size_m, points_object, viewpoint, from_inside)
    is_side = ~_is_flat(solid)[:, None, None] & (side.unsqueeze(1) > flat)
    is_side[:, _HANDLE] &= (solid != Solid.VESSEL).unsqueeze(-1)  # the handle is beside the round body, not in it
    distance, box = torch.where(is_side, side.unsqueeze(1), flat).min(1)  # of two boxes the nearer counts
    is_side = is_side.gather(1, box.unsqueeze(1)).squeeze(1).unsqueeze(-1)
    box = box[:, None, :, None].expand(-1, -1, -1, 3)
    flat_by_point = flat_by_point.gather(1, box).squeeze(1)
    flat_by_log_size = flat_by_log_size.gather(1, box).squeeze(1)
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
    viewpoint = camera_from_object.inverse().translation.unsqueeze(1)  # (B, 1, 3)
    direction = rays @ camera_from_object.rotation
    direction = torch.where(direction.abs() < _TINY, torch.full_like(direction, _TINY), direction)
    one = _depth_of_one(solid, size_m, viewpoint, direction)
    planes, is_vessel = _planes(solid, size_m).sum(-1), (solid == Solid.VESSEL).unsqueeze(-1)
    planes = torch.where(is_vessel.unsqueeze(-1), planes[:, _HANDLE:], planes)  # its first box is no box
    boxes = _depth_of_boxes(planes, viewpoint, direction)
    found = torch.where(is_vessel, torch.fmin(one, boxes), one)
    return torch.where(_is_two_boxes(solid).unsqueeze(-1), boxes, found)


def body_axis(size_m: Tensor) -> Tensor:
    """Where the axis of the body of a VESSEL is at the height of the box's centre, (B, 3) in the object frame."""
    zero = torch.zeros_like(size_m[:, 0])
    return torch.stack([(size_m[:, 1] - size_m[:, 0]) / 2, zero, zero], dim=-1)


def is_beside_body(solid: Tensor, size_m: Tensor, points_object: Tensor) -> Tensor:
    """Which points (B, N) are beside the body of a VESSEL, between its bottom and top, where its handle may be."""
    radius = size_m[:, 1:2] / 2
    across = points_object - body_axis(size_m).unsqueeze(1)
    rho = across[..., :2].norm(dim=-1) / radius
    beside = (rho > _NEAREST_HANDLE) & (rho < _FARTHEST_HANDLE) & (across[..., 2].abs() < size_m[:, 2:] / 2)
    return beside & (solid == Solid.VESSEL).unsqueeze(-1)


def _depth_of_one(solid: Tensor, size_m: Tensor, viewpoint: Tensor, direction: Tensor) -> Tensor:
    """Where rays meet any solid but two boxes or a handle, as multiples (B, N) of themselves; NaN where they miss."""
    centre, half = _body(solid, size_m)
    origin = (viewpoint - centre.unsqueeze(1)) / half.unsqueeze(1)  # (B, 1, 3) in half extents
    direction = direction / half.unsqueeze(1)
    low, high = (-1 - origin) / direction, (1 - origin) / direction
    slab_entry, slab_leave = torch.minimum(low, high), torch.maximum(low, high)  # (B, N, 3)
    side_entry, side_leave = _unit_sphere(_about_side(solid, origin, 1.0), _about_side(solid, direction, 0.0))
    is_flat = _is_flat(solid).unsqueeze(-1)
    side_entry = torch.where(is_flat, slab_entry[..., :2].amax(-1), side_entry)
    side_leave = torch.where(is_flat, slab_leave[..., :2].amin(-1), side_leave)
    entry = torch.maximum(side_entry, slab_entry[..., 2])
    leave = torch.minimum(side_leave, slab_leave[..., 2])
    met = (entry < leave) & (entry > 0)  # False for the NaN of a ray that misses the round side
    through_top = (slab_entry[..., 2] > side_entry) & (direction[..., 2] < 0)
    from_inside = through_top & _is_open(solid).unsqueeze(-1)
    is_hinge = (solid == Solid.HINGE).unsqueeze(-1)
    from_inside |= is_hinge & ~_is_plate(slab_entry.argmax(-1), direction)
    passes = is_hinge & from_inside & ~_is_plate(slab_leave.argmin(-1), -direction)
    surface = torch.where(from_inside, leave, entry)
    return torch.where(met & ~passes, surface, torch.full_like(entry, torch.nan))


def _depth_of_boxes(planes: Tensor, viewpoint: Tensor, direction: Tensor) -> Tensor:
    """Where rays first meet one of several boxes with faces (B, K, 6), as multiples (B, N); NaN where they miss all."""
    low, high = -planes[:, :, None, :3], planes[:, :, None, 3:]  # (B, K, 1, 3)
    origin, along = viewpoint.unsqueeze(1), direction.unsqueeze(1)
    one, other = (low - origin) / along, (high - origin) / along
    entry, leave = torch.minimum(one, other).amax(-1), torch.maximum(one, other).amin(-1)  # (B, K, N)
    empty = (low >= high).any(-1)  # a handle where the box of a mug is not longer than wide
    inside = ((entry <= 0) & (leave > 0) & ~empty).any(1)
    first = entry.masked_fill((entry >= leave) | (entry <= 0) | empty, torch.inf).amin(1)
    return first.masked_fill(inside | first.isinf(), torch.nan)


def _is_open(solid: Tensor) -> Tensor:
    return (solid == Solid.VESSEL) | (solid == Solid.BOWL)


def _is_flat(solid: Tensor) -> Tensor:
    return (solid == Solid.BOX) | (solid == Solid.HINGE) | _is_two_boxes(solid)


def _is_two_boxes(solid: Tensor) -> Tensor:
    return (solid == Solid.CAR) | (solid == Solid.CAMERA)


def _is_plate(axis: Tensor, inwards: Tensor) -> Tensor:
    """Whether the face (B, N) across an axis, of the two the one that is entered so, is bottom or back."""
    return (axis != 1) & (inwards.gather(-1, axis.unsqueeze(-1)).squeeze(-1) > 0)


def _about_side(solid: Tensor, scaled: Tensor, top: float) -> Tensor:
    """Coordinates (B, N, 3), in half extents, as those in which the round side is the unit sphere.

    The side of a cylinder is round about z and has no third coordinate. That of a bowl has its
    centre in the top, at z = 1, and reaches down to the bottom.

    Args:
        solid: (B,).
        scaled: (B, N, 3) in half extents.
        top: 1 for places, 0 for directions.
    """
    is_bowl = (solid == Solid.BOWL).to(scaled)[:, None, None]
    return torch.cat([scaled[..., :2], is_bowl * (scaled[..., 2:] - top) / 2], dim=-1)


def _body(solid: Tensor, size_m: Tensor) -> tuple[Tensor, Tensor]:
    """Centre and half extents (B, 3) of the solids."""
    vessel = (solid == Solid.VESSEL).unsqueeze(-1)
    axis = body_axis(size_m)
    as_wide = size_m[..., [1, 1, 2]]
    return torch.where(vessel, axis, torch.zeros_like(axis)), torch.where(vessel, as_wide, size_m) / 2


def _flat_faces(
    solid: Tensor, size_m: Tensor, points_object: Tensor, viewpoint: Tensor, from_inside: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Largest distance (B, K, N) to the flat faces of each box, and its derivatives (B, K, N, 3).

    Those are bottom and top of a round body, and also the sides of a box.
    """
    unit = torch.eye(3, dtype=points_object.dtype, device=points_object.device)
    normals = torch.cat([-unit, unit])  # (F, 3)
    by_log_size = _planes(solid, size_m)  # (B, K, F, 3)
    planes = by_log_size.sum(-1)
    distance = (points_object @ normals.T).unsqueeze(1) - planes.unsqueeze(2)  # (B, K, N, F)
    is_side, is_top, is_bottom = normals[:, 2] == 0, normals[:, 2] > 0, normals[:, 2] < 0
    kind = solid[:, None, None, None]
    is_handle = (kind == Solid.VESSEL) & (torch.arange(2, device=solid.device) == _HANDLE)[:, None, None]
    is_plate = is_bottom | (normals[:, 0] < 0)
    absent = (is_side & ~_is_flat(kind) & ~is_handle) | (is_bottom & (kind == Solid.BOWL))
    opening = (is_top & _is_open(kind) & ~is_handle) | (~is_plate & (kind == Solid.HINGE))
    absent = absent | (opening & (distance < 0))
    facing = ((viewpoint @ normals.T).unsqueeze(1) > planes).unsqueeze(2)  # (B, K, 1, F)
    inside = from_inside[:, None, None, None] & ~is_handle
    seen = facing | inside | (is_plate & (kind == Solid.HINGE))
    margin = _margin(solid, size_m)[:, None, None, None]
    of_box, face = _of_seen(distance, seen, margin).masked_fill(absent, -_FAR_M).max(-1)  # (B, K, N)
    return of_box, normals[face], -by_log_size.gather(2, face.unsqueeze(-1).expand(-1, -1, -1, 3))


def _planes(solid: Tensor, size_m: Tensor) -> Tensor:
    """What each extent adds to the distance of the faces at -x, -y, -z, +x, +y, +z from the centre, (B, K, 6, 3).

    K boxes, both the whole one unless named. It is also the derivative by the log of the extents.
    """
    along = torch.eye(3, dtype=size_m.dtype, device=size_m.device).repeat(2, 1)  # (F, 3)
    shares = 0.5 * along.expand(1, 2, 6, 3)
    for kind, places in _BOXES.items():
        boxes = along.new_tensor(places).unsqueeze(-1) * along  # (K, F, 3)
        if kind is Solid.VESSEL:
            boxes[_HANDLE, 0, 1] = -1.0
        shares = torch.where((solid == kind)[:, None, None, None], boxes, shares)
    return shares * size_m[:, None, None]


def _round_side(
    solid: Tensor, size_m: Tensor, points_object: Tensor, viewpoint: Tensor, from_inside: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Distance to the round side, (rho - 1) sqrt(ab) with rho = |(x / a, y / b)|, and its derivatives.

    A bowl has z in rho as well.
    """
    centre, half = _body(solid, size_m)
    across = points_object - centre.unsqueeze(-2)
    scaled = _about_side(solid, across / half.unsqueeze(-2), 1.0)  # (B, N, 3)
    rho = scaled.norm(dim=-1).clamp_min(1e-6)
    mean = half[:, None, :2].prod(-1).sqrt()
    distance = (rho - 1) * mean
    semi = half.unsqueeze(-2) * half.new_tensor([1.0, 1.0, 2.0])  # a bowl is as deep as the box is high
    by_point = mean.unsqueeze(-1) * scaled / (semi * rho.unsqueeze(-1))
    of_mean = distance.unsqueeze(-1) * half.new_tensor([0.5, 0.5, 0.0])
    by_log_half = of_mean - by_point * across
    vessel = (solid == Solid.VESSEL)[:, None, None]
    by_log_size = torch.where(vessel, _of_vessel(size_m, by_point, by_log_half), by_log_half)
    # The tangent at the direction of the point has the viewpoint in front of it.
    eye = _about_side(solid, ((viewpoint - centre) / half).unsqueeze(-2), 1.0)
    seen = ((scaled * eye).sum(-1) > rho) | from_inside.unsqueeze(-1)
    return _of_seen(distance, seen, _margin(solid, size_m).unsqueeze(-1)), by_point, by_log_size


def _of_vessel(size_m: Tensor, by_point: Tensor, by_log_half: Tensor) -> Tensor:
    """Derivative by the log of the box: a vessel is as deep as wide, and moves along x as the box grows around it."""
    shift = by_point[..., 0] / 2
    by_log_x = shift * size_m[:, None, 0]
    by_log_y = by_log_half[..., :2].sum(-1) - shift * size_m[:, None, 1]
    return torch.stack([by_log_x, by_log_y, by_log_half[..., 2]], dim=-1)


def _margin(solid: Tensor, size_m: Tensor) -> Tensor:
    """How far out behind a hidden face something is still of the object, (B,) metres.

    Behind one of two boxes the other begins, behind the body of a VESSEL its handle.
    """
    margin = _BEHIND * size_m.norm(dim=-1)
    return torch.where(_is_two_boxes(solid) | (solid == Solid.VESSEL), torch.zeros_like(margin), margin)


def _of_seen(distance: Tensor, seen: Tensor, margin: Tensor) -> Tensor:
    """Distance to faces; to one that is not seen far above zero for what is well behind it, else far below."""
    hidden = torch.where(distance > margin, _FAR_M, -_FAR_M)
    return torch.where(seen, distance, hidden.to(distance))


def _unit_sphere(origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Where lines enter and leave the unit sphere, as multiples of the direction; NaN where they miss it."""
    square = direction.square().sum(-1)
    middle = -(origin * direction).sum(-1) / square
    nearest = origin + middle.unsqueeze(-1) * direction
    reach = ((1 - nearest.square().sum(-1)) / square).sqrt()
    return middle - reach, middle + reach
