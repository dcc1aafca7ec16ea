"""Everything the node publishes about objects."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from geometry_msgs.msg import PoseArray
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from category_pose_ros.records import Track
from category_pose_ros.ros.conversions import detection_array, pose_array, transforms
from category_pose_ros.ros.images import image_from_rgb
from category_pose_ros.ros.markers import MarkerBoard
from category_pose_ros.ros.pipeline import Answer

_RELIABLE = QoSProfile(depth=10)


class Outputs:
    """The publishers of a configured node; what is published while it is inactive goes nowhere."""

    def __init__(self, node: LifecycleNode, publish_tf: bool) -> None:
        self._node = node
        self._publishers: list[Any] = []
        self._board = MarkerBoard()
        self._poses = self._advertise(PoseArray, "~/poses")
        self._markers = self._advertise(MarkerArray, "~/markers")
        self._overlay = self._advertise(Image, "~/overlay")
        self._vision_msgs = self._optional("vision_msgs.msg", "~/detections")
        tf2_ros = self._optional("tf2_ros", "/tf") if publish_tf else None
        self._broadcaster = None if tf2_ros is None else tf2_ros.TransformBroadcaster(node)
        if self._vision_msgs is not None:
            self._detections = self._advertise(self._vision_msgs.Detection3DArray, "~/detections")

    def publish(self, header: Header, answer: Answer) -> None:
        """Publish the objects of a frame; empty arrays where there are none."""
        tracks = answer.tracks
        self._poses.publish(pose_array(header, tracks))
        self._markers.publish(self._board.update(header, tracks))
        if self._vision_msgs is not None:
            self._detections.publish(detection_array(header, tracks, self._vision_msgs))
        if self._broadcaster is not None and tracks:
            self._broadcaster.sendTransform(transforms(header, tracks))
        if self._overlay.get_subscription_count() > 0:
            self._overlay.publish(image_from_rgb(_drawn(answer, tracks), header))

    def clear(self) -> None:
        """Delete the markers that are shown."""
        self._markers.publish(self._board.update(Header(), []))

    def destroy(self) -> None:
        for publisher in self._publishers:
            self._node.destroy_lifecycle_publisher(publisher)
        self._publishers.clear()
        if self._broadcaster is not None:
            self._node.destroy_publisher(self._broadcaster.pub_tf)

    def _advertise(self, message_type: Any, topic: str) -> Any:
        publisher = self._node.create_lifecycle_publisher(message_type, topic, _RELIABLE)
        self._publishers.append(publisher)
        return publisher

    def _optional(self, module: str, topic: str) -> ModuleType | None:
        try:
            return importlib.import_module(module)
        except ImportError:
            package = module.split(".")[0]
            self._node.get_logger().info(f"{package} is not installed, {topic} is not published")
            return None


def _drawn(answer: Answer, tracks: list[Track]) -> Any:
    # Imported when somebody listens: a robot that nobody watches need not load what draws.
    from category_pose_ros.visualization.overlay import draw_overlay

    return draw_overlay(answer.frame.rgb, answer.frame.camera, tracks)
