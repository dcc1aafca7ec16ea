"""What is published only when somebody listens, or only where a package is installed."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")

from geometry_msgs.msg import PoseArray, TransformStamped
from rclpy.qos import QoSProfile
from ros_support import (
    HEIGHT,
    WIDTH,
    ScriptedTracker,
    camera,
    compressed_message,
    image_message,
    info_message,
    make_track,
    node_process,
)
from sensor_msgs.msg import CompressedImage, Image

from category_pose_ros.ros.images import rgb_from_image
from category_pose_ros.ros.node import EstimatorNode
from category_pose_ros.ros.outputs import Outputs
from category_pose_ros.ros.pipeline import Answer

STAMP_NS = 3_000_000_004


def test_the_overlay_is_drawn_for_those_who_listen() -> None:
    with camera() as side, node_process():
        overlays = side.collect(Image, "/estimator/overlay")
        side.send_until(image_message(1, STAMP_NS), lambda: overlays, "an overlay comes")
    assert overlays[0].header == image_message(1, STAMP_NS).header
    drawn = rgb_from_image(overlays[0])
    assert drawn.shape == (HEIGHT, WIDTH, 3)
    assert (drawn[1:] > 0).any()  # the image itself is black below its first row


def test_compressed_images_are_subscribed_to_beside_the_remapped_name() -> None:
    with camera() as side, node_process("-p", "image_transport:=compressed", "-r", "image:=/front/image"):
        poses = side.collect(PoseArray, "/estimator/poses")
        publisher = side.node.create_publisher(CompressedImage, "/front/image/compressed", QoSProfile(depth=10))

        def send() -> Any:
            side.infos.publish(info_message())
            publisher.publish(compressed_message(2, STAMP_NS))
            side.executor.spin_once(timeout_sec=0.1)
            return poses

        side.until(send, "poses come")
    assert len(poses[0].poses) == 2
    assert poses[0].header == image_message(2, STAMP_NS).header


def test_transforms_go_out_where_tf2_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[TransformStamped] = []

    class Broadcaster:
        def __init__(self, node: EstimatorNode) -> None:
            self.pub_tf = node.create_publisher(TransformStamped, "/tf_stand_in", 1)

        def sendTransform(self, transforms: list[TransformStamped]) -> None:  # noqa: N802
            sent.extend(transforms)

    monkeypatch.setitem(sys.modules, "tf2_ros", types.SimpleNamespace(TransformBroadcaster=Broadcaster))
    with camera() as side:
        node = EstimatorNode(build=ScriptedTracker, context=side.context)
        outputs = Outputs(node, publish_tf=True)
        frame: Any = types.SimpleNamespace()
        outputs.publish(image_message().header, Answer(frame, [make_track(4)]))
        outputs.publish(image_message().header, Answer(frame, []))
        outputs.destroy()
        node.destroy_node()
    assert [(item.header.frame_id, item.child_frame_id) for item in sent] == [("camera_optical", "mug_4")]
