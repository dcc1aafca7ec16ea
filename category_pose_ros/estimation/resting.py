"""What objects stand on: planes in a depth image, or without one the upward direction that they share.

Objects stand or lie on tables, shelves and floors far more often than not, and depth shows a plane
far better than the image of an object shows its tilt. A hypothesis that is nearly at rest on a
plane is drawn to being so (`terms.RestingTerm`); one that is in a hand or leans is left alone.
Without depth the objects of an image tell each other which way is up, and how far below the camera
they stand: the size of each is uncertain, but several sizes that err on their own give one plane.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from category_pose_ros.config import setting, validate
from category_pose_ros.estimation.images import Depth
from category_pose_ros.estimation.state import State
from category_pose_ros.estimation.terms import RestingTerm
from category_pose_ros.geometry import Camera

_GRID = (60, 80)  # rows and columns of readings that planes are looked for in
_REACH = 2  # grid steps between a reading and those that give its normal
_HYPOTHESES = 100
_CLEARED = 4  # thicknesses of a found plane within which no other is looked for
_FARTHEST_M = 100.0  # beyond, nothing is looked for
_UNEVEN = 0.05  # standard deviation of the log of the camera's height over what objects of one image stand on
_PARALLEL = 0.9  # least cosine between the normals of a plane and of a reading on it


@dataclass(frozen=True)
class RestingConfig:
    """Objects at rest on planes that depth shows."""

    planes: int = setting(3, "Most planes per image that objects may rest on; 0 looks for none.", minimum=0, maximum=20)
    least_share: float = setting(
        0.04, "Share of the readings of the image that a plane must hold.", minimum=0.0, maximum=1.0
    )
    thickness: float = setting(
        0.008, "A reading is on a plane if it is this near to it, as a share of its depth.", minimum=1e-4, maximum=1.0
    )
    tilt_deg: float = setting(
        35.0, "Greatest tilt at which an object is still taken to stand or lie.", minimum=0.0, maximum=45.0
    )
    gap: float = setting(
        0.15, "Greatest gap between object and plane at which it rests on it, in diagonals.", minimum=0.0, maximum=1.0
    )
    agree_deg: float = setting(
        15.0,
        "Without depth: angle up to which objects of an image agree on which way is up, and learn from each other "
        "that and how far below the camera they stand; 0: they do not.",
        minimum=0.0,
        maximum=45.0,
    )
    log_odds: float = setting(
        1.0, "Log odds in favour of a hypothesis at rest over one that is not.", minimum=0.0, maximum=100.0
    )
    deviation_deg: float = setting(
        2.0, "Standard deviation of the tilt of an object at rest.", minimum=0.01, maximum=45.0
    )
    deviation_gap: float = setting(
        0.02, "Standard deviation of the gap under an object at rest, in diagonals.", minimum=1e-3, maximum=1.0
    )

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True, eq=False)
class Planes:
    """P planes; the points with normal @ point + offset_m = 0.

    Attributes:
        normal: (P, 3) unit vectors in the camera frame, to the side of the camera.
        offset_m: (P,) distance of the camera from each.
    """

    normal: Tensor
    offset_m: Tensor

    def __len__(self) -> int:
        return len(self.offset_m)


def find_planes(depth: Depth, camera: Camera, config: RestingConfig) -> Planes:
    """The largest planes, one after the other, each from what those before left over.

    In PyTorch, since the threads of NumPy's matrix products wait busily and slow down what comes after.
    RANSAC (Fischler and Bolles 1981) with readings that have a normal, so one is a hypothesis. The
    same image gives the same planes. Depth too sparse for normals gives none.

    Args:
        depth: (H, W) metres without lens distortion; 0, NaN and infinity are holes.
        camera: of the depth image.
    """
    points, normals = _oriented_points(depth, camera)
    found: list[tuple[Tensor, Tensor]] = []
    left = torch.ones(len(points), dtype=torch.bool)
    least = max(config.least_share * len(points), 30)
    while len(found) < config.planes and left.sum() >= least:
        normal, offset, on_plane = _largest_plane(points[left], normals[left], config.thickness)
        if on_plane < least:
            break
        found.append((normal, offset))
        left &= (points @ normal + offset).abs() > _CLEARED * config.thickness * points[:, 2]
    if not found:
        return Planes(torch.empty(0, 3), torch.empty(0))
    normal, offset = (torch.stack(parts) for parts in zip(*found, strict=True))
    return Planes(normal, offset)


def resting_term(state: State, planes: Planes, config: RestingConfig) -> RestingTerm:
    """The term for B hypotheses; without weight for those at rest on no plane.

    A hypothesis rests on the plane to which its gap is smallest, if the gap and its tilt are small.
    """
    size = state.size_m
    normal, offset = planes.normal.to(size.device), planes.offset_m.to(size.device)
    height, upright, settled = _standing(state, normal, config)
    gap = offset - height
    diagonal = size.norm(dim=-1, keepdim=True)
    rests = (gap.abs() < config.gap * diagonal) & settled
    chosen = torch.where(rests, gap.abs(), torch.inf).argmin(-1, keepdim=True)
    return RestingTerm(
        normal[chosen.squeeze(-1)],
        offset[chosen.squeeze(-1)],
        upright.gather(-1, chosen).squeeze(-1),
        rests.gather(-1, chosen).squeeze(-1).to(size.dtype),
        torch.full_like(offset[chosen.squeeze(-1)], np.radians(config.deviation_deg)),
        config.deviation_gap * diagonal.squeeze(-1),
    )


def scale_to_planes(state: State, planes: Planes, config: RestingConfig) -> Tensor:
    """The factor (B,) by which hypotheses move and grow along their lines of sight until they stand or lie on a plane.

    Of several planes the one that changes it least; 1 where there is none that they could stand or lie on.
    """
    normal, offset = planes.normal.to(state.log_size.device), planes.offset_m.to(state.log_size.device)
    height, _, settled = _standing(state, normal, config)
    change = torch.where(settled & (height > 0), (offset / height.clamp_min(1e-6)).log(), torch.inf)
    chosen = change.gather(-1, change.abs().argmin(-1, keepdim=True)).squeeze(-1)
    return torch.where(chosen.isfinite(), chosen, 0.0).exp()


def shared_up_term(state: State, tilt_variance: Tensor, score: Tensor, config: RestingConfig) -> RestingTerm:
    """The term that draws N objects of one image to the upward direction that the others agree on.

    All are taken to be equally sure of their z axis, so what n others say weighs n times what the
    object's own image does, whatever that states. An object that agrees with none of the others,
    upright, upside down or lying, is left alone, and so is one without others.

    Args:
        tilt_variance: (N,) of the direction of the z axis, in radians squared per axis.
        score: (N,) by which each counts.
    """
    axis = state.camera_from_object.rotation[..., 2]
    up = _agreed_up(axis, score, np.radians(config.agree_deg))
    upright, agrees = _posture(axis @ up, np.radians(config.agree_deg))
    says = (upright * score).unsqueeze(-1) * axis  # one that lies does not say which way up is
    others = says.sum(0) - says
    count = (upright.abs() * score).sum() - upright.abs() * score
    known = count > 0
    nothing = torch.zeros_like(score)
    return RestingTerm(
        torch.where(known.unsqueeze(-1), torch.nn.functional.normalize(others, dim=-1), axis),
        nothing,
        upright,
        (agrees & known).to(score.dtype),
        (tilt_variance / count.clamp_min(1e-6)).clamp_min(1e-8).sqrt(),
        torch.full_like(score, torch.inf),
    )


def shared_plane_term(
    state: State, up: RestingTerm, scale_variance: Tensor, score: Tensor, config: RestingConfig
) -> RestingTerm:
    """The term that draws N objects of one image to the plane that the others stand on.

    The scale s of an object moves it along its line of sight, and with it the height of the camera
    over what it stands on, h = s h0. So log h is as uncertain as the log of its size, independently
    for each object, and their mean is surer than any. An error of the upward direction adds to it,
    the more the flatter the line of sight is.

    Args:
        up: of `shared_up_term`; objects without weight there take no part.
        scale_variance: (N,) of the log of the scale.
        score: (N,) by which each counts.

    Returns:
        `up` with the plane of the others; as it is for an object that has no others, or if the
        camera is not above it.
    """
    pose = state.camera_from_object
    scaled = torch.einsum("ik,jkl->ijl", up.normal, pose.rotation) * state.size_m  # of object j along the normal of i
    height = 0.5 * scaled.norm(dim=-1) - up.normal @ pose.translation.T  # (N, N) of the camera
    sine = height / pose.translation.norm(dim=-1)
    cotangent = (1 - sine.square()).clamp_min(0.0).sqrt() / sine.clamp_min(1e-3)
    tilted = (np.radians(config.deviation_deg) * cotangent).square()
    counts = (up.weight > 0) & (up.weight > 0).unsqueeze(-1) & (height > 0)
    weight = torch.where(counts, score, 0.0) / (scale_variance + tilted + _UNEVEN**2)
    weight = weight - torch.diag(weight.diagonal())
    total = weight.sum(-1)
    known = (total > 0) & counts.diagonal()
    total = total.clamp_min(1e-6)
    plane = ((weight * height.clamp_min(1e-6).log()).sum(-1) / total).exp()
    deviation = plane * (1 / total + tilted.diagonal() + _UNEVEN**2).sqrt()
    return replace(
        up,
        offset_m=torch.where(known, plane, up.offset_m),
        deviation_m=torch.where(known, deviation, up.deviation_m),
    )


def _standing(state: State, normal: Tensor, config: RestingConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Of B hypotheses over P planes of which only the normals (P, 3) are known, each (B, P).

    Returns:
        How high the camera is, in metres, over the plane that each stands on; its `_posture`.
    """
    pose = state.camera_from_object
    half = 0.5 * ((normal @ pose.rotation) * state.size_m.unsqueeze(-2)).norm(dim=-1)
    upright, settled = _posture(pose.rotation[..., 2] @ normal.T, np.radians(config.tilt_deg))
    return half - pose.translation @ normal.T, upright, settled


