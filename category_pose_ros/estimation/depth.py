"""What measured depth says about an object: its points, its scale, and whether to believe it.

One camera leaves the scale of an object open, and the terms of the image leave exactly that
direction free: position and size grow together along the line of sight. So depth first sets the
scale in closed form, a median that half of the points may contradict, and then refines pose and
size beside the other terms (`terms.DepthTerm`). Where it contradicts the size that objects of the
category can have, or the shape that the image shows, it is not used, and where many readings do so
the object is doubted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from category_pose_ros.config import setting, validate
from category_pose_ros.estimation.evidence import Evidence
from category_pose_ros.estimation.images import Depth, is_reading
from category_pose_ros.estimation.resting import Planes
from category_pose_ros.estimation.state import State
from category_pose_ros.estimation.terms import DepthTerm, SizePriorTerm
from category_pose_ros.geometry import SE3, Camera, so3
from category_pose_ros.geometry.solids import Solid, Solids, body_axis, depth_along, is_beside_body, solid_of

_TURNS_RAD = tuple(math.radians(angle) for angle in (0, -8, 8, -15, 15, -22, 22, -30, 30, -40, 40, -50, 50))
_CLEARLY = 1.0  # nats of the depth term
_CONSIDERED = 5000  # readings in the crop of an object that are looked at
_ON_PLANE, _IN_PLANE = 0.016, 0.003  # farthest from a plane that a reading, and the median of many, on it is, per depth
_MOST_OWN, _SOME_AROUND = 0.6, 0.3  # readings of an object and beside it on a plane that shows through it
_SCALE_ERROR = 0.1  # standard deviation of the log of a measured scale: the pose that it was measured with errs


@dataclass(frozen=True)
class DepthConfig:
    """From a depth image to scale, position and size."""

    points: int = setting(100, "Most depth readings per object that are used.", minimum=8, maximum=10000)
    least_points: int = setting(6, "Fewer readings than this on an object are not used.", minimum=1, maximum=10000)
    least_density: float = setting(
        0.25,
        "Readings on an object are not used where their density is below this share of that beside it: it is a hole "
        "in the depth image, of glass or too shiny, and they are of its edge or of what is behind.",
        minimum=0.0,
        maximum=1.0,
    )
    membership: float = setting(
        0.5, "A reading is the object's if its cell shows the object with this probability.", minimum=0.0, maximum=1.0
    )
    noise_m: float = setting(
        0.002,
        "Least standard deviation of a reading at one metre in metres; it grows with the square of the depth.",
        minimum=1e-5,
        maximum=1.0,
    )
    surface: float = setting(
        0.04,
        "Standard deviation of the real surface about the category's solid, in diagonals of the box.",
        minimum=1e-3,
        maximum=1.0,
    )
    independent: float = setting(
        10.0, "Readings that count as independent, at most: neighbours err alike.", minimum=0.1, maximum=10000.0
    )
    robust: float = setting(2.5, "Scale of the robust kernel, in standard deviations.", minimum=0.1, maximum=100.0)
    least_inliers: float = setting(
        0.4, "Share of the readings that must lie on the object for depth to be believed.", minimum=0.0, maximum=1.0
    )
    prior_deviations: float = setting(
        3.0,
        "Depth that makes the object larger or smaller than its category by more standard deviations is not believed.",
        minimum=0.1,
        maximum=100.0,
    )
    handle_weight: float = setting(
        4.0,
        "How often a reading beside the round body of a mug counts: they are few and alone tell its yaw.",
        minimum=1.0,
        maximum=1000.0,
    )
    enough_points: int = setting(20, "Readings on an object whose contradiction counts.", minimum=1, maximum=10000)

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True, eq=False)
class DepthPoints:
    """Depth readings on one object, padded to a fixed number N.

    Attributes:
        points_camera: (N, 3) metres.
        deviation_m: (N,) expected distance from the surface of the category's solid.
        weight: (N,) share of an independent measurement that each is; 0 where there is none.
    """

    points_camera: Tensor
    deviation_m: Tensor
    weight: Tensor


def sample_points(depth: Depth, camera: Camera, evidence: Evidence, config: DepthConfig, planes: Planes) -> DepthPoints:
    """The readings on the cells of an object, evenly thinned; none where depth does not show the object itself.

    Pixels are taken and not cells, so that sparse depth such as projected lidar is used in full. Of glass,
    and of what shines, a depth camera sees nothing but edges, or what is behind.

    Args:
        depth: (H, W) metres without lens distortion; 0, NaN and infinity are holes.
        camera: of the depth image.
        evidence: of the object; its cells may be those of any crop of the same camera.
        planes: in the depth image.
    """
    left, top, right, bottom = _region(evidence, camera)
    window = depth[top:bottom, left:right]
    rows, columns = np.nonzero(is_reading(window))
    if len(rows) > _CONSIDERED:  # of which the object has a good share
        rows, columns = (each[np.linspace(0, len(each) - 1, _CONSIDERED).astype(int)] for each in (rows, columns))
    pixels = torch.from_numpy(np.stack([columns + left, rows + top], -1)).float()
    share = _presence(evidence, camera, pixels)
    is_own = share >= config.membership
    seen = camera.rays(pixels) * torch.from_numpy(window[rows, columns]).unsqueeze(-1)
    covered = float((evidence.presence >= config.membership).float().mean())  # of the crop by the object
    if is_own.float().mean() < config.least_density * covered or _is_plane_behind(seen, is_own, planes):
        is_own = torch.zeros_like(is_own)
    chosen = torch.nonzero(is_own).squeeze(-1)
    if len(chosen) > config.points:
        chosen = chosen[torch.linspace(0, len(chosen) - 1, config.points).long()]
    z = seen[chosen, 2]
    surface_m = config.surface * float(evidence.table.log_size_mean.exp().norm())
    constant_m = math.hypot(surface_m, _noise_m(window))
    points = DepthPoints(
        seen[chosen],
        torch.hypot(config.noise_m * z.square(), torch.full_like(z, constant_m)),
        _weights(share[chosen], config),
    )
    return _padded(points, config.points, evidence.centre.device)


def depth_term(points: Sequence[DepthPoints], evidence: Sequence[Evidence], keep: int, robust: float) -> DepthTerm:
    """The term of all hypotheses, `keep` for each object."""

    def stack(name: str) -> Tensor:
        return torch.stack([getattr(item, name) for item in points]).repeat_interleave(keep, 0)

    device = points[0].weight.device
    solids = Solids.of([solid_of(item.table.name) for item in evidence for _ in range(keep)], device=device)
    return DepthTerm(solids, stack("points_camera"), stack("deviation_m"), stack("weight"), robust)


def to_scale(
    state: State, term: DepthTerm, prior: SizePriorTerm, config: DepthConfig
) -> tuple[State, DepthTerm, Tensor]:
    """Hypotheses at the scale that depth gives them, mugs with their handles where depth has them.

    Returns:
        The hypotheses, those unchanged for which depth is not believed, the term without the readings
        of these, and 1 (B,) for each hypothesis that so many readings contradict that it and not depth
        may be wrong, else 0.
    """
    scaled = resolve_scale(state, term)
    weighed = weigh_handles(scaled, term, config.handle_weight)
    scaled = turn_to_handles(scaled, weighed)
    believed = is_likely_size(scaled, prior, config.prior_deviations)
    believed &= term.inliers(scaled) >= config.least_inliers
    contradicted = ~believed & ((term.weight > 0).sum(-1) >= config.enough_points)
    kept = replace(weighed, weight=weighed.weight * believed.unsqueeze(-1))
    return scaled.where(believed, state), kept, contradicted.to(term.weight.dtype)


def resolve_scale(state: State, term: DepthTerm) -> State:
    """Move and grow hypotheses along their lines of sight to the measured depth.

    The scale is the weighted median, over the readings whose rays meet the hypothesis, of measured
    depth over that of the hypothesis. Where no ray does, the hypothesis stays.
    """
    z = term.points_camera[..., 2]
    rays = term.points_camera / z.unsqueeze(-1)
    ratio = z / depth_along(term.solids, state.size_m, state.camera_from_object, rays)
    met = ratio.isfinite()
    weight = term.weight * met
    scale = _weighted_median(torch.where(met, ratio, torch.ones_like(ratio)), weight)
    return state.scaled(torch.where(weight.sum(-1) > 0, scale, torch.ones_like(scale)))


def weigh_handles(state: State, term: DepthTerm, factor: float) -> DepthTerm:
    """The term with readings beside the round bodies of mugs counted so many times."""
    points = state.camera_from_object.inverse() @ term.points_camera
    beside = is_beside_body(term.solids, state.size_m, points)
    return replace(term, weight=torch.where(beside, factor * term.weight, term.weight))


def turn_to_handles(state: State, term: DepthTerm) -> State:
    """Turn mugs about the axes of their bodies where depth says clearly that the handle is elsewhere.

    The distance to a thin handle has a narrow basin, so the solver alone would not get there.
    """
    mugs = torch.nonzero(term.solids.are(Solid.VESSEL)).squeeze(-1)
    if not len(mugs):
        return state
    turns = len(_TURNS_RAD)
    pose, size_m = state.camera_from_object[mugs], state.size_m[mugs]
    about_z = pose.rotation.new_tensor([[0.0, 0.0, angle] for angle in _TURNS_RAD])
    rotation = pose.rotation.unsqueeze(1) @ so3.exp(about_z)  # (M, T, 3, 3)
    shift = (pose.rotation.unsqueeze(1) - rotation) @ body_axis(size_m)[:, None, :, None]
    translation = pose.translation.unsqueeze(1) + shift.squeeze(-1)
    each = mugs.repeat_interleave(turns)
    turned = State(SE3(rotation.flatten(0, 1), translation.flatten(0, 1)), state.log_size[each])
    costs = term[each].cost(turned).view(-1, turns)
    which = (costs + _CLEARLY * (costs.new_tensor(_TURNS_RAD) != 0)).argmin(-1)
    rows = torch.arange(len(state.log_size), device=each.device)
    rows[mugs] = len(rows) + turns * torch.arange(len(mugs), device=each.device) + which
    return State.cat([state, turned])[rows]


def is_likely_size(state: State, prior: SizePriorTerm, deviations: float) -> Tensor:
    """Whether the mean log extent is within so many standard deviations of the category's, (B,) bool."""
    nothing = 1e-6 * torch.eye(3, dtype=prior.mean.dtype, device=prior.mean.device)  # for a prior without information
    variance = torch.linalg.inv(prior.information + nothing).mean((-1, -2))  # of a mean: the mean of the covariance
    return (state.log_size - prior.mean).mean(-1).abs() < deviations * (variance + _SCALE_ERROR**2).sqrt()


