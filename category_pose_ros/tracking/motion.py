"""How objects move between frames: constant velocity on SE(3), along the axes of the camera."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from category_pose_ros.config import LONGEST_S, setting, validate
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
        0.5,
        "Time after which the velocity of an object that is not seen has fallen to 37 %.",
        minimum=1e-3,
        maximum=LONGEST_S,
    )

    def __post_init__(self) -> None:
        validate(self)


_SHORTEST_S = 5e-3  # between frames: noise over less is no velocity


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
        # A turn counts as its sine, which spares a logarithm; of a right angle or more nothing is to be learnt.
        turned = 0.5 * torch.linalg.cross(predicted.rotation.double(), found.rotation.double(), dim=-2).sum(-1)
        share = gain / max(seconds, _SHORTEST_S)
        return Velocity(self.linear + share * missed, self.angular + share * turned)


@dataclass(frozen=True, eq=False)
class Motion:
    """Where an object is expected some time later.

    Attributes:
        camera_from_object: then, float64.
        covariance: (9, 9) of what is not known of the way, as a step of `State.moved`, float64.
    """

    camera_from_object: SE3
    covariance: Tensor


def expect(
    beliefs: Sequence[Belief], velocities: Sequence[Velocity], seconds: float, config: MotionConfig
) -> list[Motion]:
    """The motions of objects that keep their velocities, more or less."""
    if not beliefs:
        return []
    poses = [belief.camera_from_object for belief in beliefs]
    turned = torch.stack([pose.rotation.double() for pose in poses])
    turned = so3.exp(torch.stack([item.angular for item in velocities]) * seconds) @ turned
    shifted = torch.stack([pose.translation.double() for pose in poses])
    shifted = shifted + torch.stack([item.linear for item in velocities]) * seconds
    diagonals = torch.stack([belief.size_m.double() for belief in beliefs]).norm(dim=-1, keepdim=True)
    shift = config.unrest + 0.5 * config.acceleration * seconds**2
    turn = config.unrest + 0.5 * config.angular_acceleration * seconds**2
    unit = torch.tensor([shift] * 3 + [turn] * 3 + [config.resize * seconds] * 3, dtype=torch.float64)
    deviations = unit * torch.cat([diagonals.expand(-1, 3), torch.ones(len(beliefs), 6)], dim=-1)
    covariances = deviations.square().diag_embed()
    return [Motion(SE3(*pose), covariance) for *pose, covariance in zip(turned, shifted, covariances, strict=True)]


def gone(beliefs: Sequence[Belief], motions: Sequence[Motion], memory: Sequence[float]) -> list[Belief]:
    """The beliefs after motions.

    Args:
        memory: share of the old information of each that is kept.
    """
    if not beliefs:
        return []
    share = torch.tensor(memory, dtype=torch.float64)[:, None, None]
    known = share * torch.stack([belief.information for belief in beliefs])
    nothing = 1e-6 * torch.eye(known.shape[-1], dtype=torch.float64)  # for a belief that knows nothing of a direction
    covariance = torch.linalg.inv(known + nothing) + torch.stack([motion.covariance for motion in motions])
    return [
        Belief(belief.category, motion.camera_from_object, belief.log_size, information)
        for belief, motion, information in zip(beliefs, motions, torch.linalg.inv(covariance), strict=True)
    ]
