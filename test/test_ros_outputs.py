"""What is published only when somebody listens, or only where a package is installed."""

from __future__ import annotations

import sys
import types
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")

import vision_msgs_stand_in
from geometry_msgs.msg import PoseArray, TransformStamped
from rclpy.lifecycle import LifecycleNode
from rclpy.logging import get_logger
from rclpy.qos import QoSProfile
from ros_support import (
    HEIGHT,
    WIDTH,
    camera,
    compressed_message,
    image_message,
    info_message,
    make_later,
    make_track,
    node_process,
    was_sent,
)
from sensor_msgs.msg import CompressedImage, Image

from category_pose_ros import Camera, Frame
from category_pose_ros.data.messages import rgb_from_compressed
from category_pose_ros.ros import outputs as outputs_module
from category_pose_ros.ros.images import rgb_from_image
from category_pose_ros.ros.outputs import Outputs
from category_pose_ros.ros.pipeline import Answer

STAMP_NS = 3_000_000_004
HEADER = image_message(stamp_ns=STAMP_NS).header
OVERLAYS = ("~/overlay", "~/overlay/compressed")


class RecordingPublisher:
    def __init__(self, listeners: int) -> None:
        self.sent: list[Any] = []
        self.listeners = listeners

    def publish(self, message: Any) -> None:
        self.sent.append(message)

    def get_subscription_count(self) -> int:
        return self.listeners


class RecordingNode:
    """Publishes into lists: messages of packages that are not installed cannot go over DDS."""

    def __init__(self, namespace: str, deaf: Sequence[str]) -> None:
        self.publishers: dict[str, RecordingPublisher] = {}
        self.deaf = deaf
        self.get_namespace = lambda: namespace

    def create_lifecycle_publisher(self, _: Any, topic: str, *__: Any, **___: Any) -> RecordingPublisher:
        return self.publishers.setdefault(topic, RecordingPublisher(int(topic not in self.deaf)))

    def get_logger(self) -> Any:
        return get_logger("recording")


def record(
    *answers: Answer, namespace: str = "/", publish_tf: bool = True, deaf: Sequence[str] = OVERLAYS
) -> dict[str, list[Any]]:
    """What is published of answers, by topic, where nobody listens to some of them."""
    node: Any = RecordingNode(namespace, deaf)
    outputs = Outputs(node, publish_tf)
    for answer in answers:
        outputs.publish(HEADER, answer)
    return {topic: publisher.sent for topic, publisher in node.publishers.items()}


def answer(*track_ids: int) -> Answer:
    frame = Frame(np.zeros((HEIGHT, WIDTH, 3), np.uint8), Camera(60.0, 60.0, 31.5, 23.5, WIDTH, HEIGHT))
    return Answer(frame, [make_track(track_id) for track_id in track_ids])


@pytest.fixture
def _vision_msgs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vision_msgs", types.ModuleType("vision_msgs"))
    monkeypatch.setitem(sys.modules, "vision_msgs.msg", vision_msgs_stand_in)


@pytest.fixture
def _tf2_msgs(monkeypatch: pytest.MonkeyPatch) -> None:
    messages: Any = types.ModuleType("tf2_msgs.msg")
    messages.TFMessage = types.SimpleNamespace
    monkeypatch.setitem(sys.modules, "tf2_msgs", types.ModuleType("tf2_msgs"))
    monkeypatch.setitem(sys.modules, "tf2_msgs.msg", messages)


@pytest.mark.usefixtures("_vision_msgs")
def test_detections_have_header_and_order_of_the_poses_and_stable_ids() -> None:
    sent = record(answer(4, 2), answer(2, 9), answer())
    for poses, detections in zip(sent["~/poses"], sent["~/detections"], strict=True):
        assert detections.header == poses.header == HEADER
        assert [item.bbox.center for item in detections.detections] == poses.poses
    assert [[item.id for item in array.detections] for array in sent["~/detections"]] == [["4", "2"], ["2", "9"], []]


