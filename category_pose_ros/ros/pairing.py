"""Which camera_info, which depth and which hint belong to an image: those nearest in time.

No message package is imported: a message is anything with a header.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from category_pose_ros.config import LONGEST_S, setting, validate
from category_pose_ros.data.messages import stamp_ns
from category_pose_ros.records import SECOND_NS

_REMEMBERED = 30  # messages of each kind: a second of a camera, which a 2D detector may be behind


@dataclass(frozen=True)
class PairingConfig:
    """How depth and hints find their image."""

    slop_s: float = setting(
        0.02,
        "Farthest apart that the stamps of an image and of its depth or hint may be, in seconds; without stamps: when "
        "they arrive.",
        minimum=0.0,
        maximum=LONGEST_S,
    )
    fallback_after_s: float = setting(
        1.0,
        "Images whose depth or hint does not come are dropped; those that come so long after the first of them, in "
        "seconds, are used without, until a depth or hint fits again.",
        minimum=0.0,
        maximum=LONGEST_S,
    )

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True, eq=False)  # compared by identity: images are large
class Capture:
    """An image with what belongs to it.

    Attributes:
        image: sensor_msgs/Image or CompressedImage.
        info: its sensor_msgs/CameraInfo.
        received_s: `time.monotonic()` when the image arrived.
        depth: sensor_msgs/Image, or a CompressedImage of the transport compressedDepth; None: RGB only.
        hint: vision_msgs/Detection2DArray, or a mask as sensor_msgs/Image; None: there is none.
    """

    image: Any
    info: Any
    received_s: float
    depth: Any | None = None
    hint: Any | None = None

    @property
    def stamp_ns(self) -> int:
        return stamp_ns(self.image.header)

    @property
    def time_ns(self) -> int:
        """Its stamp; of an image that has none, when it arrived."""
        return _time_ns(self.image, self.received_s)


class _Timed(NamedTuple):
    """A message, and its place in time."""

    time_ns: int
    message: Any


class Pairer:
    """Hands out images with their camera_info and, where it is asked for, their depth and hint.

    An image takes the camera_info nearest in time, however far, since a calibration seldom changes and a lost
    camera_info must not cost a frame. What else belongs to it has to be within the slop: an image waits for it until
    a newer message of the kind or a younger pair shows that it will not come, and then counts as unpaired. A while
    after the first image in vain, images are handed out without, until a message comes that would have fitted.

    Times are stamps, so that a bag gives the same pairs at any speed; stamps that jump back begin anew. What has no
    stamp is placed by when it arrived, and an image without one takes the newest camera_info.

    Args:
        config: settings.
        kinds: what images wait for, of "depth" and "hint".
    """

    def __init__(self, config: PairingConfig, kinds: Sequence[str] = ()) -> None:
        self._infos: deque[_Timed] = deque(maxlen=_REMEMBERED)
        self._queues = [_Queue(kind, config) for kind in kinds]  # an image passes through them in this order

    @property
    def has_info(self) -> bool:
        """Whether any camera_info came; images before it are useless."""
        return bool(self._infos)

    @property
    def unpaired(self) -> int:
        """Images that were not used because something that belongs to them did not come."""
        return sum(queue.unpaired for queue in self._queues)

    @property
    def waiting(self) -> int:
        """Images that wait for something that belongs to them."""
        return sum(queue.waiting for queue in self._queues)

    @property
    def missing(self) -> list[str]:
        """The kinds that are asked for, but without which images are handed out."""
        return [queue.kind for queue in self._queues if queue.has_fallen_back]

    def add_info(self, info: Any) -> None:
        """Remember a camera_info."""
        self._infos.append(_Timed(stamp_ns(info.header), info))

    def add_image(self, image: Any, received_s: float) -> Capture | None:
        """The image if it can go at once; None where it waits, or where what belongs to it will not come.

        Raises:
            ValueError: there is no camera_info yet.
        """
        if not self.has_info:
            raise ValueError("camera_info: expected one before the first image, got none")
        return self._pass_on(Capture(image, None, received_s), self._queues)

    def add(self, kind: str, message: Any, received_s: float) -> Capture | None:
        """Remember a message; the image that can go with it, if one has waited for it alone."""
        number = [queue.kind for queue in self._queues].index(kind)
        timed = _Timed(_time_ns(message, received_s), message)
        return self._pass_on(self._queues[number].add_message(timed), self._queues[number + 1 :])

    def _pass_on(self, capture: Capture | None, queues: Sequence[_Queue]) -> Capture | None:
        for queue in queues:
            capture = None if capture is None else queue.add_image(capture)
        return None if capture is None else replace(capture, info=self._info(capture.stamp_ns))

    def _info(self, at_ns: int) -> Any:
        # Stamps of infos say nothing about an image that has none.
        return (_nearest(self._infos, at_ns) if at_ns else self._infos[-1]).message


class _Queue:
    """Images that wait for their message of one kind."""

    def __init__(self, kind: str, config: PairingConfig) -> None:
        self.kind = kind
        self.unpaired = 0
        self._slop_ns = round(config.slop_s * SECOND_NS)
        self._patience_ns = round(config.fallback_after_s * SECOND_NS)
        self._messages: deque[_Timed] = deque(maxlen=_REMEMBERED)
        self._waiting: deque[Capture] = deque()
        self._passed_ns: deque[int] = deque(maxlen=_REMEMBERED)  # times of images that went without
        self._newest_ns = -1  # time of the last image; before any
        self._missed_ns: int | None = None  # time of the first image in a row that found no message

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def has_fallen_back(self) -> bool:
        return self._missed_ns is not None and self._newest_ns - self._missed_ns > self._patience_ns

    def add_image(self, capture: Capture) -> Capture | None:
        self._keep_time(capture.time_ns)
        if self._messages:
            nearest = _nearest(self._messages, capture.time_ns)
            if self._fits(nearest, capture):
                return self._pair(capture, nearest)
        if self._missed_ns is None:
            self._missed_ns = capture.time_ns
        if self.has_fallen_back:
            self._give_up_waiting_until(capture.time_ns)
            self._passed_ns.append(capture.time_ns)
            return capture
        self._wait(capture)
        return None

    def add_message(self, message: _Timed) -> Capture | None:
        self._messages.append(message)
        now_ns = message.time_ns
        if any(abs(now_ns - passed_ns) <= self._slop_ns for passed_ns in self._passed_ns):
            self._missed_ns = None  # they are back: from here on images wait for them
            self._passed_ns.clear()
        fitting = [capture for capture in self._waiting if self._fits(message, capture)]
        if not fitting:
            self._give_up_waiting_until(now_ns - self._slop_ns)
            return None
        return self._pair(min(fitting, key=lambda capture: abs(capture.time_ns - now_ns)), message)

    def _pair(self, capture: Capture, message: _Timed) -> Capture:
        """What has waited longer than this image waits in vain: topics keep their order."""
        self._missed_ns = None
        if capture in self._waiting:
            self._waiting.remove(capture)
        self._give_up_waiting_until(capture.time_ns)
        return replace(capture, **{self.kind: message.message})

    def _wait(self, capture: Capture) -> None:
        is_too_late = bool(self._messages) and self._messages[-1].time_ns > capture.time_ns + self._slop_ns
        if is_too_late:
            self.unpaired += 1
            return
        self._waiting.append(capture)
        if len(self._waiting) > _REMEMBERED:
            self._waiting.popleft()
            self.unpaired += 1

    def _give_up_waiting_until(self, end_ns: int) -> None:
        while self._waiting and self._waiting[0].time_ns < end_ns:
            self._waiting.popleft()
            self.unpaired += 1

    def _fits(self, message: _Timed, capture: Capture) -> bool:
        return abs(message.time_ns - capture.time_ns) <= self._slop_ns

    def _keep_time(self, now_ns: int) -> None:
        if now_ns < self._newest_ns:  # a bag that begins again
            here = [one for one in self._messages if abs(one.time_ns - now_ns) <= self._slop_ns]
            self._messages = deque(here, self._messages.maxlen)
            self.unpaired += len(self._waiting)
            self._waiting.clear()
            self._passed_ns.clear()
            self._missed_ns = None
        self._newest_ns = now_ns


def _time_ns(message: Any, received_s: float) -> int:
    return stamp_ns(message.header) or round(received_s * SECOND_NS)


def _nearest(messages: Sequence[_Timed], to_ns: int) -> _Timed:
    """The message nearest in time, the newest of several; there has to be one."""
    return min(reversed(messages), key=lambda message: abs(message.time_ns - to_ns))
