"""The outline of a silhouette, and how far each pixel is from it.

The outline of a mesh consists of pieces of its contour edges: those whose triangles lie on one side
of them in the image. Contour edges are sampled, samples that the mesh itself surrounds are dropped,
and every pixel finds the piece nearest to it. Only that last distance is differentiated: the
derivative of a silhouette lives on its outline.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from category_pose_ros.rendering.surface import Surface

_SPACING_PX = 0.7  # between samples of an edge: no pixel that it crosses is left out
_BEYOND_PX = 0.75  # how far outside the outline nothing of the mesh may be; half a pixel's diagonal and a little
_NEAR_SEED_PX = 8.0  # pixels as near as this to a seed look at their neighbours' seeds too
_ELEMENTS = 1 << 22  # numbers held at once by the distance transform


@dataclass(frozen=True, eq=False)
class Nearest:
    """The point of the outline nearest to each pixel.

    Attributes:
        ends: (B, H, W, 2) vertices of its edge.
        share: (B, H, W) where on the edge, in space, from 0 at the first vertex to 1.
        normal: (B, H, W, 2) unit vector out of the silhouette, through the pixel.
        covered: (B, H, W) whether the pixel is inside.
        found: (B, H, W) whether there is an outline in the image.
    """

    ends: Tensor
    share: Tensor
    normal: Tensor
    covered: Tensor
    found: Tensor

    def points(self, vertices: Tensor) -> Tensor:
        """The points (B, H, W, 3) on edges between vertices (B, V, 3), in whatever frame these are."""
        batch = torch.arange(len(vertices), device=vertices.device)[:, None, None]
        first, second = vertices[batch, self.ends[..., 0]], vertices[batch, self.ends[..., 1]]
        return first + self.share.unsqueeze(-1) * (second - first)


def signed_distance(homogeneous: Tensor, nearest: Nearest) -> Tensor:
    """Distance (B, H, W) in pixels from the outline, negative inside.

    The derivative of a distance is the motion of the nearest point along the normal, so the choice of
    the point and the normal need none of their own; but for pixels whose nearest point is where the
    border of the image cuts the outline, which are off. Where there is no outline in the image the
    distance is larger than the image, and constant.

    Args:
        homogeneous: (B, V, 3) vertices as (u z, v z, z).
    """
    height, width = nearest.found.shape[1:]
    point = nearest.points(homogeneous)
    projected = point[..., :2] / torch.where(nearest.found, point[..., 2], 1.0).unsqueeze(-1)
    away = pixel_centres(width, height, homogeneous) - projected
    distance = (nearest.normal * away).sum(-1)
    far = torch.where(nearest.covered, -1.0, 1.0).to(distance.dtype) * (width + height)
    return torch.where(nearest.found, distance, far)


@torch.no_grad()
def nearest_outline(homogeneous: Tensor, surface: Surface, covered: Tensor, near: float) -> Nearest:
    """Find the outline and, for every pixel, the point of it that is nearest.

    Args:
        homogeneous: (B, V, 3) vertices as (u z, v z, z).
        covered: (B, H, W) which pixels the mesh covers.
        near: depth in metres; edges are cut off there.
    """
    pieces = _pieces(homogeneous, surface, covered, near)
    labels, squared = _nearest_seeds(_seeds(pieces, covered))
    return _nearest(homogeneous, surface, pieces, labels, squared, covered)


def pixel_centres(width: int, height: int, like: Tensor) -> Tensor:
    """(H, W, 2) of columns and rows."""
    columns = torch.arange(width, dtype=like.dtype, device=like.device).expand(height, width)
    rows = torch.arange(height, dtype=like.dtype, device=like.device).unsqueeze(-1).expand(height, width)
    return torch.stack([columns, rows], -1)


@dataclass(frozen=True, eq=False)
class _Pieces:
    """Short pieces of contour edges on the outline.

    Attributes:
        row: (N,) row of the batch.
        edge: (N,) index of the edge.
        middle: (N, 2) in pixels.
        line: (N, 6) the edge's first end in pixels, the way from it to its second, and which share
            of that way is on the outline with this piece, from and to.
        depth: (N, 2) of the two ends.
        clip: (N, 2) share in space of the whole edge at which these ends are.
        normal: (N, 2) out of the silhouette.
    """

    row: Tensor
    edge: Tensor
    middle: Tensor
    line: Tensor
    depth: Tensor
    clip: Tensor
    normal: Tensor


def _pieces(homogeneous: Tensor, surface: Surface, covered: Tensor, near: float) -> _Pieces:
    height, width = covered.shape[1:]
    batch, edge, side = _contour_edges(homogeneous, surface, near)
    ends = homogeneous[batch.unsqueeze(-1), surface.edges[edge]]  # (M, 2, 3)
    clip = _in_front(ends[..., 2], near)
    ends = ends[:, :1] + clip.unsqueeze(-1) * (ends[:, 1:] - ends[:, :1])
    depth = ends[..., 2].clamp_min(near)
    start, stop = (ends[..., :2] / depth.unsqueeze(-1)).unbind(1)
    along = stop - start
    inside = _in_image(start, along, width, height)  # (M, 2) share of the edge
    length = along.norm(dim=-1) * (inside[:, 1] - inside[:, 0])
    count = torch.where(length > 0, (length / _SPACING_PX).ceil().clamp_min(1), 0).long()
    owner = torch.repeat_interleave(torch.arange(len(count), device=count.device), count)
    step = ((inside[:, 1] - inside[:, 0]) / count.clamp_min(1))[owner]
    number = torch.arange(len(owner), device=owner.device) - (count.cumsum(0) - count)[owner]
    middle = inside[owner, 0] + (number + 0.5) * step
    position = start[owner] + middle.unsqueeze(-1) * along[owner]
    normal = torch.nn.functional.normalize(side, dim=-1)[owner]
    kept = torch.nonzero(~_is_covered(covered, batch[owner], position + _BEYOND_PX * normal)).squeeze(-1)
    owner, step, middle = owner[kept], step[kept], middle[kept]
    span = _runs(owner, number[kept], torch.stack([middle - 0.5 * step, middle + 0.5 * step], -1))
    line = torch.cat([start[owner], along[owner], span], -1)
    return _Pieces(batch[owner], edge[owner], position[kept], line, depth[owner], clip[owner], normal[kept])


def _runs(owner: Tensor, number: Tensor, span: Tensor) -> Tensor:
    """The span (N, 2) of the unbroken run that each piece belongs to, so that all of it is one straight line."""
    ends = torch.ones(len(owner) + 1, dtype=torch.bool, device=owner.device)
    ends[1:-1] = (owner[1:] != owner[:-1]) | (number[1:] != number[:-1] + 1)
    run = ends[:-1].cumsum(0) - 1
    return torch.stack([span[ends[:-1], 0][run], span[ends[1:], 1][run]], -1)


def _contour_edges(homogeneous: Tensor, surface: Surface, near: float) -> tuple[Tensor, Tensor, Tensor]:
    """Edges with all their triangles on one side: batch row (M,), edge (M,) and normal (M, 2) to the other side."""
    first, second = homogeneous[:, surface.edges[:, 0]], homogeneous[:, surface.edges[:, 1]]
    line = torch.linalg.cross(first, second, dim=-1)  # (B, E, 3), of the image line through both
    sides = (line.unsqueeze(-2) * homogeneous[:, surface.opposite]).sum(-1)  # (B, E, 2)
    in_front = torch.maximum(first[..., 2], second[..., 2]) > near
    batch, edge = torch.nonzero((sides.prod(-1) >= 0) & in_front, as_tuple=True)
    return batch, edge, -sides[batch, edge].sum(-1, keepdim=True).sign() * line[batch, edge, :2]


def _in_front(depth: Tensor, near: float) -> Tensor:
    """Shares (M, 2) between which edges with depths (M, 2) are beyond the near plane."""
    first, second = depth.unbind(-1)
    difference = second - first
    cut = (near - first) / torch.where(difference == 0, 1.0, difference)
    start = torch.where(first < near, cut, 0.0)
    return torch.stack([start, torch.where(second < near, cut, 1.0)], -1).clamp(0, 1)


def _in_image(start: Tensor, along: Tensor, width: int, height: int) -> Tensor:
    """Shares (M, 2) between which segments are inside the image (Liang and Barsky 1984); equal where they are not."""
    low = start.new_tensor([-0.5, -0.5])
    high = start.new_tensor([width - 0.5, height - 0.5])
    slope = torch.where(along.abs() < 1e-9, 1e-9, along)
    one, other = (low - start) / slope, (high - start) / slope
    enter = torch.minimum(one, other).amax(-1).clamp(0, 1)
    leave = torch.maximum(one, other).amin(-1).clamp(0, 1)
    return torch.stack([enter, torch.maximum(enter, leave)], -1)


def _is_covered(covered: Tensor, row: Tensor, position: Tensor) -> Tensor:
    """Whether the pixels at positions (N, 2) of images (N,) are covered; what is outside is not."""
    height, width = covered.shape[1:]
    column, line = position.round().long().unbind(-1)
    inside = (column >= 0) & (column < width) & (line >= 0) & (line < height)
    return covered[row, line.clamp(0, height - 1), column.clamp(0, width - 1)] & inside


def _seeds(pieces: _Pieces, covered: Tensor) -> Tensor:
    """Of pixels just outside the silhouette the piece nearest to them, (B, H, W); -1 elsewhere.

    Seen from outside the true outline is always nearer than edges a little behind it, so none of
    those becomes a seed.
    """
    height, width = covered.shape[1:]
    offset = torch.tensor([[x, y] for y in (-1, 0, 1) for x in (-1, 0, 1)], device=covered.device)
    pixel = (pieces.middle.round().long().unsqueeze(1) + offset).flatten(0, 1)  # (9 N, 2)
    column, line = pixel.unbind(-1)
    piece = torch.arange(len(pieces.row), device=covered.device).repeat_interleave(9)
    row = pieces.row[piece]
    inside = (column >= 0) & (column < width) & (line >= 0) & (line < height)
    outside = torch.nonzero(inside & ~_is_covered(covered, row, pixel.to(pieces.line.dtype))).squeeze(-1)
    piece, pixel = piece[outside], pixel[outside].to(pieces.line.dtype)
    squared = (pixel - _closest(pieces.line[piece], pixel)[0]).square().sum(-1).float()
    nothing = torch.iinfo(torch.int64).max
    nearest = torch.full((covered.numel(),), nothing, device=covered.device)
    place = ((row * height + line) * width + column)[outside]
    nearest.scatter_reduce_(0, place, (squared.view(torch.int32).long() << 32) | piece, "amin")
    return torch.where(nearest < nothing, nearest & 0xFFFFFFFF, -1).view(covered.shape)


def _nearest_seeds(seeds: Tensor) -> tuple[Tensor, Tensor]:
    """For every pixel the label of the nearest seed, -1 where there is none, and its squared distance.

    Exact Euclidean distance transform in two passes, along columns and then along rows
    (Saito and Toriwaki 1994).
    """
    batch, height, width = seeds.shape
    rows = torch.arange(height, device=seeds.device).view(1, height, 1)
    far = 2 * (height + width)
    above = torch.where(seeds >= 0, rows, -far).cummax(1).values
    below = torch.where(seeds >= 0, rows, 3 * far).flip(1).cummin(1).values.flip(1)
    row = torch.where(rows - above <= below - rows, above, below)  # (B, H, W) nearest in the column
    squared = (rows - row).square().flatten(0, 1).float()  # (B H, W)
    columns = torch.arange(width, device=seeds.device, dtype=squared.dtype)
    across = (columns.unsqueeze(1) - columns).square()  # (W, W)
    at_once = max(1, _ELEMENTS // (width * width))
    parts = [(across + part.unsqueeze(1)).min(-1) for part in squared.split(at_once)]
    column = torch.cat([part.indices for part in parts]).view(batch, height, width)
    least = torch.cat([part.values for part in parts]).view(batch, height, width)
    row = row.gather(2, column)
    image = torch.arange(batch, device=seeds.device)[:, None, None]
    label = seeds[image, row.clamp(0, height - 1), column]
    return torch.where((row >= 0) & (row < height), label, -1), least


def _nearest(
    homogeneous: Tensor, surface: Surface, pieces: _Pieces, labels: Tensor, squared: Tensor, covered: Tensor
) -> Nearest:
    found = labels >= 0
    if len(pieces.row) == 0:
        none = torch.zeros(*labels.shape, 2, dtype=homogeneous.dtype, device=labels.device)
        return Nearest(none.long(), none[..., 0], none, covered, found)
    height, width = labels.shape[1:]
    centre = pixel_centres(width, height, homogeneous)
    label = _refined(pieces, labels.clamp_min(0), squared, centre)
    point, share = _closest(pieces.line[label], centre)
    away = centre - point
    length = away.norm(dim=-1, keepdim=True)
    outward = torch.where(covered, -1.0, 1.0).to(away.dtype).unsqueeze(-1)
    # A pixel on the outline has no direction of its own.
    normal = torch.where(length > 1e-3, outward * away / length.clamp_min(1e-3), pieces.normal[label])
    depth, clip = pieces.depth[label], pieces.clip[label]
    # Shares of the image segment to shares in space, along which depth is linear.
    inner = share * depth[..., 0] / (depth[..., 1] + share * (depth[..., 0] - depth[..., 1]))
    whole = clip[..., 0] + inner * (clip[..., 1] - clip[..., 0])
    return Nearest(surface.edges[pieces.edge[label]], whole, normal, covered, found)


def _refined(pieces: _Pieces, labels: Tensor, squared: Tensor, centre: Tensor) -> Tensor:
    """Near the outline, the best of the labels of a pixel and its neighbours: seeds are whole pixels."""
    row, line, column = torch.nonzero(squared <= _NEAR_SEED_PX**2, as_tuple=True)
    around = torch.arange(-1, 2, device=labels.device)
    lines = (line[:, None, None] + around[:, None]).clamp(0, labels.shape[1] - 1)
    columns = (column[:, None, None] + around).clamp(0, labels.shape[2] - 1)
    tried = labels[row[:, None, None], lines, columns].flatten(1)  # (N, 9)
    pixel = centre[line, column].unsqueeze(1)
    distance = (pixel - _closest(pieces.line[tried], pixel)[0]).square().sum(-1)
    best = tried.gather(1, distance.argmin(-1, keepdim=True)).squeeze(-1)
    return labels.index_put((row, line, column), best)


def _closest(line: Tensor, pixel: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest points (..., 2) of pieces (..., 6) to pixels (..., 2), and their share of the edge."""
    start, along, low, high = line[..., :2], line[..., 2:4], line[..., 4], line[..., 5]
    share = ((pixel - start) * along).sum(-1) / along.square().sum(-1).clamp_min(1e-12)
    share = torch.minimum(torch.maximum(share, low), high)
    return start + share.unsqueeze(-1) * along, share
