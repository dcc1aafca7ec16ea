"""How an object looked when it was surely seen: by that it is known again while something hides a part of it.

The network knows categories, and of an object that is covered it sees too little. The surface that depth and
colour showed a moment ago is this one object's own. It is laid over the frame by direct alignment, point to plane
(Chen and Medioni 1992) together with brightness (Steinbruecker et al. 2011), and each of its points then agrees, is
hidden behind something nearer, or is seen through. What is covered takes nothing from the rest.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt
import torch

from category_pose_ros.config import setting, validate
from category_pose_ros.estimation.belief import Belief
from category_pose_ros.estimation.images import Depth, is_reading
from category_pose_ros.geometry import SE3, Camera, so3
from category_pose_ros.tracking.flow import NEAREST_M, View, nearness_of, pixels_of, window_of

_Array = npt.NDArray[np.float64]
_Flags = npt.NDArray[np.bool_]
_Image = npt.NDArray[np.float32]
_Equations = tuple[_Array, _Array]  # normal equations of a step: (6, 6) and (6,), translation first

_POINTS = 300
_FEWEST = 40  # points of which a surface is kept
_SIDE = 48  # readings along the shorter side of an object, about: nearer objects are thinned
_STEP = 3  # readings from one to the neighbours that span its normal
_STEEP = 0.2  # least cosine between the line of sight and the normal, for the surface to be kept
_TURNED_AWAY = 0.15  # the same for a point to be expected to be seen
_NEAR_SOLID = 0.08  # how far from the category's solid a reading is the object's, in diagonals
_BLURS_PX = (2.0, 1.0)  # of the brightness: first wide, then sharp
_WIDTHS = (2.0, 2.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0)  # of the kernel of depth per iteration, in tolerances
_BRIGHTNESS = 20.0  # change of grey level that is no longer the same
_BRIGHTNESS_NOISE = 10.0
_READING_NOISE = 0.004  # of depth
_INDEPENDENT = 60, 100  # readings and brightnesses that count, at most: neighbours err alike
_MARGIN_PX = 40
_AS_SURE = 0.1  # a look that scores lower by no more is as sure
_MORE_HIDDEN = 0.05  # what hides more than that is something else before the object
_NEARER = 1.25  # times, from where an object looks otherwise
_TURNED_RAD = math.radians(15)  # another side of an object


@dataclass(frozen=True)
class KeyframeConfig:
    """When a track under a cover is held by how it looked. Depth only."""

    score: float = setting(
        0.5,
        "A look that scores at least this sees the object, and is kept as how it looks.",
        minimum=0.0,
        maximum=1.0,
    )
    sure: float = setting(
        0.9,
        "A look that scores at least this is believed, against later ones that do not see the object, "
        "as soon as a little of it is hidden.",
        minimum=0.0,
        maximum=1.0,
    )
    least_share: float = setting(
        0.25, "Share of the surface that must be there and look the same.", minimum=0.0, maximum=1.0
    )
    least_hidden: float = setting(
        0.2,
        "Share that must be hidden where a look does not see the object: what is in full view is not what it was "
        "taken for. Half of that where it does, and a quarter where it does not and the kept look was sure.",
        minimum=1e-3,
        maximum=1.0,
    )
    seen_through: float = setting(
        0.15,
        "Greatest share, of what is not hidden, whose readings lie behind it: the object has gone.",
        minimum=0.0,
        maximum=1.0,
    )
    tolerance: float = setting(
        0.02, "Distance from a reading at which a point still agrees, in diagonals ...", minimum=0.0, maximum=1.0
    )
    noise: float = setting(0.003, "... plus this share of its depth.", minimum=0.0, maximum=1.0)
    stray: float = setting(
        0.04, "Standard deviation of an object from where it should be, in diagonals and radians.", minimum=1e-4
    )

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True, eq=False)
class Keyframe:
    """The part of an object's surface that was seen.

    Attributes:
        points: (N, 3) in the object frame, metres.
        normals: (N, 3) towards where they were seen from.
        brightness: (N,) per level of `_BLURS_PX`.
        hidden: share of the object that something nearer hid then.
        rotation: (3, 3) of camera_from_object then.
        distance_m: of the object then.
        score: of the look.
    """

    points: _Array
    normals: _Array
    brightness: tuple[_Array, ...]
    hidden: float
    rotation: _Array
    distance_m: float
    score: float

    def replaces(self, old: Keyframe) -> bool:
        """Whether to keep it in place of an earlier one: no more of the object hidden, and as sure or another side."""
        if self.hidden > old.hidden + _MORE_HIDDEN:
            return False
        return self.score >= old.score - _AS_SURE or old.is_turned(self.rotation)

    def is_turned(self, rotation: _Array) -> bool:
        """Whether an object turned so (3, 3) shows another side."""
        return float(so3.angle_between(torch.from_numpy(rotation), torch.from_numpy(self.rotation))) > _TURNED_RAD


@dataclass(frozen=True)
class Recognised:
    """Where an object is that looks as it did.

    Attributes:
        camera_from_object: float64, batch shape ().
        share: of its surface that agrees.
        hidden: share that something nearer, or the border of the image, hides.
    """

    camera_from_object: SE3
    share: float
    hidden: float


def take(view: View, depth: Depth, belief: Belief, score: float) -> Keyframe | None:
    """How an object looks; None where depth shows too little of it.

    Args:
        view: the image, and its camera.
        depth: (H, W) metres of the same camera; 0, NaN and infinity are holes.
        belief: where the object was seen.
        score: of that look.
    """
    seen = _Readings.of(view.camera, depth, belief)
    if seen is None or min(seen.depth.shape) <= 2 * _STEP:
        return None
    rays = view.camera.rays(torch.from_numpy(seen.pixels)).numpy()
    places, normals = _surface(rays, seen.depth, seen.is_own)
    if len(places) < _FEWEST:
        return None
    chosen = _spread(len(places), _POINTS)
    places, normals = places[chosen], normals[chosen]
    rotation, translation = _pose(belief)
    pixels = pixels_of(view.camera, places)
    images = [_Smooth.around(view, pixels, blur) for blur in _BLURS_PX]
    brightness = tuple(image.at(pixels) for image in images)
    return Keyframe(
        (places - translation) @ rotation,
        normals @ rotation,
        brightness,
        seen.hidden,
        rotation,
        float(translation[2]),
        score,
    )


def recognise(
    keyframe: Keyframe, view: View, depth: Depth, belief: Belief, config: KeyframeConfig
) -> Recognised | None:
    """Where an object is of which enough looks as it did; None where too little does, or it has gone.

    Args:
        view, depth: as for `take`.
        belief: where the object should be.
    """
    camera, diagonal_m = view.camera, float(belief.size_m.norm())
    rotation, translation = before = _pose(belief)
    tolerance_m = _tolerance_m(belief, config)
    images = [_Smooth.around(view, _Laid.at(keyframe, camera, *before).pixels, blur) for blur in _BLURS_PX]
    information = np.array([config.stray * diagonal_m] * 3 + [config.stray] * 3) ** -2.0
    moved = np.zeros(6)
    for step, width in enumerate(_WIDTHS):
        level = step * len(images) // len(_WIDTHS)
        laid = _Laid.at(keyframe, camera, rotation, translation)
        by_depth, there = _depth_equations(laid, depth, width * tolerance_m)
        by_grey = _brightness_equations(laid, images[level], keyframe.brightness[level], there)
        hessian = np.diag(information) + by_depth[0] + by_grey[0]
        delta = -np.linalg.solve(hessian, information * moved + by_depth[1] + by_grey[1])
        rotation, translation = so3.exp(torch.from_numpy(delta[3:])).numpy() @ rotation, translation + delta[:3]
        moved = moved + delta
    ways = [
        (_compare(_Laid.at(keyframe, camera, *pose), depth, images[-1], keyframe.brightness[-1], tolerance_m), pose)
        for pose in ((rotation, translation), before)
    ]
    found, (rotation, translation) = max(ways, key=lambda way: way[0].agree - way[0].through)
    if found.agree < config.least_share or found.through > config.seen_through * (found.agree + found.through):
        return None
    pose = SE3(torch.from_numpy(rotation), torch.from_numpy(translation))
    moved_there = dataclasses.replace(belief, camera_from_object=pose)
    hidden = hidden_share(keyframe, view, depth, moved_there, config)
    readings = _Readings.of(camera, depth, moved_there)
    # A keyframe shows one side: the category's solid may be hidden more.
    return Recognised(pose, found.agree, hidden if readings is None else max(hidden, readings.hidden))


def renewed(keyframe: Keyframe, view: View, depth: Depth, belief: Belief) -> Keyframe:
    """With what an object shows now, where it is turned, nearer or farther than it was; the rest stays as it was.

    Args:
        view, depth: as for `take`.
        belief: where the object was recognised.
    """
    rotation, translation = _pose(belief)
    nearer = translation[2] / keyframe.distance_m
    if not keyframe.is_turned(rotation) and 1 / _NEARER < nearer < _NEARER:
        return keyframe
    new = take(view, depth, belief, keyframe.score)
    if new is None:
        return keyframe
    laid = _Laid.at(keyframe, view.camera, rotation, translation)
    z, is_read, _ = laid.read(depth)
    margin_m = _NEAR_SOLID * float(belief.size_m.norm())
    seen = (laid.towards < 0) & is_read & (z - laid.places[:, 2] > -margin_m)
    rest, some = np.flatnonzero(~seen), _spread(len(new.points), max(int(seen.sum()), _FEWEST))
    return Keyframe(
        np.concatenate([new.points[some], keyframe.points[rest]]),
        np.concatenate([new.normals[some], keyframe.normals[rest]]),
        tuple(
            np.concatenate([now[some], then[rest]])
            for now, then in zip(new.brightness, keyframe.brightness, strict=True)
        ),
        keyframe.hidden,
        rotation,
        float(translation[2]),
        keyframe.score,
    )


def hidden_share(keyframe: Keyframe, view: View, depth: Depth, belief: Belief, config: KeyframeConfig) -> float:
    """Share of the surface that is known that something nearer, or the border of the image, hides.

    Args:
        view, depth: as for `take`.
        belief: where the object should be.
    """
    laid = _Laid.at(keyframe, view.camera, *_pose(belief))
    z, is_read, is_inside = laid.read(depth)
    is_before = is_read & (z - laid.places[:, 2] < -2 * _tolerance_m(belief, config))
    return float((laid.faces & (~is_inside | is_before)).sum() / max(int(laid.faces.sum()), 1))


@dataclass(frozen=True, eq=False)
class _Readings:
    """What depth reads where an object is, thinned.

    Attributes:
        pixels: (h, w, 2) column and row of each.
        depth: (h, w) metres.
        is_own: (h, w) whether it is on the category's solid, or nearly.
        hidden: share of the solid before which there is something nearer.
    """

    pixels: _Array
    depth: _Array
    is_own: _Flags
    hidden: float

    @staticmethod
    def of(camera: Camera, depth: Depth, belief: Belief) -> _Readings | None:
        """None where the object is hardly in the image."""
        window = window_of(belief, camera)
        if window is None:
            return None
        left, top, right, bottom = window
        every = max(1, min(right - left, bottom - top) // _SIDE)
        readings = depth[top:bottom:every, left:right:every].astype(np.float64)
        near, is_inner = _on_solid(belief, camera, window, readings.shape)
        margin_m = _NEAR_SOLID * float(belief.size_m.norm())
        with np.errstate(divide="ignore", invalid="ignore"):
            is_known = is_reading(readings)
            is_own = is_known & (near > 0) & (np.abs(readings - 1 / near) < margin_m)
            is_before = is_known & is_inner & (readings < 1 / near - margin_m)
        hidden = is_before.sum() / max((is_before | (is_own & is_inner)).sum(), 1)
        rows, columns = np.mgrid[top:bottom:every, left:right:every]
        return _Readings(np.stack([columns, rows], -1).astype(np.float64), readings, is_own, float(hidden))


@dataclass(frozen=True, eq=False)
class _Laid:
    """The points of a keyframe where a pose has them.

    Attributes:
        camera: whose frame it is.
        arm: (N, 3) from the centre of the object.
        places: (N, 3) in the camera frame.
        normals: (N, 3).
        towards: (N,) places times normals, negative where the surface is turned to the camera.
        pixels: (N, 2).
    """

    camera: Camera
    arm: _Array
    places: _Array
    normals: _Array
    towards: _Array
    pixels: _Array

    @staticmethod
    def at(keyframe: Keyframe, camera: Camera, rotation: _Array, translation: _Array) -> _Laid:
        arm, normals = keyframe.points @ rotation.T, keyframe.normals @ rotation.T
        places = arm + translation
        return _Laid(camera, arm, places, normals, (normals * places).sum(-1), pixels_of(camera, places))

    @cached_property
    def faces(self) -> _Flags:
        """Whether a point should be seen (N,), as it is turned."""
        return np.asarray(self.towards < -_TURNED_AWAY * np.linalg.norm(self.places, axis=-1))

    @property
    def z(self) -> _Array:
        """(N,) depth of the places, positive."""
        return np.maximum(self.places[:, 2], NEAREST_M)

    def read(self, depth: Depth) -> tuple[_Array, _Flags, _Flags]:
        """Readings (N,) where the places appear, whether there are any, and whether that is in the image."""
        pixels = np.rint(self.pixels).astype(int)
        inside = np.all((pixels >= 0) & (pixels < (self.camera.width, self.camera.height)), axis=-1)
        column, row = np.where(inside[:, None], pixels, 0).T
        z = depth[row, column].astype(np.float64)
        return z, inside & is_reading(z), inside


@dataclass(frozen=True, eq=False)
class _Smooth:
    """A part of a grey image, smoothed."""

    grey: _Image
    corner: tuple[int, int]

    @staticmethod
    def around(view: View, pixels: _Array, blur_px: float) -> _Smooth:
        """Around pixels (N, 2)."""
        limit = (view.camera.width, view.camera.height)
        left, top = np.clip(pixels.min(0) - _MARGIN_PX, 0, np.subtract(limit, 2)).astype(int)
        right, bottom = np.clip(pixels.max(0) + _MARGIN_PX, (left + 2, top + 2), limit).astype(int)
        grey = cv2.GaussianBlur(view.grey[top:bottom, left:right].astype(np.float32), (0, 0), blur_px)
        return _Smooth(np.asarray(grey, dtype=np.float32), (int(left), int(top)))

    def has(self, pixels: _Array) -> _Flags:
        """Whether pixels (N, 2) are in it."""
        places, (height, width) = pixels - self.corner, self.grey.shape
        return np.asarray(np.all((places >= 0) & (places <= (width - 1, height - 1)), axis=-1))

    def at(self, pixels: _Array) -> _Array:
        """Brightness (N,) at pixels (N, 2), anything where it has them not."""
        return self._read(self.grey, pixels)

    def slope_at(self, pixels: _Array) -> _Array:
        """Change of brightness per pixel (N, 2)."""
        return np.stack([self._read(image, pixels) for image in self._slopes], -1)

    @cached_property
    def _slopes(self) -> list[_Image]:
        orders = ((1, 0), (0, 1))
        return [np.asarray(cv2.Scharr(self.grey, cv2.CV_32F, *order) / 32, dtype=np.float32) for order in orders]

    def _read(self, image: _Image, pixels: _Array) -> _Array:
        places = np.where(self.has(pixels)[:, None], pixels - self.corner, 0).astype(np.float32)
        return np.asarray(cv2.remap(image, places[:, None], None, cv2.INTER_LINEAR)[:, 0], dtype=np.float64)


@dataclass(frozen=True)
class _Comparison:
    """Shares of the points that should be seen: that agree, and that readings lie behind."""

    agree: float
    through: float


def _on_solid(
    belief: Belief, camera: Camera, window: tuple[int, int, int, int], shape: tuple[int, ...]
) -> tuple[_Array, _Flags]:
    """Inverse depth of the category's solid in a window, 0 beside it, and whether it is all around, both of a shape."""
    size = shape[::-1]
    nearness = nearness_of(belief, camera, window)
    inner = cv2.erode(nearness, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    near = cv2.resize(nearness, size, interpolation=cv2.INTER_LINEAR)
    return near.astype(np.float64), np.asarray(cv2.resize(inner, size, interpolation=cv2.INTER_NEAREST) > 0)


def _surface(rays: _Array, readings: _Array, is_own: _Flags) -> tuple[_Array, _Array]:
    """Places (N, 3) of an object's readings (h, w) on their rays (h, w, 3), with normals towards the camera (N, 3)."""
    count = cv2.blur(is_own.astype(np.float64), (3, 3))
    smooth = cv2.blur(np.where(is_own, readings, 0), (3, 3)) / np.maximum(count, 1e-9)
    places, step = rays * smooth[..., None], _STEP
    middle = np.s_[step:-step, step:-step]
    sides = (np.s_[step:-step, 2 * step :], np.s_[step:-step, : -2 * step])
    ends = (np.s_[2 * step :, step:-step], np.s_[: -2 * step, step:-step])
    normals = np.cross(places[sides[0]] - places[sides[1]], places[ends[0]] - places[ends[1]])
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)
    towards = (normals * places[middle]).sum(-1)
    normals *= -np.sign(towards)[..., None]
    is_whole = np.logical_and.reduce([is_own[part] for part in (middle, *sides, *ends)])
    is_whole &= np.abs(towards) > _STEEP * np.linalg.norm(places[middle], axis=-1)
    return places[middle][is_whole], normals[is_whole]


