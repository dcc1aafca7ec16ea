"""How the node is doing: counts, rates and latency, as a diagnostic message."""

from __future__ import annotations

import time
from collections import Counter, deque

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

THROTTLE_S = 5.0  # between two warnings of a kind
_WINDOW_S = 10.0  # rates and latency are those of the last so many seconds
_SILENT_S = 3.0  # an active node that hears or says nothing for so long is worth a word


class Health:
    """Counts images, from when the node is told of one to its answer. Times are `time.monotonic()` in seconds.

    Attributes:
        received, answered: images that came, and those whose poses were published.
        dropped: images that were not used, by reason.
        unpaired: images whose depth or hint did not come, and which were not used for that.
        refused_depths, refused_hints: those that did not fit their image, which was used without.
        unstamped: images without a stamp, which are tracked by when they arrived.
        unplaced: images of which it was not known where the camera was, though that was asked for.
        tracks: objects in the newest answer.
        lost: objects that the tracker remembers, but did not see in it.
    """

    def __init__(self) -> None:
        self.received = 0
        self.answered = 0
        self.dropped: Counter[str] = Counter()
        self.unpaired = 0
        self.refused_depths = 0
        self.refused_hints = 0
        self.unstamped = 0
        self.unplaced = 0
        self.tracks = 0
        self.lost = 0
        self._arrivals: deque[float] = deque()
        self._answers: deque[tuple[float, float]] = deque()  # (when, latency)
        self._watched_since = 0.0

    def watch(self) -> None:
        """From now on silence is a fault; the objects of an earlier time are forgotten."""
        self.tracks = self.lost = 0
        self._watched_since = time.monotonic()

    def image(self) -> None:
        """Count an image that arrived."""
        self.received += 1
        self._arrivals.append(time.monotonic())

    def drop(self, reason: str, count: int = 1) -> None:
        """Count frames that get no answer."""
        if count:
            self.dropped[reason] += count

    def answer(self, received_s: float, tracks: int, lost: int) -> None:
        """Count an answered frame that had arrived at `received_s`, and keep how many objects it has."""
        now = time.monotonic()
        self.answered += 1
        self._answers.append((now, now - received_s))
        self.tracks, self.lost = tracks, lost

    def status(self, name: str, state: str, properties: dict[str, str]) -> DiagnosticStatus:
        """The diagnostic status.

        Args:
            name: of the node.
            state: of the life cycle, or "disabled"; only of an active node silence is a fault.
            properties: appended as they are.
        """
        now = time.monotonic()
        self._forget(now)
        level, message = self._verdict(now) if state == "active" else (DiagnosticStatus.OK, state)
        values = [KeyValue(key=key, value=value) for key, value in (self._values(state, now) | properties).items()]
        return DiagnosticStatus(name=name, level=level, message=message, values=values)

    def _verdict(self, now: float) -> tuple[bytes, str]:
        if self._is_silent(self._arrivals[-1] if self._arrivals else 0.0, now):
            return DiagnosticStatus.STALE, "active, but no image came of late"
        if self._is_silent(self._answers[-1][0] if self._answers else 0.0, now):
            return DiagnosticStatus.WARN, "active, images come, but none was answered of late"
        return DiagnosticStatus.OK, f"active, {self._output_rate(now):.1f} Hz"

    def _is_silent(self, last: float, now: float) -> bool:
        return now - max(last, self._watched_since) > _SILENT_S

    def _values(self, state: str, now: float) -> dict[str, str]:
        latencies_ms = [1e3 * latency for _, latency in self._answers]
        p50, p95 = np.percentile(latencies_ms, [50, 95]) if latencies_ms else (float("nan"), float("nan"))
        return {
            "state": state,
            "input rate [Hz]": f"{_rate(self._arrivals, now):.1f}",
            "output rate [Hz]": f"{self._output_rate(now):.1f}",
            "latency p50 [ms]": f"{p50:.0f}",
            "latency p95 [ms]": f"{p95:.0f}",
            "frames received": str(self.received),
            "frames answered": str(self.answered),
            **{f"frames dropped, {reason}": str(self.dropped[reason]) for reason in sorted(self.dropped)},
            "frames unpaired": str(self.unpaired),
            "depth images refused": str(self.refused_depths),
            "hints refused": str(self.refused_hints),
            "images without stamp": str(self.unstamped),
            "camera poses missing": str(self.unplaced),
            "tracks": str(self.tracks),
            "tracks lost": str(self.lost),
        }

    def _output_rate(self, now: float) -> float:
        return _rate([when for when, _ in self._answers], now)

    def _forget(self, now: float) -> None:
        while self._arrivals and now - self._arrivals[0] > _WINDOW_S:
            self._arrivals.popleft()
        while self._answers and now - self._answers[0][0] > _WINDOW_S:
            self._answers.popleft()


def _rate(times: deque[float] | list[float], now: float) -> float:
    elapsed = now - times[0] if times else 0.0
    return (len(times) - 1) / elapsed if elapsed > 0 else 0.0
