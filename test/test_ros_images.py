"""Image messages against what cv_bridge's source says, computed here independently with OpenCV."""

from __future__ import annotations

from array import array

import cv2
import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")

from image_messages import message_of
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from category_pose_ros.data.messages import rgb_from_compressed
from category_pose_ros.ros import images
from category_pose_ros.ros.images import image_from_rgb, rgb_from_image

RANDOM = np.random.default_rng(0)
WIDTH, HEIGHT = 22, 10


def expected_rgb(pixels: npt.NDArray[np.generic], encoding: str) -> npt.NDArray[np.uint8]:
    """As cv_bridge: first the colour, then the depth with cv::Mat::convertTo, which rounds."""
    kind = encoding.removesuffix("16").removesuffix("8")
    codes = {
        "mono": cv2.COLOR_GRAY2RGB,
        "bgr": cv2.COLOR_BGR2RGB,
        "rgba": cv2.COLOR_RGBA2RGB,
        "bgra": cv2.COLOR_BGRA2RGB,
        "bayer_rggb": cv2.COLOR_BayerBG2RGB,
        "bayer_bggr": cv2.COLOR_BayerRG2RGB,
        "bayer_gbrg": cv2.COLOR_BayerGR2RGB,
        "bayer_grbg": cv2.COLOR_BayerGB2RGB,
        "yuv422": cv2.COLOR_YUV2RGB_UYVY,
        "uyvy": cv2.COLOR_YUV2RGB_UYVY,
        "yuyv": cv2.COLOR_YUV2RGB_YUY2,
        "yuv422_yuy2": cv2.COLOR_YUV2RGB_YUY2,
    }
    rgb = pixels if kind == "rgb" else cv2.cvtColor(pixels, codes[kind])
    if rgb.dtype == np.uint16:
        rgb = np.rint(rgb * (255.0 / 65535.0))
    return rgb.astype(np.uint8)


ENCODINGS = [
    *(f"{order}{depth}" for order in ("mono", "rgb", "bgr", "rgba", "bgra") for depth in (8, 16)),
    *(f"bayer_{pattern}{depth}" for pattern in ("rggb", "bggr", "gbrg", "grbg") for depth in (8, 16)),
    *("yuv422", "yuv422_yuy2", "uyvy", "yuyv"),
]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("padding", [0, 6])
def test_every_encoding_decodes_as_cv_bridge_does(encoding: str, big_endian: bool, padding: int) -> None:
    channels = {"rgb": 3, "bgr": 3, "rgba": 4, "bgra": 4, "uyvy": 2, "yuyv": 2, "yuv422": 2, "yuv422_yuy2": 2}
    count = channels.get(encoding.removesuffix("16").removesuffix("8"), 1)
    dtype = np.uint16 if encoding.endswith("16") else np.uint8
    shape = (HEIGHT, WIDTH, count) if count > 1 else (HEIGHT, WIDTH)
    pixels = RANDOM.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)
    rgb = rgb_from_image(message_of(pixels, encoding, padding, big_endian))
    assert rgb.dtype == np.uint8
    np.testing.assert_array_equal(rgb, expected_rgb(pixels, encoding))


def test_all_16_bit_values_round_as_in_opencv() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    rgb = rgb_from_image(message_of(values, "mono16"))
    np.testing.assert_array_equal(rgb[..., 0], cv2.convertScaleAbs(values, alpha=255.0 / 65535.0))


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "mono8", "mono16", "bgra8", "rgba8", "bayer_rggb8"])
def test_cv_bridge_and_the_library_that_stands_in_for_it_agree(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if images.CvBridge is None:
        pytest.skip("needs cv_bridge")
    channels = {"rgb8": 3, "bgr8": 3, "bgra8": 4, "rgba8": 4}.get(encoding, 1)
    dtype = np.uint16 if encoding == "mono16" else np.uint8
    shape = (HEIGHT, WIDTH, channels) if channels > 1 else (HEIGHT, WIDTH)
    message = message_of(RANDOM.integers(0, np.iinfo(dtype).max, shape, dtype=dtype), encoding, padding=2)
    with_cv_bridge = rgb_from_image(message)
    monkeypatch.setattr(images, "CvBridge", None)
    np.testing.assert_array_equal(rgb_from_image(message), with_cv_bridge)


@pytest.mark.parametrize("encoding", ["8UC3", "32FC1", "16UC1", "rgb9", ""])
def test_an_encoding_that_is_no_colour_image_is_refused_by_name(encoding: str) -> None:
    message = message_of(np.zeros((4, 4, 3), np.uint8), encoding)
    with pytest.raises(ValueError, match=rf"image\.encoding: expected one of .*, got '{encoding}'"):
        rgb_from_image(message)


def test_sizes_that_contradict_each_other_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"image: expected a width and height above zero, got 0x0"):
        rgb_from_image(Image(encoding="rgb8"))
    short = message_of(np.zeros((4, 4, 3), np.uint8), "rgb8")
    short.data = short.data[:-1]
    with pytest.raises(ValueError, match=r"image\.data: expected 48 bytes for 4x4 rgb8 with step 12, got 47"):
        rgb_from_image(short)
    narrow = message_of(np.zeros((4, 4, 3), np.uint8), "rgb8")
    narrow.step = 11
    with pytest.raises(ValueError, match=r"image\.step: expected at least 12 for 4x4 rgb8, got 11"):
        rgb_from_image(narrow)
    with pytest.raises(ValueError, match=r"image\.width: expected an even number for uyvy, got 5"):
        rgb_from_image(message_of(np.zeros((4, 5, 2), np.uint8), "uyvy"))


def compressed(data: bytes, form: str = "jpeg") -> CompressedImage:
    message = CompressedImage(format=form)
    message.data = array("B", data)
    return message


@pytest.mark.parametrize("extension", ["png", "jpg"])
def test_compressed_images_decode_to_rgb(extension: str) -> None:
    rgb = np.full((16, 24, 3), (200, 100, 50), np.uint8)
    data = cv2.imencode(f".{extension}", rgb[..., ::-1])[1].tobytes()
    decoded = rgb_from_compressed(compressed(data, f"rgb8; {extension} compressed bgr8"))
    np.testing.assert_allclose(decoded, rgb, atol=3)
    grey = cv2.imencode(f".{extension}", rgb[..., 1])[1].tobytes()
    assert rgb_from_compressed(compressed(grey)).shape == (16, 24, 3)


@pytest.mark.parametrize("data", [b"", b"not an image"])
def test_bytes_that_are_no_image_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=rf"image\.data: expected a JPEG or PNG, got {len(data)} bytes"):
        rgb_from_compressed(compressed(data))


@pytest.mark.parametrize("form", ["16UC1; compressedDepth", "bayer_rggb8; jpeg compressed "])
def test_compressed_images_without_colour_are_refused(form: str) -> None:
    with pytest.raises(ValueError, match=r"image\.format: expected a colour image"):
        rgb_from_compressed(compressed(b"x", form))


def test_an_rgb_array_survives_the_way_there_and_back() -> None:
    rgb = RANDOM.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    np.testing.assert_array_equal(rgb_from_image(image_from_rgb(rgb, Header())), rgb)
