"""How the node is doing: counts, rate and latency, as a diagnostic message."""

from __future__ import annotations

import time
from collections import Counter, deque

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

_WINDOW_S = 10.0  # rate and latency are those of the last so many seconds
_SILENT_S = 3.0  # an active node that answered nothing for so long is worth a warning


class Health:
    """Counts frames from arrival to answer. Times are `time.monotonic()` in seconds."""

    def __init__(self) -> None:
        self.received = 0
        self.answered = 0
        self.dropped: Counter[str] = Counter()
        self._answers: deque[tuple[float, float]] = deque()  # (when, latency)

    def drop(self, reason: str) -> None:
        """Count a frame that gets no answer."""
        self.dropped[reason] += 1

    def answer(self, received_s: float) -> None:
        """Count an answered frame that had arrived at `received_s`."""
        now = time.monotonic()
        self.answered += 1
        self._answers.append((now, now - received_s))
        self._forget(now)

    def status(self, name: str, state: str, properties: dict[str, str]) -> DiagnosticStatus:
        """The diagnostic status; `state` is the lifecycle state, `properties` are appended as they are."""
        now = time.monotonic()
        self._forget(now)
        rate = (len(self._answers) - 1) / (now - self._answers[0][0]) if len(self._answers) > 1 else 0.0
        latencies_ms = [1e3 * latency for _, latency in self._answers]
        p50, p95 = np.percentile(latencies_ms, [50, 95]) if latencies_ms else (float("nan"), float("nan"))
        values = {
            "state": state,
            "rate [Hz]": f"{rate:.1f}",
            "latency p50 [ms]": f"{p50:.0f}",
            "latency p95 [ms]": f"{p95:.0f}",
            "frames received": str(self.received),
            "frames answered": str(self.answered),
            **{f"frames dropped, {reason}": str(self.dropped[reason]) for reason in sorted(self.dropped)},
            **properties,
        }
        status = DiagnosticStatus(name=name, level=DiagnosticStatus.OK, message=f"{state}, {rate:.1f} Hz")
        if state == "active" and not (self._answers and now - self._answers[-1][0] < _SILENT_S):
            status.level = DiagnosticStatus.WARN
            status.message = "active, but no frame was answered of late"
        status.values = [KeyValue(key=key, value=value) for key, value in values.items()]
        return status

    def _forget(self, now: float) -> None:
        while self._answers and now - self._answers[0][0] > _WINDOW_S:
            self._answers.popleft()
