"""Solids inscribed in the box of an object: where its surface is, as far as the category tells.

A ray enters the box before it meets a round object, so measured points lie behind the faces of the
box. These solids stand nearer to the surface and have closed forms for what depth needs: the
distance of a point with its derivatives, and the place where a ray meets the surface.

Object frame: origin at the centre of the box, z up, metres.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from category_pose_ros.geometry.se3 import SE3
from category_pose_ros.geometry.symmetry import Symmetry, symmetry_of

_TINY = 1e-9
FAR_M = 1e3  # no object is as large
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
_TWO_BOXES = (Solid.CAR, Solid.CAMERA)
_ROUND = (Solid.CYLINDER, Solid.VESSEL, Solid.BOWL)
_OPEN = (Solid.VESSEL, Solid.BOWL)
_NEAREST_HANDLE, _FARTHEST_HANDLE = 1.12, 2.5  # in radii of the body: beside it, and still of the mug
_HANDLE = 1  # the second box of a VESSEL; at -x it ends where the body does, an extent along y from the box's -x


def solid_of(category: str) -> Solid:
    """The solid of a category; unless named here, CYLINDER for what is symmetric about z, else BOX."""
    if category in _SOLIDS:
        return _SOLIDS[category]
    return Solid.CYLINDER if symmetry_of(category) is Symmetry.AXIS_Z else Solid.BOX


@dataclass(frozen=True, eq=False)
class Solids:
    """What stands in each of B boxes, and what follows from that whatever their poses and sizes are.

    A solid has flat faces, F of them, at -x, -y, -z, +x, +y, +z of each of its K boxes, and perhaps a
    round side. The second box is that of two boxes or the handle of a VESSEL.

    Attributes:
        kind: (B,) values of `Solid`.
        kinds: those that may be among them: what none of them has is not computed.
        shares: (B, K, F, 3) share of each extent in the distance of a face from the centre.
        absent: (B, K, 1, F) whether there is no such face.
        opening: (B, K, 1, F) whether it is open: no face for what is behind it.
        both: (B, 1, 1, F) whether it is seen from both sides.
        handle: (B, K, 1, 1) whether the box is the handle of a VESSEL.
        margin: (B,) how far out behind a hidden face something is still of the object, in diagonals.
    """

    kind: Tensor
    kinds: frozenset[Solid]
    shares: Tensor
    absent: Tensor
    opening: Tensor
    both: Tensor
    handle: Tensor
    margin: Tensor

    @staticmethod
    def of(kinds: Sequence[Solid], dtype: torch.dtype = torch.float32, device: torch.device | None = None) -> Solids:
        """Solids of these kinds, for sizes of this type."""
        kind = torch.tensor([int(kind) for kind in kinds], device=device)
        boxes = 2 if any(kind in _BOXES for kind in kinds) else 1
        shares, absent, opening, both, margin = (table.to(kind.device)[kind] for table in _TABLES)
        is_handle = (kind == Solid.VESSEL).unsqueeze(-1) & (torch.arange(boxes, device=kind.device) == _HANDLE)
        return Solids(
            kind,
            frozenset(kinds),
            shares[:, :boxes].to(dtype),
            absent[:, :boxes, None],
            opening[:, :boxes, None],
            both[:, None, None],
            is_handle[..., None, None],
            margin.to(dtype),
        )

    def __getitem__(self, index: Tensor) -> Solids:
        tables = (self.shares, self.absent, self.opening, self.both, self.handle, self.margin)
        return Solids(self.kind[index], self.kinds, *(table[index] for table in tables))

    def has(self, *kinds: Solid) -> bool:
        """Whether one of these kinds may be among them."""
        return not self.kinds.isdisjoint(kinds)

    def are(self, *kinds: Solid) -> Tensor:
        """Which (B,) are of one of these kinds."""
        first, *others = (self.kind == kind for kind in kinds)
        for other in others:
            first = first | other
        return first


def signed_distance(
    solids: Solids, size_m: Tensor, points_object: Tensor, viewpoint: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Distance of points to the surface of solids that is seen from somewhere, with derivatives.

    It is the largest of the signed distances, negative inside, to the faces that are turned to the
    viewpoint: exact next to a face, too small outside an edge. A face that is turned away was not
    measured and would attract what is behind the object: it has no distance, and what is well
    behind it none at all. That to an elliptic side is exact for a circle. An open top is no face
    for what is below it; from above, the wall and the bottom are seen from the inside. Nor are the
    four open sides of a HINGE for what is between its two plates, which are seen from both sides.

    Args:
        solids: B of them.
        size_m: (B, 3) extents of the boxes.
        points_object: (B, N, 3).
        viewpoint: (B, 3) in the object frame.

    Returns:
        Distance (B, N) in metres, a kilometre for what has none, its derivatives by the point
        (B, N, 3) and by the log of the extents (B, N, 3).
    """
    from_inside = solids.are(*_OPEN) & (viewpoint[:, 2] > size_m[:, 2] / 2)  # (B,)
    margin_m = solids.margin * size_m.norm(dim=-1)
    flat, flat_by_point, flat_by_log_size = _flat_faces(solids, size_m, points_object, viewpoint, from_inside, margin_m)
    if not solids.has(*_ROUND):
        distance, box = flat.min(1)
        return distance, _of_box(flat_by_point, box), _of_box(flat_by_log_size, box)
    side, side_by_point, side_by_log_size = _round_side(solids, size_m, points_object, viewpoint, from_inside, margin_m)
    is_round = solids.are(*_ROUND)[:, None, None] & ~solids.handle[..., 0]  # the handle is beside the body, not in it
    is_side = is_round & (side.unsqueeze(1) > flat)
    distance, box = torch.where(is_side, side.unsqueeze(1), flat).min(1)  # of two boxes the nearer counts
    is_side = is_side.gather(1, box.unsqueeze(1)).squeeze(1).unsqueeze(-1)
    by_point = torch.where(is_side, side_by_point, _of_box(flat_by_point, box))
    return distance, by_point, torch.where(is_side, side_by_log_size, _of_box(flat_by_log_size, box))


