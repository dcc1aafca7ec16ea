"""Stands in for `tf2_ros`, which comes with ROS installations alone.

Only what the node uses, under the same names and with the same errors. What the real listener would hear is told with
`hear`; a transform holds at its own time alone, and times between two are not interpolated.
"""

from __future__ import annotations

from typing import Any, ClassVar

from geometry_msgs.msg import TransformStamped
from rclpy.duration import Duration
from rclpy.time import Time


class TransformException(Exception):  # noqa: N818
    pass


class LookupException(TransformException):
    pass


class ExtrapolationException(TransformException):
    pass


class Buffer:
    """A buffer; while one waits in it, the transforms that are `under_way` arrive."""

    def __init__(self) -> None:
        self.transforms: dict[tuple[str, str], dict[int, TransformStamped]] = {}
        self.under_way: list[TransformStamped] = []
        self.waited = Duration()

    def hear(self, transform: TransformStamped) -> None:
        frames = (transform.header.frame_id, transform.child_frame_id)
        self.transforms.setdefault(frames, {})[Time.from_msg(transform.header.stamp).nanoseconds] = transform

    def clear(self) -> None:
        self.transforms.clear()

    def lookup_transform(
        self, target_frame: str, source_frame: str, time: Time, timeout: Duration | None = None
    ) -> TransformStamped:
        if timeout is not None:
            self.waited = Duration(nanoseconds=self.waited.nanoseconds + timeout.nanoseconds)
            while self.under_way:
                self.hear(self.under_way.pop())
        known = self.transforms.get((target_frame, source_frame))
        if known is None:
            raise LookupException(f'"{source_frame}" passed to lookupTransform argument source_frame does not exist.')
        if time.nanoseconds not in known:
            raise ExtrapolationException("Lookup would require extrapolation into the future.")
        return known[time.nanoseconds]


class TransformListener:
    """Keeps what it was made of, and whether it still listens."""

    listening: ClassVar[list[TransformListener]] = []

    def __init__(self, buffer: Buffer, node: Any) -> None:
        self.buffer, self.node = buffer, node
        self.listening.append(self)

    def unregister(self) -> None:
        self.listening.remove(self)