def _depth_equations(laid: _Laid, depth: Depth, kernel_m: float) -> tuple[_Equations, _Array]:
    """Distance of readings to the planes of the points in front of which or behind which they lie.

    Returns:
        The equations, and how far each point is believed to be there (N,), 1 where there is no reading.
    """
    z, is_read, _ = laid.read(depth)
    valid = is_read & (laid.towards < 0)
    # Along the line of sight from a point to its reading.
    residual = np.where(valid, laid.towards * (1 - z / laid.z), 0.0)
    jacobian = np.concatenate([laid.normals, np.cross(laid.arm, laid.normals)], -1)
    share = min(1.0, _INDEPENDENT[0] / max(int(valid.sum()), 1))
    there = _robust(residual, kernel_m)
    weight = share * valid * there / (_READING_NOISE * laid.z) ** 2
    return _equations(jacobian, residual, weight), there


def _brightness_equations(laid: _Laid, image: _Smooth, brightness: _Array, there: _Array) -> _Equations:
    """Change of brightness of the points, but for what all have in common, as far as they are there (N,)."""
    valid = image.has(laid.pixels) & (laid.towards < 0)
    if not valid.any():
        return np.zeros((6, 6)), np.zeros(6)
    residual = image.at(laid.pixels) - brightness
    residual -= np.median(residual[valid])
    (x, y, _), z = laid.places.T, laid.z
    across, down = (image.slope_at(laid.pixels) * [laid.camera.fx, laid.camera.fy]).T / z
    by_place = np.stack([across, down, -(across * x + down * y) / z], -1)
    jacobian = np.concatenate([by_place, np.cross(laid.arm, by_place)], -1)
    share = min(1.0, _INDEPENDENT[1] / int(valid.sum()))
    weight = share * valid * there * _robust(residual, _BRIGHTNESS) / _BRIGHTNESS_NOISE**2
    return _equations(jacobian, residual, weight)