def depth_along(solids: Solids, size_m: Tensor, camera_from_object: SE3, rays: Tensor) -> Tensor:
    """Depth at which rays from the camera meet the surface.

    Args:
        solids: B of them.
        size_m: (B, 3) extents of the boxes.
        camera_from_object: batch (B,).
        rays: (B, N, 3) directions in the camera frame with z = 1.

    Returns:
        (B, N) metres along the camera's z; NaN where a ray misses or starts inside.
    """
    viewpoint = camera_from_object.inverse().translation.unsqueeze(1)  # (B, 1, 3)
    direction = rays @ camera_from_object.rotation
    direction = torch.where(direction.abs() < _TINY, torch.full_like(direction, _TINY), direction)
    one = _depth_of_one(solids, size_m, viewpoint, direction)
    if not solids.has(*_BOXES):
        return one
    planes, is_vessel = _planes(solids, size_m).sum(-1), solids.are(Solid.VESSEL).unsqueeze(-1)
    planes = torch.where(is_vessel.unsqueeze(-1), planes[:, _HANDLE:], planes)  # its first box is no box
    boxes = _depth_of_boxes(planes, viewpoint, direction)
    found = torch.where(is_vessel, torch.fmin(one, boxes), one)
    return torch.where(solids.are(*_TWO_BOXES).unsqueeze(-1), boxes, found)


def body_axis(size_m: Tensor) -> Tensor:
    """Where the axis of the body of a VESSEL is at the height of the box's centre, (B, 3) in the object frame."""
    zero = torch.zeros_like(size_m[:, 0])
    return torch.stack([(size_m[:, 1] - size_m[:, 0]) / 2, zero, zero], dim=-1)


def is_beside_body(solids: Solids, size_m: Tensor, points_object: Tensor) -> Tensor:
    """Which points (B, N) are beside the body of a VESSEL, between its bottom and top, where its handle may be."""
    radius = size_m[:, 1:2] / 2
    across = points_object - body_axis(size_m).unsqueeze(1)
    rho = across[..., :2].norm(dim=-1) / radius
    beside = (rho > _NEAREST_HANDLE) & (rho < _FARTHEST_HANDLE) & (across[..., 2].abs() < size_m[:, 2:] / 2)
    return beside & solids.are(Solid.VESSEL).unsqueeze(-1)


