"""Evaluation of anything that turns a frame into estimates, on any annotated frames."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from category_pose_ros.data.annotations import AnnotatedFrame, GroundTruthObject
from category_pose_ros.evaluation import metrics
from category_pose_ros.evaluation.matching import match
from category_pose_ros.records import Frame, ObjectEstimate


@dataclass(frozen=True)
class PoseErrors:
    """How far a found object's estimate is from the truth.

    Attributes:
        rotation_rad: `metrics.rotation_error`.
        translation_m: `metrics.translation_error`.
        distance_fraction: error of the distance from the camera, as a fraction of the true one.
        size_fraction: `metrics.size_error`.
        add_m: `metrics.average_distance`.
        add_extents: the same in units of the object's largest extent.
        iou: `metrics.intersection_over_union`.
    """

    rotation_rad: float
    translation_m: float
    distance_fraction: float
    size_fraction: float
    add_m: float
    add_extents: float
    iou: float


@dataclass(frozen=True)
class ObjectResult:
    """One object that counts. `score` and `errors` are None where it was not found."""

    frame_name: str
    category: str
    visible_fraction: float | None
    score: float | None = None
    errors: PoseErrors | None = None


@dataclass(frozen=True)
class FalseAlarm:
    """One estimate that speaks of no object."""

    frame_name: str
    category: str
    score: float


@dataclass
class Evaluation:
    """Everything that was seen, frame after frame; `summary.summarise` makes numbers of it."""

    objects: list[ObjectResult] = field(default_factory=list)
    false_alarms: list[FalseAlarm] = field(default_factory=list)
    estimates: dict[str, tuple[ObjectEstimate, ...]] = field(default_factory=dict)  # by frame name
    seconds: list[float] = field(default_factory=list)  # one per frame


def evaluate(
    estimate: Callable[[Frame], Sequence[ObjectEstimate]],
    frames: Iterable[AnnotatedFrame],
    categories: Collection[str] = (),
) -> Evaluation:
    """Run an estimator over annotated frames and compare.

    Args:
        estimate: what is evaluated; its wall time per call is taken.
        frames: consumed one by one.
        categories: only objects and estimates of these count; empty: all.
    """
    result = Evaluation()
    for annotated in frames:
        start = time.perf_counter()
        estimates = estimate(annotated.frame)
        result.seconds.append(time.perf_counter() - start)
        kept = tuple(item for item in estimates if not categories or item.category in categories)
        result.estimates[annotated.name] = kept
        _compare(result, annotated, kept, categories)
    return result


def pose_errors(estimate: ObjectEstimate, truth: GroundTruthObject) -> PoseErrors:
    """All errors of one estimate, with the symmetry of the object's category."""
    symmetry = truth.seen_symmetry
    poses = estimate.camera_from_object, truth.camera_from_object
    add_m = metrics.average_distance(*poses, truth.size_m, symmetry)
    distance, true_distance = (float(pose.translation.norm()) for pose in poses)
    return PoseErrors(
        rotation_rad=metrics.rotation_error(*poses, symmetry),
        translation_m=metrics.translation_error(*poses),
        distance_fraction=abs(distance - true_distance) / true_distance,
        size_fraction=metrics.size_error(estimate.size_m, truth.size_m),
        add_m=add_m,
        add_extents=add_m / float(truth.size_m.max()),
        iou=metrics.intersection_over_union(poses[0], estimate.size_m, poses[1], truth.size_m, symmetry),
    )


def _compare(
    result: Evaluation,
    annotated: AnnotatedFrame,
    estimates: Sequence[ObjectEstimate],
    categories: Collection[str],
) -> None:
    objects = [item for item in annotated.objects if not categories or item.category in categories]
    matching = match(annotated.frame.camera, estimates, objects)
    for row, column in matching.pairs:
        found, item = estimates[row], objects[column]
        errors = pose_errors(found, item)
        result.objects.append(ObjectResult(annotated.name, item.category, item.visible_fraction, found.score, errors))
    for item in (objects[column] for column in matching.missed):
        result.objects.append(ObjectResult(annotated.name, item.category, item.visible_fraction))
    for alarm in (estimates[row] for row in matching.false_alarms):
        result.false_alarms.append(FalseAlarm(annotated.name, alarm.category, alarm.score))
