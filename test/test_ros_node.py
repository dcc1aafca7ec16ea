"""The node in its own process, spoken to over DDS."""

from __future__ import annotations

import signal
from array import array
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseArray
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import Log, Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import DescribeParameters, ListParameters, SetParameters
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from ros_support import (
    FIRST_TRACK_ID,
    Camera,
    camera,
    compressed_message,
    has_deletion,
    image_message,
    info_message,
    node_process,
    output_after_end,
    was_sent,
    why_it_cannot_start,
)
from sensor_msgs.msg import CameraInfo, CompressedImage
from visualization_msgs.msg import MarkerArray

from category_pose_ros.config import describe
from category_pose_ros.data.messages import stamp_ns
from category_pose_ros.records import SECOND_NS
from category_pose_ros.ros.conversions import pose_from_message
from category_pose_ros.ros.markers import tracks_from_markers
from category_pose_ros.ros.parameters import NodeConfig

STAMP_NS = 1_700_000_000_123_456_789
TRANSIENT_LOCAL = DurabilityPolicy.TRANSIENT_LOCAL
LOGS = QoSProfile(depth=100, durability=TRANSIENT_LOCAL)  # as rosout is published


@pytest.fixture
def side() -> Iterator[Camera]:
    with camera() as side:
        yield side


def set_parameter(side: Camera, name: str, **value: Any) -> Any:
    kind = {
        "double_value": ParameterType.PARAMETER_DOUBLE,
        "string_value": ParameterType.PARAMETER_STRING,
        "integer_value": ParameterType.PARAMETER_INTEGER,
        "string_array_value": ParameterType.PARAMETER_STRING_ARRAY,
    }[next(iter(value))]
    request = SetParameters.Request(parameters=[Parameter(name=name, value=ParameterValue(type=kind, **value))])
    return side.call("set_parameters", request).results[0]


def dropped(diagnostics: list[DiagnosticArray], reason: str) -> int:
    return counted(diagnostics, f"frames dropped, {reason}")


def counted(diagnostics: list[DiagnosticArray], key: str) -> int:
    if not diagnostics:
        return 0
    values = {item.key: item.value for item in diagnostics[-1].status[0].values}
    return int(values.get(key, 0))


def test_an_image_goes_in_and_poses_come_out_with_its_stamp_and_frame(side: Camera) -> None:
    poses, markers = side.collect(PoseArray, "/estimator/poses"), side.collect(MarkerArray, "/estimator/markers")
    with node_process() as process:
        side.send_until(image_message(2, STAMP_NS), lambda: poses and markers, "poses and markers come")
        assert was_sent(poses[0].header, image_message(2, STAMP_NS).header)
        assert len(poses[0].poses) == 2
        said = [track.estimate.camera_from_object for track in tracks_from_markers(markers[0])]
        torch.testing.assert_close(
            torch.stack([pose.matrix() for pose in said]),
            torch.stack([pose_from_message(pose).matrix() for pose in poses[0].poses]),
        )
        side.send_until(image_message(0), lambda: poses[-1].poses == [], "an empty array comes for an empty scene")
        side.until(lambda: has_deletion(markers), "the markers are deleted")
        process.send_signal(signal.SIGINT)
        printed = output_after_end(process)
    assert process.returncode == 0, printed
    assert "Traceback" not in printed


@pytest.mark.parametrize("autostart", ["true", "false"])
def test_a_signal_ends_a_node_that_is_loading_and_takes_it_off_the_graph(autostart: str) -> None:
    # Under a name of its own: nodes of other tests that were killed stay on the graph for a while.
    name = f"loading_{autostart}"
    arguments = ["-r", f"__node:={name}", "-p", "categories:=['snail']", "-p", f"autostart:={autostart}"]
    with camera(f"/{name}") as side, node_process(*arguments) as process:
        if autostart == "false":
            assert side.state() == "unconfigured"
            request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
            side.node.create_client(ChangeState, f"/{name}/change_state").call_async(request)
        logs: list[Log] = []
        side.node.create_subscription(Log, "/rosout", logs.append, LOGS)
        is_loading = lambda: any(log.name == name and "loading the model" in log.msg for log in logs)  # noqa: E731
        side.until(is_loading, "the model is being loaded")
        side.until(lambda: name in side.node.get_node_names(), "the node is on the graph")
        process.send_signal(signal.SIGINT)
        printed = output_after_end(process)
        side.until(lambda: name not in side.node.get_node_names(), "the node leaves the graph")
    assert process.returncode == 0, printed
    assert "Traceback" not in printed


