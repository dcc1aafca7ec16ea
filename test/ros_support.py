"""A scripted estimator, the process it runs in, and the other side of the topics.

As a program this is the real node with an estimator that answers by the colour of the image's first pixel:
red = how many objects it sees, green 1 = a bug in the estimator, 2 = one of the kind that NumPy raises. The size of its
objects tells whether the frame came with depth; of a frame with regions it sees no more objects than there are regions.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
import torch
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import DescribeParameters, ListParameters, SetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger
from visualization_msgs.msg import Marker, MarkerArray

from category_pose_ros.data.messages import stamp_ns
from category_pose_ros.geometry import SE3, so3
from category_pose_ros.records import SECOND_NS, Frame, ObjectEstimate, Track, TrackState
from category_pose_ros.ros.node import EstimatorNode, run
from category_pose_ros.ros.parameters import NodeConfig
from category_pose_ros.ros.pipeline import Loaded

WIDTH, HEIGHT = 64, 48
FIRST_TRACK_ID = 7
SIZE_WITH_DEPTH_M = np.array([0.2, 0.2, 0.2])
RESENT_NS = 1000  # by so much is an image that is sent again later than the one before
PATIENCE_S = 120.0  # generous: the machine may be busy
SERVICES = {
    "list_parameters": ListParameters,
    "describe_parameters": DescribeParameters,
    "set_parameters": SetParameters,
    "change_state": ChangeState,
    "reset": Trigger,
    "enable": SetBool,
    "detect_once": Trigger,
    "get_state": GetState,  # last, see Camera._meet
}


def make_track(track_id: int, category: str = "mug", stamp_ns: int = 0) -> Track:
    """A track whose pose depends on its id."""
    rotation = so3.exp(torch.tensor([0.1, 0.2, 0.3 * track_id], dtype=torch.float64))
    pose = SE3(rotation, torch.tensor([0.1 * track_id, 0.2, 0.8], dtype=torch.float64))
    estimate = ObjectEstimate(category, pose, np.array([0.12, 0.08, 0.1]), 0.875, 0.75, np.eye(6) * 1e-4)
    return Track(track_id, TrackState.CONFIRMED, estimate, stamp_ns)


class ScriptedEstimator:
    device = "a device"

    def __init__(self, config: NodeConfig) -> None:
        if "dragon" in config.categories:
            raise ValueError("categories: expected one of mug, can, got 'dragon'")
        if "snail" in config.categories:
            time.sleep(PATIENCE_S)
        self.categories = config.categories or ("mug", "can")
        self.min_score = config.estimator.score_threshold

    def estimate(self, frame: Frame) -> list[ObjectEstimate]:
        objects, bug = int(frame.rgb[0, 0, 0]), int(frame.rgb[0, 0, 1])
        if bug:
            raise (RuntimeError if bug == 1 else ValueError)("a bug in the estimator")
        category = self.categories[0]
        found = [make_track(number, category).estimate for number in range(1, objects + 1)]
        if frame.depth is not None:
            found = [replace(item, size_m=SIZE_WITH_DEPTH_M) for item in found]
        if frame.regions is not None:
            found = found[: len(frame.regions)]
        return [item for item in found if item.score >= self.min_score]


class ScriptedTracker:
    """Confirms at once; unlike those of one look its tracks count from FIRST_TRACK_ID, and on after a change."""

    def __init__(self, estimator: ScriptedEstimator) -> None:
        self.estimator = estimator
        self.next_id = FIRST_TRACK_ID
        self._first_id: int | None = None

    def update(self, frame: Frame, world_from_camera: SE3 | None = None) -> list[Track]:
        estimates = self.estimator.estimate(frame)
        if self._first_id is None and estimates:
            self._first_id = self.next_id
            self.next_id += len(estimates)
        return [
            Track(number, TrackState.CONFIRMED, estimate, frame.stamp_ns)
            for number, estimate in enumerate(estimates, start=self._first_id or self.next_id)
        ]

    def lost(self) -> list[Track]:
        return []

    def reset(self) -> None:
        pass


def load_scripted(config: NodeConfig, estimator: ScriptedEstimator | None = None) -> Loaded:
    estimator = estimator or ScriptedEstimator(config)
    return Loaded(estimator, ScriptedTracker(estimator))


def image_message(objects: int = 1, stamp_ns: int = 0, bug: int = 0) -> Image:
    rgb = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    rgb[0, 0, :2] = objects, bug
    message = Image(height=HEIGHT, width=WIDTH, encoding="rgb8", step=3 * WIDTH)
    message.data = array("B", rgb.tobytes())
    message.header.frame_id = "camera_optical"
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
    return message


def compressed_message(objects: int = 1, stamp_ns: int = 0) -> CompressedImage:
    """The same image as a PNG, which keeps the first pixel."""
    raw = image_message(objects, stamp_ns)
    rgb = np.frombuffer(raw.data, np.uint8).reshape(HEIGHT, WIDTH, 3)
    message = CompressedImage(header=raw.header, format="rgb8; png compressed bgr8")
    message.data = array("B", cv2.imencode(".png", rgb[..., ::-1])[1].tobytes())
    return message


def depth_message(stamp_ns: int = 0, millimetres: int = 800) -> Image:
    depth = np.full((HEIGHT, WIDTH), millimetres, np.uint16)
    message = Image(height=HEIGHT, width=WIDTH, encoding="16UC1", step=2 * WIDTH)
    message.header = image_message(stamp_ns=stamp_ns).header
    message.data = array("B", depth.tobytes())
    return message


def mask_message(stamp_ns: int = 0) -> Image:
    """A mask whose left half is an object."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:, : WIDTH // 2] = 3
    message = Image(height=HEIGHT, width=WIDTH, encoding="mono8", step=WIDTH)
    message.header = image_message(stamp_ns=stamp_ns).header
    message.data = array("B", mask.tobytes())
    return message


