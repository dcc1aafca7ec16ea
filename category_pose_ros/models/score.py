"""The score of an answer: the chance that it is right, from what speaks for it.

Of its category something is there, and its rotation is within 30 degrees. How much support an
answer has when it is right differs between categories: a can looks like any other can, a camera
less so. Depth, where there is any, speaks too, and so does the judge, if the model has one. So the
chance is a logistic regression per category, fitted by `training.calibration`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

_LEAST = 1e-3  # keeps the logarithms finite


class Signs(NamedTuple):
    """What speaks for an answer, or against it.

    Attributes:
        support: log of the mean support of the visible vertices.
        presence: log of the share of these that lie on cells of the object.
        rests: 1 if it is at rest on a plane that depth shows, -1 if on none of them, 0 without any.
        contradicted: 1 if many depth readings contradict its size or shape, else 0.
        judged: log odds by the model's judge that it is right; 0 without one.
    """

    support: float
    presence: float
    rests: float = 0.0
    contradicted: float = 0.0
    judged: float = 0.0

    @staticmethod
    def of(
        support: float, presence: float, rests: float = 0.0, contradicted: float = 0.0, judged: float = 0.0
    ) -> Signs:
        """From the quantities themselves; support and presence are not negative."""
        return Signs(math.log(max(support, _LEAST)), math.log(max(presence, _LEAST)), rests, contradicted, judged)


@dataclass(frozen=True)
class ScoreWeights:
    """Log odds per unit of each sign. What is hidden lowers the support, so at equal support less presence is better.

    The defaults are those of a usual category, for a model that was never calibrated.
    """

    support: float = 4.5
    presence: float = -1.5
    rests: float = 1.0
    contradicted: float = -1.0
    judged: float = 0.5
    bias: float = 6.0

    def score(self, signs: Signs) -> float:
        """In [0, 1]."""
        weights = Signs(self.support, self.presence, self.rests, self.contradicted, self.judged)
        log_odds = self.bias + sum(weight * sign for weight, sign in zip(weights, signs, strict=True))
        return 1 / (1 + math.exp(-log_odds))


UNCALIBRATED = ScoreWeights()
