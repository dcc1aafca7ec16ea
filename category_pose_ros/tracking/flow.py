"""Points on the surface of objects, carried from image to image by optical flow.

Between two looks through the network the texture of an object shows how it moves (Lucas and Kanade 1981, over a
pyramid as in Bouguet 2001). That needs no training and costs a part of a look, but it tells motion only: the points
lie on the solid of the object where a look saw it and keep the error of that look. So flow moves a belief and makes
it no surer.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from category_pose_ros.config import setting, validate
from category_pose_ros.estimation.belief import Belief
from category_pose_ros.estimation.solver import SolverConfig, fastest_minimise
from category_pose_ros.estimation.state import Intrinsics, State
from category_pose_ros.estimation.terms import BeliefTerm, CorrespondenceTerm
from category_pose_ros.geometry import SE3, Camera
from category_pose_ros.geometry.box import box_window
from category_pose_ros.geometry.solids import Solids, depth_along, solid_of
from category_pose_ros.tracking.motion import Motion

_Array = npt.NDArray[np.float32]
_Flags = npt.NDArray[np.bool_]
_Grey = npt.NDArray[np.uint8]
_Window = tuple[int, int, int, int]  # left, top, right and bottom in pixels

_WINDOW_PX = 15
_LEVELS = 3  # of the pyramid above the image: what moves some 60 pixels farther than expected is still followed
_ENOUGH = (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, 15, 0.03)  # iterations, pixels
_QUALITY = 0.01  # least corner response, relative to the best on an object
_APART = 0.04  # least distance between two points in apparent diagonals
_GRID = 16  # cells across the window of an object, in whose centres its depth is known
_STEP = 0.1  # of depth between a cell and those around it, in diagonals, that is none
_TINY = 1e-6
NEAREST_M = 1e-3  # what is nearer, or behind the camera, is taken to be there
_LEAST_SIDE_PX = 8  # of the window that an object appears in
_FEWEST = 6  # points that tell the motion of a solid
_LEAST_VARIANCE = 1e-10  # of what a motion is expected not to change, which keeps its inverse finite
_OUTLIER = 2.0  # in scales of the robust kernel
_SOLVER = SolverConfig(iterations=5)


@dataclass(frozen=True)
class FlowConfig:
    """Optical flow between looks."""

    points: int = setting(40, "Most points per object.", minimum=6, maximum=1000)
    least_points: int = setting(10, "Fewer corners on an object are not followed ...", minimum=6, maximum=1000)
    keep_share: float = setting(
        0.5, "... and where less than this share of them is left, they carry it no farther.", minimum=0.0, maximum=1.0
    )
    doubt_share: float = setting(
        0.75,
        "Less than this share of them left, and the object is looked at before its time.",
        minimum=0.0,
        maximum=1.0,
    )
    return_px: float = setting(
        1.0, "A point is dropped that comes back this far from where it was, followed there and back.", minimum=0.01
    )
    noise_px: float = setting(1.0, "Standard deviation of a point.", minimum=0.01, maximum=100.0)
    robust_px: float = setting(2.0, "Scale of the robust kernel.", minimum=0.1, maximum=100.0)
    unrest: float = setting(
        0.02, "Error of a motion that is always possible, in diagonals and radians per frame.", minimum=0.0
    )
    sight: float = setting(
        0.1, "The same along the line of sight, in diagonals: no object is quite its solid.", minimum=0.0
    )

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True, eq=False)
class View:
    """A grey image without lens distortion, (H, W) uint8, and its camera."""

    grey: _Grey
    camera: Camera


@dataclass(frozen=True, eq=False)
class Points:
    """What is followed of one object.

    Attributes:
        on_box: (N, 3) in units of its box.
        pixels: (N, 2) where the latest view shows them.
        seeded: how many there were when they were chosen.
    """

    on_box: _Array
    pixels: _Array
    seeded: int

    @property
    def share(self) -> float:
        """What is left of those that were chosen."""
        return len(self.pixels) / self.seeded


@dataclass(frozen=True, eq=False)
class Carried:
    """Where an object has gone.

    Attributes:
        motion: its pose now, and what is not known of the way.
        covariance: (9, 9) as far as the points themselves leave it open.
        points: those that came along.
    """

    motion: Motion
    covariance: Tensor
    points: Points


class Flow:
    """Carries objects from view to view.

    Args:
        config: settings.
    """

    def __init__(self, config: FlowConfig) -> None:
        self._config = config
        self._minimise = fastest_minimise(torch.device("cpu"))

    def seed(self, view: View, belief: Belief) -> Points | None:
        """Corners of a view on an object that is believed to be there; None where there are too few."""
        window = window_of(belief, view.camera)
        if window is None:
            return None
        left, top, right, bottom = window
        inside = view.grey[top:bottom, left:right]
        apart_px = _APART * view.camera.fx * float(belief.size_m.norm() / belief.camera_from_object.translation[2])
        nearness = nearness_of(belief, view.camera, window)
        mask = cv2.resize(_inner(nearness, belief), inside.shape[::-1], interpolation=cv2.INTER_NEAREST)
        corners = cv2.goodFeaturesToTrack(inside, self._config.points, _QUALITY, apart_px, mask=mask)
        if corners is None or len(corners) < self._config.least_points:
            return None
        pixels = (corners[:, 0] + [left, top]).astype(np.float32)
        return Points(_on_box(belief, view.camera, window, nearness, pixels), pixels, len(pixels))

    def carry(
        self,
        before: View,
        now: View,
        beliefs: Sequence[Belief],
        points: Sequence[Points | None],
        motions: Sequence[Motion],
    ) -> list[Carried | None]:
        """Follow points from one view to the next, and objects with them.

        Args:
            beliefs: about the size of each object.
            points: of each, in the view before; None: there are none.
            motions: how each is expected to move.

        Returns:
            Per object where it has gone; None where too few points tell.
        """
        carried: list[Carried | None] = [None] * len(points)
        known = {row: item for row, item in enumerate(points) if item is not None}
        if known:
            expected = _expected([beliefs[row] for row in known], [motions[row] for row in known])
            covariance = torch.stack([motions[row].covariance for row in known])
            found = self._carried(before, now, list(known.values()), expected, covariance)
            for row, item in zip(known, found, strict=True):
                enough = max(_FEWEST, self._config.keep_share * item.points.seeded)
                carried[row] = item if len(item.points.pixels) >= enough else None
        return carried

    def _carried(
        self, before: View, now: View, points: list[Points], expected: State, covariance: Tensor
    ) -> list[Carried]:
        """B objects as their points have moved, as far as that is likely, with the points that show it."""
        camera, config = now.camera, self._config
        on_box, start, valid = _padded(points)
        guess = _projected(expected, camera, on_box)
        pixels, same = _there_and_back(before, now, start[valid], guess[valid], config.return_px)
        there = start.copy()
        there[valid], valid[valid] = pixels, same
        shown = CorrespondenceTerm(
            Intrinsics.of([camera] * len(points)),
            torch.from_numpy(on_box),
            torch.from_numpy(there),
            torch.from_numpy(valid / np.float32(config.noise_px**2)),
            config.robust_px,
        )
        bounded = covariance + _LEAST_VARIANCE * torch.eye(covariance.shape[-1], dtype=covariance.dtype)
        likely = BeliefTerm(expected, torch.linalg.inv(bounded).float())
        states, around = self._minimise([shown, likely], _shifted(expected, camera, there - guess, valid), _SOLVER)
        missed = np.linalg.norm(_projected(states, camera, on_box) - there, axis=-1)
        valid &= missed < _OUTLIER * config.robust_px
        unknown = torch.linalg.inv(around.hessian.double())
        pose = states.camera_from_object.to(torch.float64)
        loose = self._loosened(unknown, pose, states.size_m.double())
        return [
            Carried(
                Motion(SE3(pose.rotation[row], pose.translation[row]), loose[row]),
                unknown[row],
                Points(item.on_box[own], there[row, : len(own)][own], item.seeded),
            )
            for row, item in enumerate(points)
            for own in [valid[row, : len(item.pixels)]]
        ]

    def _loosened(self, covariance: Tensor, pose: SE3, size_m: Tensor) -> Tensor:
        """Covariances (B, 9, 9) of motions with what flow gets wrong without knowing it."""
        position, diagonal = pose.translation, size_m.norm(dim=-1, keepdim=True)
        along = self._config.sight * diagonal * position / position.norm(dim=-1, keepdim=True)
        loose = covariance.clone()
        loose[:, :3, :3] += along.unsqueeze(-1) * along.unsqueeze(-2)
        by_step = loose.diagonal(dim1=-2, dim2=-1)
        by_step[:, :3] += (self._config.unrest * diagonal).square()
        by_step[:, 3:6] += self._config.unrest**2
        return loose


def _padded(points: list[Points]) -> tuple[_Array, _Array, _Flags]:
    """On the box (B, N, 3), in the image (B, N, 2), and whether there is one (B, N)."""
    count = max(len(item.pixels) for item in points)
    on_box, pixels = np.zeros((len(points), count, 3), np.float32), np.zeros((len(points), count, 2), np.float32)
    valid = np.zeros((len(points), count), bool)
    for row, item in enumerate(points):
        own = slice(len(item.pixels))
        on_box[row, own], pixels[row, own], valid[row, own] = item.on_box, item.pixels, True
    return on_box, pixels, valid


def _shifted(states: State, camera: Camera, missed_px: _Array, valid: _Flags) -> State:
    """Moved across the line of sight by what most points (B, N, 2) miss: the robust kernel would drop what is far."""
    pose, shift = states.camera_from_object, np.zeros((len(valid), 3), np.float32)
    for row, own in enumerate(valid):
        if own.any():
            shift[row, :2] = np.median(missed_px[row, own], axis=0) / [camera.fx, camera.fy]
    moved = pose.translation + torch.from_numpy(shift) * pose.translation[:, 2:]
    return State(SE3(pose.rotation, moved), states.log_size)


def _there_and_back(before: View, now: View, pixels: _Array, guess: _Array, return_px: float) -> tuple[_Array, _Flags]:
    """Where points (N, 2) have gone, and whether they come back to where they were (N,)."""
    # Pyramids of what is around the points alone.
    margin = _WINDOW_PX << _LEVELS
    both, limit = np.concatenate([pixels, guess]), (now.camera.width, now.camera.height)
    left, top = np.clip(both.min(0) - margin, 0, np.subtract(limit, 1)).astype(int)
    right, bottom = np.clip(both.max(0) + margin + 1, (left + 1, top + 1), limit).astype(int)
    corner = np.array([left, top], np.float32)
    first, second = before.grey[top:bottom, left:right], now.grey[top:bottom, left:right]
    start = pixels - corner
    there, is_there = _flow(first, second, start, guess - corner)
    back, is_back = _flow(second, first, there, start)
    same = is_there & is_back & (np.abs(back - start).max(-1) < return_px)
    return there + corner, same


def _flow(first: _Grey, second: _Grey, pixels: _Array, guess: _Array) -> tuple[_Array, _Flags]:
    """Where points (N, 2) have gone, and whether they were found (N,)."""
    there, found, _ = cv2.calcOpticalFlowPyrLK(
        first,
        second,
        pixels,
        guess.copy(),
        winSize=(_WINDOW_PX, _WINDOW_PX),
        maxLevel=_LEVELS,
        criteria=_ENOUGH,
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
    )
    return np.asarray(there, dtype=np.float32), np.asarray(found[:, 0] > 0)


def _expected(beliefs: Sequence[Belief], motions: Sequence[Motion]) -> State:
    poses = [motion.camera_from_object for motion in motions]
    pose = SE3(torch.stack([each.rotation for each in poses]), torch.stack([each.translation for each in poses]))
    return State(pose.to(torch.float32), torch.stack([belief.log_size for belief in beliefs]).float())


def _projected(states: State, camera: Camera, on_box: _Array) -> _Array:
    """Pixels (B, N, 2) of points (B, N, 3) on the boxes of objects."""
    return pixels_of(camera, states.points_camera(torch.from_numpy(on_box)).numpy()).astype(np.float32)


def pixels_of(camera: Camera, places: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Pixels (..., 2) of places (..., 3) in the frame of a camera without distortion; finite behind it, too."""
    rays = places[..., :2] / np.maximum(places[..., 2:], NEAREST_M)
    return np.asarray(rays * [camera.fx, camera.fy] + [camera.cx, camera.cy], dtype=np.float64)