def info_message(width: int = WIDTH, height: int = HEIGHT) -> CameraInfo:
    info = CameraInfo(width=width, height=height, distortion_model="plumb_bob", d=[0.0] * 5)
    info.k = [60.0, 0.0, 31.5, 0.0, 61.0, 23.5, 0.0, 0.0, 1.0]
    info.p = [50.0, 0.0, 30.5, 0.0, 0.0, 51.0, 22.5, 0.0, 0.0, 0.0, 1.0, 0.0]
    return info


class Camera:
    """The other side of a node: publishes images, and keeps what the node publishes."""

    def __init__(self, node: str) -> None:
        self.context = Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node("test_camera", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.images = self.node.create_publisher(Image, "image", QoSProfile(depth=10))
        self.depths = self.node.create_publisher(Image, "depth", QoSProfile(depth=10))
        self.masks = self.node.create_publisher(Image, "mask", QoSProfile(depth=10))
        self.infos = self.node.create_publisher(CameraInfo, "camera_info", QoSProfile(depth=10))
        self._clients = {name: self.node.create_client(kind, f"{node}/{name}") for name, kind in SERVICES.items()}
        self._met = False

    def collect(self, message_type: Any, topic: str) -> list[Any]:
        """A list that grows with what arrives on a topic."""
        received: list[Any] = []
        self.node.create_subscription(message_type, topic, received.append, QoSProfile(depth=50))
        return received

    def until(self, happened: Callable[[], Any], what: str) -> Any:
        """Spin until something happens; its truthy value."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if value := happened():
                return value
            self.executor.spin_once(timeout_sec=0.05)
        raise AssertionError(f"waited {PATIENCE_S} s in vain until {what}")

    def drain(self, received: list[Any]) -> None:
        """Forget what was received and what is still under way over DDS: until nothing has come for half a second."""
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < 0.5:
            self.executor.spin_once(timeout_sec=0.1)
            if received:
                received.clear()
                quiet_since = time.monotonic()

    def send_until(self, message: Image, happened: Callable[[], Any], what: str, info: bool = True) -> Any:
        """Publish an image (and its camera_info) over and over, as a camera does.

        If it has a stamp, each time with a later one.
        """

        def send_and_ask() -> Any:
            if stamp_ns(message.header):
                make_later(message.header)
            if info:
                self.infos.publish(info_message())
            self.images.publish(message)
            self.executor.spin_once(timeout_sec=0.1)
            return happened()

        return self.until(send_and_ask, what)

    def call(self, service: str, request: Any) -> Any:
        """The node's answer to a request to one of SERVICES."""
        if not self._met:
            self._meet()
        client = self._clients[service]
        self.until(client.service_is_ready, f"{client.srv_name} is offered")
        future = client.call_async(request)
        self.until(future.done, f"{client.srv_name} answers")
        return future.result()

    def _meet(self) -> None:
        """Ask for the state until the node answers.

        A server drops its answer where it has not discovered the client's reader yet, however ready the service
        looks from here. Readers are discovered in the order in which they were made, and GetState's was the last:
        once it gets an answer, all will.
        """
        client = self._clients["get_state"]
        deadline = time.monotonic() + PATIENCE_S
        while not self._met:
            assert time.monotonic() < deadline, f"waited {PATIENCE_S} s in vain for the node's state"
            future = client.call_async(GetState.Request())
            attempt_end = time.monotonic() + 2.0
            while not future.done() and time.monotonic() < attempt_end:
                self.executor.spin_once(timeout_sec=0.1)
            self._met = future.done()

    def state(self) -> str:
        return str(self.call("get_state", GetState.Request()).current_state.label)

    def transition(self, label: str) -> bool:
        request = ChangeState.Request()
        request.transition.label = label
        return bool(self.call("change_state", request).success)

    def reliability(self, endpoints: Callable[[str], list[Any]], topic: str, node: str) -> str:
        """That of the one endpoint of a node (name with its namespace) among those that `endpoints` gives for a topic.

        Messages arrive before the graph says whose endpoint they come from, and nodes of other tests that were killed
        stay on it for a while.
        """

        def found() -> list[str]:
            own = [each for each in endpoints(topic) if f"{each.node_namespace.rstrip('/')}/{each.node_name}" == node]
            return [each.qos_profile.reliability.name for each in own]

        (said,) = self.until(found, f"the graph shows {node} on {topic}")
        return str(said)

    def until_listening(self) -> None:
        self.until(lambda: self.images.get_subscription_count(), "the node subscribes")

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


def make_later(header: Header) -> None:
    """For an image that is sent again.

    The answer to the one before may be lost, since the node may not have discovered the test's subscription yet, and
    an image of the same time is late.
    """
    header.stamp.sec, header.stamp.nanosec = divmod(stamp_ns(header) + RESENT_NS, SECOND_NS)


def was_sent(header: Header, first: Header) -> bool:
    """Whether it is the first header, or one that was made later from it."""
    after_ns = stamp_ns(header) - stamp_ns(first)
    return bool(header.frame_id == first.frame_id and after_ns in range(0, SECOND_NS, RESENT_NS))


def has_deletion(messages: list[MarkerArray]) -> bool:
    """Whether any of what was received deletes a marker: later answers may already have come."""
    return any(marker.action == Marker.DELETE for message in messages for marker in message.markers)


@contextmanager
def camera(node: str = "/estimator") -> Iterator[Camera]:
    side = Camera(node)
    try:
        yield side
    finally:
        side.close()


@contextmanager
def node_process(*ros_arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The node with the scripted tracker in a process of its own; killed at the end."""
    command = [sys.executable, str(Path(__file__)), "--ros-args", *ros_arguments]
    paths = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    try:
        yield process
    finally:
        process.kill()
        sys.stdout.write(process.communicate()[0])  # pytest shows it where a test fails


def output_after_end(process: subprocess.Popen[str]) -> str:
    """What a process that ends by itself has printed."""
    return process.communicate(timeout=PATIENCE_S)[0]


def why_it_cannot_start(parameter: str) -> str:
    """What the node has printed that fails at its start, as it should, for a parameter."""
    with node_process("-p", parameter) as process:
        printed = output_after_end(process)
    assert process.returncode == 1
    assert "Traceback" not in printed
    return printed


if __name__ == "__main__":
    sys.exit(run(lambda: EstimatorNode(load_scripted)))
