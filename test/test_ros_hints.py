"""2D detections and masks as hints: read, paired with their images, refused where they do not fit."""

from __future__ import annotations

import math
import signal
import sys
import types
from array import array
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")

import vision_msgs_stand_in as vision_msgs
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseArray
from ros_support import (
    HEIGHT,
    WIDTH,
    Camera,
    camera,
    image_message,
    info_message,
    load_scripted,
    mask_message,
    node_process,
    output_after_end,
    why_it_cannot_start,
)
from sensor_msgs.msg import Image

from category_pose_ros.data.messages import stamp_ns
from category_pose_ros.ros.health import Health
from category_pose_ros.ros.hints import regions_from_message, renamed
from category_pose_ros.ros.inputs import Inputs
from category_pose_ros.ros.pairing import Capture
from category_pose_ros.ros.parameters import NodeConfig, with_values
from category_pose_ros.ros.pipeline import Job, Pipeline

FRAME_NS = 100_000_000
HEADER = image_message().header
_WITHOUT_VISION_MSGS = pytest.mark.skipif(find_spec("vision_msgs") is not None, reason="vision_msgs is installed")


def detection(u: float, v: float, width: float, height: float, theta: float = 0.0, **scores: float) -> Any:
    results = [
        vision_msgs.ObjectHypothesisWithPose(vision_msgs.ObjectHypothesis(name, score))
        for name, score in scores.items()
    ]
    middle = vision_msgs.Pose2D(vision_msgs.Point2D(u, v), theta)
    return vision_msgs.Detection2D(HEADER, results, vision_msgs.BoundingBox2D(middle, width, height))


def detections(*items: Any) -> Any:
    return vision_msgs.Detection2DArray(HEADER, list(items))


@pytest.fixture
def _vision_msgs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vision_msgs", types.ModuleType("vision_msgs"))
    monkeypatch.setitem(sys.modules, "vision_msgs.msg", vision_msgs)


def test_a_detection_is_its_box_and_its_likeliest_class() -> None:
    message = detections(
        detection(30, 20, 10, 6, person=0.2, cup=0.7), detection(5, 6, 2, 4), detection(1, 1, 1, 1, mug=1)
    )
    regions = regions_from_message(message, HEADER, renamed(["cup=mug"]))
    assert [region.category for region in regions] == ["mug", None, "mug"]
    assert regions[0].box == pytest.approx((25, 17, 35, 23))
    assert regions_from_message(detections(), HEADER, {}) == ()


def test_a_turned_detection_is_the_upright_box_around_it() -> None:
    message = detections(detection(30, 20, 10, 6, math.pi / 2), detection(30, 20, 10, 10, math.pi / 4))
    quarter, eighth = regions_from_message(message, HEADER, {})
    assert quarter.box == pytest.approx((27, 15, 33, 25))
    assert eighth.box == pytest.approx((30 - 50**0.5, 20 - 50**0.5, 30 + 50**0.5, 20 + 50**0.5))


@pytest.mark.parametrize("padding", [0, 5])
def test_a_mask_is_where_it_is_not_zero(padding: int) -> None:
    values = np.zeros((HEIGHT, WIDTH + padding), np.uint8)
    values[4:9, 7:20], values[30:40, 50:60], values[:, WIDTH:] = 1, 2, 255
    message = mask_message()
    message.step, message.data = WIDTH + padding, array("B", values.tobytes())
    (region,) = regions_from_message(message, HEADER, {})
    assert region.mask is not None
    assert (region.mask == (values[:, :WIDTH] > 0)).all()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"encoding": "rgb8"}, "mask.encoding: expected one of mono8, 8UC1, got 'rgb8'"),
        ({"step": 10}, "mask.step: expected at least 64 for 64x48 mono8, got 10"),
        ({"height": 24}, "mask.data: expected 1536 bytes for 64x24 mono8 with step 64, got 3072"),
    ],
)
def test_a_mask_that_is_none_is_refused_by_name(change: dict[str, Any], expected: str) -> None:
    message = mask_message()
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(ValueError, match=expected):
        regions_from_message(message, HEADER, {})


@pytest.mark.parametrize("pairs", [["cup"], ["=mug"], ["cup="], ["cup=mug", ""]])
def test_class_names_of_another_form_are_refused(pairs: list[str]) -> None:
    with pytest.raises(ValueError, match="hint_classes: expected DETECTOR=OURS, got"):
        NodeConfig(hint_classes=tuple(pairs))


@_WITHOUT_VISION_MSGS
def test_detections_without_vision_msgs_are_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match="hint: detections needs vision_msgs, which is not installed"):
        with_values(NodeConfig(), {"hint": "detections"})


class RecordingNode:
    """Subscribes to nothing: messages of packages that are not installed cannot go over DDS."""

    def __init__(self) -> None:
        self.subscribed: dict[str, tuple[Any, Any]] = {}

    def create_subscription(self, message_type: Any, topic: str, callback: Any, *_: Any, **__: Any) -> Any:
        self.subscribed[topic] = (message_type, callback)
        return types.SimpleNamespace(topic_name=f"/{topic}")


