"""Stable identities from frame to frame."""

from __future__ import annotations

from dataclasses import dataclass

from category_pose_ros.config import setting, validate
from category_pose_ros.estimation.estimator import PoseEstimator
from category_pose_ros.records import Frame, Track


@dataclass(frozen=True)
class TrackerConfig:
    confirm_after: int = setting(2, "Sightings before a track is published.", minimum=1, maximum=100)

    def __post_init__(self) -> None:
        validate(self)


class Tracker:
    def __init__(self, estimator: PoseEstimator, config: TrackerConfig = TrackerConfig()) -> None:
        self._estimator = estimator

    def update(self, frame: Frame) -> list[Track]:
        """Estimate the frame's objects and carry their identities on; sorted by track_id.

        Returns the confirmed tracks seen in this frame.
        """
        return []

    def reset(self) -> None:
        """Forget all tracks; ids are not used again."""
