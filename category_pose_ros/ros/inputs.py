"""Everything the node subscribes to."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from category_pose_ros.data.messages import stamp_ns
from category_pose_ros.records import SECOND_NS
from category_pose_ros.ros.camera_motion import CameraMotion
from category_pose_ros.ros.health import THROTTLE_S, Health
from category_pose_ros.ros.hints import TOPICS, message_type
from category_pose_ros.ros.pairing import Capture, Pairer
from category_pose_ros.ros.parameters import NodeConfig, overridable

_LATE_NS = SECOND_NS // 2  # an image no older than that than the newest is late; an older one begins a new stream
_WITHOUT = {"depth": "images are used as RGB", "hint": "images are searched without"}


class Inputs:
    """The subscriptions of an active node, which hand on every image with what belongs to it.

    Args:
        node: subscribes, and logs.
        config: which transports, and whether there are depth and hints.
        health: counts.
        on_capture: called in the executor's thread.

    Attributes:
        camera_motion: tells where the camera was; None: that is not asked for.
    """

    def __init__(
        self, node: LifecycleNode, config: NodeConfig, health: Health, on_capture: Callable[[Capture], None]
    ) -> None:
        self._node = node
        self._health = health
        self._on_capture = on_capture
        self._unpaired_before = health.unpaired
        self._newest_ns = -1  # stamp of the last image that had one
        self._subscriptions: list[Any] = []
        self._companions: dict[str, Any] = {}  # subscriptions, by the kind of what images wait for
        self.camera_motion: CameraMotion | None = None
        try:
            self._listen(config)
        except Exception:
            self.destroy()
            raise

    def _listen(self, config: NodeConfig) -> None:
        # camera_info, depth and hint first, so that the first image finds them
        self._info = self._subscribe(CameraInfo, "camera_info", self._on_camera_info)
        if config.use_depth:
            on_depth = functools.partial(self._on_companion, "depth")
            self._companions["depth"] = self._subscribe_image("depth", config.depth_transport, on_depth)
        if config.hint != "none":
            on_hint = functools.partial(self._on_companion, "hint")
            self._companions["hint"] = self._subscribe(message_type(config.hint), TOPICS[config.hint], on_hint)
        self._pairer = Pairer(config.pairing, list(self._companions))
        self._subscribe_image("image", config.image_transport, self._on_image)
        if config.fixed_frame:
            self.camera_motion = CameraMotion(self._node, config.fixed_frame)

    @property
    def topics(self) -> list[str]:
        """The resolved names of what is subscribed to."""
        return [subscription.topic_name for subscription in self._subscriptions]

    @property
    def waiting(self) -> int:
        """Images that wait for what belongs to them."""
        return self._pairer.waiting

    def destroy(self) -> None:
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()
        if self.camera_motion is not None:
            self.camera_motion.destroy()

    def _subscribe_image(self, name: str, transport: str, callback: Callable[[Any], None]) -> Any:
        if transport == "raw":
            return self._subscribe(Image, name, callback)
        # As in image_transport: remapping `image` moves the compressed topic along.
        return self._subscribe(CompressedImage, f"{self._node.resolve_topic_name(name)}/{transport}", callback)

    def _subscribe(self, message_type: Any, topic: str, callback: Callable[[Any], None]) -> Any:
        # A profile of its own: rclpy writes the overrides of a topic into the one it is given.
        sensor_data = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
        subscription = self._node.create_subscription(
            message_type, topic, callback, sensor_data, qos_overriding_options=overridable()
        )
        self._subscriptions.append(subscription)
        return subscription

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._pairer.add_info(message)

    def _on_companion(self, kind: str, message: Any) -> None:
        self._hand_on(self._pairer.add(kind, message, time.monotonic()))

    def _on_image(self, message: Image | CompressedImage) -> None:
        received_s = time.monotonic()
        self._health.image()
        if not self._pairer.has_info:
            self._health.drop("no camera_info yet")
            self._node.get_logger().warning(
                f"no camera_info on {self._info.topic_name} yet, images are dropped", throttle_duration_sec=THROTTLE_S
            )
            return
        if self._is_late(stamp_ns(message.header)):
            self._health.drop("late")
            self._node.get_logger().warning(
                "image dropped: image.header.stamp: expected a time after that of the image before",
                throttle_duration_sec=THROTTLE_S,
            )
            return
        self._hand_on(self._pairer.add_image(message, received_s))
        missing = [
            f"no {kind} on {self._companions[kind].topic_name} has the stamp of an image, {_WITHOUT[kind]}"
            for kind in self._pairer.missing
        ]
        if missing:
            self._node.get_logger().warning("; ".join(missing), throttle_duration_sec=THROTTLE_S)

    def _is_late(self, now_ns: int) -> bool:
        """Whether an image is no younger than the last; a clock that was set back, or a bag that loops, begins anew."""
        if now_ns == 0:
            self._health.unstamped += 1
            self._node.get_logger().warning(
                "image.header.stamp: expected a time, got 0; images are tracked by when they arrive",
                throttle_duration_sec=THROTTLE_S,
            )
            return False
        behind_ns = self._newest_ns - now_ns
        if 0 <= behind_ns <= _LATE_NS:
            return True
        if behind_ns > 0 and self.camera_motion is not None:
            self.camera_motion.forget()
        self._newest_ns = now_ns
        return False

    def _hand_on(self, capture: Capture | None) -> None:
        self._health.unpaired = self._unpaired_before + self._pairer.unpaired
        if capture is not None:
            self._on_capture(capture)
