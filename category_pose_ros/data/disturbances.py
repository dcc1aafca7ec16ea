"""What goes wrong in front of real cameras, done on purpose to good sequences."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from category_pose_ros.data.annotations import AnnotatedFrame, GroundTruthObject
from category_pose_ros.data.procedural.mugs import beside_body
from category_pose_ros.geometry import SE3, Camera, Symmetry, so3
from category_pose_ros.geometry.box import box_window

_LEAST_VISIBLE = 0.15  # share of an object that is enough to be tracked


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
