"""The services, called over DDS."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseArray
from rclpy.executors import SingleThreadedExecutor
from ros_support import (
    FIRST_TRACK_ID,
    PATIENCE_S,
    Camera,
    ScriptedEstimator,
    ScriptedTracker,
    camera,
    has_deletion,
    image_message,
    node_process,
)
from std_srvs.srv import SetBool, Trigger
from visualization_msgs.msg import MarkerArray

from category_pose_ros.records import Frame, ObjectEstimate
from category_pose_ros.ros.control import Control, Use
from category_pose_ros.ros.markers import tracks_from_markers
from category_pose_ros.ros.node import EstimatorNode
from category_pose_ros.ros.parameters import NodeConfig
from category_pose_ros.ros.pipeline import Loaded


class Services:
    """Takes note of what a node would offer."""

    def __init__(self) -> None:
        self.callbacks: dict[str, Callable[..., Any]] = {}

    def create_service(self, _: type, name: str, callback: Callable[..., Any]) -> None:
        self.callbacks[name] = callback


@pytest.fixture
def side() -> Iterator[Camera]:
    with camera() as side:
        yield side


def enable(side: Camera, on: bool) -> SetBool.Response:
    return side.call("enable", SetBool.Request(data=on))


def is_quiet(side: Camera, poses: list[PoseArray]) -> bool:
    """Whether images are sent for a second and none is answered."""
    side.drain(poses)
    for _ in range(10):
        side.images.publish(image_message())
        side.executor.spin_once(timeout_sec=0.1)
    return not poses


def test_a_disabled_node_ignores_images_until_it_is_enabled_again(side: Camera) -> None:
    poses, markers = side.collect(PoseArray, "/estimator/poses"), side.collect(MarkerArray, "/estimator/markers")
    diagnostics = side.collect(DiagnosticArray, "/diagnostics")
    with node_process():
        side.send_until(image_message(), lambda: poses and markers, "poses come")
        assert enable(side, False).success
        side.until(lambda: has_deletion(markers), "the markers are deleted")
        assert is_quiet(side, poses)
        assert side.state() == "active"
        side.until(lambda: diagnostics and diagnostics[-1].status[0].message == "disabled", "diagnostics say it")
        assert enable(side, True).success
        side.send_until(image_message(), lambda: poses, "poses come again")


def test_a_disabled_node_estimates_one_image_on_request(side: Camera) -> None:
    poses, markers = side.collect(PoseArray, "/estimator/poses"), side.collect(MarkerArray, "/estimator/markers")
    with node_process():
        side.send_until(image_message(), lambda: poses, "poses come")
        enable(side, False)
        assert is_quiet(side, poses)
        markers.clear()
        assert side.call("detect_once", Trigger.Request()).success
        side.send_until(image_message(2), lambda: poses and markers, "poses of one image come")
        assert len(poses[0].poses) == 2
        # One look has no history: objects are numbered anew, and not by the tracker.
        assert [track.track_id for track in tracks_from_markers(markers[-1])] == [1, 2]
        assert is_quiet(side, poses)


def test_a_request_outlives_an_image_that_cannot_be_used_but_no_image_from_before_it_will_do() -> None:
    services = Services()
    control = Control(services, lambda: True, lambda: None)  # type: ignore[arg-type]
    before_s = time.monotonic()
    assert control.use_of_image(before_s) is Use.TRACKING
    control.enabled = False
    services.callbacks["~/detect_once"](None, Trigger.Response())
    assert control.use_of_image(before_s) is Use.NOTHING
    assert control.use_of_image(time.monotonic()) is Use.ONE_LOOK
    assert control.use_of_image(time.monotonic()) is Use.NOTHING
    control.ask_again()
    assert control.use_of_image(time.monotonic()) is Use.ONE_LOOK


class SlowEstimator(ScriptedEstimator):
    """Takes its time for an image of objects."""

    def __init__(self) -> None:
        super().__init__(NodeConfig())
        self.begun, self.go = threading.Event(), threading.Event()

    def estimate(self, frame: Frame) -> list[ObjectEstimate]:
        found = super().estimate(frame)
        if found:
            self.begun.set()
            assert self.go.wait(PATIENCE_S)
        return found


def test_a_request_whose_image_a_reset_forgets_is_met_by_another(side: Camera) -> None:
    estimator = SlowEstimator()
    node = EstimatorNode(lambda *_: Loaded(estimator, ScriptedTracker(estimator)), context=side.context)
    executor = SingleThreadedExecutor(context=side.context)
    executor.add_node(node)
    spinning = threading.Thread(target=executor.spin)
    poses = side.collect(PoseArray, "/estimator/poses")
    assert node.start()
    spinning.start()
    try:
        enable(side, False)
        assert side.call("detect_once", Trigger.Request()).success
        side.send_until(image_message(), estimator.begun.is_set, "the image is under way")
        assert side.call("reset", Trigger.Request()).success
        estimator.go.set()
        side.send_until(image_message(), lambda: poses, "poses of another image come")
    finally:
        estimator.go.set()
        executor.shutdown()
        spinning.join()
        node.close()
        node.destroy_node()


def test_a_request_to_an_enabled_node_changes_nothing(side: Camera) -> None:
    markers = side.collect(MarkerArray, "/estimator/markers")
    with node_process():
        side.send_until(image_message(), lambda: markers, "markers come")
        assert side.call("detect_once", Trigger.Request()).success
        markers.clear()
        side.send_until(image_message(), lambda: markers, "markers come")
        assert tracks_from_markers(markers[0])[0].track_id == FIRST_TRACK_ID


def test_a_reset_deletes_what_is_shown(side: Camera) -> None:
    markers = side.collect(MarkerArray, "/estimator/markers")
    with node_process():
        side.send_until(image_message(), lambda: markers, "markers come")
        answer = side.call("reset", Trigger.Request())
        assert (answer.success, answer.message) == (True, "all tracks are forgotten")
        side.until(lambda: has_deletion(markers), "the markers are deleted")


def test_services_of_a_node_that_is_not_active_say_so(side: Camera) -> None:
    with node_process("-p", "autostart:=false"):
        answer = side.call("detect_once", Trigger.Request())
        assert (answer.success, answer.message) == (False, "the node is not active: activate it first")
        assert not side.call("reset", Trigger.Request()).success
        assert enable(side, False).success  # counts once it is active
