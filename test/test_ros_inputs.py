"""Depth beside the images, over DDS."""

from __future__ import annotations

import signal
import struct
from array import array
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import QoSProfile
from ros_support import (
    HEIGHT,
    SIZE_WITH_DEPTH_M,
    WIDTH,
    Camera,
    camera,
    depth_message,
    image_message,
    info_message,
    node_process,
    output_after_end,
)
from sensor_msgs.msg import CompressedImage, Image
from visualization_msgs.msg import MarkerArray

from category_pose_ros.ros.markers import tracks_from_markers

FRAME_NS = 100_000_000


class Rig:
    """A colour and a depth camera, of which the estimator says what it used."""

    def __init__(self, side: Camera) -> None:
        self.side = side
        self.markers = side.collect(MarkerArray, "/estimator/markers")
        self.diagnostics = side.collect(DiagnosticArray, "/diagnostics")
        self._stamp_ns = 1_000_000_000

    def send_until_used(self, with_depth: bool, depth: Any = None, publisher: Any = None, stamped: bool = True) -> None:
        """Send images, and depth of the same stamp where one is given, until the newest answer is as expected."""

        def send() -> bool:
            self._stamp_ns = self._stamp_ns + FRAME_NS if stamped else 0
            self.side.infos.publish(info_message())
            if depth is not None:
                depth.header.stamp = image_message(stamp_ns=self._stamp_ns).header.stamp
                (publisher or self.side.depths).publish(depth)
            self.side.images.publish(image_message(1, self._stamp_ns))
            self.side.executor.spin_once(timeout_sec=0.1)
            return self.used_depth() is with_depth

        self.side.until(send, f"images are used {'with' if with_depth else 'without'} depth")

    def used_depth(self) -> bool | None:
        tracks = tracks_from_markers(self.markers[-1]) if self.markers else []
        return bool(np.allclose(tracks[0].estimate.size_m, SIZE_WITH_DEPTH_M)) if tracks else None

    def count(self, key: str) -> int:
        if not self.diagnostics:
            return 0
        return int({item.key: item.value for item in self.diagnostics[-1].status[0].values}[key])


@pytest.fixture
def rig() -> Iterator[Rig]:
    with camera() as side:
        yield Rig(side)


def test_depth_is_used_where_asked_for_and_images_go_without_when_it_stops(rig: Rig) -> None:
    with node_process("-p", "use_depth:=true") as process:
        rig.send_until_used(True, depth_message())
        rig.send_until_used(False)
        rig.side.until(lambda: rig.count("frames unpaired"), "unpaired images are counted")
        rig.send_until_used(True, depth_message())
        process.send_signal(signal.SIGINT)
        printed = output_after_end(process)
    assert "no depth on /depth has the stamp of an image, images are used as RGB" in printed


def test_depth_without_stamps_is_used_while_it_comes(rig: Rig) -> None:
    with node_process("-p", "use_depth:=true", "-p", "pairing.slop_s:=0.5"):
        rig.send_until_used(True, depth_message(), stamped=False)
        rig.send_until_used(False, stamped=False)


def test_depth_is_not_subscribed_to_where_nobody_asks_for_it(rig: Rig) -> None:
    with node_process():
        rig.send_until_used(False, depth_message())
        rig.side.until(lambda: rig.side.depths.get_subscription_count() == 0, "nobody listens to depth")


def elsewhere() -> Image:
    message = depth_message()
    message.header.frame_id = "depth_optical"
    return message


def half_size() -> Image:
    message = depth_message()
    message.height, message.data = HEIGHT // 2, message.data[: HEIGHT * WIDTH]
    return message


def coloured() -> Image:
    return image_message()


@pytest.mark.parametrize(
    ("make_depth", "expected"),
    [
        (elsewhere, "expected that of the image, 'camera_optical', got 'depth_optical'"),
        (half_size, "depth: expected the size of the image, 64x48, got 64x24"),
        (coloured, "depth.encoding: expected one of 32FC1, 16UC1, mono16, got 'rgb8'"),
    ],
)
def test_depth_that_does_not_fit_is_refused_and_the_image_used(rig: Rig, make_depth: Any, expected: str) -> None:
    with node_process("-p", "use_depth:=true", "-p", "pairing.fallback_after_s:=1000.0") as process:
        rig.send_until_used(False, make_depth())
        rig.side.until(lambda: rig.count("depth images refused"), "the refusal is counted")
        rig.send_until_used(True, depth_message())
        process.send_signal(signal.SIGINT)
        printed = output_after_end(process)
    assert "image used as RGB: depth" in printed
    assert expected in printed


def test_compressed_depth_is_subscribed_to_beside_the_remapped_name(rig: Rig) -> None:
    topic = "/front/depth/compressedDepth"
    publisher = rig.side.node.create_publisher(CompressedImage, topic, QoSProfile(depth=10))
    png = cv2.imencode(".png", np.full((HEIGHT, WIDTH), 800, np.uint16))[1].tobytes()
    depth = CompressedImage(format="16UC1; compressedDepth png", header=depth_message().header)
    depth.data = array("B", struct.pack("<iff", 0, 0.0, 0.0) + png)
    arguments = ["-p", "use_depth:=true", "-p", "depth_transport:=compressedDepth", "-r", "depth:=/front/depth"]
    with node_process(*arguments):
        rig.send_until_used(True, depth, publisher)
