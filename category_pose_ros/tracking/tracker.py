"""Stable identities from frame to frame.

Every frame is estimated anew, and its objects are handed to the tracks that they continue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from category_pose_ros.config import setting, validate
from category_pose_ros.records import Frame, ObjectEstimate, Track, TrackState

_NANOSECONDS = 1_000_000_000


@dataclass(frozen=True)
class TrackerConfig:
    """Association and life cycle."""

    confirm_after: int = setting(2, "Sightings before a track is published.", minimum=1, maximum=100)
    drop_after_s: float = setting(1.0, "A track unseen for this long is dropped, in seconds.", minimum=0.0)
    gate: float = setting(
        0.6, "Farthest move between sightings, across the line of sight, in object diagonals.", minimum=0.0
    )
    reset_after_s: float = setting(5.0, "A gap between frames that ends all tracks, in seconds.", minimum=0.0)

    def __post_init__(self) -> None:
        validate(self)


class Estimator(Protocol):
    """As `category_pose_ros.PoseEstimator`."""

    def estimate(self, frame: Frame) -> list[ObjectEstimate]: ...


@dataclass
class _Living:
    """A track as the tracker keeps it."""

    track: Track
    sightings: int


class Tracker:
    """Carries identities over a stream of frames.

    Args:
        estimator: finds the objects of a frame.
        config: settings.
    """

    def __init__(self, estimator: Estimator, config: TrackerConfig = TrackerConfig()) -> None:
        self._estimator = estimator
        self._config = config
        self._living: list[_Living] = []
        self._next_id = 1
        self._last_stamp_ns: int | None = None

    def update(self, frame: Frame) -> list[Track]:
        """Estimate the frame's objects and carry their identities on.

        A stamp that goes backwards (a bag that loops, a clock that was reset) or far ahead ends all
        tracks: what was seen then says nothing about now.

        Returns:
            The confirmed tracks seen in this frame, by id.
        """
        self._check_time(frame.stamp_ns)
        estimates = self._estimator.estimate(frame)
        self._continue(estimates, frame.stamp_ns)
        self._drop(frame.stamp_ns)
        seen = [item.track for item in self._living if item.track.stamp_ns == frame.stamp_ns]
        confirmed = (track for track in seen if track.state is TrackState.CONFIRMED)
        return sorted(confirmed, key=lambda track: track.track_id)

    def reset(self) -> None:
        """Forget all tracks; ids are not used again."""
        self._living.clear()
        self._last_stamp_ns = None

    def _check_time(self, stamp_ns: int) -> None:
        if self._last_stamp_ns is not None:
            gap_s = (stamp_ns - self._last_stamp_ns) / _NANOSECONDS
            if gap_s < 0 or gap_s > self._config.reset_after_s:
                self.reset()
        self._last_stamp_ns = stamp_ns

    def _continue(self, estimates: Sequence[ObjectEstimate], stamp_ns: int) -> None:
        cost = _costs([item.track.estimate for item in self._living], estimates, self._config.gate)
        old, new = linear_sum_assignment(cost)
        continued = {int(j): self._living[i] for i, j in zip(old, new, strict=True) if cost[i, j] < _FORBIDDEN}
        for index, estimate in enumerate(estimates):
            item = continued.get(index)
            if item is None:
                item = _Living(Track(self._next_id, TrackState.TENTATIVE, estimate, stamp_ns), 0)
                self._living.append(item)
                self._next_id += 1
            item.sightings += 1
            confirmed = item.sightings >= self._config.confirm_after
            state = TrackState.CONFIRMED if confirmed else TrackState.TENTATIVE
            item.track = Track(item.track.track_id, state, estimate, stamp_ns)

    def _drop(self, stamp_ns: int) -> None:
        oldest = stamp_ns - round(self._config.drop_after_s * _NANOSECONDS)
        self._living = [item for item in self._living if item.track.stamp_ns >= oldest]


_FORBIDDEN = 1e6  # cost of a pair that must not be made


def _costs(old: Sequence[ObjectEstimate], new: Sequence[ObjectEstimate], gate: float) -> npt.NDArray[np.float64]:
    """How far apart objects are, in diagonals.

    Across the line of sight, since along it a monocular estimate moves with the size that it assumes.
    Pairs of two categories or beyond the gate are forbidden.
    """
    cost = np.full((len(old), len(new)), _FORBIDDEN)
    for i, before in enumerate(old):
        for j, after in enumerate(new):
            if before.category == after.category:
                first, second = (item.camera_from_object.translation.double().numpy() for item in (before, after))
                across = np.linalg.norm(first / first[2] - second / second[2]) * min(first[2], second[2])
                distance = across / np.linalg.norm(before.size_m)
                if distance <= gate:
                    cost[i, j] = distance
    return cost
