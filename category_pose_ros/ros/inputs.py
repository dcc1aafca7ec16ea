"""Everything the node subscribes to."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from category_pose_ros.ros.camera_motion import CameraMotion
from category_pose_ros.ros.health import Health
from category_pose_ros.ros.hints import TOPICS, message_type
from category_pose_ros.ros.pairing import Capture, Pairer
from category_pose_ros.ros.parameters import NodeConfig

THROTTLE_S = 5.0  # between two warnings of a kind
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
        # camera_info, depth and hint first, so that the first image finds them
        self._info = self._subscribe(CameraInfo, "camera_info", self._on_camera_info)
        self._companions: dict[str, Any] = {}  # subscriptions, by the kind of what images wait for
        if config.use_depth:
            on_depth = functools.partial(self._on_companion, "depth")
            self._companions["depth"] = self._subscribe_image("depth", config.depth_transport, on_depth)
        if config.hint != "none":
            on_hint = functools.partial(self._on_companion, "hint")
            self._companions["hint"] = self._subscribe(message_type(config.hint), TOPICS[config.hint], on_hint)
        self._pairer = Pairer(config.pairing, list(self._companions))
        image = self._subscribe_image("image", config.image_transport, self._on_image)
        self._subscriptions = [self._info, *self._companions.values(), image]
        self.camera_motion = CameraMotion(node, config.fixed_frame) if config.fixed_frame else None

    @property
    def topics(self) -> list[str]:
        """The resolved names of what is subscribed to."""
        return [subscription.topic_name for subscription in self._subscriptions]

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
        overrides = QoSOverridingOptions.with_default_policies()
        return self._node.create_subscription(
            message_type, topic, callback, sensor_data, qos_overriding_options=overrides
        )

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._pairer.add_info(message)

    def _on_companion(self, kind: str, message: Any) -> None:
        self._hand_on(self._pairer.add(kind, message))

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
        missing = [
            f"no {kind} on {self._companions[kind].topic_name} has the stamp of an image, {_WITHOUT[kind]}"
            for kind in self._pairer.missing
        ]
        if missing:
            self._node.get_logger().warning("; ".join(missing), throttle_duration_sec=THROTTLE_S)

    def _hand_on(self, capture: Capture | None) -> None:
        self._health.unpaired = self._pairer.unpaired
        if capture is not None:
            self._on_capture(capture)
