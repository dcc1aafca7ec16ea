"""Frames worth a look: the best, the median and the worst."""

from __future__ import annotations

import math
from dataclasses import dataclass

from category_pose_ros.evaluation.evaluate import Evaluation


@dataclass(frozen=True)
class Example:
    """One frame and why it is shown."""

    caption: str
    frame_name: str


def examples(evaluation: Evaluation) -> list[Example]:
    """The best, the median and the worst frame by the mean rotation error of their objects.

    An object that was not found counts as half a turn. Fewer than three frames with objects give
    as many examples.
    """
    errors: dict[str, list[float]] = {}
    for item in evaluation.objects:
        error = math.pi if item.errors is None else item.errors.rotation_rad
        errors.setdefault(item.frame_name, []).append(math.degrees(error))
    ranked = sorted((sum(values) / len(values), name) for name, values in errors.items())
    if not ranked:
        return []
    places = {0: "best", len(ranked) // 2: "median", len(ranked) - 1: "worst"}
    return [
        Example(f"{label}: frame {name}, mean rotation error {error:.1f}° over {len(errors[name])} objects", name)
        for place, label in sorted(places.items())
        for error, name in [ranked[place]]
    ]
