"""Frames to a rosbag2 bag, which `data.bags` and `ros2 bag play` read."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer, WriterError
from rosbags.typesys import Stores, get_typestore

from category_pose_ros.geometry import Camera
from category_pose_ros.records import SECOND_NS, Frame

_METADATA_VERSION: Literal[8] = 8  # the one with quality of service as text, which Humble can read


@contextmanager
def bag_writer(
    path: Path,
    *,
    image_topic: str = "/camera/image/compressed",
    camera_info_topic: str = "/camera/camera_info",
    frame_id: str = "camera_optical_frame",
    jpeg_quality: int = 90,
) -> Iterator[Callable[[Frame], None]]:
    """Writes one frame, JPEG image and intrinsics, to an MCAP bag with zstd compression.

    Depth is left out. The stamps of the frames are the headers' stamps and the time of recording.

    Args:
        path: folder of the bag, which must not exist yet.

    Raises:
        ValueError: the bag exists already. What ends the writing with an error leaves no bag.
    """
    store = get_typestore(Stores.ROS2_HUMBLE)
    try:
        writer = Writer(path, version=_METADATA_VERSION, storage_plugin=StoragePlugin.MCAP)
    except WriterError as error:
        raise ValueError(f"{path}: {error}") from error
    writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with _removed_on_error(path), writer:
        infos = writer.add_connection(camera_info_topic, "sensor_msgs/msg/CameraInfo", typestore=store)
        images = writer.add_connection(image_topic, "sensor_msgs/msg/CompressedImage", typestore=store)

        def write(frame: Frame) -> None:
            header = _header(store.types, frame.stamp_ns, frame_id)
            for connection, message in (
                (infos, _camera_info(store.types, header, frame.camera)),
                (images, _jpeg(store.types, header, frame, jpeg_quality)),
            ):
                writer.write(connection, frame.stamp_ns, store.serialize_cdr(message, connection.msgtype))

        yield write


@contextmanager
def _removed_on_error(folder: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _header(types: Any, stamp_ns: int, frame_id: str) -> Any:
    stamp = types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, SECOND_NS))
    return types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame_id)


def _jpeg(types: Any, header: Any, frame: Frame, quality: int) -> Any:
    _, data = cv2.imencode(".jpg", cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    # The words of compressed_image_transport: what the publisher had, what the file holds.
    return types["sensor_msgs/msg/CompressedImage"](header=header, format="rgb8; jpeg compressed bgr8", data=data)


def _camera_info(types: Any, header: Any, camera: Camera) -> Any:
    matrix = camera.matrix()
    distortion = camera.distortion or (0.0,) * 5
    return types["sensor_msgs/msg/CameraInfo"](
        header=header,
        height=camera.height,
        width=camera.width,
        distortion_model=camera.distortion_model,
        d=np.array(distortion, dtype=np.float64),
        k=matrix.ravel(),
        r=np.eye(3).ravel(),
        p=np.hstack([matrix, np.zeros((3, 1))]).ravel(),
        binning_x=0,
        binning_y=0,
        roi=types["sensor_msgs/msg/RegionOfInterest"](x_offset=0, y_offset=0, height=0, width=0, do_rectify=False),
    )