def _equations(jacobian: _Array, residual: _Array, weight: _Array) -> _Equations:
    weighed = jacobian * weight[:, None]
    return weighed.T @ jacobian, weighed.T @ residual


def _robust(residual: _Array, kernel: float) -> _Array:
    """Weight of Geman and McClure."""
    return np.asarray((kernel**2 / (kernel**2 + residual**2)) ** 2)


def _compare(laid: _Laid, depth: Depth, image: _Smooth, brightness: _Array, tolerance_m: float) -> _Comparison:
    z, is_read, _ = laid.read(depth)
    behind = z - laid.places[:, 2]
    agree = laid.faces & is_read & (np.abs(behind) < tolerance_m)
    through = laid.faces & is_read & (behind >= tolerance_m)
    change = image.at(laid.pixels) - brightness
    if agree.any():
        agree &= image.has(laid.pixels) & (np.abs(change - np.median(change[agree])) < _BRIGHTNESS)
    expected = max(int(laid.faces.sum()), 1)
    return _Comparison(agree.sum() / expected, through.sum() / expected)


def _spread(count: int, most: int) -> npt.NDArray[np.int64]:
    """At most so many indices, evenly."""
    return np.linspace(0, count - 1, min(count, most)).astype(np.int64)


def _pose(belief: Belief) -> tuple[_Array, _Array]:
    pose = belief.camera_from_object.to(torch.float64)
    return pose.rotation.numpy(), pose.translation.numpy()


def _tolerance_m(belief: Belief, config: KeyframeConfig) -> float:
    diagonal_m, z_m = float(belief.size_m.norm()), float(belief.camera_from_object.translation[2])
    return config.tolerance * diagonal_m + config.noise * z_m