def _region(evidence: Evidence, camera: Camera) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the crop in pixels of the image, inside the image."""
    height, width = evidence.presence.shape
    corners = torch.tensor([[-0.5, -0.5], [width - 0.5, height - 0.5]])
    focal, principal = evidence.intrinsics.focal[0].cpu(), evidence.intrinsics.centre[0].cpu()
    scale = torch.tensor([camera.fx, camera.fy])
    pixels = (corners - principal) / focal * scale + torch.tensor([camera.cx, camera.cy])
    (left, top), (right, bottom) = pixels.round().int().tolist()
    across, down = np.clip([left, right + 1], 0, camera.width), np.clip([top, bottom + 1], 0, camera.height)
    return int(across[0]), int(down[0]), int(across[1]), int(down[1])


def _is_plane_behind(points: Tensor, is_own: Tensor, planes: Planes) -> bool:
    """Whether most of an object's readings, of N points (N, 3) in its crop, lie on a plane that goes on around it.

    In the middle of the plane: what is flat and lies on it is a little before it.
    """
    if not is_own.any():
        return False
    before = (points @ planes.normal.T + planes.offset_m) / points[:, 2:]  # (N, P) as a share of the depth
    on_plane = (before.abs() < _ON_PLANE).float()
    behind = (on_plane[is_own].mean(0) > _MOST_OWN) & (on_plane[~is_own].mean(0) > _SOME_AROUND)
    return bool((behind & (before[is_own].median(0).values.abs() < _IN_PLANE)).any())


def _weights(share: Tensor, config: DepthConfig) -> Tensor:
    """Of readings whose cells show the object with these chances (N,): together no more than are independent."""
    if len(share) < config.least_points:
        return torch.zeros_like(share)
    # Not the sum alone: where every reading counts (membership 0), all may be surely something else.
    return share * (config.independent / max(config.independent, float(share.sum())))


def _noise_m(window: Depth) -> float:
    """Standard deviation of a reading, from the steps between neighbours; 0 where depth is too sparse for any.

    A surface changes little from pixel to pixel and an edge is rare, so the median step is noise.
    """
    valid = is_reading(window)
    both = valid[:, 1:] & valid[:, :-1]
    steps = np.abs(window[:, 1:][both] - window[:, :-1][both])
    return float(np.median(steps)) / (0.6745 * np.sqrt(2)) if steps.size else 0.0


def _presence(evidence: Evidence, camera: Camera, pixels: Tensor) -> Tensor:
    """Chance (N,) that the cells of pixels (N, 2) show the object."""
    height, width = evidence.presence.shape
    focal, principal = evidence.intrinsics.focal[0].cpu(), evidence.intrinsics.centre[0].cpu()
    column, row = (camera.rays(pixels)[:, :2] * focal + principal).round().long().unbind(-1)
    flat = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
    return evidence.presence.flatten().cpu()[flat]


def _padded(points: DepthPoints, count: int, device: torch.device) -> DepthPoints:
    missing = count - len(points.weight)
    ahead = torch.tensor([0.0, 0.0, 1.0]).expand(missing, 3)  # anywhere with a depth; it weighs nothing
    return DepthPoints(
        torch.cat([points.points_camera, ahead]).to(device),
        torch.cat([points.deviation_m, torch.ones(missing)]).to(device),
        torch.cat([points.weight, torch.zeros(missing)]).to(device),
    )


def _weighted_median(values: Tensor, weight: Tensor) -> Tensor:
    """The value (B,) below which half of the weight (B, N) lies."""
    ordered, order = values.sort(dim=-1)
    mass = weight.gather(-1, order).cumsum(-1)
    half = torch.searchsorted(mass, mass[:, -1:] / 2).clamp_max(values.shape[-1] - 1)
    return ordered.gather(-1, half).squeeze(-1)
