"""Which object of one set is which of another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from category_pose_ros.records import ObjectEstimate

_FORBIDDEN = 1e6  # cost of a pair that must not be made


def distance(first: ObjectEstimate, second: ObjectEstimate) -> float:
    """How far apart two objects are, in diagonals of the smaller.

    Across the line of sight, since along it a monocular estimate moves with the size that it assumes.
    Infinite where one is behind the camera.
    """
    before, after = (item.camera_from_object.translation.double().numpy() for item in (first, second))
    if min(before[2], after[2]) <= 0:
        return float("inf")
    across = np.linalg.norm(before / before[2] - after / after[2])
    return float(across / min(apparent_diagonal(first), apparent_diagonal(second)))


def apparent_diagonal(item: ObjectEstimate) -> float:
    """Angle that the diagonal of an object in front of the camera spans, radians, as far as small angles go."""
    return float(np.linalg.norm(item.size_m)) / float(item.camera_from_object.translation[2])


def associate(old: Sequence[ObjectEstimate], new: Sequence[ObjectEstimate], gate: float) -> dict[int, int]:
    """The assignment of least total distance between objects of one category, as {new: old}.

    Pairs beyond the gate (in diagonals) are never made (Kuhn 1955, in scipy).
    """
    cost: npt.NDArray[np.float64] = np.full((len(old), len(new)), _FORBIDDEN)
    for i, before in enumerate(old):
        for j, after in enumerate(new):
            if before.category == after.category and (far := distance(before, after)) <= gate:
                cost[i, j] = far
    rows, columns = linear_sum_assignment(cost)
    return {int(j): int(i) for i, j in zip(rows, columns, strict=True) if cost[i, j] < _FORBIDDEN}
