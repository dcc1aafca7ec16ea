"""Which camera_info and which depth belong to an image: those nearest in time.

No message package is imported: a message is anything with a header.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from category_pose_ros.config import setting, validate
from category_pose_ros.data.messages import stamp_ns

_NANOSECONDS = 1_000_000_000
_REMEMBERED = 10  # messages of each kind, as message_filters' habit is


@dataclass(frozen=True)
class PairingConfig:
    """How depth finds its image."""

    slop_s: float = setting(
        0.02, "Farthest apart that the stamps of an image and of its depth may be, in seconds.", minimum=0.0
    )
    fallback_after_s: float = setting(
        1.0, "After so long without depth for any image, in seconds, images are used as RGB.", minimum=0.0
    )

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True, eq=False)
class Capture:
    """An image with what belongs to it.

    Attributes:
        image: sensor_msgs/Image or CompressedImage.
        info: its sensor_msgs/CameraInfo.
        depth: sensor_msgs/Image, or a CompressedImage of the transport compressedDepth; None: RGB only.
        received_s: `time.monotonic()` when the image arrived.
    """

    image: Any
    info: Any
    depth: Any | None
    received_s: float


@dataclass(frozen=True, eq=False)  # compared by identity: images are large
class _Arrival:
    image: Any
    received_s: float

    @property
    def stamp_ns(self) -> int:
        return stamp_ns(self.image.header)


class Pairer:
    """Hands out images with their camera_info and, where it is asked for, their depth.

    An image takes the camera_info nearest in time, however far, since a calibration seldom changes and a lost
    camera_info must not cost a frame. Depth has to be within the slop: an image waits for it until newer depth or a
    younger pair shows that it will not come, and then counts as unpaired. Where no image found depth for a while,
    images are handed out without, until depth comes that would have fitted.

    Times are stamps, so that a bag gives the same pairs at any speed; stamps that jump back begin anew.

    Args:
        config: settings of depth; None: images have none.
    """

    def __init__(self, config: PairingConfig | None) -> None:
        self.unpaired = 0
        self._uses_depth = config is not None
        config = config or PairingConfig()
        self._slop_ns = round(config.slop_s * _NANOSECONDS)
        self._patience_ns = round(config.fallback_after_s * _NANOSECONDS)
        self._infos: deque[Any] = deque(maxlen=_REMEMBERED)
        self._depths: deque[Any] = deque(maxlen=_REMEMBERED)
        self._waiting: deque[_Arrival] = deque()
        self._passed_ns: deque[int] = deque(maxlen=_REMEMBERED)  # stamps of images that went without depth
        self._newest_ns = -1  # stamp of the last image; before any stamp
        self._fitted_ns = 0  # stamp of the last image that depth fitted, or of the first image

    @property
    def has_info(self) -> bool:
        """Whether any camera_info came; images before it are useless."""
        return bool(self._infos)

    @property
    def has_fallen_back(self) -> bool:
        """Whether depth is asked for, but images are handed out without."""
        return self._uses_depth and self._newest_ns - self._fitted_ns > self._patience_ns

    def add_info(self, info: Any) -> None:
        """Remember a camera_info."""
        self._infos.append(info)

    def add_image(self, image: Any, received_s: float) -> Capture | None:
        """The image if it can go at once; None where it waits, or where its depth will not come.

        Raises:
            ValueError: there is no camera_info yet.
        """
        if not self.has_info:
            raise ValueError("camera_info: expected one before the first image, got none")
        arrival = _Arrival(image, received_s)
        self._keep_time(arrival.stamp_ns)
        if not self._uses_depth:
            return self._capture(arrival, None)
        depth = _nearest(self._depths, arrival.stamp_ns)
        if depth is not None and self._fits(depth, arrival):
            return self._pair(arrival, depth)
        if self.has_fallen_back:
            self._give_up_waiting_until(arrival.stamp_ns)
            self._passed_ns.append(arrival.stamp_ns)
            return self._capture(arrival, None)
        self._wait(arrival)
        return None

    def add_depth(self, depth: Any) -> Capture | None:
        """Remember a depth image; the image that has waited for it, if one has."""
        self._depths.append(depth)
        now_ns = stamp_ns(depth.header)
        if any(abs(now_ns - passed_ns) <= self._slop_ns for passed_ns in self._passed_ns):
            self._fitted_ns = self._newest_ns  # depth is back: from here on images wait for it
            self._passed_ns.clear()
        fitting = [arrival for arrival in self._waiting if self._fits(depth, arrival)]
        if not fitting:
            self._give_up_waiting_until(now_ns - self._slop_ns)
            return None
        return self._pair(min(fitting, key=lambda arrival: abs(arrival.stamp_ns - now_ns)), depth)

    def _pair(self, arrival: _Arrival, depth: Any) -> Capture:
        """What has waited longer than this image waits in vain: topics keep their order."""
        self._fitted_ns = arrival.stamp_ns
        if arrival in self._waiting:
            self._waiting.remove(arrival)
        self._give_up_waiting_until(arrival.stamp_ns)
        return self._capture(arrival, depth)

    def _capture(self, arrival: _Arrival, depth: Any | None) -> Capture:
        info = _nearest(self._infos, arrival.stamp_ns)
        return Capture(arrival.image, info, depth, arrival.received_s)

    def _wait(self, arrival: _Arrival) -> None:
        is_too_late = bool(self._depths) and stamp_ns(self._depths[-1].header) > arrival.stamp_ns + self._slop_ns
        if is_too_late:
            self.unpaired += 1
            return
        self._waiting.append(arrival)
        if len(self._waiting) > _REMEMBERED:
            self._waiting.popleft()
            self.unpaired += 1

    def _give_up_waiting_until(self, end_ns: int) -> None:
        while self._waiting and self._waiting[0].stamp_ns < end_ns:
            self._waiting.popleft()
            self.unpaired += 1

    def _fits(self, depth: Any, arrival: _Arrival) -> bool:
        return abs(stamp_ns(depth.header) - arrival.stamp_ns) <= self._slop_ns

    def _keep_time(self, now_ns: int) -> None:
        if self._newest_ns < 0:
            self._fitted_ns = now_ns
        elif now_ns < self._newest_ns:  # a bag that begins again
            here = [depth for depth in self._depths if abs(stamp_ns(depth.header) - now_ns) <= self._slop_ns]
            self._depths = deque(here, self._depths.maxlen)
            self.unpaired += len(self._waiting)
            self._waiting.clear()
            self._passed_ns.clear()
            self._fitted_ns = now_ns
        self._newest_ns = now_ns


def _nearest(messages: Iterable[Any], to_ns: int) -> Any | None:
    """The message nearest in time, the newest of several."""
    return min(reversed(list(messages)), key=lambda message: abs(stamp_ns(message.header) - to_ns), default=None)