@pytest.mark.usefixtures("_vision_msgs")
def test_images_go_with_their_detections_to_the_estimator() -> None:
    config = with_values(NodeConfig(), {"hint": "detections"})
    node, captures = RecordingNode(), list[Capture]()
    Inputs(node, config, Health(), captures.append)  # type: ignore[arg-type]
    message_type, on_detections = node.subscribed["detections_2d"]
    assert message_type is vision_msgs.Detection2DArray
    node.subscribed["camera_info"][1](info_message())
    node.subscribed["image"][1](image_message(3, stamp_ns=1))
    assert captures == []
    hint = detections(detection(30, 20, 10, 6, mug=0.9), detection(5, 6, 2, 4))
    hint.header.stamp.nanosec = 1
    on_detections(hint)
    answer = Pipeline(config, load_scripted(config)).handle(Job(captures[0]))
    assert answer.frame.regions is not None
    assert [region.category for region in answer.frame.regions] == ["mug", None]
    assert len(answer.tracks) == 2  # of three


class Rig:
    """A camera that sees two objects, of which a mask shows one."""

    def __init__(self, side: Camera) -> None:
        self.side = side
        self.poses = side.collect(PoseArray, "/estimator/poses")
        self.diagnostics = side.collect(DiagnosticArray, "/diagnostics")
        self._stamp_ns = 1_000_000_000

    def send(self, mask: Image | None) -> int:
        """Stamp of the next image, which is sent with or without a mask."""
        self._stamp_ns += FRAME_NS
        self.side.infos.publish(info_message())
        self.side.images.publish(image_message(2, self._stamp_ns))
        if mask is not None:
            mask.header.stamp = image_message(stamp_ns=self._stamp_ns).header.stamp
            self.side.masks.publish(mask)
        self.side.executor.spin_once(timeout_sec=0.1)
        return self._stamp_ns

    def send_until(self, objects: int, mask: Image | None) -> None:
        def send() -> bool:
            self.send(mask)
            return bool(self.poses) and len(self.poses[-1].poses) == objects

        self.side.until(send, f"{objects} objects are seen")

    def count(self, key: str) -> int:
        if not self.diagnostics:
            return 0
        return int({item.key: item.value for item in self.diagnostics[-1].status[0].values}[key])


def test_a_mask_is_used_where_asked_for_and_images_go_without_when_it_stops() -> None:
    with camera() as side, node_process("-p", "hint:=mask") as process:
        rig = Rig(side)
        rig.send_until(1, mask_message())
        rig.send_until(2, None)
        rig.side.until(lambda: rig.count("frames unpaired"), "unpaired images are counted")
        rig.send_until(1, mask_message())
        process.send_signal(signal.SIGINT)
        assert "no hint on /mask has the stamp of an image, images are searched without" in output_after_end(process)


def test_an_image_whose_mask_does_not_come_is_dropped_and_counted_while_others_have_theirs() -> None:
    with camera() as side, node_process("-p", "hint:=mask", "-p", "pairing.fallback_after_s:=1000.0"):
        rig, without = Rig(side), set()

        def alternate() -> bool:
            without.add(rig.send(None))
            rig.send(mask_message())
            return rig.count("frames unpaired") > 2

        side.until(alternate, "unpaired images are counted")
        answered = {stamp_ns(message.header) for message in rig.poses}
        assert answered
        assert not answered & without
        assert {len(message.poses) for message in rig.poses} == {1}


def test_a_mask_that_does_not_fit_is_refused_and_the_image_searched_without() -> None:
    faults = {
        "hint.header.frame_id: expected that of the image, 'camera_optical', got 'elsewhere'": mask_message(),
        "mask.encoding: expected one of mono8, 8UC1, got 'rgb8'": image_message(),
        "regions: expected masks of shape (48, 64), got (24, 64)": mask_message(),
    }
    elsewhere, _, half = faults.values()
    elsewhere.header.frame_id = "elsewhere"
    half.height, half.data = HEIGHT // 2, half.data[: HEIGHT * WIDTH // 2]
    with camera() as side, node_process("-p", "hint:=mask", "-p", "pairing.fallback_after_s:=1000.0") as process:
        rig = Rig(side)
        for refused, mask in enumerate(faults.values()):
            rig.send_until(2, mask)
            rig.side.until(lambda refused=refused: rig.count("hints refused") > refused, "the refusal is counted")
            rig.send_until(1, mask_message())
        process.send_signal(signal.SIGINT)
        printed = output_after_end(process)
    assert f"image searched without: {next(iter(faults))}" in printed  # the others within seconds: throttled


@_WITHOUT_VISION_MSGS
def test_a_node_says_why_it_cannot_take_detections() -> None:
    assert "hint: detections needs vision_msgs, which is not installed" in why_it_cannot_start("hint:=detections")
