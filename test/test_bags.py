"""Bags: written, read, damaged."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from written_bags import write_bag

from category_pose_ros.data.bags import BagFrames
from category_pose_ros.data.messages import rgb_from_message
from category_pose_ros.geometry import Camera
from category_pose_ros.records import Frame

CAMERA = Camera(60.0, 61.0, 31.5, 23.5, 64, 48, distortion=(0.1, -0.02, 0.001, 0.002, 0.0))
STORE = get_typestore(Stores.ROS2_HUMBLE)
IMAGE, COMPRESSED, INFO = (f"sensor_msgs/msg/{name}" for name in ("Image", "CompressedImage", "CameraInfo"))


def gradient(shift=0):
    """A smooth picture, which JPEG keeps, with three different channels."""
    rows, columns = np.mgrid[:48, :64]
    return np.stack([rows * 5, columns * 4, rows * 2 + columns + shift], axis=-1).astype(np.uint8)


def frames(count=5):
    return [Frame(gradient(k), CAMERA, stamp_ns=10**18 + k * 100_000_000) for k in range(count)]


def header(stamp_ns):
    stamp = STORE.types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, 10**9))
    return STORE.types["std_msgs/msg/Header"](stamp=stamp, frame_id="camera")


def raw_image(data, encoding, width=64, height=48, step=None, stamp_ns=5):
    data = np.ascontiguousarray(data)
    return STORE.types[IMAGE](
        header=header(stamp_ns),
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=step or data.nbytes // height,
        data=data.view(np.uint8).ravel(),
    )


def camera_info(focal=60.0, width=64):
    return STORE.types[INFO](
        header=header(0),
        height=48,
        width=width,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=np.array([focal, 0, 31.5, 0, focal, 23.5, 0, 0, 1.0]),
        r=np.eye(3).ravel(),
        p=np.zeros(12),
        binning_x=0,
        binning_y=0,
        roi=STORE.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False),
    )


def make_bag(path, records, plugin=StoragePlugin.SQLITE3):
    """A bag of (topic, type, log time, message)."""
    with Writer(path, version=8, storage_plugin=plugin) as writer:
        connections = {}
        for topic, kind, time_ns, message in records:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(connections[topic], time_ns, STORE.serialize_cdr(message, kind))
    return path


def test_what_is_written_is_read(tmp_path):
    assert write_bag(tmp_path / "bag", frames()) == 5
    bag = BagFrames(tmp_path / "bag")
    assert (bag.image_topic, bag.camera_info_topic) == ("/camera/image/compressed", "/camera/camera_info")
    assert len(bag) == 5
    assert bag.rate_hz == pytest.approx(10.0)
    for read, original in zip(bag, frames(), strict=True):
        assert read.stamp_ns == original.stamp_ns
        assert read.camera == CAMERA
        assert np.abs(read.rgb.astype(int) - original.rgb).mean() < 3
    assert len(list(bag)) == 5  # and again


def test_the_rate_is_that_of_the_images_and_not_of_what_else_was_recorded(tmp_path):
    images = [("/cam/image_raw", IMAGE, k * 10**8, raw_image(gradient(), "rgb8")) for k in range(30)]
    images += [("/cam/image_raw", IMAGE, 60 * 10**9 + k * 10**8, raw_image(gradient(), "rgb8")) for k in range(5)]
    infos = [("/cam/camera_info", INFO, time_ns, camera_info()) for time_ns in (0, 90 * 10**9)]
    bag = BagFrames(make_bag(tmp_path / "bag", [infos[0], *images, infos[1]]))
    assert bag.rate_hz == pytest.approx(10.0)


def test_what_fails_leaves_no_bag(tmp_path):
    def broken():
        yield from frames(2)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write_bag(tmp_path / "bag", broken())
    assert write_bag(tmp_path / "bag", frames(2)) == 2


def test_a_bag_is_not_overwritten(tmp_path):
    write_bag(tmp_path / "bag", frames(1))
    with pytest.raises(ValueError, match="exists already"):
        write_bag(tmp_path / "bag", frames(1))


@pytest.mark.parametrize("plugin", list(StoragePlugin))
@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("rgb8", gradient()),
        ("bgr8", gradient()[..., ::-1]),
        ("rgba8", np.dstack([gradient(), np.full((48, 64), 255, np.uint8)])),
    ],
)
def test_raw_images(tmp_path, plugin, encoding, data):
    records = [("/cam/camera_info", INFO, 0, camera_info()), ("/cam/image_raw", IMAGE, 1, raw_image(data, encoding))]
    (frame,) = BagFrames(make_bag(tmp_path / "bag", records, plugin))
    assert (frame.rgb == gradient()).all()
    assert frame.stamp_ns == 5


def test_grey_images_become_colour():
    grey = gradient()[..., 0]
    assert (rgb_from_message(raw_image(grey, "mono8")) == grey[..., None]).all()


def test_filled_up_rows_are_cut():
    padded = np.pad(gradient().reshape(48, 192), ((0, 0), (0, 8)))
    assert (rgb_from_message(raw_image(padded, "rgb8")) == gradient()).all()


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (raw_image(gradient(), "magic8"), "image.encoding: expected one of .* got 'magic8'"),
        (raw_image(gradient()[..., 0], "rgb8"), "image.step: expected at least"),  # too few bytes per row
        (raw_image(gradient(), "rgb8", height=47, step=192), "image.data: expected"),
        (raw_image(gradient(), "rgb8", width=0), "image: expected a width and height"),
        (SimpleNamespace(format="jpeg", data=np.zeros(50, np.uint8)), "image.data: expected a JPEG or PNG"),
        (SimpleNamespace(format="png", data=np.zeros(0, np.uint8)), "image.data: expected a JPEG or PNG"),
    ],
)
def test_wrong_images_are_refused(message, expected):
    with pytest.raises(ValueError, match=expected):
        rgb_from_message(message)


def test_a_compressed_grey_image_becomes_colour():
    _, data = cv2.imencode(".png", gradient()[..., 0])
    rgb = rgb_from_message(SimpleNamespace(format="png", data=data))
    assert (rgb == gradient()[..., :1]).all()


def test_images_without_a_stamp_take_the_time_of_recording(tmp_path):
    image = raw_image(gradient(), "rgb8", stamp_ns=0)
    records = [("/camera_info", INFO, 3, camera_info()), ("/image", IMAGE, 7, image)]
    (frame,) = BagFrames(make_bag(tmp_path / "bag", records))
    assert frame.stamp_ns == 7


def test_an_image_takes_the_latest_camera_info_and_the_first_ones_the_first(tmp_path):
    image = raw_image(gradient(), "rgb8")
    records = [
        ("/image", IMAGE, 1, image),
        ("/camera_info", INFO, 2, camera_info(60.0)),
        ("/image", IMAGE, 3, image),
        ("/camera_info", INFO, 4, camera_info(70.0)),
        ("/image", IMAGE, 5, image),
    ]
    assert [frame.camera.fx for frame in BagFrames(make_bag(tmp_path / "bag", records))] == [60.0, 60.0, 70.0]


@pytest.fixture
def stereo(tmp_path):
    image = raw_image(gradient(), "rgb8")
    return make_bag(
        tmp_path / "stereo",
        [
            ("/left/camera_info", INFO, 1, camera_info(60.0)),
            ("/right/camera_info", INFO, 1, camera_info(70.0)),
            ("/left/image_raw", IMAGE, 2, image),
            ("/right/image_raw", IMAGE, 2, image),
        ],
    )


def test_several_image_topics_are_listed(stereo):
    with pytest.raises(ValueError, match=r"image topic: name one of those in .*: /left/image_raw, /right/image_raw"):
        BagFrames(stereo)


def test_the_camera_info_beside_the_image_is_taken(stereo):
    assert [frame.camera.fx for frame in BagFrames(stereo, "/right/image_raw")] == [70.0]
    assert [frame.camera.fx for frame in BagFrames(stereo, "/right/image_raw", "/left/camera_info")] == [60.0]


def test_a_topic_that_is_not_there_is_named(stereo):
    with pytest.raises(ValueError, match=r"image topic: /front is not in .*, which has /left/image_raw"):
        BagFrames(stereo, "/front")
    with pytest.raises(ValueError, match="camera_info topic: /front is not in"):
        BagFrames(stereo, "/left/image_raw", "/front")


def test_a_bag_without_camera_info_is_refused(tmp_path):
    records = [("/image", IMAGE, 1, raw_image(gradient(), "rgb8"))]
    with pytest.raises(ValueError, match=r"camera_info topic: name one of those in .*: none"):
        BagFrames(make_bag(tmp_path / "bag", records))


@pytest.mark.parametrize(
    ("info", "message"),
    [
        (camera_info(0.0), "/camera_info: camera_info.k: fx: expected a positive"),
        (camera_info(float("nan")), "/camera_info: camera_info.k: fx: expected a finite"),
        (camera_info(width=65), "/image: rgb: expected the camera's size 65x48, got 64x48"),
    ],
)
def test_wrong_intrinsics_are_named(tmp_path, info, message):
    records = [("/camera_info", INFO, 1, info), ("/image", IMAGE, 2, raw_image(gradient(), "rgb8"))]
    bag = BagFrames(make_bag(tmp_path / "bag", records))
    with pytest.raises(ValueError, match=message):
        list(bag)


def test_a_missing_bag_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere: no such bag"):
        BagFrames(tmp_path / "nowhere")


def cut(data):
    return data[: len(data) // 2]


def scramble(data):
    return data[:3000] + b"\xff" * 500 + data[3500:]


@pytest.mark.parametrize("damage", [cut, scramble, lambda data: b""])
def test_a_damaged_bag_is_named(tmp_path, damage):
    write_bag(tmp_path / "bag", frames())
    storage = tmp_path / "bag" / "bag.mcap"
    storage.write_bytes(damage(storage.read_bytes()))
    with pytest.raises(ValueError, match="bag: damaged or not a rosbag2 bag"):
        list(BagFrames(tmp_path / "bag"))


def test_a_folder_that_is_no_bag_is_named(tmp_path):
    with pytest.raises(ValueError, match="damaged or not a rosbag2 bag"):
        BagFrames(tmp_path)
