"""Which triangle each pixel sees: a z-buffer over all triangles of all meshes at once.

Triangles are met in homogeneous pixel coordinates (u z, v z, z), where the edge functions of a
triangle hold on both sides of the camera, so nothing is clipped (Olano and Greer 1997).
"""

from __future__ import annotations

import torch
from torch import Tensor

_FRAGMENTS = 1 << 21  # pairs of triangle and pixel that are looked at together, which bounds the memory
_LEAST_AREA_PX = 1e-6  # triangles that appear smaller cover no pixel, and their derivatives would overflow


@torch.no_grad()
def visible_faces(corners: Tensor, width: int, height: int, near: float) -> Tensor:
    """The nearest triangle at the centre of each pixel.

    Args:
        corners: (B, F, 3 corners, 3) homogeneous pixel coordinates (u z, v z, z).
        near: depth in metres; what is nearer is not seen.

    Returns:
        (B, H, W) index of the triangle, -1 where there is none.
    """
    batch, faces = corners.shape[:2]
    corners = corners.flatten(0, 1)
    low, high = _bounds(corners, near)
    limit = corners.new_tensor([width - 1, height - 1])
    first = low.clamp_min(0).minimum(limit + 1).ceil().long()
    last = high.clamp_max(limit).clamp_min(-1).floor().long()
    sides = (last - first + 1).clamp_min(0)  # (B F, 2)
    chosen = torch.nonzero(sides.prod(-1)).squeeze(-1)
    corners = corners[chosen]
    normals = edge_normals(corners)
    volume = (corners[:, 0] * normals[:, 0]).sum(-1)
    # Turned so that a pixel inside has three positive weights, and divided so that depth is 1 / their sum.
    normals = normals / torch.where(volume.abs() > 0, volume, 1.0)[:, None, None]
    big = volume.abs() > _LEAST_AREA_PX * corners[..., 2].prod(-1).abs()
    count = sides[chosen].prod(-1) * big
    nothing = torch.iinfo(torch.int64).max
    nearest = torch.full((batch * height * width,), nothing, device=corners.device)
    for part in _chunks(count):
        index, normal = chosen[part], normals[part]
        owner, column, row = _pixels(count[part], first[index], sides[index])
        u, v = column.to(normal.dtype).unsqueeze(-1), row.to(normal.dtype).unsqueeze(-1)
        weights = torch.addcmul(normal[..., 2][owner], normal[..., 0][owner], u).addcmul_(normal[..., 1][owner], v)
        inverse = weights.sum(-1)
        seen = torch.nonzero((weights.amin(-1) >= 0) & (inverse > 0) & (inverse <= 1 / near)).squeeze(-1)
        item = index[owner[seen]]
        place = ((item // faces) * height + row[seen]) * width + column[seen]
        # Positive floats are ordered as their bits are: one integer minimum finds depth and triangle.
        key = ((1 / inverse[seen]).float().view(torch.int32).long() << 32) | (item % faces)
        nearest.scatter_reduce_(0, place, key, "amin")
    found = nearest < nothing
    return torch.where(found, nearest & 0xFFFFFFFF, -1).view(batch, height, width)


def edge_normals(corners: Tensor) -> Tensor:
    """Edge functions (..., 3, 3): their product with (u, v, 1) is a corner's weight, unnormalised."""
    a, b, c = corners.unbind(-2)
    pairs = ((b, c), (c, a), (a, b))
    return torch.stack([torch.linalg.cross(first, second, dim=-1) for first, second in pairs], dim=-2)


def determinant(corners: Tensor) -> Tensor:
    """Six times the volume (...) of corners (..., 3, 3) and the origin."""
    a, b, c = corners.unbind(-2)
    return (a * torch.linalg.cross(b, c, dim=-1)).sum(-1)


def _bounds(corners: Tensor, near: float) -> tuple[Tensor, Tensor]:
    """Least and greatest pixel (N, 2) of the part of each triangle beyond the near plane; none is (inf, -inf)."""
    depth = corners[..., 2]
    pixel = corners[..., :2] / depth.clamp_min(near).unsqueeze(-1)  # (N, 3, 2)
    low, high = pixel.amin(1), pixel.amax(1)
    behind = (depth < near).all(-1)
    low[behind], high[behind] = float("inf"), float("-inf")
    crossing = torch.nonzero((depth < near).any(-1) & ~behind).squeeze(-1)
    if len(crossing):
        low[crossing], high[crossing] = _clipped_bounds(corners[crossing], near)
    return low, high


def _clipped_bounds(corners: Tensor, near: float) -> tuple[Tensor, Tensor]:
    """Of triangles that cross the near plane: every corner of what is left is an end of a clipped edge."""
    start, end = corners, corners.roll(-1, 1)
    z0, z1 = start[..., 2], end[..., 2]
    crosses = (z0 < near) != (z1 < near)
    share = torch.where(crosses, (near - z0) / torch.where(crosses, z1 - z0, torch.ones_like(z0)), 0.0)
    cut = start + share.unsqueeze(-1) * (end - start)
    points = torch.cat([corners, cut], 1)
    kept = torch.cat([z0 >= near, crosses], 1).unsqueeze(-1)
    pixel = points[..., :2] / points[..., 2:].clamp_min(near)
    return pixel.masked_fill(~kept, float("inf")).amin(1), pixel.masked_fill(~kept, float("-inf")).amax(1)


def _chunks(count: Tensor) -> list[slice]:
    """Slices of the triangles with a bounded number of pixels each."""
    if len(count) == 0:
        return []
    number = (count.cumsum(0) - 1) // _FRAGMENTS
    starts = torch.nonzero(torch.diff(number, prepend=number[:1] - 1)).squeeze(-1).tolist()
    return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], len(count)], strict=True)]


def _pixels(count: Tensor, first: Tensor, sides: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All pixels of all bounding boxes: number of the box, column and row, (N,) each."""
    owner = torch.repeat_interleave(torch.arange(len(count), device=count.device), count)
    offset = torch.arange(len(owner), device=count.device) - (count.cumsum(0) - count)[owner]
    width = sides[:, 0][owner]
    row = offset // width
    return owner, first[:, 0][owner] + offset - row * width, first[:, 1][owner] + row
