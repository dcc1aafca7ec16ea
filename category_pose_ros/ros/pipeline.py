"""What the worker thread owns: from messages to tracks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from category_pose_ros.estimation.estimator import PoseEstimator
from category_pose_ros.geometry import Camera
from category_pose_ros.records import Frame, Track
from category_pose_ros.ros.conversions import frame_from_messages
from category_pose_ros.ros.parameters import NodeConfig
from category_pose_ros.tracking.tracker import Tracker


class TrackerLike(Protocol):
    """As `category_pose_ros.Tracker`."""

    def update(self, frame: Frame) -> list[Track]: ...

    def reset(self) -> None: ...


@dataclass(frozen=True)
class Job:
    """One image with its calibration; `received_s` is `time.monotonic()` at arrival."""

    image: Image | CompressedImage
    info: CameraInfo
    received_s: float


@dataclass(frozen=True)
class Answer:
    frame: Frame
    tracks: list[Track]


def build_tracker(config: NodeConfig) -> Tracker:
    """Load the model.

    Raises:
        ValueError: an unknown category, method or device, a missing or damaged model file.
    """
    model = Path(config.model) if config.model else None
    estimator = PoseEstimator.load(config.categories, config.method, config.device, model, config.estimator)
    return Tracker(estimator, config.tracker)


class Pipeline:
    """Decodes, estimates and tracks; to be used by one thread.

    Args:
        config: settings of the node.
        build: loads the model.
    """

    def __init__(self, config: NodeConfig, build: Callable[[NodeConfig], TrackerLike]) -> None:
        self._config = config
        self._build = build
        self._tracker: TrackerLike | None = None

    def load(self) -> None:
        """Load the model and warm it up.

        Raises:
            ValueError: as `build_tracker`.
        """
        self._tracker = self._build(self._config)
        _warm_up(self._tracker)

    def reconfigure(self, config: NodeConfig) -> None:
        """Load the model with other settings; tracks are lost."""
        self._config = config
        self.load()

    def handle(self, job: Job) -> Answer:
        """Decode an image and update the tracks with it.

        Raises:
            ValueError: the image or the calibration cannot be used.
        """
        assert self._tracker is not None, "load first"
        frame = frame_from_messages(job.image, job.info, self._config.rectified)
        return Answer(frame, self._tracker.update(frame))

    def reset(self) -> None:
        """Forget all tracks."""
        assert self._tracker is not None, "load first"
        self._tracker.reset()


def _warm_up(tracker: TrackerLike) -> None:
    """The first call allocates and chooses kernels; better now than at the first image."""
    camera = Camera(fx=600.0, fy=600.0, cx=319.5, cy=239.5, width=640, height=480)
    tracker.update(Frame(np.zeros((480, 640, 3), np.uint8), camera))
    tracker.reset()
