"""Everything the node subscribes to."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from category_pose_ros.ros.health import Health
from category_pose_ros.ros.pairing import Capture, Pairer
from category_pose_ros.ros.parameters import NodeConfig

THROTTLE_S = 5.0  # between two warnings of a kind


class Inputs:
    """The subscriptions of an active node, which hand on every image with what belongs to it.

    Args:
        node: subscribes, and logs.
        config: which transports, and whether there is depth.
        health: counts.
        on_capture: called in the executor's thread.
    """

    def __init__(
        self, node: LifecycleNode, config: NodeConfig, health: Health, on_capture: Callable[[Capture], None]
    ) -> None:
        self._node = node
        self._health = health
        self._on_capture = on_capture
        self._pairer = Pairer(config.pairing if config.use_depth else None)
        # camera_info and depth first, so that the first image finds them
        self._info = self._subscribe(CameraInfo, "camera_info", self._on_camera_info)
        self._subscriptions = [self._info]
        if config.use_depth:
            self._depth = self._subscribe_image("depth", config.depth_transport, self._on_depth)
            self._subscriptions.append(self._depth)
        self._subscriptions.append(self._subscribe_image("image", config.image_transport, self._on_image))

    @property
    def topics(self) -> list[str]:
        """The resolved names of what is subscribed to."""
        return [subscription.topic_name for subscription in self._subscriptions]

    def destroy(self) -> None:
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()

    def _subscribe_image(self, name: str, transport: str, callback: Callable[[Any], None]) -> Any:
        if transport == "raw":
            return self._subscribe(Image, name, callback)
        # As in image_transport: remapping `image` moves the compressed topic along.
        return self._subscribe(CompressedImage, f"{self._node.resolve_topic_name(name)}/{transport}", callback)

    def _subscribe(self, message_type: Any, topic: str, callback: Callable[[Any], None]) -> Any:
        # A profile of its own: rclpy writes the overrides of a topic into the one it is given.
        sensor_data = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
        overrides = QoSOverridingOptions.with_default_policies()
        return self._node.create_subscription(
            message_type, topic, callback, sensor_data, qos_overriding_options=overrides
        )

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._pairer.add_info(message)

    def _on_depth(self, message: Image | CompressedImage) -> None:
        self._hand_on(self._pairer.add_depth(message))

    def _on_image(self, message: Image | CompressedImage) -> None:
        received_s = time.monotonic()
        self._health.image()
        if not self._pairer.has_info:
            self._health.drop("no camera_info yet")
            self._node.get_logger().warning(
                f"no camera_info on {self._info.topic_name} yet, images are dropped", throttle_duration_sec=THROTTLE_S
            )
            return
        self._hand_on(self._pairer.add_image(message, received_s))
        if self._pairer.has_fallen_back:
            self._node.get_logger().warning(
                f"no depth on {self._depth.topic_name} has the stamp of an image, images are used as RGB",
                throttle_duration_sec=THROTTLE_S,
            )

    def _hand_on(self, capture: Capture | None) -> None:
        self._health.unpaired = self._pairer.unpaired
        if capture is not None:
            self._on_capture(capture)
