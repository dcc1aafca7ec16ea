"""Messages to frames, tracks to messages. Only here do quaternions turn to ROS's order x, y, z, w."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from geometry_msgs.msg import Point, Pose, PoseArray, Quaternion, TransformStamped, Vector3
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from category_pose_ros.geometry import SE3, Camera, so3
from category_pose_ros.records import Frame, Track
from category_pose_ros.ros.images import rgb_from_compressed, rgb_from_image


def stamp_ns(header: Header) -> int:
    """Time of a header in integer nanoseconds."""
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)


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


def camera_from_info(info: CameraInfo, rectified: bool = False) -> Camera:
    """The camera of the images that a camera_info describes, region of interest and binning included.

    Args:
        rectified: the images are rectified; then the intrinsics are those of P and there is no distortion.

    Raises:
        ValueError: names the field of camera_info that is not a calibration.
    """
    # Row-major: K is 3x3, P is 3x4.
    fx, skew, cx, fy, cy = (info.p[i] for i in (0, 1, 2, 5, 6)) if rectified else (info.k[i] for i in (0, 1, 2, 4, 5))
    matrix = "p" if rectified else "k"
    if skew:
        raise ValueError(f"camera_info.{matrix}: expected no skew, got {skew}")
    coefficients = () if rectified else tuple(float(value) for value in info.d)
    # Drivers of ideal cameras leave the model's name empty, or give five zeros with it.
    model = info.distortion_model if any(coefficients) else "plumb_bob"
    try:
        camera = Camera(
            fx, fy, cx, cy, int(info.width), int(info.height), model, coefficients if any(coefficients) else ()
        )
        return _binned(_cropped(camera, info), info)
    except ValueError as error:
        field = str(error).split(":")[0]
        where = {"fx": f"{matrix}: ", "fy": f"{matrix}: ", "cx": f"{matrix}: ", "cy": f"{matrix}: "}.get(field, "")
        raise ValueError(f"camera_info.{where}{error}") from error


def info_from_camera(camera: Camera, header: Header) -> CameraInfo:
    """The camera_info of an image that is not rectified."""
    k = camera.matrix()
    info = CameraInfo(header=header, width=camera.width, height=camera.height)
    info.distortion_model, info.d = camera.distortion_model, list(camera.distortion)
    info.k, info.r = k.ravel(), np.eye(3).ravel()
    info.p = np.hstack([k, np.zeros((3, 1))]).ravel()
    return info


def _cropped(camera: Camera, info: CameraInfo) -> Camera:
    """The camera of the region of interest; one without a size is the whole image."""
    roi = info.roi
    if not roi.width and not roi.height:
        return camera
    if roi.x_offset + roi.width > camera.width or roi.y_offset + roi.height > camera.height:
        raise ValueError(
            f"roi: expected a region inside {camera.width}x{camera.height}, "
            f"got {roi.width}x{roi.height} at ({roi.x_offset}, {roi.y_offset})"
        )
    return camera.cropped(int(roi.x_offset), int(roi.y_offset), int(roi.width), int(roi.height))


def _binned(camera: Camera, info: CameraInfo) -> Camera:
    """The camera after binning; 0 means 1, as in the message's definition."""
    across, down = max(1, int(info.binning_x)), max(1, int(info.binning_y))
    if (across, down) == (1, 1):
        return camera
    return camera.resized(camera.width // across, camera.height // down)


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


def transforms(header: Header, tracks: Sequence[Track]) -> list[TransformStamped]:
    """camera_from_object of every track; the child frame is `<category>_<track id>`."""
    result = []
    for track in tracks:
        translation, rotation = _parts(track.estimate.camera_from_object)
        message = TransformStamped(header=header, child_frame_id=f"{track.estimate.category}_{track.track_id}")
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
