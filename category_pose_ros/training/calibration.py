"""What the scores of a trained model mean: weights fitted to answers that were judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

from category_pose_ros.models.score import ScoreWeights, Signs

_SPREAD = 1.0  # standard deviation of a category's weights about the common ones, in log odds per standard sign
_COMMON_SPREAD = 10.0  # keeps the common ones finite where right and wrong answers do not overlap

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """An answer, and whether it was right."""

    category: str
    signs: Signs
    is_right: bool


def count_right(is_right: Sequence[bool]) -> int:
    """How many answers are right.

    Raises:
        ValueError: there are no right or no wrong answers.
    """
    right = sum(is_right)
    if not 0 < right < len(is_right):
        raise ValueError(f"answers: expected right and wrong ones, got {right} right of {len(is_right)}")
    return right


def pooled_scores(answers: Sequence[Judged], categories: Sequence[str]) -> dict[str, ScoreWeights]:
    """Score weights by category: the mean of a fit with the judge and of one without.

    A judge knows images like those that it was trained on better than others, and so do the answers
    here. The other signs are four numbers per answer and know them less.

    Raises:
        ValueError: there are no right or no wrong answers.
    """
    unjudged = [replace(answer, signs=answer.signs._replace(judged=0.0)) for answer in answers]
    fits = [
        {name: astuple(found) for name, found in fit_scores(each, categories).items()} for each in (answers, unjudged)
    ]
    return {name: ScoreWeights(*np.mean([fit[name] for fit in fits], axis=0).tolist()) for name in categories}


def fit_scores(answers: Sequence[Judged], categories: Sequence[str]) -> dict[str, ScoreWeights]:
    """Score weights by category: a logistic regression whose weights share a common mean.

    So a category with few answers leans on the others, and one with none takes what they have in common.

    Raises:
        ValueError: there are no right or no wrong answers.
    """
    count_right([answer.is_right for answer in answers])
    right = np.array([answer.is_right for answer in answers], dtype=np.float64)
    signs = np.array([answer.signs for answer in answers])
    mean, deviation = signs.mean(0), signs.std(0) + 1e-6
    inputs = np.column_stack([(signs - mean) / deviation, np.ones(len(signs))])
    row = np.array([list(categories).index(answer.category) for answer in answers])

    count = inputs.shape[1]

    def loss(flat: Array) -> tuple[float, Array]:
        common, own = flat[:count], flat[count:].reshape(-1, count)
        log_odds = (inputs * (common + own[row])).sum(-1)
        cost = (np.logaddexp(0, log_odds) - right * log_odds).sum()
        cost += 0.5 * ((common / _COMMON_SPREAD) ** 2).sum() + 0.5 * ((own / _SPREAD) ** 2).sum()
        slope = (expit(log_odds) - right)[:, None] * inputs  # (answers, count)
        by_own = own / _SPREAD**2
        np.add.at(by_own, row, slope)
        return cost, np.concatenate([slope.sum(0) + common / _COMMON_SPREAD**2, by_own.ravel()])

    found = minimize(loss, np.zeros(count * (1 + len(categories))), jac=True, method="L-BFGS-B").x
    weights = found[:count] + found[count:].reshape(-1, count)
    slopes = weights[:, :-1] / deviation
    found = np.column_stack([slopes, weights[:, -1] - slopes @ mean])
    return {name: ScoreWeights(*values) for name, values in zip(categories, found.tolist(), strict=True)}
