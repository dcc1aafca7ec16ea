"""Messages to frames, tracks to messages. Only here do quaternions turn to ROS's order x, y, z, w."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from geometry_msgs.msg import Point, Pose, PoseArray, Quaternion, Transform, TransformStamped, Vector3
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


def pose_messages(poses: Sequence[SE3]) -> list[Pose]:
    """Messages of poses, each of batch shape ()."""
    if not poses:
        return []
    # All rotations at once: one takes as long as sixteen, a tenth of a millisecond.
    rotations = so3.to_quaternion_wxyz(torch.stack([pose.rotation.double() for pose in poses])).tolist()
    return [
        Pose(position=_position(pose.translation), orientation=Quaternion(x=x, y=y, z=z, w=w))
        for pose, (w, x, y, z) in zip(poses, rotations, strict=True)
    ]


def pose_from_message(message: Pose) -> SE3:
    """A pose of batch shape (), float64."""
    return _pose(message.position, message.orientation)


def pose_from_transform(message: Transform) -> SE3:
    """A transform of batch shape (), float64."""
    return _pose(message.translation, message.rotation)


def pose_array(header: Header, tracks: Sequence[Track]) -> PoseArray:
    """The objects' poses in the frame of the header, in the order of the tracks."""
    return PoseArray(header=header, poses=pose_messages([track.estimate.camera_from_object for track in tracks]))


def transforms(poses: PoseArray, tracks: Sequence[Track], namespace: str = "/") -> list[TransformStamped]:
    """camera_from_object of every track, with header and numbers of the poses.

    The child frame is `<category>_<track id>`. That of a node in a namespace has the namespace before it, as two
    nodes side by side would otherwise give two objects one name.
    """
    prefix = f"{namespace}/".lstrip("/")
    result = []
    for pose, track in zip(poses.poses, tracks, strict=True):
        name = f"{prefix}{track.estimate.category}_{track.track_id}"
        message = TransformStamped(header=poses.header, child_frame_id=name)
        at = pose.position
        message.transform.translation = Vector3(x=at.x, y=at.y, z=at.z)
        message.transform.rotation = pose.orientation
        result.append(message)
    return result


def detection_array(poses: PoseArray, tracks: Sequence[Track], vision_msgs: Any) -> Any:
    """vision_msgs/Detection3DArray with header, order and numbers of the poses.

    Args:
        vision_msgs: the module `vision_msgs.msg`, which not every installation has.
    """
    detections = []
    for pose, track in zip(poses.poses, tracks, strict=True):
        estimate = track.estimate
        detection = vision_msgs.Detection3D(header=poses.header, id=str(track.track_id))
        detection.bbox.center = pose
        detection.bbox.size = Vector3(**dict(zip("xyz", map(float, estimate.size_m), strict=True)))
        hypothesis = vision_msgs.ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id, hypothesis.hypothesis.score = estimate.category, float(estimate.score)
        hypothesis.pose.pose = pose
        hypothesis.pose.covariance = estimate.covariance.reshape(36)
        detection.results = [hypothesis]
        detections.append(detection)
    return vision_msgs.Detection3DArray(header=poses.header, detections=detections)


def _pose(position: Point | Vector3, q: Quaternion) -> SE3:
    rotation = so3.from_quaternion_wxyz(torch.tensor([q.w, q.x, q.y, q.z], dtype=torch.float64))
    return SE3(rotation, torch.tensor([position.x, position.y, position.z], dtype=torch.float64))


def _position(translation: torch.Tensor) -> Point:
    x, y, z = translation.tolist()
    return Point(x=x, y=y, z=z)
