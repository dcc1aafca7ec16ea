"""What a stream has shown lately: frames, and where their camera was."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import torch

from category_pose_ros.estimation.images import Depth, rectify, rectify_depth
from category_pose_ros.geometry import SE3
from category_pose_ros.records import SECOND_NS, Frame
from category_pose_ros.tracking.flow import View

_APART_NS = 140_000_000


@dataclass(frozen=True, eq=False)
class Moment:
    """A frame, and where its camera was if that is known."""

    frame: Frame
    world_from_camera: SE3 | None

    @cached_property
    def view(self) -> View:
        """The frame as optical flow sees it."""
        image, camera = rectify(self.frame)
        return View(np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8), camera)

    @cached_property
    def depth(self) -> Depth | None:
        """Its depth without lens distortion."""
        return rectify_depth(self.frame)

    def seconds_since(self, before: Moment | None) -> float:
        """Time since then, 0 at the beginning of a stream."""
        return 0.0 if before is None else (self.frame.stamp_ns - before.frame.stamp_ns) / SECOND_NS

    def motion_since(self, before: Moment) -> SE3 | None:
        """`now_from_then` of the camera, batch shape (), float64; None: not known."""
        if self.world_from_camera is None or before.world_from_camera is None:
            return None
        return self.world_from_camera.to(torch.float64).inverse() @ before.world_from_camera.to(torch.float64)


@dataclass
class Trail:
    """The way from the frame of a search to the present one, 0.14 s apart or as far as its frames are.

    What a search found long ago is followed from one of them to the next: as far apart as objects usually
    stay within the basin of refinement, and few enough to keep.
    """

    moments: list[Moment]

    def add(self, now: Moment) -> None:
        """Go on to the present, in place of the latest moment where the one before is not long ago."""
        if len(self.moments) > 1 and now.frame.stamp_ns - self.moments[-2].frame.stamp_ns <= _APART_NS:
            self.moments[-1] = now
        else:
            self.moments.append(now)