@pytest.mark.usefixtures("_tf2_msgs")
def test_transforms_go_out_under_the_names_of_the_tracks() -> None:
    sent = record(answer(4), answer())
    assert len(sent["/tf"]) == 1  # nothing to say of an empty scene
    moved: list[TransformStamped] = sent["/tf"][0].transforms
    assert [(item.header, item.child_frame_id) for item in moved] == [(HEADER, "mug_4")]


@pytest.mark.usefixtures("_tf2_msgs")
def test_transforms_of_two_cameras_have_different_names() -> None:
    assert record(answer(4), namespace="/left")["/tf"][0].transforms[0].child_frame_id == "left/mug_4"


@pytest.mark.usefixtures("_tf2_msgs")
def test_transforms_can_be_switched_off() -> None:
    assert "/tf" not in record(answer(4), publish_tf=False)


def test_packages_that_are_missing_are_named_once_and_the_rest_is_published(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("vision_msgs", "vision_msgs.msg", "tf2_msgs", "tf2_msgs.msg"):
        monkeypatch.setitem(sys.modules, name, None)
    sent = record(answer(1), answer(1))
    assert set(sent) == {"~/poses", "~/markers", "~/overlay", "~/overlay/compressed"}
    printed = "".join(capfd.readouterr())
    assert printed.count("vision_msgs is not installed, ~/detections is not published") == 1
    assert printed.count("tf2_msgs is not installed, /tf is not published") == 1


@pytest.mark.usefixtures("_vision_msgs")
def test_nothing_is_drawn_or_composed_where_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs_module, "_drawn", lambda _: pytest.fail("drawn"))
    monkeypatch.setattr(outputs_module, "detection_array", lambda *_: pytest.fail("composed"))
    sent = record(answer(1), deaf=(*OVERLAYS, "~/markers", "~/detections"))
    assert len(sent["~/poses"]) == 1
    assert not any(sent[topic] for topic in (*OVERLAYS, "~/markers", "~/detections"))


@pytest.mark.parametrize("message_type", [Image, CompressedImage])
def test_the_overlay_is_drawn_for_those_who_listen(message_type: Any) -> None:
    topic, decode = {
        Image: ("/estimator/overlay", rgb_from_image),
        CompressedImage: ("/estimator/overlay/compressed", rgb_from_compressed),
    }[message_type]
    with camera() as side, node_process():
        overlays = side.collect(message_type, topic)
        side.send_until(image_message(1, STAMP_NS), lambda: overlays, "an overlay comes")
    assert was_sent(overlays[0].header, HEADER)
    drawn = decode(overlays[0])
    assert drawn.shape == (HEIGHT, WIDTH, 3)
    assert (drawn[1:] > 20).any()  # the image itself is black below its first row


def test_compressed_images_are_subscribed_to_beside_the_remapped_name() -> None:
    with camera() as side, node_process("-p", "image_transport:=compressed", "-r", "image:=/front/image"):
        poses = side.collect(PoseArray, "/estimator/poses")
        publisher = side.node.create_publisher(CompressedImage, "/front/image/compressed", QoSProfile(depth=10))

        message = compressed_message(2, STAMP_NS)

        def send() -> Any:
            side.infos.publish(info_message())
            make_later(message.header)
            publisher.publish(message)
            side.executor.spin_once(timeout_sec=0.1)
            return poses

        side.until(send, "poses come")
    assert len(poses[0].poses) == 2
    assert was_sent(poses[0].header, HEADER)


def test_what_is_advertised_is_taken_back() -> None:
    with camera() as side:
        node = LifecycleNode("advertiser", context=side.context)
        before = len(list(node.publishers))
        outputs = Outputs(node, publish_tf=True)
        assert len(list(node.publishers)) > before
        outputs.destroy()
        assert len(list(node.publishers)) == before
        node.destroy_node()
