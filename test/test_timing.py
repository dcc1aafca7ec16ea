"""Ratios of times in one run, on a clock that the test turns."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from category_pose_ros.evaluation.timing import time_in_turn


class Clock:
    """Time passes only where a case says so; `load` slows everything in a round."""

    def __init__(self, *loads: float) -> None:
        self.now = 0.0
        self.order: list[str] = []
        self._loads = loads

    def case(self, name: str, seconds: float) -> Callable[[], None]:
        def run() -> None:
            load = self._loads[max(self.order.count(name) - 1, 0) % len(self._loads)]
            self.order.append(name)
            self.now += seconds * load

        return run


def test_ratios_hold_under_a_load_that_comes_and_goes() -> None:
    clock = Clock(1.0, 7.0, 2.0)
    cases = {"yardstick": clock.case("yardstick", 0.5), "mine": clock.case("mine", 0.1)}
    timings = time_in_turn(cases, "yardstick", 3, lambda: clock.now)
    assert timings["yardstick"].ratio == pytest.approx(1.0)
    assert timings["mine"].ratio == pytest.approx(0.2)
    assert timings["mine"].least_s == pytest.approx(0.1)
    assert timings["mine"].median_s == pytest.approx(0.2)


def test_cases_are_run_in_turn_after_one_untimed_run_of_each() -> None:
    clock = Clock(1.0)
    time_in_turn({"a": clock.case("a", 1), "b": clock.case("b", 1)}, "a", 2, lambda: clock.now)
    assert clock.order == ["a", "b"] * 3


def test_a_short_case_is_run_until_a_tenth_of_a_second_has_passed() -> None:
    clock = Clock(1.0, 1.0, 1.0, 9.0, 1.0)  # of the four runs of the first turn after the untimed one, one is slow
    cases = {"yardstick": clock.case("yardstick", 0.5), "short": clock.case("short", 0.01)}
    timings = time_in_turn(cases, "yardstick", 1, lambda: clock.now)
    assert clock.order == ["yardstick", "short", "yardstick"] + ["short"] * 4
    assert timings["short"].median_s == timings["short"].least_s == pytest.approx(0.01)
    assert timings["short"].mean_s == pytest.approx((3 * 0.01 + 0.09) / 4)
    assert timings["short"].ratio == pytest.approx(0.02)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="yardstick: expected one of a, got 'b'"):
        time_in_turn({"a": lambda: None}, "b", 1)
    with pytest.raises(ValueError, match="rounds: expected a positive number, got 0"):
        time_in_turn({"a": lambda: None}, "a", 0)
