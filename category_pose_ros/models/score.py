"""The score of an answer: the chance that it is right, from what speaks for it.

Of its category something is there, and its rotation is within 30 degrees. How much support an
answer has when it is right differs between categories: a can looks like any other can, a camera
less so. So the chance is a logistic regression per category, fitted by `training.calibration`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

_LEAST = 1e-3  # keeps the logarithms finite


class Signs(NamedTuple):
    """What speaks for an answer, in logarithms.

    Attributes:
        support: of the mean support of the visible vertices.
        presence: of the share of these that lie on cells of the object.
    """

    support: float
    presence: float

    @staticmethod
    def of(support: float, presence: float) -> Signs:
        """From the quantities themselves, of which none is negative."""
        return Signs(math.log(max(support, _LEAST)), math.log(max(presence, _LEAST)))


@dataclass(frozen=True)
class ScoreWeights:
    """Log odds per unit of each sign. What is hidden lowers the support, so at equal support less presence is better.

    The defaults are those of a usual category, for a model that was never calibrated.
    """

    support: float = 4.5
    presence: float = -1.5
    bias: float = 6.0

    def score(self, signs: Signs) -> float:
        """In [0, 1]."""
        log_odds = self.support * signs.support + self.presence * signs.presence + self.bias
        return 1 / (1 + math.exp(-log_odds))


UNCALIBRATED = ScoreWeights()