def _depth_of_one(solids: Solids, size_m: Tensor, viewpoint: Tensor, direction: Tensor) -> Tensor:
    """Where rays meet any solid but two boxes or a handle, as multiples (B, N) of themselves; NaN where they miss."""
    centre, half = _body(solids, size_m)
    origin = (viewpoint - centre.unsqueeze(1)) / half.unsqueeze(1)  # (B, 1, 3) in half extents
    direction = direction / half.unsqueeze(1)
    low, high = (-1 - origin) / direction, (1 - origin) / direction
    slab_entry, slab_leave = torch.minimum(low, high), torch.maximum(low, high)  # (B, N, 3)
    side_entry, side_leave = _unit_sphere(_about_side(solids, origin, 1.0), _about_side(solids, direction, 0.0))
    is_flat = ~solids.are(*_ROUND).unsqueeze(-1)
    side_entry = torch.where(is_flat, slab_entry[..., :2].amax(-1), side_entry)
    side_leave = torch.where(is_flat, slab_leave[..., :2].amin(-1), side_leave)
    entry = torch.maximum(side_entry, slab_entry[..., 2])
    leave = torch.minimum(side_leave, slab_leave[..., 2])
    met = (entry < leave) & (entry > 0)  # False for the NaN of a ray that misses the round side
    through_top = (slab_entry[..., 2] > side_entry) & (direction[..., 2] < 0)
    from_inside = through_top & solids.are(*_OPEN).unsqueeze(-1)
    is_hinge = solids.are(Solid.HINGE).unsqueeze(-1)
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


def _is_plate(axis: Tensor, inwards: Tensor) -> Tensor:
    """Whether the face (B, N) across an axis, of the two the one that is entered so, is bottom or back."""
    return (axis != 1) & (inwards.gather(-1, axis.unsqueeze(-1)).squeeze(-1) > 0)


def _about_side(solids: Solids, scaled: Tensor, top: float) -> Tensor:
    """Coordinates (B, N, 3), in half extents, as those in which the round side is the unit sphere.

    The side of a cylinder is round about z and has no third coordinate. That of a bowl has its
    centre in the top, at z = 1, and reaches down to the bottom.

    Args:
        solids: B of them.
        scaled: (B, N, 3) in half extents.
        top: 1 for places, 0 for directions.
    """
    if not solids.has(Solid.BOWL):
        return torch.cat([scaled[..., :2], torch.zeros_like(scaled[..., 2:])], dim=-1)
    is_bowl = solids.are(Solid.BOWL).to(scaled)[:, None, None]
    return torch.cat([scaled[..., :2], is_bowl * (scaled[..., 2:] - top) / 2], dim=-1)


def _body(solids: Solids, size_m: Tensor) -> tuple[Tensor, Tensor]:
    """Centre and half extents (B, 3) of the solids."""
    if not solids.has(Solid.VESSEL):
        return torch.zeros_like(size_m), size_m / 2
    vessel = solids.are(Solid.VESSEL).unsqueeze(-1)
    axis = body_axis(size_m)
    as_wide = size_m[..., [1, 1, 2]]
    return torch.where(vessel, axis, torch.zeros_like(axis)), torch.where(vessel, as_wide, size_m) / 2


