"""One thread that owns the model, with one slot before it: the newest frame wins.

The thread never touches ROS. It leaves outcomes in a box and calls `notify`; whoever is notified empties the box in
its own thread with `take`, where an unexpected exception of the worker is raised again. So a worker that dies takes
its owner with it, and after `reset` nothing stale can come out.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


class UnusableError(Exception):
    """A job that nothing can be made of: it is refused, and the next one is taken."""


@dataclass(frozen=True)
class Done(Generic[Job, Result]):
    job: Job
    result: Result


@dataclass(frozen=True)
class Refused(Generic[Job]):
    job: Job
    reason: str


class Worker(Generic[Job, Result]):
    """Calls a function on jobs in a thread of its own.

    Args:
        prepare: called first in the thread.
        handle: called for every job; where it raises UnusableError that job alone is refused, all else ends the thread.
        notify: called in the thread whenever `take` has something to give, or to raise.
    """

    def __init__(
        self, prepare: Callable[[], None], handle: Callable[[Job], Result], notify: Callable[[], None]
    ) -> None:
        self._prepare = prepare
        self._handle = handle
        self._notify = notify
        self._changed = threading.Condition()
        self._ready = threading.Event()
        self._slot: Job | None = None
        self._actions: list[Callable[[], None]] = []
        self._outbox: list[Done[Job, Result] | Refused[Job]] = []
        self._generation = 0  # jobs of an earlier generation are stale
        self._under_way: Job | None = None  # of this generation
        self._stopping = False
        self._failure: BaseException | None = None
        # A daemon: when the main thread dies of an exception, the process ends with it.
        self._thread = threading.Thread(target=self._run, name="estimator worker", daemon=True)

    def open(self) -> None:
        """Start the thread and wait until it is prepared.

        Raises:
            BaseException: what `prepare` raised.
        """
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure

    def offer(self, job: Job) -> bool:
        """Put a job in the slot; True where this pushed out one that had not been begun."""
        with self._changed:
            pushed_out = self._slot is not None
            self._slot = job
            self._changed.notify()
        return pushed_out

    def submit(self, action: Callable[[], None]) -> None:
        """Have the thread do something else before the next job."""
        with self._changed:
            self._actions.append(action)
            self._changed.notify()

    def reset(self) -> list[Job]:
        """Forget the waiting job, the one under way and all outcomes not yet taken.

        Returns:
            The jobs that nothing comes of, oldest first.
        """
        with self._changed:
            forgotten = [outcome.job for outcome in self._outbox]
            forgotten += [job for job in (self._under_way, self._slot) if job is not None]
            self._slot = self._under_way = None
            self._outbox.clear()
            self._generation += 1
        return forgotten

    def take(self) -> list[Done[Job, Result] | Refused[Job]]:
        """The outcomes since the last call.

        Raises:
            BaseException: what ended the thread.
        """
        with self._changed:
            if self._failure is not None:
                raise self._failure
            outcomes, self._outbox = self._outbox, []
        return outcomes

    def close(self) -> None:
        """End the thread after the job under way; nothing comes out any more."""
        self.reset()
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            self._prepare()
            self._ready.set()
            while self._step():
                pass
        except BaseException as error:
            self._failure = error
            is_open = self._ready.is_set()
            self._ready.set()
            if is_open:
                self._notify()

    def _step(self) -> bool:
        """One round of the loop; False when the thread is to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._actions or self._slot is not None)
            if self._stopping:
                return False
            actions, self._actions = self._actions, []
            job, self._slot = self._slot, None
            self._under_way = job
            generation = self._generation
        for action in actions:
            action()
        if job is not None:
            self._leave(self._outcome(job), generation)
        return True

    def _leave(self, outcome: Done[Job, Result] | Refused[Job], generation: int) -> None:
        with self._changed:
            if generation != self._generation:
                return
            self._under_way = None
            self._outbox.append(outcome)
        self._notify()

    def _outcome(self, job: Job) -> Done[Job, Result] | Refused[Job]:
        try:
            return Done(job, self._handle(job))
        except UnusableError as error:
            return Refused(job, str(error))
