"""Two nodes side by side, on simulated time."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseArray
from rclpy.qos import QoSProfile
from ros_support import camera, image_message, info_message, node_process
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image

NAMES = ("left", "right")


def test_two_nodes_in_namespaces_work_and_their_topics_do_not_collide() -> None:
    arguments = {name: ["-r", f"__ns:=/{name}"] for name in NAMES}
    with camera("/left/estimator") as side, node_process(*arguments["left"]), node_process(*arguments["right"]):
        poses = {name: side.collect(PoseArray, f"/{name}/estimator/poses") for name in NAMES}
        diagnostics = side.collect(DiagnosticArray, "/diagnostics")
        images = {name: side.node.create_publisher(Image, f"/{name}/image", QoSProfile(depth=10)) for name in NAMES}
        infos = {
            name: side.node.create_publisher(CameraInfo, f"/{name}/camera_info", QoSProfile(depth=10)) for name in NAMES
        }

        def send() -> bool:
            for objects, name in enumerate(NAMES, start=1):
                infos[name].publish(info_message())
                images[name].publish(image_message(objects))
                side.executor.spin_once(timeout_sec=0.05)
            return all(poses.values())

        side.until(send, "both answer")
        assert [{len(message.poses) for message in poses[name]} for name in NAMES] == [{1}, {2}]
        nodes = {f"/{name}/estimator" for name in NAMES}
        side.until(lambda: {item.status[0].name for item in diagnostics} == nodes, "both say how they are")
        own = ["markers", "overlay", "overlay/compressed", "poses", "transition_event"]
        if find_spec("vision_msgs") is not None:
            own.append("detections")
        expected = {f"{node}/{name}" for node in nodes for name in own}

        def published() -> set[str]:
            names = {topic for topic, _ in side.node.get_topic_names_and_types()}
            return {topic for topic in names if topic.startswith(tuple(f"{node}/" for node in nodes))}

        side.until(lambda: published() == expected, "the graph shows the topics of both, and no others")
        assert side.state() == "active"


def test_simulated_time_stamps_diagnostics_and_may_stand_still() -> None:
    with camera() as side, node_process("-p", "use_sim_time:=true"):
        poses, diagnostics = side.collect(PoseArray, "/estimator/poses"), side.collect(DiagnosticArray, "/diagnostics")
        side.until(lambda: diagnostics, "diagnostics come though there is no clock")
        side.send_until(image_message(1, 42_000_000_000), lambda: poses, "poses come though there is no clock")
        assert poses[0].header.stamp.sec == 42
        clock = side.node.create_publisher(Clock, "/clock", QoSProfile(depth=1))
        message = Clock()
        message.clock.sec = 1234

        def is_simulated() -> bool:
            clock.publish(message)
            side.executor.spin_once(timeout_sec=0.1)
            return bool(diagnostics[-1].header.stamp.sec == 1234)

        side.until(is_simulated, "diagnostics carry the simulated time")
