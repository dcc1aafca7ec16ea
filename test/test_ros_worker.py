"""The worker: newest frame wins, nothing stale, no silent death."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")

from category_pose_ros.ros.worker import Done, Refused, UnusableError, Worker

PATIENCE_S = 60.0
BUGS = {98: ValueError("shapes do not match"), 99: RuntimeError("a bug"), 100: SystemExit("a bug of another kind")}


class Script:
    """A handler that doubles numbers, and waits inside when told to."""

    def __init__(self) -> None:
        self.begun, self.go, self.notified = threading.Event(), threading.Event(), threading.Event()
        self.go.set()
        self.handled: list[int] = []

    def prepare(self) -> None:
        self.thread = threading.current_thread()

    def handle(self, job: int) -> int:
        assert threading.current_thread() is self.thread
        self.begun.set()
        assert self.go.wait(PATIENCE_S)
        self.handled.append(job)
        if job == 13:
            raise UnusableError("13 is no good frame")
        if job in BUGS:
            raise BUGS[job]
        return 2 * job

    def wait_notified(self) -> None:
        assert self.notified.wait(PATIENCE_S)
        self.notified.clear()


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def worker(script: Script) -> Iterator[Worker[int, int]]:
    worker: Worker[int, int] = Worker(script.prepare, script.handle, script.notified.set)
    worker.open()
    yield worker
    script.go.set()
    worker.close()


def test_a_job_comes_back_with_its_result(worker: Worker[int, int], script: Script) -> None:
    assert not worker.offer(21)
    script.wait_notified()
    assert worker.take() == [Done(21, 42)]
    assert worker.take() == []


def test_the_newest_job_wins(worker: Worker[int, int], script: Script) -> None:
    script.go.clear()
    worker.offer(1)
    assert script.begun.wait(PATIENCE_S)
    assert [worker.offer(job) for job in (2, 3, 4)] == [False, True, True]
    script.go.set()
    outcomes: list[object] = []
    while len(outcomes) < 2:
        script.wait_notified()
        outcomes += worker.take()
    assert outcomes == [Done(1, 2), Done(4, 8)]


def test_an_unusable_job_is_refused_alone(worker: Worker[int, int], script: Script) -> None:
    worker.offer(13)
    script.wait_notified()
    assert worker.take() == [Refused(13, "13 is no good frame")]
    worker.offer(14)
    script.wait_notified()
    assert worker.take() == [Done(14, 28)]


@pytest.mark.parametrize("job", BUGS)
def test_any_other_exception_is_raised_where_outcomes_are_taken(
    worker: Worker[int, int], script: Script, job: int
) -> None:
    worker.offer(job)
    script.wait_notified()
    with pytest.raises(type(BUGS[job]), match=str(BUGS[job])):
        worker.take()


def test_nothing_stale_comes_out_after_a_reset(worker: Worker[int, int], script: Script) -> None:
    script.go.clear()
    worker.offer(1)
    assert script.begun.wait(PATIENCE_S)
    worker.offer(2)
    assert worker.reset() == [1, 2]
    script.go.set()
    worker.offer(3)
    script.wait_notified()
    assert worker.take() == [Done(3, 6)]
    assert script.handled == [1, 3]


def test_a_finished_result_that_was_not_taken_is_forgotten_by_a_reset(worker: Worker[int, int], script: Script) -> None:
    worker.offer(1)
    script.wait_notified()
    assert [worker.reset(), worker.reset()] == [[1], []]
    assert worker.take() == []


def test_actions_run_in_the_thread_before_the_next_job(worker: Worker[int, int], script: Script) -> None:
    ran: list[threading.Thread] = []
    script.go.clear()
    worker.offer(1)
    assert script.begun.wait(PATIENCE_S)
    worker.submit(lambda: ran.append(threading.current_thread()))
    script.go.set()
    worker.offer(2)
    while 2 not in script.handled:
        script.wait_notified()
    assert ran == [script.thread]


def test_what_fails_while_preparing_is_raised_by_open() -> None:
    def prepare() -> None:
        raise ValueError("model: no such file")

    worker: Worker[int, int] = Worker(prepare, lambda job: job, lambda: None)
    with pytest.raises(ValueError, match="model: no such file"):
        worker.open()


def test_closing_waits_for_the_thread_and_lets_nothing_out(script: Script) -> None:
    worker: Worker[int, int] = Worker(script.prepare, script.handle, script.notified.set)
    worker.open()
    worker.offer(1)
    script.wait_notified()
    worker.close()
    assert not script.thread.is_alive()
    assert worker.take() == []