def _agreed_up(axis: Tensor, score: Tensor, angle: float) -> Tensor:
    """The z axis (3,), or its opposite, with which most of the objects agree, and rather as upright."""
    candidates = torch.cat([axis, -axis])
    upright, agrees = _posture(candidates @ axis.T, angle)
    votes = agrees * (0.7 + 0.3 * upright.abs() + 0.1 * upright)
    return candidates[(votes @ score).argmax()]


def _posture(cosine: Tensor, angle: float) -> tuple[Tensor, Tensor]:
    """1 upright, -1 upside down or 0, by the cosine between z axis and up; and whether it is nearly any, or lies."""
    stands = cosine.abs() > np.cos(angle)
    return torch.where(stands, cosine.sign(), 0.0), stands | (cosine.abs() < np.sin(angle))


def _oriented_points(depth: Depth, camera: Camera) -> tuple[Tensor, Tensor]:
    """Readings of a grid (N, 3) and their normals (N, 3) towards the camera, where both are known."""
    rows = np.linspace(0, depth.shape[0] - 1, min(_GRID[0], depth.shape[0])).astype(int)
    columns = np.linspace(0, depth.shape[1] - 1, min(_GRID[1], depth.shape[1])).astype(int)
    z = depth[np.ix_(rows, columns)]
    z = np.where((z > 0) & (z < _FARTHEST_M), z, np.nan)
    pixels = torch.from_numpy(np.stack(np.meshgrid(columns, rows), -1)).float()
    points = camera.rays(pixels) * torch.from_numpy(z).float().unsqueeze(-1)
    across = points[_REACH:-_REACH, 2 * _REACH :] - points[_REACH:-_REACH, : -2 * _REACH]
    down = points[2 * _REACH :, _REACH:-_REACH] - points[: -2 * _REACH, _REACH:-_REACH]
    points = points[_REACH:-_REACH, _REACH:-_REACH].flatten(0, 1)
    normals = torch.linalg.cross(down, across).flatten(0, 1)  # y points down and x right: towards the camera
    length = normals.norm(dim=-1)
    known = length.isfinite() & (length > 0) & points[:, 2].isfinite()
    return points[known], normals[known] / length[known].unsqueeze(-1)


def _largest_plane(points: Tensor, normals: Tensor, thickness: float) -> tuple[Tensor, Tensor, int]:
    """Normal (3,), offset (), and how many of the points are on the plane."""
    seeds = torch.linspace(0, len(points) - 1, min(_HYPOTHESES, len(points))).long()
    offsets = -(points[seeds] * normals[seeds]).sum(-1)
    near = (points @ normals[seeds].T + offsets).abs() < thickness * points[:, 2:]
    near &= normals @ normals[seeds].T > _PARALLEL
    on_plane = near[:, near.sum(0).argmax()]
    normal, offset = normals[seeds[0]], offsets[0]
    for _ in range(3):  # a single normal is noisy: fit, and collect again
        middle = points[on_plane].mean(0)
        spread = points[on_plane] - middle
        _, axes = torch.linalg.eigh(spread.T @ spread)
        normal = axes[:, 0] * -torch.sign(axes[:, 0] @ middle)
        offset = -(normal @ middle)
        on_plane = (points @ normal + offset).abs() < thickness * points[:, 2]
        on_plane &= normals @ normal > _PARALLEL
        if on_plane.sum() < 3:
            break
    return normal, offset, int(on_plane.sum())
