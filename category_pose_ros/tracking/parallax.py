"""How far away an object at rest is, by lines of sight to it from a camera whose own motion is known.

One camera leaves the scale of an object open, and a camera that moves by a known way does not: the lines
of sight from several places meet where the object is. The point nearest to all of them in the sense of
least squares has a closed form, and so has what is not known of it (the midpoint method of Hartley and
Sturm 1997, for any number of lines).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from category_pose_ros.config import setting, validate
from category_pose_ros.estimation.belief import Belief
from category_pose_ros.geometry import SE3

_TINY = 1e-6
_UNKNOWNS = 3  # of a point


@dataclass(frozen=True)
class ParallaxConfig:
    """Distance by the motion of the camera, where that is known and depth is not."""

    deviation: float = setting(
        0.05, "Standard deviation of the line of sight to an object, in its diagonals ...", minimum=1e-4, maximum=1.0
    )
    camera_deg: float = setting(
        0.2, "... and, as an angle, of the known rotation of the camera.", minimum=0.0, maximum=45.0
    )
    memory: float = setting(0.9, "Share of what earlier lines say that outlives a look.", minimum=0.0, maximum=0.999)
    farthest: float = setting(
        0.15, "A distance with a greater standard deviation than this share of it is not used.", minimum=0.0
    )
    model: float = setting(
        0.03, "Error that is always possible, as a share of the distance: no object is quite at rest.", minimum=0.0
    )
    strain: float = setting(
        2.0, "Squared error of the lines, as a multiple of the expected, beyond which the object moves.", minimum=1.0
    )
    gate: float = setting(
        3.0, "Standard deviations from what is believed of the distance beyond which it is not used.", minimum=0.1
    )

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True, eq=False)
class Parallax:
    """Lines of sight to one object at rest, in the frame of the camera as it is now.

    Their weighted squared distance from a point p is p^T H p - 2 b^T p + e.

    Attributes:
        hessian: H (3, 3), per square metre.
        vector: b (3,).
        offset: e ().
        lines: how many there are; those of the past count as what is left of them.
        told: information about the distance that the belief about the object has from them, per square metre.
    """

    hessian: Tensor
    vector: Tensor
    offset: Tensor
    lines: float = 0.0
    told: float = 0.0

    @staticmethod
    def nothing() -> Parallax:
        zero = torch.zeros(3, 3, dtype=torch.float64)
        return Parallax(zero, zero[0], zero[0, 0])

    def seen_from(self, now_from_then: SE3) -> Parallax:
        """The same from where the camera is now, float64, batch shape ()."""
        turn, shift = now_from_then.rotation, now_from_then.translation
        hessian, vector = turn @ self.hessian @ turn.T, turn @ self.vector
        across = hessian @ shift
        offset = self.offset + shift @ (2 * vector + across)
        return Parallax(hessian, vector + across, offset, self.lines, self.told)

    def faded(self, memory: float) -> Parallax:
        """With a share in (0, 1] of what the lines say; what they have told stays told."""
        hessian, vector, offset = memory * self.hessian, memory * self.vector, memory * self.offset
        return Parallax(hessian, vector, offset, memory * self.lines, self.told)

    def sighted(self, towards: Tensor, deviation_m: float) -> Parallax:
        """With one line more, from the camera through a point (3,), known to so much there."""
        ray = towards / towards.norm()
        across = torch.eye(3, dtype=ray.dtype) - ray.unsqueeze(-1) * ray
        hessian = self.hessian + across / deviation_m**2
        return Parallax(hessian, self.vector, self.offset, self.lines + 1, self.told)

    def distance(self, ray: Tensor) -> tuple[float, float]:
        """How far along a unit vector (3,) the lines meet, and the variance of that; infinite where they do not."""
        factor = self._factor()
        if factor is None or self.lines < 2:
            return 0.0, math.inf
        solved = torch.cholesky_solve(torch.stack([self.vector, ray], -1), factor)
        return float(solved[:, 0] @ ray), float(solved[:, 1] @ ray)

    def strain(self) -> float:
        """How well the lines meet: their mean squared distance from where they do, 1 where that is as expected."""
        freedoms = 2 * self.lines - _UNKNOWNS
        factor = self._factor()
        if factor is None or freedoms < 1:
            return 1.0
        where = torch.cholesky_solve(self.vector.unsqueeze(-1), factor).squeeze(-1)
        return float(self.offset - self.vector @ where) / freedoms

    def _factor(self) -> Tensor | None:
        """Of H by Cholesky; None where the lines leave a direction open."""
        factor, singular = torch.linalg.cholesky_ex(self.hessian)
        return None if int(singular) else factor


def looked(parallax: Parallax, belief: Belief, config: ParallaxConfig) -> Parallax:
    """What lines of sight say after a look by which an object is believed there; anew where they show it moving."""
    position = belief.camera_from_object.translation.double()
    angle_m = math.radians(config.camera_deg) * float(position.norm())
    deviation_m = math.hypot(config.deviation * float(belief.size_m.norm()), angle_m)
    before = parallax.faded(config.memory) if parallax.strain() < config.strain else Parallax.nothing()
    return before.sighted(position, deviation_m)


def at_distance(belief: Belief, parallax: Parallax, memory: float, config: ParallaxConfig) -> tuple[Belief, Parallax]:
    """A belief that also knows how far away its object is, if lines of sight say that.

    Of what they say only that is news which the belief has not been told by them before.

    Args:
        memory: share of its information that the belief has kept since it was told last.

    Returns:
        The belief, and the lines, which know what they have told.
    """
    information = belief.information.double()
    nothing = _TINY * torch.eye(len(information), dtype=torch.float64)  # for a belief that knows nothing of a direction
    position = belief.camera_from_object.translation.double()
    believed = float(position.norm())
    ray = position / believed
    told = memory * parallax.told
    distance, variance = parallax.distance(ray)
    known = distance > 0 and variance < (config.farthest * distance) ** 2 and parallax.strain() < config.strain
    variance += (config.model * distance) ** 2
    own = float(ray @ torch.linalg.inv(information + nothing)[:3, :3] @ ray)
    if not known or (distance - believed) ** 2 > config.gate**2 * (own + variance):
        return belief, dataclasses.replace(parallax, told=told)
    news = torch.zeros_like(information)
    news[:3, :3] = max(1 / variance - told, 0.0) * ray.unsqueeze(-1) * ray
    # The size goes with the distance, as far as the belief ties the two together.
    step = torch.linalg.solve(information + news + nothing, (distance - believed) * (news[:, :3] @ ray))
    turn = belief.camera_from_object.rotation.double()
    moved = SE3(turn, position + step[:3])
    grown = belief.log_size.double() + step[6:]
    surer = Belief(belief.category, moved, grown, information + news)
    return surer, dataclasses.replace(parallax, told=max(1 / variance, told))
