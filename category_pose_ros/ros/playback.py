"""The other side of the estimator node: plays frames over DDS and collects what comes back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from category_pose_ros.data.messages import stamp_ns
from category_pose_ros.records import SECOND_NS, Frame, Track
from category_pose_ros.ros.conversions import info_from_camera
from category_pose_ros.ros.images import image_from_rgb
from category_pose_ros.ros.markers import tracks_from_markers

_FRAME_ID = "camera_optical_frame"
_QUEUE = QoSProfile(depth=50)  # reliable: the account has to be complete
_BEGIN_NS = SECOND_NS  # added to stamps while they are with the node: a recording may begin at 0, which is no stamp


@dataclass
class Account:
    """What was sent and what came back, by the images' stamps in nanoseconds.

    Attributes:
        sent_s: when each frame was published, in seconds of `time.monotonic()`.
        answered_s: when its poses arrived.
        pose_counts: how many poses these were.
        tracks: objects as the markers tell them; a frame without objects has no markers.
    """

    sent_s: dict[int, float] = field(default_factory=dict)
    answered_s: dict[int, float] = field(default_factory=dict)
    pose_counts: dict[int, int] = field(default_factory=dict)
    tracks: dict[int, list[Track]] = field(default_factory=dict)

    def is_complete(self, stamp: int) -> bool:
        """Whether the answer to a frame has arrived in full."""
        return stamp in self.answered_s and len(self.tracks.get(stamp, [])) == self.pose_counts[stamp]


class Playback(Node):
    """A camera in front of the node, and a listener behind it."""

    def __init__(self, context: Context) -> None:
        super().__init__("playback", context=context)
        self.account = Account()
        self._images = self.create_publisher(Image, "image", _QUEUE)
        self._infos = self.create_publisher(CameraInfo, "camera_info", _QUEUE)
        self.create_subscription(PoseArray, "estimator/poses", self._on_poses, _QUEUE)
        self.create_subscription(MarkerArray, "estimator/markers", self._on_markers, _QUEUE)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self)

    def spin_until(self, happened: Callable[[], bool], timeout_s: float) -> bool:
        """Spin until something happens; False where it did not in time."""
        deadline = time.monotonic() + timeout_s
        while not happened():
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            self._executor.spin_once(timeout_sec=min(remaining, 0.1))
        return True

    def is_heard(self) -> bool:
        """Whether the node has subscribed, which it does when it is active, and can be heard itself."""
        subscribed = self._images.get_subscription_count() and self._infos.get_subscription_count()
        return bool(subscribed and all(self.count_publishers(f"estimator/{name}") for name in ("poses", "markers")))

    def play(self, frames: Iterable[Frame], rate: float, on_sent: Callable[[], None]) -> None:
        """Publish frames in the rhythm of their stamps.

        Args:
            frames: in order.
            rate: of playing; 2 is twice as fast as recorded.
            on_sent: called after each frame.
        """
        offset_s: float | None = None
        for frame in frames:
            recorded_s = frame.stamp_ns / SECOND_NS / rate
            offset_s = time.monotonic() - recorded_s if offset_s is None else offset_s
            self._executor.spin_once(timeout_sec=0)  # also where it is behind, or answers would be lost
            self.spin_until(lambda: False, offset_s + recorded_s - time.monotonic())
            self._send(frame)
            on_sent()

    def _send(self, frame: Frame) -> None:
        seconds, nanoseconds = divmod(frame.stamp_ns + _BEGIN_NS, SECOND_NS)
        header = Header(stamp=Time(sec=seconds, nanosec=nanoseconds), frame_id=_FRAME_ID)
        self._infos.publish(info_from_camera(frame.camera, header))
        message = image_from_rgb(frame.rgb, header)
        self.account.sent_s[frame.stamp_ns] = time.monotonic()
        self._images.publish(message)

    def _on_poses(self, message: PoseArray) -> None:
        stamp = stamp_ns(message.header) - _BEGIN_NS
        self.account.answered_s[stamp] = time.monotonic()
        self.account.pose_counts[stamp] = len(message.poses)

    def _on_markers(self, message: MarkerArray) -> None:
        if tracks := tracks_from_markers(message):
            self.account.tracks[tracks[0].stamp_ns - _BEGIN_NS] = tracks
