"""What the worker thread owns: from messages to tracks."""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from category_pose_ros.data.depth_messages import Depth
from category_pose_ros.estimation.estimator import PoseEstimator
from category_pose_ros.geometry import SE3, Camera
from category_pose_ros.records import Frame, ObjectEstimate, Track, TrackState
from category_pose_ros.ros.camera_motion import CameraMotion
from category_pose_ros.ros.conversions import frame_from_messages, registered_depth
from category_pose_ros.ros.hints import regions_from_message, renamed
from category_pose_ros.ros.pairing import Capture
from category_pose_ros.ros.parameters import NodeConfig
from category_pose_ros.ros.worker import UnusableError
from category_pose_ros.tracking.tracker import Tracker

_THREADS_AT_START = torch.get_num_threads()  # follows OMP_NUM_THREADS


class EstimatorLike(Protocol):
    """As `category_pose_ros.PoseEstimator`."""

    @property
    def categories(self) -> tuple[str, ...]: ...

    @property
    def device(self) -> str: ...

    def estimate(self, frame: Frame) -> list[ObjectEstimate]: ...


class TrackerLike(Protocol):
    """As `category_pose_ros.Tracker`."""

    next_id: int

    def update(self, frame: Frame, world_from_camera: SE3 | None = None) -> list[Track]: ...

    def lost(self) -> list[Track]: ...

    def reset(self) -> None: ...


@dataclass(frozen=True)
class Loaded:
    """A model that is ready: the estimator, and the tracker that asks it."""

    estimator: EstimatorLike
    tracker: TrackerLike


@dataclass(frozen=True)
class Job:
    """An image to answer.

    Attributes:
        capture: the image with what belongs to it.
        is_one_look: it has no history; its objects are reported at first sight, and numbered from 1.
        camera_motion: tells where its camera was; None: that is not asked for.
    """

    capture: Capture
    is_one_look: bool = False
    camera_motion: CameraMotion | None = None


@dataclass(frozen=True)
class Answer:
    """What came of an image.

    Attributes:
        frame: the image, decoded.
        tracks: its objects.
        lost: how many objects the tracker remembers, but did not see in it.
        depth_fault, hint_fault: why what came with it was not used; None: it was, or there was none.
        motion_fault: why it is not known where the camera was; None: it is, or was not asked for.
    """

    frame: Frame
    tracks: list[Track]
    lost: int = 0
    depth_fault: str | None = None
    hint_fault: str | None = None
    motion_fault: str | None = None


def load(config: NodeConfig, estimator: PoseEstimator | None = None) -> Loaded:
    """Load the model, and make a tracker for it.

    Args:
        estimator: one that was loaded with the same settings, to be taken over; None: there is none.

    Raises:
        ValueError: an unknown category, method or device, a missing or damaged model file, too little memory.
    """
    if estimator is None:
        model = Path(config.model) if config.model else None
        try:
            estimator = PoseEstimator.load(config.categories, config.method, config.device, model, config.estimator)
        except (MemoryError, RuntimeError) as error:
            if not _is_lack_of_memory(error):
                raise
            raise ValueError(f"too little memory: {error}") from error
    return Loaded(estimator, Tracker(estimator, config.tracker))


def _is_lack_of_memory(error: Exception) -> bool:
    # PyTorch's allocator for the CPU raises a plain RuntimeError.
    return isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def needs_tracker(before: NodeConfig, after: NodeConfig) -> bool:
    """Whether settings differ in more than what is asked for anew at each image."""
    same = replace(after, threads=before.threads, rectified=before.rectified, hint_classes=before.hint_classes)
    return same != before


def needs_model(before: NodeConfig, after: NodeConfig) -> bool:
    """Whether they differ in more than that and the tracker's."""
    return needs_tracker(before, replace(after, tracker=before.tracker))


class Pipeline:
    """Decodes, estimates and tracks; to be used by one thread.

    Args:
        config: settings of the node.
        loaded: the model for these settings.
    """

    def __init__(self, config: NodeConfig, loaded: Loaded) -> None:
        self.loaded = loaded
        self._config = config

    def warm_up(self) -> None:
        """The first call allocates and chooses kernels; better now than at the first image."""
        self._use_threads()
        camera = Camera(fx=600.0, fy=600.0, cx=319.5, cy=239.5, width=640, height=480)
        self.loaded.tracker.update(Frame(np.zeros((480, 640, 3), np.uint8), camera))
        self.loaded.tracker.reset()

    def adopt(self, config: NodeConfig, loaded: Loaded) -> None:
        """Go on with other settings and what was loaded for these; with another tracker tracks are lost.

        Their numbers are not: what was shown as `mug_1` must not become something else.
        """
        before, self._config, self.loaded = self.loaded, config, loaded
        if loaded is before:
            self._use_threads()
        else:
            loaded.tracker.next_id = before.tracker.next_id
            self.warm_up()
            del before
            gc.collect()  # networks are in cycles: they would stay until Python gets to them

    def handle(self, job: Job) -> Answer:
        """Decode an image and update the tracks with it.

        Raises:
            UnusableError: the image or the calibration cannot be used.
        """
        capture = job.capture
        try:
            frame = frame_from_messages(capture.image, capture.info, self._config.rectified)
        except ValueError as error:
            raise UnusableError(str(error)) from error
        depth, depth_fault = _depth(capture, frame.camera)
        frame, hint_fault = self._hinted(capture, replace(frame, depth=depth, stamp_ns=capture.time_ns))
        if job.is_one_look:
            return Answer(frame, self._one_look(frame), 0, depth_fault, hint_fault)
        world_from_camera, motion_fault = _camera_pose(job)
        tracks = self.loaded.tracker.update(frame, world_from_camera)
        return Answer(frame, tracks, len(self.loaded.tracker.lost()), depth_fault, hint_fault, motion_fault)

    def reset(self) -> None:
        """Forget all tracks."""
        self.loaded.tracker.reset()

    def _use_threads(self) -> None:
        torch.set_num_threads(_threads(self._config.threads))  # holds for the calling thread

    def _hinted(self, capture: Capture, frame: Frame) -> tuple[Frame, str | None]:
        """The frame with the regions of its hint, or why they cannot be used."""
        if capture.hint is None:
            return frame, None
        try:
            regions = regions_from_message(capture.hint, capture.image.header, renamed(self._config.hint_classes))
            return replace(frame, regions=regions), None
        except ValueError as error:
            return frame, str(error)

    def _one_look(self, frame: Frame) -> list[Track]:
        found = self.loaded.estimator.estimate(frame)
        return [Track(i, TrackState.CONFIRMED, estimate, frame.stamp_ns) for i, estimate in enumerate(found, start=1)]


def _threads(asked: int) -> int:
    if asked:
        return asked
    return _THREADS_AT_START if "OMP_NUM_THREADS" in os.environ else max(1, (os.cpu_count() or 1) // 2)


def _depth(capture: Capture, camera: Camera) -> tuple[Depth | None, str | None]:
    """Depth, or why it cannot be used; an image is worth something without."""
    if capture.depth is None:
        return None, None
    try:
        return registered_depth(capture.depth, capture.image.header, camera), None
    except ValueError as error:
        return None, str(error)


def _camera_pose(job: Job) -> tuple[SE3 | None, str | None]:
    """Where the camera was, or why that is not known; what is at rest is then tracked as if the camera were."""
    if job.camera_motion is None:
        return None, None
    try:
        return job.camera_motion.world_from_camera(job.capture.image.header), None
    except ValueError as error:
        return None, str(error)
