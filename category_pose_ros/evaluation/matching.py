"""Which estimate speaks of which object."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from category_pose_ros.data.annotations import GroundTruthObject
from category_pose_ros.evaluation import metrics
from category_pose_ros.evaluation.overlap import Array, box_coverage_2d, box_iou_2d, projected_box
from category_pose_ros.geometry import Camera
from category_pose_ros.records import ObjectEstimate

MATCH_IOU = 0.25
"""Smallest overlap of the projected boxes at which an estimate may speak of an object.

Low, because a wrong orientation changes the projected box and shall count as a wrong orientation,
not as an object that was overlooked. In the image and not in space, because without depth the
distance is known only as well as the size of the category is.
"""

CROWD_COVERAGE = 0.5
"""Smallest share of an estimate's projected box inside a crowd region at which it is forgiven.

Of the estimate's own area, as KITTI's devkit and COCO do: the region may be many times larger than an object.
"""

RIGHT_RAD = math.pi / 6
"""Rotation error below which an answer about an object of its category is right."""


@dataclass(frozen=True)
class Matching:
    """The outcome for one frame, as indices into its estimates and its objects.

    Attributes:
        pairs: (estimate, object) of counted objects that were found.
        missed: counted objects that were not found.
        false_alarms: estimates that speak of no object.
    """

    pairs: tuple[tuple[int, int], ...]
    missed: tuple[int, ...]
    false_alarms: tuple[int, ...]


def match(camera: Camera, estimates: Sequence[ObjectEstimate], objects: Sequence[GroundTruthObject]) -> Matching:
    """Assign estimates to objects of the same category, one to one, with the largest total overlap.

    The overlap is the IoU of the boxes around the projections of the oriented 3D boxes, cut at the
    image's border; pairs below MATCH_IOU are not made. Objects to be ignored are asked about what is
    left alone, as in KITTI and COCO: an estimate that overlaps one, or of which CROWD_COVERAGE is inside
    a crowd region, is neither a hit nor a false alarm.
    """
    overlap = _overlap(camera, estimates, objects)
    overlap[overlap < np.where([item.crowd for item in objects], CROWD_COVERAGE, MATCH_IOU)] = 0.0
    counted = np.array([number for number, item in enumerate(objects) if not item.ignore], dtype=np.intp)
    ignored = [number for number, item in enumerate(objects) if item.ignore]
    rows, columns = linear_sum_assignment(-overlap[:, counted])
    pairs = tuple(
        (int(row), int(column)) for row, column in zip(rows, counted[columns], strict=True) if overlap[row, column] > 0
    )
    taken, found = ({pair[side] for pair in pairs} for side in (0, 1))
    forgiven = {row for row in range(len(estimates)) if (overlap[row, ignored] > 0).any()}
    return Matching(
        pairs=pairs,
        missed=tuple(int(column) for column in counted if column not in found),
        false_alarms=tuple(row for row in range(len(estimates)) if row not in taken | forgiven),
    )


def rotation_errors(
    camera: Camera, estimates: Sequence[ObjectEstimate], objects: Sequence[GroundTruthObject]
) -> dict[int, float]:
    """Of each estimate that counts, by its number: rotation error in radians; infinite for a false alarm."""
    matching = match(camera, estimates, objects)
    errors = dict.fromkeys(matching.false_alarms, math.inf)
    for row, column in matching.pairs:
        poses = estimates[row].camera_from_object, objects[column].camera_from_object
        errors[row] = metrics.rotation_error(*poses, objects[column].seen_symmetry)
    return errors


def _overlap(camera: Camera, estimates: Sequence[ObjectEstimate], objects: Sequence[GroundTruthObject]) -> Array:
    """(estimates, objects): IoU, or the estimate's share inside a crowd region; zero between different categories."""
    sides: tuple[Sequence[ObjectEstimate | GroundTruthObject], ...] = (estimates, objects)
    boxes = [
        np.array([projected_box(camera, item.camera_from_object, item.size_m) for item in side]).reshape(-1, 4)
        for side in sides
    ]
    same = [[estimate.category == item.category for item in objects] for estimate in estimates]
    crowd = np.array([item.crowd for item in objects], dtype=np.bool_)
    overlap = np.where(crowd, box_coverage_2d(boxes[0], boxes[1]), box_iou_2d(boxes[0], boxes[1]))
    return overlap * np.array(same, dtype=np.float64).reshape(len(estimates), len(objects))