def test_sigterm_ends_an_idle_node_cleanly(side: Camera) -> None:
    with node_process() as process:
        side.until_listening()
        process.send_signal(signal.SIGTERM)
        printed = output_after_end(process)
    assert process.returncode == 0, printed
    assert "Traceback" not in printed


def test_images_before_camera_info_are_dropped_and_counted(side: Camera) -> None:
    poses, diagnostics = side.collect(PoseArray, "/estimator/poses"), side.collect(DiagnosticArray, "/diagnostics")
    with node_process() as process:
        count = lambda: dropped(diagnostics, "no camera_info yet")  # noqa: E731
        side.send_until(image_message(), count, "the drop is counted", info=False)
        assert not poses
        side.send_until(image_message(), lambda: poses, "poses come once camera_info is there")
        process.send_signal(signal.SIGINT)
        assert "no camera_info on /camera_info yet" in output_after_end(process)


def test_a_damaged_compressed_image_is_dropped_and_the_node_goes_on(side: Camera) -> None:
    poses, diagnostics = side.collect(PoseArray, "/estimator/poses"), side.collect(DiagnosticArray, "/diagnostics")
    images = side.node.create_publisher(CompressedImage, "image/compressed", QoSProfile(depth=10))
    whole, damaged = compressed_message(), compressed_message()
    damaged.data[16:24] = array("B", b"\xff" * 8)  # width and height in the header of a PNG
    with node_process("-p", "image_transport:=compressed"):
        for message, happened in ((damaged, lambda: dropped(diagnostics, "unusable")), (whole, lambda: poses)):

            def send(message: CompressedImage = message, happened: Callable[[], Any] = happened) -> Any:
                side.infos.publish(info_message())
                images.publish(message)
                side.executor.spin_once(timeout_sec=0.1)
                return happened()

            side.until(send, "the image is dropped, then poses come")


@pytest.mark.parametrize("fault", ["size", "encoding", "calibration"])
def test_an_unusable_frame_is_dropped_and_the_node_goes_on(side: Camera, fault: str) -> None:
    poses, diagnostics = side.collect(PoseArray, "/estimator/poses"), side.collect(DiagnosticArray, "/diagnostics")
    image, info = image_message(), info_message()
    if fault == "size":
        info.width = 1280
    if fault == "encoding":
        image.encoding = "rgb9"
    if fault == "calibration":
        info.k = [0.0] * 9
    expected = {
        "size": "image: expected the 1280x48 of camera_info, got 64x48",
        "encoding": "got 'rgb9'",
        "calibration": "camera_info.k: fx: expected a positive number of pixels, got 0.0",
    }[fault]
    with node_process() as process:

        def send_and_count() -> int:
            side.infos.publish(info)
            side.images.publish(image)
            side.executor.spin_once(timeout_sec=0.1)
            return dropped(diagnostics, "unusable")

        side.until(send_and_count, "the drop is counted")
        assert not poses
        side.send_until(image_message(), lambda: poses, "the node goes on")
        process.send_signal(signal.SIGINT)
        assert expected in output_after_end(process)


@pytest.mark.parametrize(("bug", "kind"), [(1, "RuntimeError"), (2, "ValueError")])
def test_a_bug_in_the_estimator_ends_the_process_with_its_traceback(side: Camera, bug: int, kind: str) -> None:
    with node_process() as process:
        side.send_until(image_message(bug=bug), lambda: process.poll() is not None, "the node ends")
        printed = output_after_end(process)
    assert process.returncode == 1
    assert f"{kind}: a bug in the estimator" in printed


def test_images_without_a_stamp_are_tracked_by_when_they_arrive_and_counted(side: Camera) -> None:
    poses, diagnostics = side.collect(PoseArray, "/estimator/poses"), side.collect(DiagnosticArray, "/diagnostics")
    with node_process() as process:
        side.send_until(
            image_message(), lambda: poses and counted(diagnostics, "images without stamp"), "it is counted"
        )
        assert poses[0].header.stamp == image_message().header.stamp
        process.send_signal(signal.SIGINT)
        assert "image.header.stamp: expected a time, got 0" in output_after_end(process)


