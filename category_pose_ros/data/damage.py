"""What goes wrong with the depth of real cameras, and with sequences, done on purpose to good ones."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch

from category_pose_ros.data.annotations import AnnotatedFrame, GroundTruthObject
from category_pose_ros.data.procedural.mugs import beside_body
from category_pose_ros.geometry import SE3, Camera, Symmetry, so3
from category_pose_ros.geometry.box import box_window

Depth = npt.NDArray[np.float32]
Rng = np.random.Generator

_LEAST_VISIBLE = 0.15  # share of an object that is enough to be tracked
_PATCH_PX = 8  # side of a hole: dark and shiny surfaces swallow patches, not pixels


@dataclass(frozen=True)
class Damage:
    """One kind of damage.

    Attributes:
        name: for a row of a table.
        apply: from depth (H, W) in metres, with 0 and NaN for holes, and a source of chance to damaged depth.
    """

    name: str
    apply: Callable[[Depth, Rng], Depth]


def holes(share: float) -> Damage:
    """Patches of a share of the image without readings."""

    def apply(depth: Depth, rng: Rng) -> Depth:
        rows, columns = (-(-length // _PATCH_PX) for length in depth.shape)
        patches = (rng.random((rows, columns)) < share).astype(np.uint8)
        size = (columns * _PATCH_PX, rows * _PATCH_PX)
        lost = cv2.resize(patches, size, interpolation=cv2.INTER_NEAREST)[: depth.shape[0], : depth.shape[1]]
        return np.where(lost > 0, np.float32(0), depth)

    return Damage(f"{share:.0%} holes", apply)


def noise(deviation_m: float) -> Damage:
    """Gaussian noise on every reading; one that falls behind the camera is a hole."""

    def apply(depth: Depth, rng: Rng) -> Depth:
        noisy = depth + rng.normal(0, deviation_m, depth.shape).astype(np.float32)
        return np.where((depth > 0) & (noisy > 0), noisy, np.float32(0))

    return Damage(f"noise {deviation_m * 100:g} cm", apply)


def rescaled(factor: float) -> Damage:
    """Every reading too long or too short by a factor, as of a wrong calibration."""
    return Damage(f"scale {factor - 1:+.0%}", lambda depth, rng: depth * np.float32(factor))


def shifted(pixels: int) -> Damage:
    """Depth that many columns to the right of where it belongs, as of a wrong registration."""

    def apply(depth: Depth, rng: Rng) -> Depth:
        moved = np.zeros_like(depth)
        moved[:, pixels:] = depth[:, :-pixels]
        return moved

    return Damage(f"shift {pixels} px", apply)


DAMAGES = (
    *(holes(share) for share in (0.25, 0.5, 0.75, 0.95)),
    *(noise(deviation_m) for deviation_m in (0.01, 0.02, 0.05)),
    rescaled(1.05),
    shifted(10),
)


def damaged(frames: Iterable[AnnotatedFrame], damage: Damage, seed: int = 0) -> Iterator[AnnotatedFrame]:
    """The frames with damaged depth, frame k by chance that depends on the seed and k alone."""
    for number, item in enumerate(frames):
        depth = item.frame.depth
        if depth is not None:
            depth = damage.apply(depth, np.random.default_rng([seed, number]))
        yield dataclasses.replace(item, frame=dataclasses.replace(item.frame, depth=depth))


def without_depth(frames: Iterable[AnnotatedFrame]) -> Iterator[AnnotatedFrame]:
    """The frames as a camera without depth takes them."""
    for item in frames:
        yield dataclasses.replace(item, frame=dataclasses.replace(item.frame, depth=None))


def with_and_without_depth(frames: Iterable[AnnotatedFrame]) -> Iterator[AnnotatedFrame]:
    """Every frame as a camera without depth takes it, and, where it has depth, as it is."""
    for item in frames:
        yield from without_depth([item])
        if item.frame.depth is not None:
            yield item


@dataclass(frozen=True)
class Disturbance:
    """Something that happens to a sequence.

    Attributes:
        name: for a row of a table.
        apply: from the frames of a sequence to those of the disturbed one, with its ground truth.
    """

    name: str
    apply: Callable[[Iterable[AnnotatedFrame]], Iterator[AnnotatedFrame]]


def occluded(share: float, after: int = 0) -> Disturbance:
    """Something in front of the left part of every object, a share of the width that it covers in the image.

    Args:
        share: of the width.
        after: frames that come first without it, in which objects can be found.
    """

    def apply(frames: Iterable[AnnotatedFrame]) -> Iterator[AnnotatedFrame]:
        for number, item in enumerate(frames):
            yield _covered(item, share, number) if number >= after else item

    return Disturbance(f"{share:.0%} occluded" + (f" after {after} frames" if after else ""), apply)


def hidden(period: int, length: int) -> Disturbance:
    """In every period of frames all objects are covered for its last frames, their number given by length."""

    def apply(frames: Iterable[AnnotatedFrame]) -> Iterator[AnnotatedFrame]:
        for number, item in enumerate(frames):
            yield _covered(item, 1.0, number) if number % period >= period - length else item

    return Disturbance(f"hidden for {length} of {period}", apply)


def blurred(pixels: int) -> Disturbance:
    """Motion blur along the rows; the depth camera is thought to be faster."""

    def apply(frames: Iterable[AnnotatedFrame]) -> Iterator[AnnotatedFrame]:
        for item in frames:
            rgb = np.asarray(cv2.blur(item.frame.rgb, (pixels, 1)), dtype=np.uint8)
            yield dataclasses.replace(item, frame=dataclasses.replace(item.frame, rgb=rgb))

    return Disturbance(f"blur {pixels} px", apply)


def dropped(most: int, seed: int = 0) -> Disturbance:
    """Between two frames one to `most` are missing, by chance."""

    def apply(frames: Iterable[AnnotatedFrame]) -> Iterator[AnnotatedFrame]:
        rng = np.random.default_rng(seed)
        rest = iter(frames)
        for item in rest:
            yield item
            for _ in itertools.islice(rest, int(rng.integers(1, most + 1))):
                pass

    return Disturbance(f"drops of 1 to {most}", apply)


def jumping(pixels: float, period: int) -> Disturbance:
    """Every so many frames the camera turns, so that the middle of the image jumps to the right by pixels, and back."""

    def apply(frames: Iterable[AnnotatedFrame]) -> Iterator[AnnotatedFrame]:
        for number, item in enumerate(frames):
            yield _turned(item, pixels) if number // period % 2 else item

    return Disturbance(f"jumps of {pixels:g} px", apply)


def resting(count: int, deviation: float = 2.0, seed: int = 0) -> Disturbance:
    """Camera and objects at rest: the first frame so many times, with fresh noise (grey levels) in the image."""

    def apply(frames: Iterable[AnnotatedFrame]) -> Iterator[AnnotatedFrame]:
        two = list(itertools.islice(frames, 2))
        if len(two) < 2:
            raise ValueError(f"frames: expected a sequence of at least 2, got {len(two)}")
        first, second = two
        interval_ns = second.frame.stamp_ns - first.frame.stamp_ns
        for number in range(count):
            noise = np.random.default_rng([seed, number]).normal(0, deviation, first.frame.rgb.shape)
            rgb = np.clip(first.frame.rgb + noise, 0, 255).astype(np.uint8)
            stamp_ns = first.frame.stamp_ns + number * interval_ns
            yield dataclasses.replace(first, frame=dataclasses.replace(first.frame, rgb=rgb, stamp_ns=stamp_ns))

    return Disturbance("at rest", apply)


DISTURBANCES = (
    *(occluded(share, after) for after in (0, 15) for share in (0.2, 0.4, 0.6, 0.8)),
    hidden(30, 10),
    blurred(9),
    blurred(17),
    dropped(3),
    dropped(10),
    jumping(10.0, 5),
    resting(60),
)


def _covered(item: AnnotatedFrame, share: float, number: int) -> AnnotatedFrame:
    """A screen of coarse noise before each object, at nine tenths of its distance.

    What it hides of other objects is not counted, but a handle that it hides is one that nobody can see.
    """
    frame = item.frame
    rgb, depth = frame.rgb.copy(), None if frame.depth is None else frame.depth.copy()
    objects: list[GroundTruthObject] = []
    for thing in item.objects:
        if thing.camera_from_object.translation[2] <= 0.5 * np.linalg.norm(thing.size_m):  # not all of it in front
            objects.append(thing)
            continue
        left, top, right, bottom = box_window(thing.camera_from_object, torch.from_numpy(thing.size_m), frame.camera)
        window = np.s_[top:bottom, left : left + round(share * (right - left))]
        if rgb[window].size:
            rows, columns = rgb[window].shape[:2]
            patches = np.random.default_rng([number, len(objects)]).integers(40, 200, (6, 6, 3)).astype(np.uint8)
            rgb[window] = cv2.resize(patches, (columns, rows), interpolation=cv2.INTER_NEAREST)
            if depth is not None:
                depth[window] = 0.9 * float(thing.camera_from_object.translation[2])
        objects.append(_less_visible(_without_handle(thing, window, frame.camera), 1 - share))
    return dataclasses.replace(item, frame=dataclasses.replace(frame, rgb=rgb, depth=depth), objects=tuple(objects))


def _without_handle(thing: GroundTruthObject, window: tuple[slice, slice], camera: Camera) -> GroundTruthObject:
    """A mug all of whose handle is in a window of the image that something covers may be turned about z."""
    if thing.category != "mug":
        return thing
    inside = np.stack(np.meshgrid(*[np.linspace(-0.5, 0.5, 21)] * 3), -1).reshape(-1, 3) * thing.size_m
    # The handle lies across the plane y = 0, so the corners of the box beside the body are empty.
    handle = inside[
        beside_body(inside, thing.size_m) & (inside[:, 0] > 0) & (np.abs(inside[:, 1]) < 0.2 * thing.size_m[1])
    ]
    columns, rows = camera.project(thing.camera_from_object.to(torch.float64) @ torch.from_numpy(handle)).numpy().T
    (top, bottom), (left, right) = ((each.start, each.stop) for each in window)
    covered = (rows >= top - 1) & (rows <= bottom) & (columns >= left - 1) & (columns <= right)
    return dataclasses.replace(thing, symmetry=Symmetry.AXIS_Z) if covered.all() else thing


def _less_visible(thing: GroundTruthObject, share: float) -> GroundTruthObject:
    """With only a share of it still seen; what is hardly seen at all is not to be found."""
    visible = share * (1.0 if thing.visible_fraction is None else thing.visible_fraction)
    return dataclasses.replace(thing, visible_fraction=visible, ignore=thing.ignore or visible < _LEAST_VISIBLE)


def _turned(item: AnnotatedFrame, pixels: float) -> AnnotatedFrame:
    """As seen by a camera that is turned about its y axis."""
    frame, camera = item.frame, item.frame.camera
    turn = so3.exp(torch.tensor([0.0, np.arctan2(pixels, camera.fx), 0.0], dtype=torch.float64))
    matrix = camera.matrix()
    homography = matrix @ turn.numpy() @ np.linalg.inv(matrix)
    size = (camera.width, camera.height)
    rgb = cv2.warpPerspective(frame.rgb, homography, size, borderMode=cv2.BORDER_REPLICATE)
    depth = None
    if frame.depth is not None:
        columns, rows = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
        rays = np.stack([columns, rows, np.ones_like(rows)], -1) @ np.linalg.inv(matrix).T
        nearer = (frame.depth * (rays @ turn.numpy()[2])).astype(np.float32)  # z in the turned camera
        depth = cv2.warpPerspective(nearer, homography, size, flags=cv2.INTER_NEAREST)
    pose = SE3(turn, torch.zeros(3, dtype=torch.float64))
    objects = tuple(
        dataclasses.replace(thing, camera_from_object=pose @ thing.camera_from_object) for thing in item.objects
    )
    there = None if item.world_from_camera is None else item.world_from_camera @ pose.inverse()
    frame = dataclasses.replace(frame, rgb=rgb, depth=depth)
    return dataclasses.replace(item, frame=frame, objects=objects, world_from_camera=there)
