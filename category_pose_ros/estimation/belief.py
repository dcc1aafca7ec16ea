"""What is known of one object between two frames, and what a frame makes of it."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor

from category_pose_ros.estimation.state import State
from category_pose_ros.geometry import SE3
from category_pose_ros.records import ObjectEstimate


@dataclass(frozen=True, eq=False)
class Belief:
    """A Gaussian over pose and size.

    Attributes:
        category: name of its category.
        camera_from_object: mean, batch shape ().
        log_size: (3,) mean of the log extents in metres.
        information: (9, 9) inverse covariance of a step from the mean, as `State.moved` takes it.
    """

    category: str
    camera_from_object: SE3
    log_size: Tensor
    information: Tensor

    @staticmethod
    def about(estimate: ObjectEstimate) -> Belief:
        """About where a search saw an object; how large it is, its category's prior will say."""
        diagonal = float(np.linalg.norm(estimate.size_m))
        deviations = torch.tensor([0.15 * diagonal] * 2 + [0.3 * diagonal] + [0.3] * 3 + [1.0] * 3, dtype=torch.float64)
        log_size = torch.from_numpy(np.log(estimate.size_m))
        return Belief(estimate.category, estimate.camera_from_object, log_size, torch.diag(1 / deviations.square()))

    @property
    def size_m(self) -> Tensor:
        return self.log_size.exp()

    @property
    def mean(self) -> State:
        """What is believed, as a batch of one in single precision."""
        pose = self.camera_from_object
        return State(SE3(pose.rotation[None].float(), pose.translation[None].float()), self.log_size[None].float())

    def faded(self, memory: float) -> Belief:
        """The belief with only a share in (0, 1] of its information."""
        return Belief(self.category, self.camera_from_object, self.log_size, memory * self.information)

    def seen_from(self, now_from_then: SE3) -> Belief:
        """The same belief in the frame of a camera that has moved; now_from_then is float64, batch shape ()."""
        pose, turn = now_from_then @ self.camera_from_object.to(torch.float64), now_from_then.rotation
        axes = torch.block_diag(turn, turn, torch.eye(3, dtype=turn.dtype))  # of translation, rotation, log size
        return Belief(self.category, pose, self.log_size, axes @ self.information @ axes.T)


@dataclass(frozen=True, eq=False)
class Sighting:
    """What a frame makes of a belief.

    Attributes:
        belief: the belief with the frame's evidence.
        estimate: the same for the rest of the world.
        log_score: ranks beliefs about one object by how well they explain it.
        strain: squared Mahalanobis distance between the belief before and after, nine variables.
    """

    belief: Belief
    estimate: ObjectEstimate
    log_score: float
    strain: float


Found = TypeVar("Found")

# A search in pieces: yields after each, so that a tracker can do a piece per frame, and returns the objects found.
Search: TypeAlias = Generator[None, None, list[ObjectEstimate]]


def finished(search: Generator[None, None, Found]) -> Found:
    """What a search returns, run to its end at once."""
    while True:
        try:
            next(search)
        except StopIteration as end:
            found: Found = end.value
            return found
