"""The diagnostic message."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")

from diagnostic_msgs.msg import DiagnosticStatus

from category_pose_ros.ros import health as health_module
from category_pose_ros.ros.health import Health


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(health_module, "time", clock)
    return clock


@pytest.fixture
def health(clock: Clock) -> Health:
    health = Health()
    health.watch()
    return health


def values(health: Health, state: str = "active") -> dict[str, str]:
    return {item.key: item.value for item in health.status("/estimator", state, {"device": "cpu"}).values}


def level(health: Health, state: str = "active") -> bytes:
    return bytes(health.status("/estimator", state, {}).level)


def test_rates_and_latencies_are_those_of_the_last_seconds(health: Health, clock: Clock) -> None:
    for number in range(100):
        clock.now += 0.2
        health.image()
        if number % 2:
            health.answer(clock.now - (0.4 if number > 90 else 0.05), 1, 0)
    said = values(health)
    assert 4.9 < float(said["input rate [Hz]"]) < 5.1
    assert 2.4 < float(said["output rate [Hz]"]) < 2.6
    assert said["latency p50 [ms]"] == "50"
    assert said["latency p95 [ms]"] == "400"
    assert (said["frames received"], said["frames answered"]) == ("100", "50")
    assert (said["state"], said["device"]) == ("active", "cpu")


def test_drops_are_told_by_reason(health: Health) -> None:
    for reason in ("unusable", "a newer one came", "unusable"):
        health.drop(reason)
    health.unpaired, health.refused_depths, health.refused_hints = 4, 5, 6
    said = values(health)
    assert said["frames dropped, unusable"] == "2"
    assert said["frames dropped, a newer one came"] == "1"
    assert [said[key] for key in ("frames unpaired", "depth images refused", "hints refused")] == ["4", "5", "6"]


def test_the_objects_of_the_newest_answer_are_told_until_they_are_forgotten(health: Health) -> None:
    health.answer(0.0, 3, 0)
    health.answer(0.0, 2, 1)
    assert (values(health)["tracks"], values(health)["tracks lost"]) == ("2", "1")
    health.watch()
    assert (values(health)["tracks"], values(health)["tracks lost"]) == ("0", "0")


def test_silence_of_the_input_is_stale_and_silence_of_the_output_is_a_warning(health: Health, clock: Clock) -> None:
    assert level(health) == DiagnosticStatus.OK
    clock.now += 4.0
    assert level(health) == DiagnosticStatus.STALE
    health.image()
    assert level(health) == DiagnosticStatus.WARN
    health.answer(clock.now, 0, 0)
    assert level(health) == DiagnosticStatus.OK
    clock.now += 60.0
    assert level(health) == DiagnosticStatus.STALE
    assert values(health)["latency p50 [ms]"] == "nan"


@pytest.mark.parametrize("state", ["unconfigured", "inactive", "disabled"])
def test_silence_of_a_node_that_is_not_active_is_no_fault(health: Health, clock: Clock, state: str) -> None:
    clock.now += 60.0
    assert level(health, state) == DiagnosticStatus.OK
    assert health.status("/estimator", state, {}).message == state
