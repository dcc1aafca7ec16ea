"""From compared objects to the numbers of metrics.json."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from category_pose_ros.evaluation.evaluate import Evaluation, FalseAlarm, ObjectResult, PoseErrors
from category_pose_ros.evaluation.metrics import area_under_curve, average_precision

OCCLUSION_LEVELS = {"L0": (0.0, 0.2), "L1": (0.2, 0.4), "L2": (0.4, 0.6), "L3": (0.6, 0.8)}
"""Occluded fraction, lower bound included, upper bound excluded (Ma et al. 2022, table 3)."""

AP_ROTATION_DEG = np.linspace(0, 60, 61)
AP_TRANSLATION_CM = np.linspace(0, 15, 61)
"""Thresholds of the average precision curves, those of Chen et al. (ECCV 2020, figure of REAL275)."""


class Metrics(TypedDict):
    """The numbers of one group of objects. None where the group has nothing to measure.

    objects: annotated objects that count.
    found: those to which an estimate was assigned (`matching.match`).
    false_alarms: estimates that speak of no object.
    precision: found / (found + false_alarms).
    false_alarms_per_image: false_alarms / frames; on images without objects there is no other number.
    acc_pi_6, acc_pi_18: fraction of all objects that were found with a rotation error below pi/6
        (30 degrees), pi/18 (10 degrees); Ma et al. (ECCV 2022), after Tulsiani and Malik (2015).
    median_*: over the found objects; `PoseErrors` says what of. Distance and size errors are fractions.
    deg5_cm5, deg10_cm10: average precision, mean over categories, where an estimate is positive
        that was assigned to an object, with rotation and translation errors within both bounds
        (NOCS, Wang et al., CVPR 2019, who assign by 3D IoU above 0.1; ours is `matching.match`).
    iou50: the same for a 3D IoU of at least 0.5.
    ap_rotation_60, ap_translation_15: mean height of the curves of average precision over 0 to 60
        degrees and 0 to 15 cm (Chen et al., ECCV 2020, who assign as NOCS does): `precision_curves`.
    map_pi3_5: mAP(pi/3, 5.0) of Ma et al. (2022): the same for a rotation error below pi/3 and an
        ADD below 5.0 units. The paper states no more than the two thresholds; our unit is the
        largest extent of the object's box, which stands for the unit of a normalised CAD model.
    seconds_per_image: mean wall time of the estimator, in every group alike, over all frames but the
        first, which may wait for things that are compiled once; that of the first where there is no other.
    """

    objects: int
    found: int
    false_alarms: int
    precision: float | None
    false_alarms_per_image: float | None
    acc_pi_6: float | None
    acc_pi_18: float | None
    median_rotation_error_deg: float | None
    median_add_m: float | None
    median_translation_error_m: float | None
    median_distance_error: float | None
    median_size_error: float | None
    deg5_cm5: float | None
    deg10_cm10: float | None
    iou50: float | None
    ap_rotation_60: float | None
    ap_translation_15: float | None
    map_pi3_5: float | None
    seconds_per_image: float | None


class Summary(TypedDict):
    """The content of metrics.json.

    In `by_occlusion` only objects whose visible fraction is known take part. False alarms have no
    occlusion: a level has neither precision nor false alarms per image, and in its average precisions all
    false alarms count, which makes them lower bounds.
    """

    overall: Metrics
    by_category: dict[str, Metrics]
    by_occlusion: dict[str, Metrics]


def summarise(evaluation: Evaluation) -> Summary:
    """All numbers, over everything, per category and per level of occlusion."""
    objects, alarms, seconds = evaluation.objects, evaluation.false_alarms, evaluation.seconds
    categories = sorted({item.category for item in objects} | {alarm.category for alarm in alarms})
    return Summary(
        overall=measure(objects, alarms, seconds),
        by_category={
            name: measure(
                [item for item in objects if item.category == name],
                [alarm for alarm in alarms if alarm.category == name],
                seconds,
            )
            for name in categories
        },
        by_occlusion={
            level: _measure_level([item for item in objects if occlusion_level(item) == level], alarms, seconds)
            for level in OCCLUSION_LEVELS
        },
    )


def occlusion_level(item: ObjectResult) -> str | None:
    """L0 to L3, or None where the visible fraction is unknown or below 0.2."""
    if item.visible_fraction is None:
        return None
    # Rounded, so that 1 - 0.8 is the 0.2 it should be.
    occluded = round(1 - item.visible_fraction, 9)
    return next((name for name, (low, high) in OCCLUSION_LEVELS.items() if low <= occluded < high), None)


def _measure_level(objects: Sequence[ObjectResult], alarms: Sequence[FalseAlarm], seconds: Sequence[float]) -> Metrics:
    numbers = measure(objects, alarms, seconds)
    numbers["precision"] = numbers["false_alarms_per_image"] = None
    return numbers


@dataclass(frozen=True, eq=False)
class PrecisionCurves:
    """Average precision, mean over categories, at AP_ROTATION_DEG and at AP_TRANSLATION_CM."""

    rotation: npt.NDArray[np.float64]
    translation: npt.NDArray[np.float64]


def precision_curves(objects: Sequence[ObjectResult], alarms: Sequence[FalseAlarm]) -> PrecisionCurves | None:
    """How average precision grows with the error that is allowed, of one alone and whatever the other.

    An estimate is positive if it was assigned to an object (`matching.match`) and its rotation error
    is at most the threshold, or its translation error. None without objects.
    """
    if not objects:
        return None

    def curve(thresholds: npt.NDArray[np.float64], error: Callable[[PoseErrors], float]) -> npt.NDArray[np.float64]:
        def at(threshold: float) -> float | None:
            return _mean_average_precision(objects, alarms, lambda errors: error(errors) <= threshold)

        return np.array([at(threshold) for threshold in thresholds], dtype=np.float64)

    return PrecisionCurves(
        curve(np.radians(AP_ROTATION_DEG), lambda e: e.rotation_rad),
        curve(AP_TRANSLATION_CM / 100, lambda e: e.translation_m),
    )


def measure(objects: Sequence[ObjectResult], alarms: Sequence[FalseAlarm], seconds: Sequence[float]) -> Metrics:
    """The numbers of one group of objects."""
    errors = [item.errors for item in objects if item.errors is not None]
    reported = len(errors) + len(alarms)
    curves = precision_curves(objects, alarms)

    def fraction_within(angle: float) -> float | None:
        return sum(error.rotation_rad < angle for error in errors) / len(objects) if objects else None

    def precision_where(is_right: Callable[[PoseErrors], bool]) -> float | None:
        return _mean_average_precision(objects, alarms, is_right)

    return Metrics(
        objects=len(objects),
        found=len(errors),
        false_alarms=len(alarms),
        precision=len(errors) / reported if reported else None,
        false_alarms_per_image=len(alarms) / len(seconds) if seconds else None,
        acc_pi_6=fraction_within(math.pi / 6),
        acc_pi_18=fraction_within(math.pi / 18),
        median_rotation_error_deg=_median(math.degrees(error.rotation_rad) for error in errors),
        median_add_m=_median(error.add_m for error in errors),
        median_translation_error_m=_median(error.translation_m for error in errors),
        median_distance_error=_median(error.distance_fraction for error in errors),
        median_size_error=_median(error.size_fraction for error in errors),
        deg5_cm5=precision_where(lambda e: e.rotation_rad <= math.radians(5) and e.translation_m <= 0.05),
        deg10_cm10=precision_where(lambda e: e.rotation_rad <= math.radians(10) and e.translation_m <= 0.10),
        iou50=precision_where(lambda e: e.iou >= 0.5),
        ap_rotation_60=area_under_curve(curves.rotation) if curves else None,
        ap_translation_15=area_under_curve(curves.translation) if curves else None,
        map_pi3_5=precision_where(lambda e: e.rotation_rad < math.pi / 3 and e.add_extents < 5.0),
        seconds_per_image=float(np.mean(seconds[1:] or seconds)) if seconds else None,
    )


def _median(values: Iterable[float]) -> float | None:
    collected = list(values)
    return float(np.median(collected)) if collected else None


def _mean_average_precision(
    objects: Sequence[ObjectResult], alarms: Sequence[FalseAlarm], is_right: Callable[[PoseErrors], bool]
) -> float | None:
    """Mean over the categories that have objects."""
    precisions = []
    for category in sorted({item.category for item in objects}):
        own = [item for item in objects if item.category == category]
        scored = [(item.score, is_right(item.errors)) for item in own if item.errors is not None]
        scored += [(alarm.score, False) for alarm in alarms if alarm.category == category]
        scores = np.array([score for score, _ in scored], dtype=np.float64)
        positive = np.array([right for _, right in scored], dtype=np.bool_)
        precisions.append(average_precision(scores, positive, len(own)))
    return float(np.mean(precisions)) if precisions else None