def nearness_of(belief: Belief, camera: Camera, window: _Window) -> _Array:
    """Inverse depth of an object in the middle of each cell of a grid over its window; 0 where it is not."""
    left, top, right, bottom = window
    steps = (np.arange(_GRID) + 0.5) / _GRID
    columns, rows = np.meshgrid(left + steps * (right - left) - 0.5, top + steps * (bottom - top) - 0.5)
    rays = camera.rays(torch.from_numpy(np.stack([columns, rows], -1).reshape(1, -1, 2)))
    pose = belief.camera_from_object.to(torch.float64)
    pose = SE3(pose.rotation[None], pose.translation[None])
    depth = depth_along(_solid(belief.category), belief.size_m[None].double(), pose, rays).numpy()
    return np.nan_to_num(1 / depth).astype(np.float32).reshape(_GRID, _GRID)


@functools.cache
def _solid(category: str) -> Solids:
    return Solids.of([solid_of(category)], dtype=torch.float64)


def _inner(nearness: _Array, belief: Belief) -> _Grey:
    """Cells of an object with no outline around them, nor one of its parts: corners there do not move with the surface.

    Args:
        nearness: (h, w) as of `nearness_of`.
    """
    around = cv2.blur(nearness, (3, 3), borderType=cv2.BORDER_CONSTANT)
    least = cv2.erode(nearness, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    # Inverse depth is linear on a plane, whichever way it faces, and so equal to its mean.
    step_m = np.abs(around - nearness) / np.maximum(nearness, _TINY) ** 2
    return np.asarray((least > 0) & (step_m < _STEP * float(belief.size_m.norm()))).astype(np.uint8)


def _on_box(belief: Belief, camera: Camera, window: _Window, nearness: _Array, pixels: _Array) -> _Array:
    """Where the lines of sight of pixels (N, 2) meet the object, (N, 3) in units of its box.

    Inverse depth is linear on a plane, and nearly so on what is round, between cells that are all of the object.
    """
    left, top, right, bottom = window
    places = (pixels + 0.5 - [left, top]) / [right - left, bottom - top] * _GRID - 0.5
    near = cv2.remap(nearness, places[:, None].astype(np.float32), None, cv2.INTER_LINEAR)[:, 0]
    rays = camera.rays(torch.from_numpy(pixels).double())
    pose = belief.camera_from_object.to(torch.float64)
    on_box = (pose.inverse() @ (rays / torch.from_numpy(near).unsqueeze(-1))) / belief.size_m.double()
    return np.asarray(on_box.numpy(), dtype=np.float32)


def window_of(belief: Belief, camera: Camera) -> _Window | None:
    """Left, top, right and bottom of the object in the image; None where it is hardly in it."""
    pose, size_m = belief.camera_from_object.to(torch.float64), belief.size_m.double()
    if pose.translation[2] <= 0.5 * (pose.rotation[2].abs() * size_m).sum():  # it reaches behind the camera
        return None
    left, top, right, bottom = window = box_window(pose, size_m, camera)
    return window if min(right - left, bottom - top) >= _LEAST_SIDE_PX else None
