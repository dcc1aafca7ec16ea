"""Messages to frames, tracks to messages. Only here do quaternions turn to ROS's order x, y, z, w."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from geometry_msgs.msg import Point, Pose, PoseArray, Quaternion, TransformStamped, Vector3
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from category_pose_ros.data.depth_messages import Depth, depth_from_message
from category_pose_ros.data.messages import camera_from_info, rgb_from_compressed, stamp_ns
from category_pose_ros.geometry import SE3, Camera, so3
from category_pose_ros.records import Frame, Track
from category_pose_ros.ros.images import rgb_from_image


def frame_from_messages(image: Image | CompressedImage, info: CameraInfo, rectified: bool = False) -> Frame:
    """The frame of an image and its camera_info.

    Args:
        rectified: as `camera_from_info`.

    Raises:
        ValueError: the image cannot be decoded, camera_info is not a calibration, or they differ in size.
    """
    camera = camera_from_info(info, rectified)
    rgb = rgb_from_compressed(image) if isinstance(image, CompressedImage) else rgb_from_image(image)
    height, width = rgb.shape[:2]
    if (width, height) != (camera.width, camera.height):
        raise ValueError(f"image: expected the {camera.width}x{camera.height} of camera_info, got {width}x{height}")
    return Frame(rgb, camera, stamp_ns=stamp_ns(image.header))


def registered_depth(message: Image | CompressedImage, image: Header, camera: Camera) -> Depth:
    """The depth of an image, (H, W) float32 metres, 0 where there is none.

    Args:
        message: its depth image.
        image: header of the image.
        camera: of the image.

    Raises:
        ValueError: not a depth image, or one that is not registered to the image: of another frame or size.
    """
    if message.header.frame_id != image.frame_id:
        raise ValueError(
            f"depth.header.frame_id: expected that of the image, {image.frame_id!r}, got {message.header.frame_id!r}; "
            "subscribe to depth that is registered to the image"
        )
    depth = depth_from_message(message)
    height, width = depth.shape
    if (width, height) != (camera.width, camera.height):
        raise ValueError(f"depth: expected the size of the image, {camera.width}x{camera.height}, got {width}x{height}")
    return depth


def info_from_camera(camera: Camera, header: Header) -> CameraInfo:
    """The camera_info of an image that is not rectified."""
    k = camera.matrix()
    info = CameraInfo(header=header, width=camera.width, height=camera.height)
    info.distortion_model, info.d = camera.distortion_model, list(camera.distortion)
    info.k, info.r = k.ravel(), np.eye(3).ravel()
    info.p = np.hstack([k, np.zeros((3, 1))]).ravel()
    return info


def pose_message(pose: SE3) -> Pose:
    """A pose of batch shape ()."""
    position, orientation = _parts(pose)
    return Pose(position=Point(**position), orientation=Quaternion(**orientation))


def pose_from_message(message: Pose) -> SE3:
    """A pose of batch shape (), float64."""
    p, q = message.position, message.orientation
    quaternion_wxyz = torch.tensor([q.w, q.x, q.y, q.z], dtype=torch.float64)
    return SE3(so3.from_quaternion_wxyz(quaternion_wxyz), torch.tensor([p.x, p.y, p.z], dtype=torch.float64))


def pose_array(header: Header, tracks: Sequence[Track]) -> PoseArray:
    """The objects' poses in the frame of the header, in the order of the tracks."""
    return PoseArray(header=header, poses=[pose_message(track.estimate.camera_from_object) for track in tracks])


def transforms(header: Header, tracks: Sequence[Track], namespace: str = "/") -> list[TransformStamped]:
    """camera_from_object of every track.

    The child frame is `<category>_<track id>`. That of a node in a namespace has the namespace before it, as two
    nodes side by side would otherwise give two objects one name.
    """
    prefix = f"{namespace}/".lstrip("/")
    result = []
    for track in tracks:
        translation, rotation = _parts(track.estimate.camera_from_object)
        name = f"{prefix}{track.estimate.category}_{track.track_id}"
        message = TransformStamped(header=header, child_frame_id=name)
        message.transform.translation = Vector3(**translation)
        message.transform.rotation = Quaternion(**rotation)
        result.append(message)
    return result


def detection_array(header: Header, tracks: Sequence[Track], vision_msgs: Any) -> Any:
    """vision_msgs/Detection3DArray in the order of the tracks.

    Args:
        vision_msgs: the module `vision_msgs.msg`, which not every installation has.
    """
    detections = []
    for track in tracks:
        estimate = track.estimate
        detection = vision_msgs.Detection3D(header=header, id=str(track.track_id))
        detection.bbox.center = pose_message(estimate.camera_from_object)
        detection.bbox.size = Vector3(**dict(zip("xyz", map(float, estimate.size_m), strict=True)))
        hypothesis = vision_msgs.ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id, hypothesis.hypothesis.score = estimate.category, float(estimate.score)
        hypothesis.pose.pose = detection.bbox.center
        hypothesis.pose.covariance = estimate.covariance.reshape(36)
        detection.results = [hypothesis]
        detections.append(detection)
    return vision_msgs.Detection3DArray(header=header, detections=detections)


def _parts(pose: SE3) -> tuple[dict[str, float], dict[str, float]]:
    """Translation by axis, and the quaternion by component."""
    w, x, y, z = so3.to_quaternion_wxyz(pose.rotation.double()).tolist()
    return dict(zip("xyz", pose.translation.tolist(), strict=True)), {"x": x, "y": y, "z": z, "w": w}
