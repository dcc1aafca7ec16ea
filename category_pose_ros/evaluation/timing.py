"""Times that can be compared on a noisy machine: everything in one run, in turn, as ratios."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """What one case took.

    Attributes:
        median_s: median over all rounds, in seconds.
        least_s: fastest round.
        ratio: median over the rounds of this case's time over the yardstick's in the same round.
    """

    median_s: float
    least_s: float
    ratio: float


def time_in_turn(
    cases: Mapping[str, Callable[[], object]],
    yardstick: str,
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Run all cases one after the other, round after round.

    Load that comes and goes meets all cases alike, so that ratios hold where times do not.

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
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            begin = clock()
            case()
            seconds[name].append(clock() - begin)
    base = seconds[yardstick]
    return {
        name: Timing(
            statistics.median(times),
            min(times),
            statistics.median(mine / other for mine, other in zip(times, base, strict=True)),
        )
        for name, times in seconds.items()
    }