def _flat_faces(
    solids: Solids, size_m: Tensor, points_object: Tensor, viewpoint: Tensor, from_inside: Tensor, margin_m: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Largest distance (B, K, N) to the flat faces of each box, and its derivatives (B, K, N, 3).

    Those are bottom and top of a round body, and also the sides of a box.
    """
    by_log_size = _planes(solids, size_m)  # (B, K, F, 3)
    planes = by_log_size.sum(-1).unsqueeze(2)
    along = torch.cat([-points_object, points_object], dim=-1).unsqueeze(1)  # (B, 1, N, F)
    distance = along - planes
    facing = torch.cat([-viewpoint, viewpoint], dim=-1)[:, None, None] > planes  # (B, K, 1, F)
    seen = facing | solids.both | (from_inside[:, None, None, None] & ~solids.handle)
    absent = solids.absent
    if solids.has(*_OPEN, Solid.HINGE):
        absent = absent | (solids.opening & (distance < 0))
    distance = _of_seen(distance, seen, margin_m[:, None, None, None])
    of_box, face = distance.masked_fill(absent, -FAR_M).max(-1)  # (B, K, N)
    normals = torch.eye(3, dtype=size_m.dtype, device=size_m.device)
    normals = torch.cat([-normals, normals])
    return of_box, normals[face], -by_log_size.gather(2, face.unsqueeze(-1).expand(-1, -1, -1, 3))


def _of_box(values: Tensor, box: Tensor) -> Tensor:
    """Of values (B, K, N, 3) those of one box (B, N) for each point."""
    if values.shape[1] == 1:
        return values.squeeze(1)
    return values.gather(1, box[:, None, :, None].expand(-1, -1, -1, 3)).squeeze(1)


def _planes(solids: Solids, size_m: Tensor) -> Tensor:
    """What each extent adds to the distance of the faces from the centre, (B, K, F, 3).

    It is also the derivative by the log of the extents.
    """
    return solids.shares * size_m[:, None, None]


def _round_side(
    solids: Solids, size_m: Tensor, points_object: Tensor, viewpoint: Tensor, from_inside: Tensor, margin_m: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Distance to the round side, (rho - 1) sqrt(ab) with rho = |(x / a, y / b)|, and its derivatives.

    A bowl has z in rho as well.
    """
    centre, half = _body(solids, size_m)
    across = points_object - centre.unsqueeze(-2)
    scaled = _about_side(solids, across / half.unsqueeze(-2), 1.0)  # (B, N, 3)
    rho = scaled.norm(dim=-1).clamp_min(1e-6)
    mean = half[:, None, :2].prod(-1).sqrt()
    distance = (rho - 1) * mean
    semi = half.unsqueeze(-2) * half.new_tensor([1.0, 1.0, 2.0])  # a bowl is as deep as the box is high
    by_point = mean.unsqueeze(-1) * scaled / (semi * rho.unsqueeze(-1))
    of_mean = distance.unsqueeze(-1) * half.new_tensor([0.5, 0.5, 0.0])
    by_log_half = of_mean - by_point * across
    by_log_size = by_log_half
    if solids.has(Solid.VESSEL):
        vessel = solids.are(Solid.VESSEL)[:, None, None]
        by_log_size = torch.where(vessel, _of_vessel(size_m, by_point, by_log_half), by_log_half)
    # The tangent at the direction of the point has the viewpoint in front of it.
    eye = _about_side(solids, ((viewpoint - centre) / half).unsqueeze(-2), 1.0)
    seen = ((scaled * eye).sum(-1) > rho) | from_inside.unsqueeze(-1)
    return _of_seen(distance, seen, margin_m.unsqueeze(-1)), by_point, by_log_size


def _of_vessel(size_m: Tensor, by_point: Tensor, by_log_half: Tensor) -> Tensor:
    """Derivative by the log of the box: a vessel is as deep as wide, and moves along x as the box grows around it."""
    shift = by_point[..., 0] / 2
    by_log_x = shift * size_m[:, None, 0]
    by_log_y = by_log_half[..., :2].sum(-1) - shift * size_m[:, None, 1]
    return torch.stack([by_log_x, by_log_y, by_log_half[..., 2]], dim=-1)


def _of_seen(distance: Tensor, seen: Tensor, margin_m: Tensor) -> Tensor:
    """Distance to faces; to one that is not seen far above zero for what is well behind it, else far below."""
    hidden = torch.where(distance > margin_m, FAR_M, -FAR_M)
    return torch.where(seen, distance, hidden.to(distance))


def _unit_sphere(origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Where lines enter and leave the unit sphere, as multiples of the direction; NaN where they miss it."""
    square = direction.square().sum(-1)
    middle = -(origin * direction).sum(-1) / square
    nearest = origin + middle.unsqueeze(-1) * direction
    reach = ((1 - nearest.square().sum(-1)) / square).sqrt()
    return middle - reach, middle + reach


def _tables() -> tuple[Tensor, ...]:
    """Of each kind `shares`, `absent`, `opening`, `both` and `margin` as in `Solids`, with two boxes."""
    along = torch.eye(3, dtype=torch.float64).repeat(2, 1)  # (F, 3)
    low_x, low_z, high_z = 0, 2, 5
    shares = 0.5 * along.repeat(len(Solid), 2, 1, 1)
    absent = torch.zeros(len(Solid), 2, 6, dtype=torch.bool)
    opening, both = torch.zeros_like(absent), torch.zeros(len(Solid), 6, dtype=torch.bool)
    for kind, places in _BOXES.items():
        shares[kind] = along.new_tensor(places).unsqueeze(-1) * along
    shares[Solid.VESSEL, _HANDLE, low_x, 1] = -1.0
    for kind in _ROUND:
        absent[kind] = along[:, 2] == 0
    absent[Solid.BOWL, :, low_z] = True
    absent[Solid.VESSEL, _HANDLE] = False
    opening[list(_OPEN), :, high_z] = True
    opening[Solid.VESSEL, _HANDLE] = False
    both[Solid.HINGE, [low_x, low_z]] = True
    opening[Solid.HINGE] = ~both[Solid.HINGE]
    margin = torch.full((len(Solid),), _BEHIND, dtype=torch.float64)
    margin[list(_BOXES)] = 0.0  # behind one of two boxes the other begins, behind the body of a VESSEL its handle
    return shares, absent, opening, both, margin


_TABLES = _tables()