def test_an_image_that_comes_after_a_younger_one_is_dropped_and_one_of_another_time_is_not(side: Camera) -> None:
    poses, diagnostics = side.collect(PoseArray, "/estimator/poses"), side.collect(DiagnosticArray, "/diagnostics")
    stamps = lambda: {stamp_ns(message.header) for message in poses}  # noqa: E731
    with node_process():
        side.send_until(image_message(1, STAMP_NS), lambda: poses, "poses come")
        late_ns = STAMP_NS - 100_000_000
        side.send_until(image_message(1, late_ns), lambda: dropped(diagnostics, "late"), "the late image is counted")
        again = STAMP_NS - 10_000_000_000
        side.send_until(image_message(1, again), lambda: min(stamps()) < late_ns, "a bag that loops is answered")
        assert all(stamp >= STAMP_NS or stamp < again + SECOND_NS for stamp in stamps())


def test_the_life_cycle_can_be_walked_several_times(side: Camera) -> None:
    poses = side.collect(PoseArray, "/estimator/poses")
    with node_process("-p", "autostart:=false"):
        assert side.state() == "unconfigured"
        for _ in range(3):
            assert side.transition("configure")
            assert side.state() == "inactive"
            assert side.transition("activate")
            assert side.state() == "active"
            poses.clear()
            side.send_until(image_message(), lambda: poses, "poses come")
            assert side.transition("deactivate")
            assert side.transition("cleanup")
        assert side.state() == "unconfigured"
        assert side.transition("shutdown")
        assert side.state() == "finalized"
        assert State.PRIMARY_STATE_FINALIZED == 4


def test_nothing_comes_out_of_an_inactive_node(side: Camera) -> None:
    poses = side.collect(PoseArray, "/estimator/poses")
    with node_process():
        side.send_until(image_message(), lambda: poses, "poses come")
        assert side.transition("deactivate")
        side.until(lambda: side.images.get_subscription_count() == 0, "the node unsubscribes")
        side.drain(poses)
        side.images.publish(image_message())
        side.executor.spin_once(timeout_sec=1.0)
        assert not poses


def test_every_setting_is_a_described_parameter(side: Camera) -> None:
    with node_process():
        names = side.call("list_parameters", ListParameters.Request()).result.names
        settings = {item.name: item for item in describe(NodeConfig)}
        assert set(settings) <= set(names)
        request = DescribeParameters.Request(names=list(settings))
        for item in side.call("describe_parameters", request).descriptors:
            assert item.description == settings[item.name].description
            ranged = settings[item.name].minimum is not None
            assert bool(item.floating_point_range or item.integer_range) == ranged


def test_parameters_change_while_running_or_are_refused_with_the_reason(side: Camera) -> None:
    poses = side.collect(PoseArray, "/estimator/poses")
    with node_process():
        side.send_until(image_message(), lambda: poses and poses[-1].poses, "an object is seen")
        assert set_parameter(side, "estimator.score_threshold", double_value=0.9).successful
        side.send_until(image_message(), lambda: poses[-1].poses == [], "the new threshold counts")
        refused = set_parameter(side, "method", string_value="neural_mesh_2")
        assert "method: expected one of" in refused.reason
        refused = set_parameter(side, "image_transport", string_value="compressed")
        assert refused.reason == "image_transport: can only change while unconfigured"
        refused = set_parameter(side, "estimator.score_threshold", double_value=1.5)
        assert not refused.successful
        assert "1" in refused.reason
        assert side.transition("deactivate")
        assert side.transition("cleanup")
        assert set_parameter(side, "image_transport", string_value="compressed").successful
        assert set_parameter(side, "categories", string_array_value=["mug"]).successful
        assert set_parameter(side, "categories", string_array_value=[]).successful


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("colour:=red", "colour: unknown setting"),
        ("tracker.confirm_after:=0", "tracker.confirm_after: expected at least 1, got 0"),
        ("categories:=7", "categories: expected list, got 7"),
        ("pairing.fallback_after_s:=.inf", "pairing.fallback_after_s: expected a finite number, got inf"),
        ("image_transport:=7", "image_transport: expected str, got 7"),
        ("categories:=['dragon']", "cannot load the model: categories: expected one of mug, can, got 'dragon'"),
    ],
)
def test_a_node_that_cannot_start_says_why_and_fails(argument: str, expected: str) -> None:
    assert expected in why_it_cannot_start(argument)


