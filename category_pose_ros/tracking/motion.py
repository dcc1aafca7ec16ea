"""How objects move between frames: constant velocity on SE(3), along the axes of the camera."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from category_pose_ros.config import setting, validate
from category_pose_ros.estimation.belief import Belief
from category_pose_ros.geometry import SE3, so3


@dataclass(frozen=True)
class MotionConfig:
    """What motion is expected; the camera's own is part of it."""

    acceleration: float = setting(
        20.0, "Change of velocity that is usual, in diagonals of the object per second squared.", minimum=0.0
    )
    angular_acceleration: float = setting(
        15.0, "Change of rotational velocity that is usual, in radians per second squared.", minimum=0.0
    )
    unrest: float = setting(0.02, "Motion that is always possible, in diagonals and radians per frame.", minimum=0.0)
    resize: float = setting(0.01, "Drift of each log extent per second.", minimum=0.0)
    velocity_gain: float = setting(
        0.5, "Share of a prediction's error that goes into the velocity.", minimum=0.0, maximum=1.0
    )
    persistence_s: float = setting(
        0.5, "Time after which the velocity of an object that is not seen has fallen to 37 %.", minimum=1e-3
    )

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True, eq=False)
class Velocity:
    """Metres and radians per second in the camera frame, each (3,)."""

    linear: Tensor
    angular: Tensor

    @staticmethod
    def zero() -> Velocity:
        return Velocity(torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))

    def after(self, seconds: float, persistence_s: float) -> Velocity:
        """What is left of it where nothing is seen."""
        share = math.exp(-seconds / persistence_s)
        return Velocity(share * self.linear, share * self.angular)

    def without_turn(self) -> Velocity:
        """The same of an object that is turned otherwise than was thought."""
        return Velocity(self.linear, torch.zeros_like(self.angular))

    def seen_from(self, now_from_then: SE3) -> Velocity:
        """The same velocity along the axes of a camera that has moved."""
        return Velocity(now_from_then.rotation @ self.linear, now_from_then.rotation @ self.angular)

    def corrected(self, predicted: SE3, found: SE3, seconds: float, gain: float) -> Velocity:
        """By a share of the prediction's error (alpha-beta filter, Kalata 1984)."""
        missed = found.translation.double() - predicted.translation.double()
        turned = so3.log(found.rotation.double() @ predicted.rotation.double().transpose(-1, -2))
        share = gain / seconds
        return Velocity(self.linear + share * missed, self.angular + share * turned)


def predict(belief: Belief, velocity: Velocity, seconds: float, memory: float, config: MotionConfig) -> Belief:
    """The belief some time later.

    Args:
        memory: share of the old information that is kept.
    """
    pose = belief.camera_from_object
    rotation = so3.exp(velocity.angular * seconds) @ pose.rotation.double()
    translation = pose.translation.double() + velocity.linear * seconds
    diagonal = float(belief.size_m.norm())
    shift = diagonal * (config.unrest + 0.5 * config.acceleration * seconds**2)
    turn = config.unrest + 0.5 * config.angular_acceleration * seconds**2
    deviations = [shift] * 3 + [turn] * 3 + [config.resize * seconds] * 3
    variance = torch.tensor(deviations, dtype=torch.float64).square()
    return belief.moved(SE3(rotation, translation)).loosened(memory, variance)
