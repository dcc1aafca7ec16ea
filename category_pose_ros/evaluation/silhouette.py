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
        prototype: the representative that the instance is most like.
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
    """Prototype, pose, and what its silhouette covers of the mask's pixels, (MASK_PX, MASK_PX)."""

    prototype: int
    camera_from_object: SE3
    covered: Tensor


Method = Callable[[TrueMask], Answer]


def true_masks(shapes: Sequence[tuple[Shape, int]], seed: int) -> list[TrueMask]:
    """Masks of instances with their prototypes, each from a random view."""
    rng = np.random.default_rng(seed)
    found = []
    for shape, prototype in shapes:
        pose = random_views(rng, shape, 1)
        box = tuple(crop_boxes(shape.surface, pose, CAMERA)[0].tolist())
        camera = CAMERA.square(box, 1 + 2 * _MARGIN, MASK_PX)
        mask = render_masks(shape.surface, pose, [camera])[0]
        found.append(TrueMask(mask, camera, pose[0], shape.category, prototype))
    return found


def run(method: Method, masks: Sequence[TrueMask], other: Callable[[TrueMask], Tensor] | None = None) -> list[Outcome]:
    """What a method makes of masks.

    Args:
        other: of a mask another rotation (3, 3) that counts as right too.
    """
    outcomes = []
    for item in masks:
        begin = time.perf_counter()
        answer = method(item)
        seconds = time.perf_counter() - begin
        found, truth = answer.camera_from_object, item.camera_from_object
        right = torch.stack([truth.rotation, *([] if other is None else [other(item)])])
        turn = rotation_distance(found.rotation.expand_as(right), right, symmetry_of(item.category)).amin()
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


@dataclass(frozen=True)
class Row:
    """What a method reached on all masks.

    Attributes:
        prototype: share whose representative is the right one.
        overlap: mean intersection over union (the paper's mIoU).
        rotation_deg: median angle to the true rotation (its median viewpoint error).
        within_30: share with less than 30 degrees (its accuracy at pi/6).
        translation: median distance to the true place, as a share of the true distance.
        seconds: median time per mask.
    """

    prototype: float
    overlap: float
    rotation_deg: float
    within_30: float
    translation: float
    seconds: float


def summarise(outcomes: Sequence[Outcome]) -> Row:
    return Row(
        prototype=_mean(item.prototype for item in outcomes),
        overlap=_mean(item.overlap for item in outcomes),
        rotation_deg=statistics.median(item.rotation_deg for item in outcomes),
        within_30=_mean(item.rotation_deg < 30 for item in outcomes),
        translation=statistics.median(item.translation for item in outcomes),
        seconds=statistics.median(item.seconds for item in outcomes),
    )


def table(rows: Mapping[str, Row]) -> str:
    """Markdown; gains are over the first row."""
    lines = [
        "| | class | mIoU | gain | median rotation error | gain | within 30° | median translation error | seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    first = next(iter(rows.values()))
    for name, row in rows.items():
        overlap, rotation = f"{row.overlap - first.overlap:+.3f}", f"{100 * rotation_gain(row, first):+.0f} %"
        lines.append(
            f"| {name} | {row.prototype:.2f} | {row.overlap:.3f} | {'' if row is first else overlap} "
            f"| {row.rotation_deg:.1f}° | {'' if row is first else rotation} | {row.within_30:.2f} "
            f"| {100 * row.translation:.1f} % | {row.seconds:.2f} |"
        )
    return "\n".join(lines)


def rotation_gain(row: Row, before: Row) -> float:
    """Change of the median rotation error, as a share of what it was; less than 0 is better."""
    return row.rotation_deg / max(before.rotation_deg, 1e-9) - 1


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