def test_categories_change_while_running_and_unknown_ones_are_refused(side: Camera) -> None:
    markers = side.collect(MarkerArray, "/estimator/markers")

    def category() -> str | None:
        tracks = tracks_from_markers(markers[-1]) if markers else []
        return tracks[0].estimate.category if tracks else None

    with node_process():
        side.send_until(image_message(), lambda: category() == "mug", "a mug is seen")
        assert set_parameter(side, "categories", string_array_value=["can"]).successful
        side.send_until(image_message(), lambda: category() == "can", "a can is seen")
        refused = set_parameter(side, "categories", string_array_value=["dragon"])
        assert refused.reason == "categories: expected one of mug, can, got 'dragon'"
        markers.clear()
        side.send_until(image_message(), lambda: category() == "can", "the node goes on as before")
        # The can is another object than the mug was, but the same as before the setting that concerns neither.
        assert {track.track_id for message in markers for track in tracks_from_markers(message)} == {FIRST_TRACK_ID + 1}
        assert set_parameter(side, "threads", integer_value=1).successful
        markers.clear()
        side.send_until(image_message(), lambda: markers, "markers come")
        assert tracks_from_markers(markers[-1])[0].track_id == FIRST_TRACK_ID + 1


def test_a_failed_configuration_leaves_a_node_that_can_be_configured_again(side: Camera) -> None:
    with node_process("-p", "autostart:=false", "-p", "categories:=['dragon']"):
        assert not side.transition("configure")
        assert side.state() == "unconfigured"
        assert set_parameter(side, "categories", string_array_value=[]).successful
        assert side.transition("configure")


def test_quality_of_service_and_names_can_be_overridden(side: Camera) -> None:
    poses: list[PoseArray] = []
    side.node.create_subscription(PoseArray, "/robot/estimator/poses", poses.append, qos_profile_sensor_data)
    reliable = "qos_overrides./image.subscription.reliability:=reliable"
    best_effort = "qos_overrides./robot/estimator/poses.publisher.reliability:=best_effort"
    arguments = [
        "-p",
        "qos_overrides./imgae.subscription.reliability:=reliable",
        "-p",
        reliable,
        "-p",
        best_effort,
        "-r",
        "__ns:=/robot",
        "-r",
        "image:=/image",
        "-r",
        "camera_info:=/camera_info",
    ]
    with node_process(*arguments) as process:
        side.send_until(image_message(), lambda: poses, "poses come")
        subscriptions = side.node.get_subscriptions_info_by_topic
        assert side.reliability(subscriptions, "/image", "/robot/estimator") == "RELIABLE"
        assert side.reliability(subscriptions, "/camera_info", "/robot/estimator") == "BEST_EFFORT"
        publishers = side.node.get_publishers_info_by_topic
        assert side.reliability(publishers, "/robot/estimator/poses", "/robot/estimator") == "BEST_EFFORT"
        process.send_signal(signal.SIGINT)
        assert "no such topic or policy: qos_overrides./imgae.subscription.reliability" in output_after_end(process)


def test_a_camera_info_that_was_published_once_is_heard_where_it_is_asked_for(side: Camera) -> None:
    poses = side.collect(PoseArray, "/estimator/poses")
    info = side.node.create_publisher(CameraInfo, "camera_info", QoSProfile(depth=1, durability=TRANSIENT_LOCAL))
    info.publish(info_message())
    policies = {"reliability": "reliable", "durability": "transient_local"}
    asked = [f"qos_overrides./camera_info.subscription.{name}:={value}" for name, value in policies.items()]
    with node_process("-p", asked[0], "-p", asked[1]):
        side.send_until(image_message(), lambda: poses, "poses come", info=False)


def test_an_override_of_the_image_leaves_depth_as_it_was(side: Camera) -> None:
    reliable = "qos_overrides./camera_info.subscription.reliability:=reliable"
    with node_process("-p", reliable, "-p", "use_depth:=true", "-r", "__node:=overridden"):
        for topic, expected in (("/camera_info", "RELIABLE"), ("/depth", "BEST_EFFORT"), ("/image", "BEST_EFFORT")):
            assert side.reliability(side.node.get_subscriptions_info_by_topic, topic, "/overridden") == expected
