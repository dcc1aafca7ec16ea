"""The camera's motion from TF, on its way to the tracker; a stand-in takes the place of tf2_ros."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings

pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")

import tf2_ros_stand_in
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseArray, TransformStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from ros_support import (
    ScriptedEstimator,
    ScriptedTracker,
    camera,
    image_message,
    info_message,
    why_it_cannot_start,
)
from strategies import transforms

from category_pose_ros.geometry import SE3
from category_pose_ros.records import Frame, Track
from category_pose_ros.ros.camera_motion import CameraMotion
from category_pose_ros.ros.conversions import pose_messages
from category_pose_ros.ros.node import EstimatorNode
from category_pose_ros.ros.pairing import Capture
from category_pose_ros.ros.parameters import NodeConfig
from category_pose_ros.ros.pipeline import Answer, Job, Loaded, Pipeline

STAMP_NS = 5_000_000_006
HEADER = image_message(stamp_ns=STAMP_NS).header
FORWARD = SE3(torch.eye(3, dtype=torch.float64), torch.tensor([0.0, 0.0, 1.5], dtype=torch.float64))


@pytest.fixture(autouse=True)
def _tf2_ros(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tf2_ros", tf2_ros_stand_in)
    monkeypatch.setattr(tf2_ros_stand_in.TransformListener, "listening", [])


class WatchedTracker(ScriptedTracker):
    """Keeps what it is told about the camera."""

    def __init__(self) -> None:
        super().__init__(ScriptedEstimator(NodeConfig()))
        self.told: list[SE3 | None] = []

    def update(self, frame: Frame, world_from_camera: SE3 | None = None) -> list[Track]:
        self.told.append(world_from_camera)
        return super().update(frame, world_from_camera)


def transform(world_from_camera: SE3, fixed_frame: str = "odom") -> TransformStamped:
    """What TF says of the camera at the time of the image."""
    (pose,) = pose_messages([world_from_camera])
    message = TransformStamped(header=image_message(stamp_ns=STAMP_NS).header, child_frame_id=HEADER.frame_id)
    message.header.frame_id = fixed_frame
    message.transform.translation.x = pose.position.x
    message.transform.translation.y = pose.position.y
    message.transform.translation.z = pose.position.z
    message.transform.rotation = pose.orientation
    return message


def motion() -> tuple[CameraMotion, Any]:
    """What the node asks, and the buffer behind it."""
    asked = CameraMotion(None, "odom")  # type: ignore[arg-type]  # the stand-in subscribes to nothing
    return asked, tf2_ros_stand_in.TransformListener.listening[-1].buffer


def handled(asked: CameraMotion) -> tuple[Answer, list[SE3 | None]]:
    """The answer to an image, and what the tracker was told."""
    tracker = WatchedTracker()
    pipeline = Pipeline(NodeConfig(), Loaded(tracker.estimator, tracker))
    capture = Capture(image_message(2, STAMP_NS), info_message(), received_s=0.0)
    return pipeline.handle(Job(capture, camera_motion=asked)), tracker.told


@given(world_from_camera=transforms())
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_tracker_is_told_where_the_camera_was_when_the_image_was_taken(world_from_camera: SE3) -> None:
    asked, buffer = motion()
    buffer.hear(transform(world_from_camera))
    answer, (told,) = handled(asked)
    assert answer.motion_fault is None
    assert told is not None
    torch.testing.assert_close(told.matrix(), world_from_camera.matrix(), atol=1e-7, rtol=0)


def test_a_transform_that_is_under_way_is_waited_for() -> None:
    asked, buffer = motion()
    earlier = transform(SE3.identity())
    earlier.header.stamp.sec -= 1
    buffer.hear(earlier)
    buffer.under_way.append(transform(FORWARD))
    assert float(asked.world_from_camera(HEADER).translation[2]) == 1.5
    assert 0 < buffer.waited.nanoseconds <= 100_000_000


def test_a_frame_that_nobody_knows_is_not_waited_for_and_the_image_is_tracked_without() -> None:
    asked, buffer = motion()
    buffer.hear(transform(FORWARD, fixed_frame="map"))
    answer, told = handled(asked)
    assert (len(answer.tracks), told) == (2, [None])
    expected = "fixed_frame: no transform from 'camera_optical': \"camera_optical\" passed to lookupTransform"
    assert answer.motion_fault is not None
    assert answer.motion_fault.startswith(expected)
    assert buffer.waited.nanoseconds == 0


def test_the_node_listens_to_tf_while_it_is_active_and_counts_what_is_missing() -> None:
    listening, tracker = tf2_ros_stand_in.TransformListener.listening, WatchedTracker()
    with camera() as side:
        fixed_frame = Parameter("fixed_frame", value="odom")
        node = EstimatorNode(
            lambda *_: Loaded(tracker.estimator, tracker), context=side.context, parameter_overrides=[fixed_frame]
        )
        poses, diagnostics = side.collect(PoseArray, "/estimator/poses"), side.collect(DiagnosticArray, "/diagnostics")
        executor = SingleThreadedExecutor(context=side.context)
        executor.add_node(node)

        def send(stamp_ns: int) -> None:
            side.infos.publish(info_message())
            side.images.publish(image_message(1, stamp_ns))
            executor.spin_once(timeout_sec=0.05)
            side.executor.spin_once(timeout_sec=0.05)

        def missing() -> int:
            values = {item.key: item.value for item in diagnostics[-1].status[0].values} if diagnostics else {}
            return int(values.get("camera poses missing", 0))

        def is_told() -> bool:
            send(STAMP_NS)
            return tracker.told[-1] is not None

        try:
            assert not listening
            assert node.start()
            assert [item.node for item in listening] == [node]
            side.until(lambda: send(0) or (poses and missing()), "poses come, and what is missing is counted")
            assert set(tracker.told) == {None}
            listening[0].buffer.hear(transform(FORWARD))
            side.until(is_told, "the tracker is told where the camera is")
            node.trigger_deactivate()
            assert not listening
        finally:
            node.close()
            executor.shutdown()
            node.destroy_node()


@pytest.mark.skipif(find_spec("tf2_ros") is not None, reason="tf2_ros is installed")
def test_a_node_without_tf2_ros_says_why_it_cannot_allow_for_the_cameras_motion() -> None:
    assert "fixed_frame: needs tf2_ros, which is not installed" in why_it_cannot_start("fixed_frame:=odom")
