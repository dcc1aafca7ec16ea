"""Everything the node publishes about objects."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from geometry_msgs.msg import PoseArray
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from category_pose_ros.records import Track
from category_pose_ros.ros.conversions import detection_array, pose_array, transforms
from category_pose_ros.ros.health import THROTTLE_S
from category_pose_ros.ros.images import compressed_from_rgb, image_from_rgb
from category_pose_ros.ros.markers import MarkerBoard
from category_pose_ros.ros.parameters import overridable
from category_pose_ros.ros.pipeline import Answer

_QUEUE = 10
_TF_QUEUE = 100  # as tf2's own broadcaster


class Outputs:
    """The publishers of a configured node; what is published while it is inactive goes nowhere."""

    def __init__(self, node: LifecycleNode, publish_tf: bool) -> None:
        self._node = node
        self._publishers: list[Any] = []
        self._board = MarkerBoard()
        try:
            self._advertise_all(publish_tf)
        except Exception:
            self.destroy()
            raise

    def _advertise_all(self, publish_tf: bool) -> None:
        self._poses = self._advertise(PoseArray, "~/poses")
        self._markers = self._advertise(MarkerArray, "~/markers")
        self._overlay = self._advertise(Image, "~/overlay")
        self._compressed_overlay = self._advertise(CompressedImage, "~/overlay/compressed")
        self._vision_msgs = self._optional("vision_msgs.msg", "~/detections")
        if self._vision_msgs is not None:
            self._detections = self._advertise(self._vision_msgs.Detection3DArray, "~/detections")
        self._tf2_msgs = self._optional("tf2_msgs.msg", "/tf") if publish_tf else None
        if self._tf2_msgs is not None:
            self._tf = self._advertise(self._tf2_msgs.TFMessage, "/tf", _TF_QUEUE)

    def publish(self, header: Header, answer: Answer) -> None:
        """Publish the objects of a frame; empty arrays where there are none.

        What takes long to compose is composed only where somebody listens.
        """
        tracks = answer.tracks
        poses = pose_array(header, tracks)
        self._poses.publish(poses)
        if _is_heard(self._markers):
            self._markers.publish(self._board.update(poses, tracks))
        if self._vision_msgs is not None and _is_heard(self._detections):
            self._detections.publish(detection_array(poses, tracks, self._vision_msgs))
        if self._tf2_msgs is not None and tracks:
            self._publish_transforms(poses, tracks, self._tf2_msgs)
        self._publish_overlay(header, answer)

    def clear(self) -> None:
        """Delete the markers that are shown."""
        self._markers.publish(self._board.clear())

    def destroy(self) -> None:
        for publisher in self._publishers:
            self._node.destroy_lifecycle_publisher(publisher)
        self._publishers.clear()

    def _publish_transforms(self, poses: PoseArray, tracks: Sequence[Track], tf2_msgs: ModuleType) -> None:
        if not poses.header.frame_id:
            self._node.get_logger().warning(
                "image.header.frame_id: expected a frame, got ''; no transforms are published",
                throttle_duration_sec=THROTTLE_S,
            )
            return
        self._tf.publish(tf2_msgs.TFMessage(transforms=transforms(poses, tracks, self._node.get_namespace())))

    def _publish_overlay(self, header: Header, answer: Answer) -> None:
        is_heard, is_compressed_heard = _is_heard(self._overlay), _is_heard(self._compressed_overlay)
        if is_heard or is_compressed_heard:
            drawn = _drawn(answer)
            if is_heard:
                self._overlay.publish(image_from_rgb(drawn, header))
            if is_compressed_heard:
                self._compressed_overlay.publish(compressed_from_rgb(drawn, header))

    def _advertise(self, message_type: Any, topic: str, queue: int = _QUEUE) -> Any:
        # A profile of its own: rclpy writes the overrides of a topic into the one it is given.
        publisher = self._node.create_lifecycle_publisher(
            message_type,
            topic,
            QoSProfile(depth=queue),
            qos_overriding_options=overridable(),
        )
        self._publishers.append(publisher)
        return publisher

    def _optional(self, module: str, topic: str) -> ModuleType | None:
        try:
            return importlib.import_module(module)
        except ImportError:
            package = module.split(".")[0]
            self._node.get_logger().info(f"{package} is not installed, {topic} is not published")
            return None


def _is_heard(publisher: Any) -> bool:
    return bool(publisher.get_subscription_count() > 0)


def _drawn(answer: Answer) -> Any:
    # Imported when somebody listens: a robot that nobody watches need not load what draws.
    from category_pose_ros.visualization.overlay import draw_overlay

    return draw_overlay(answer.frame.rgb, answer.frame.camera, answer.tracks)
