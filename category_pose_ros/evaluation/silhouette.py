"""The tables of Palazzi et al. 2018 on masks of instances that training did not see."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from category_pose_ros.data.silhouettes import CAMERA, Shape, crop_boxes, random_views, render_masks
from category_pose_ros.geometry import SE3, Camera
from category_pose_ros.geometry.symmetry import rotation_distance, symmetry_of

MASK_PX = 256  # side of the masks, of which coarser ones are averages
_MARGIN = 0.125  # of the crop on each side of the box, in sides of the box


@dataclass(frozen=True, eq=False)
class TrueMask:
    """A mask and what is true of it.

    Attributes:
        mask: (MASK_PX, MASK_PX) bool.
        camera: of the crop.
        camera_from_object: true pose.
        category: of the object.
        prototype: cluster of the instance, within its category.
    """

    mask: Tensor
    camera: Camera
    camera_from_object: SE3
    category: str
    prototype: int


@dataclass(frozen=True)
class Outcome:
    """One answer.

    Attributes:
        prototype: whether it is the cluster's.
        overlap: intersection over union of its silhouette with the mask.
        rotation_deg: angle to the true rotation.
        translation: distance to the true place, as a share of the true distance.
        seconds: it took.
    """

    prototype: bool
    overlap: float
    rotation_deg: float
    translation: float
    seconds: float


@dataclass(frozen=True, eq=False)
class Answer:
    """Prototype within its category, pose, and what its silhouette covers of the mask's pixels, (MASK_PX, MASK_PX)."""

    prototype: int
    camera_from_object: SE3
    covered: Tensor


Method = Callable[[TrueMask], Answer]


def true_masks(shapes: Sequence[tuple[Shape, int]], count: int, seed: int) -> list[TrueMask]:
    """Masks of instances with their clusters, `count` in all, each from a random view."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        shape, label = shapes[number % len(shapes)]
        pose = random_views(rng, shape, 1)
        box = tuple(crop_boxes(shape.surface, pose, CAMERA)[0].tolist())
        camera = CAMERA.square(box, 1 + 2 * _MARGIN, MASK_PX)
        mask = render_masks(shape.surface, pose, [camera])[0]
        found.append(TrueMask(mask, camera, pose[0], shape.category, label))
    return found


def run(method: Method, masks: Sequence[TrueMask]) -> list[Outcome]:
    """What a method makes of masks."""
    outcomes = []
    for item in masks:
        begin = time.perf_counter()
        answer = method(item)
        seconds = time.perf_counter() - begin
        found, truth = answer.camera_from_object, item.camera_from_object
        turn = rotation_distance(found.rotation, truth.rotation, symmetry_of(item.category))
        away = (found.translation - truth.translation).norm() / truth.translation.norm()
        both, either = (answer.covered & item.mask).sum(), (answer.covered | item.mask).sum()
        outcomes.append(
            Outcome(
                answer.prototype == item.prototype,
                float(both / either.clamp_min(1)),
                float(torch.rad2deg(turn)),
                float(away),
                seconds,
            )
        )
    return outcomes


def table(rows: Mapping[str, Sequence[Outcome]]) -> str:
    """Markdown: class accuracy, mIoU, median viewpoint error, accuracy at pi/6, median translation error, time."""
    lines = [
        "| | class | mIoU | median rotation error | within 30° | median translation error | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, outcomes in rows.items():
        lines.append(
            f"| {name} | {_mean(item.prototype for item in outcomes):.2f} "
            f"| {_mean(item.overlap for item in outcomes):.3f} "
            f"| {statistics.median(item.rotation_deg for item in outcomes):.1f}° "
            f"| {_mean(item.rotation_deg < 30 for item in outcomes):.2f} "
            f"| {100 * statistics.median(item.translation for item in outcomes):.1f} % "
            f"| {statistics.median(item.seconds for item in outcomes):.2f} |"
        )
    return "\n".join(lines)


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
