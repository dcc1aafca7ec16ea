"""Camera frames out of rosbag2 bags (SQLite or MCAP), without ROS."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from category_pose_ros.data.messages import camera_from_info, rgb_from_message, stamp_ns
from category_pose_ros.geometry import Camera
from category_pose_ros.records import SECOND_NS, Frame

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
CAMERA_INFO_TYPE = "sensor_msgs/msg/CameraInfo"
_RATE_MESSAGES = 100  # that a rate is taken from
EXAMPLE_BAG = Path(__file__).parent.parent / "example" / "demo"  # the one that comes with the package


class BagFrames:
    """The frames of one image topic with the intrinsics of their camera_info topic, in bag order.

    An image takes the latest camera_info before it; images before the first one take the first.
    Iterating reads the bag anew.

    Attributes:
        image_topic, camera_info_topic: the topics that are read.
    """

    def __init__(self, path: Path, image_topic: str | None = None, camera_info_topic: str | None = None) -> None:
        """Look into a bag.

        Args:
            path: the bag's folder, or the one storage file in it.
            image_topic: raw or compressed images; None: the only image topic in the bag.
            camera_info_topic: None: the one beside the image topic, or the only one in the bag.

        Raises:
            ValueError: a missing or damaged bag, a topic that is not there, a choice that is not
                clear; the message lists the topics. Iterating raises it for damaged messages.
        """
        self.path = path
        with _opened(path) as reader:
            types = {connection.topic: connection.msgtype for connection in reader.connections}
            images = [topic for topic in sorted(types) if types[topic] in IMAGE_TYPES and not _is_depth(topic)]
            infos = [topic for topic in sorted(types) if types[topic] == CAMERA_INFO_TYPE]
            self.image_topic = _choose("image", path, images, image_topic)
            expected_info = _camera_info_beside(self.image_topic)
            if camera_info_topic is None and expected_info in infos:
                camera_info_topic = expected_info
            self.camera_info_topic = _choose("camera_info", path, infos, camera_info_topic)
            self._count = reader.topics[self.image_topic].msgcount

    @cached_property
    def rate_hz(self) -> float:
        """Usual rate of the first images, by when they were recorded, pauses left out; 0 of fewer than two."""
        messages = itertools.islice(_messages(self.path, (self.image_topic,)), _RATE_MESSAGES)
        times_ns = [log_time_ns for _, log_time_ns, _ in messages]
        intervals_ns = [after - before for before, after in itertools.pairwise(times_ns) if after > before]
        return SECOND_NS / statistics.median(intervals_ns) if intervals_ns else 0.0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Frame]:
        camera = self._first_camera()
        for topic, log_time_ns, message in _messages(self.path, (self.image_topic, self.camera_info_topic)):
            try:
                if topic == self.camera_info_topic:
                    camera = camera_from_info(message)
                else:
                    # Drivers that leave the stamp out get the time of recording.
                    yield Frame(rgb_from_message(message), camera, stamp_ns=stamp_ns(message.header) or log_time_ns)
            except ValueError as error:
                raise ValueError(f"{self.path}: {topic}: {error}") from error

    def _first_camera(self) -> Camera:
        for topic, _, message in _messages(self.path, (self.camera_info_topic,)):
            try:
                return camera_from_info(message)
            except ValueError as error:
                raise ValueError(f"{self.path}: {topic}: {error}") from error
        raise ValueError(f"{self.path}: {self.camera_info_topic}: no messages")


@contextmanager
def _opened(path: Path) -> Iterator[AnyReader]:
    if not path.exists():
        raise ValueError(f"{path}: no such bag")
    with _told_as_damage(path):
        # Bags from before Iron hold no message definitions.
        reader = AnyReader([path], default_typestore=get_typestore(Stores.LATEST))
        reader.open()
    try:
        if not reader.is2:
            raise ValueError(f"{path}: expected a rosbag2 bag, got one of ROS 1")
        yield reader
    finally:
        reader.close()


def _messages(path: Path, topics: Sequence[str]) -> Iterator[tuple[str, int, Any]]:
    """Topic, log time in nanoseconds and message, in the order of the bag."""
    with _opened(path) as reader:
        stream = reader.messages([connection for connection in reader.connections if connection.topic in topics])
        while True:
            with _told_as_damage(path):
                record = next(stream, None)
                if record is None:
                    return
                connection, log_time_ns, data = record
                message = reader.deserialize(data, connection.msgtype)
            yield connection.topic, log_time_ns, message


@contextmanager
def _told_as_damage(path: Path) -> Iterator[None]:
    """Only around calls of the reader: damaged bytes surface as whatever it stumbles on."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"{path}: damaged or not a rosbag2 bag: {error or type(error).__name__}") from error


def _choose(kind: str, path: Path, topics: Sequence[str], wanted: str | None) -> str:
    listed = ", ".join(topics) or "none"
    if wanted is not None:
        if wanted not in topics:
            raise ValueError(f"{kind} topic: {wanted} is not in {path}, which has {listed}")
        return wanted
    if len(topics) != 1:
        raise ValueError(f"{kind} topic: name one of those in {path}: {listed}")
    return topics[0]


def _is_depth(topic: str) -> bool:
    return topic.endswith("/compressedDepth")


def _camera_info_beside(image_topic: str) -> str:
    """Where image_transport looks: the sibling of the image, whose compressed stream is its child."""
    return image_topic.removesuffix("/compressed").rsplit("/", 1)[0] + "/camera_info"
