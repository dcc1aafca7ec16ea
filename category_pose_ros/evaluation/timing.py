"""Times that can be compared on a noisy machine: everything in one run, in turn, as ratios."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_TURN_S = 0.1  # a turn of a short case


@dataclass(frozen=True)
class Timing:
    """What one case took.

    Attributes:
        median_s: median over all rounds of the median of its turn, in seconds.
        mean_s: median over all rounds of the mean of its turn: what a stream costs whose frames cost unlike much.
        least_s: fastest run.
        ratio: median over the rounds of this case's time over the yardstick's in the same round.
    """

    median_s: float
    mean_s: float
    least_s: float
    ratio: float


def time_in_turn(
    cases: Mapping[str, Callable[[], object]],
    yardstick: str,
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Run all cases one after the other, round after round.

    Load that comes and goes meets all cases alike, so that ratios hold where times do not. What is
    short is run again until a tenth of a second has passed: a frame of a stream comes after another
    one, and not after what else is timed here and leaves caches without a trace of it.

    Args:
        cases: by name; each is run once beforehand, untimed.
        yardstick: the case that the others are compared with.
        rounds: how often each is timed.

    Raises:
        ValueError: the yardstick is not among the cases, or rounds is not positive.
    """
    if yardstick not in cases:
        raise ValueError(f"yardstick: expected one of {', '.join(cases)}, got {yardstick!r}")
    if rounds < 1:
        raise ValueError(f"rounds: expected a positive number, got {rounds}")
    for case in cases.values():
        case()
    turns: dict[str, list[list[float]]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            turns[name].append(_turn(case, clock))
    medians = {name: [statistics.median(turn) for turn in mine] for name, mine in turns.items()}
    return {
        name: Timing(
            statistics.median(medians[name]),
            statistics.median(map(statistics.mean, mine)),
            min(map(min, mine)),
            statistics.median(own / other for own, other in zip(medians[name], medians[yardstick], strict=True)),
        )
        for name, mine in turns.items()
    }


def _turn(case: Callable[[], object], clock: Callable[[], float]) -> list[float]:
    """Seconds of each run of a turn."""
    times: list[float] = []
    while sum(times) < _TURN_S:
        begin = clock()
        case()
        times.append(clock() - begin)
    return times
