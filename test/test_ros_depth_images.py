"""Depth messages against encoders written from what REP 118 and compressed_depth_image_transport say."""

from __future__ import annotations

import struct
from array import array

import cv2
import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")

from image_messages import message_of
from sensor_msgs.msg import CompressedImage

from category_pose_ros.data.depth_messages import depth_from_message

METRES = np.array([[0.5, 1.25, 3.0], [0.0, 2.5, 0.004]], np.float32)


def compressed(pixels: npt.NDArray[np.uint16], form: str, scale: float = 0.0, offset: float = 0.0) -> CompressedImage:
    message = CompressedImage(format=form)
    png = cv2.imencode(".png", pixels)[1].tobytes()
    message.data = array("B", struct.pack("<iff", 0, scale, offset) + png)
    return message


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("padding", [0, 2, 5])
def test_metres_and_millimetres_are_metres(big_endian: bool, padding: int) -> None:
    millimetres = np.rint(1000 * METRES).astype(np.uint16)
    for message in (
        message_of(METRES, "32FC1", padding, big_endian),
        message_of(millimetres, "16UC1", padding, big_endian),
        message_of(millimetres, "mono16", padding, big_endian),
    ):
        depth = depth_from_message(message)
        assert depth.dtype == np.float32
        np.testing.assert_allclose(depth, METRES, rtol=1e-6)


def test_every_kind_of_hole_is_zero() -> None:
    holes = np.array([[0.0, np.nan, np.inf, -np.inf, -1.0]], np.float32)
    np.testing.assert_array_equal(depth_from_message(message_of(holes, "32FC1")), np.zeros((1, 5), np.float32))


@pytest.mark.parametrize("form", ["16UC1; compressedDepth png", "16UC1; compressedDepth", "16UC1;compressedDepth "])
def test_compressed_millimetres_are_metres(form: str) -> None:
    message = compressed(np.rint(1000 * METRES).astype(np.uint16), form)
    np.testing.assert_allclose(depth_from_message(message), METRES, rtol=1e-6)


def test_compressed_metres_survive_their_quantisation() -> None:
    # Inverse depth on 16 bits: z = scale / (pixel - offset), and pixel 0 is a hole.
    scale = 100.0 * 101.0
    offset = 1.0 - scale / 10.0
    pixels = np.where(METRES > 0, np.rint(scale / np.maximum(METRES, 0.3) + offset), 0).astype(np.uint16)
    depth = depth_from_message(compressed(pixels, "32FC1; compressedDepth png", scale, offset))
    expected = np.where(METRES > 0, np.maximum(METRES, 0.3), 0)
    np.testing.assert_allclose(depth, expected, rtol=1e-3)


@pytest.mark.parametrize("encoding", ["rgb8", "8UC1", "64FC1", ""])
def test_what_is_no_depth_is_refused_by_name(encoding: str) -> None:
    with pytest.raises(ValueError, match=rf"depth\.encoding: expected one of 32FC1, .*, got '{encoding}'"):
        depth_from_message(message_of(METRES, encoding))


def test_sizes_that_contradict_each_other_are_refused_by_name() -> None:
    message = message_of(METRES, "32FC1")
    message.width = 4
    with pytest.raises(ValueError, match=r"depth\.step: expected at least 16 for 4x2 32FC1, got 12"):
        depth_from_message(message)


@pytest.mark.parametrize("form", ["16UC1; compressedDepth rvl", "rgb8; jpeg compressed bgr8", ""])
def test_another_compression_is_refused_by_name(form: str) -> None:
    with pytest.raises(ValueError, match=rf"depth\.format: expected .*compressedDepth png, got '{form}'"):
        depth_from_message(compressed(np.ones((2, 2), np.uint16), form))


def test_bytes_that_are_no_depth_are_refused() -> None:
    broken = CompressedImage(format="16UC1; compressedDepth png")
    broken.data = array("B", b"short")
    with pytest.raises(ValueError, match=r"depth\.data: expected a PNG with one channel of 16 bits, got 5 bytes"):
        depth_from_message(broken)
    colour = compressed(np.ones((2, 2, 3), np.uint16), "16UC1; compressedDepth png")
    with pytest.raises(ValueError, match=r"depth\.data: expected a PNG with one channel"):
        depth_from_message(colour)
