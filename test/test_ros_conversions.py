"""Messages to frames, and tracks to messages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")

import vision_msgs_stand_in
from geometry_msgs.msg import Vector3
from ros_support import depth_message, image_message, info_message, make_track
from sensor_msgs.msg import CameraInfo, RegionOfInterest
from std_msgs.msg import Header
from visualization_msgs.msg import Marker, MarkerArray

from category_pose_ros.geometry import SE3, so3
from category_pose_ros.records import Track
from category_pose_ros.ros.conversions import (
    camera_from_info,
    detection_array,
    frame_from_messages,
    pose_array,
    pose_messages,
    registered_depth,
    transforms,
)
from category_pose_ros.ros.markers import MarkerBoard, tracks_from_markers

HEADER = Header(frame_id="camera_optical")


def test_a_frame_has_the_pixels_the_camera_and_the_stamp() -> None:
    frame = frame_from_messages(image_message(7, stamp_ns=5_000_000_001), info_message())
    assert frame.rgb[0, 0, 0] == 7
    assert frame.stamp_ns == 5_000_000_001
    assert (frame.camera.fx, frame.camera.fy, frame.camera.cx, frame.camera.cy) == (60.0, 61.0, 31.5, 23.5)
    assert not frame.camera.is_distorted


def test_an_image_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"image: expected the 640x480 of camera_info, got 64x48"):
        frame_from_messages(image_message(), info_message(640, 480))


def test_depth_of_the_frame_and_size_of_the_image_is_registered_to_it() -> None:
    camera, header = camera_from_info(info_message()), image_message().header
    np.testing.assert_allclose(registered_depth(depth_message(millimetres=1250), header, camera), 1.25)


def test_depth_of_another_frame_or_size_is_refused() -> None:
    camera, header = camera_from_info(info_message()), image_message().header
    elsewhere = depth_message()
    elsewhere.header.frame_id = "depth_optical"
    with pytest.raises(ValueError, match=r"depth\.header\.frame_id: expected .* 'camera_optical', got 'depth_optical'"):
        registered_depth(elsewhere, header, camera)
    with pytest.raises(ValueError, match=r"depth: expected the size of the image, 640x480, got 64x48"):
        registered_depth(depth_message(), header, camera_from_info(info_message(640, 480)))


def changed(**fields: Any) -> CameraInfo:
    info = info_message()
    for name, value in fields.items():
        setattr(info, name, value)
    return info


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"k": [0.0] * 9}, r"camera_info\.k: fx: expected a positive number of pixels, got 0\.0"),
        ({"k": [float("nan")] * 9}, r"camera_info\.k"),
        ({"k": [60.0, 0.5, 31.5, 0.0, 61.0, 23.5, 0.0, 0.0, 1.0]}, r"camera_info\.k: expected no skew, got 0\.5"),
        ({"distortion_model": "wobbly", "d": [0.1]}, r"camera_info\.distortion_model: expected one of .*'wobbly'"),
        ({"d": [0.1, 0.2, 0.3]}, r"camera_info\.distortion: plumb_bob expects 4 or 5 coefficients, got 3"),
        ({"width": 0}, r"camera_info\.width"),
        ({"roi": RegionOfInterest(x_offset=60, width=10, height=48)}, r"camera_info\.roi: expected a region inside"),
    ],
)
def test_what_is_no_calibration_is_refused_by_the_name_of_its_field(fields: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        camera_from_info(changed(**fields))


@pytest.mark.parametrize(
    ("model", "count"), [("plumb_bob", 4), ("plumb_bob", 5), ("rational_polynomial", 8), ("equidistant", 4)]
)
def test_distortion_is_taken_over_and_rectified_images_have_none(model: str, count: int) -> None:
    info = changed(distortion_model=model, d=[0.1] * count)
    camera = camera_from_info(info)
    assert (camera.distortion_model, camera.distortion) == (model, (0.1,) * count)
    rectified = camera_from_info(info, rectified=True)
    assert not rectified.is_distorted
    assert (rectified.fx, rectified.fy, rectified.cx, rectified.cy) == (50.0, 51.0, 30.5, 22.5)


def test_an_ideal_camera_may_leave_its_model_unnamed() -> None:
    assert not camera_from_info(changed(distortion_model="", d=[])).is_distorted


def test_region_of_interest_comes_before_binning() -> None:
    roi = RegionOfInterest(x_offset=8, y_offset=4, width=40, height=20)
    camera = camera_from_info(changed(roi=roi, binning_x=2, binning_y=2))
    full = camera_from_info(info_message())
    point = torch.tensor([[0.1, -0.05, 1.0]])
    # Pixel (u, v) of a binned image covers two by two pixels of the region.
    expected = (full.project(point) - torch.tensor([8.0, 4.0]) + 0.5) / 2 - 0.5
    assert (camera.width, camera.height) == (20, 10)
    torch.testing.assert_close(camera.project(point), expected)


def test_rectified_images_have_regions_and_binning_too() -> None:
    roi = RegionOfInterest(x_offset=8, y_offset=4, width=40, height=20)
    camera = camera_from_info(changed(roi=roi, binning_x=2, binning_y=2), rectified=True)
    assert (camera.width, camera.height, camera.fx, camera.fy) == (20, 10, 25.0, 25.5)
    assert (camera.cx, camera.cy) == ((30.5 - 8 + 0.5) / 2 - 0.5, (22.5 - 4 + 0.5) / 2 - 0.5)


def test_quaternions_are_in_the_order_of_ros() -> None:
    quarter_turn = so3.exp(torch.tensor([0.0, 0.0, torch.pi / 2]))
    pose = pose_messages([SE3(quarter_turn, torch.tensor([1.0, 2.0, 3.0]))])[0]
    half = 0.5**0.5
    q = pose.orientation
    np.testing.assert_allclose([q.x, q.y, q.z, q.w], [0, 0, half, half], atol=1e-6)
    assert (pose.position.x, pose.position.y, pose.position.z) == (1.0, 2.0, 3.0)


def test_poses_and_transforms_keep_header_and_order() -> None:
    tracks = [make_track(3, "mug"), make_track(5, "can")]
    poses = pose_array(HEADER, tracks)
    assert poses.header == HEADER
    moved = transforms(poses, tracks)
    assert all(item.header == HEADER for item in moved)
    assert [item.child_frame_id for item in moved] == ["mug_3", "can_5"]
    assert [item.transform.translation.x for item in moved] == [pose.position.x for pose in poses.poses]
    assert moved[0].transform.rotation == poses.poses[0].orientation


def test_frames_of_a_node_in_a_namespace_carry_it() -> None:
    moved = transforms(pose_array(HEADER, [make_track(3)]), [make_track(3)], "/robot/left")
    assert moved[0].child_frame_id == "robot/left/mug_3"


def test_detections_carry_category_score_size_covariance_and_id() -> None:
    tracks = [make_track(3), make_track(5)]
    array = detection_array(pose_array(HEADER, tracks), tracks, vision_msgs_stand_in)
    assert [detection.id for detection in array.detections] == ["3", "5"]
    detection = array.detections[0]
    assert detection.bbox.size == Vector3(x=0.12, y=0.08, z=0.1)
    assert detection.results[0].hypothesis.class_id == "mug"
    np.testing.assert_allclose(detection.results[0].pose.covariance, (np.eye(6) * 1e-4).ravel())


def shown(board: MarkerBoard, *tracks: Track) -> MarkerArray:
    return board.update(pose_array(HEADER, tracks), tracks)


def test_markers_say_everything_about_an_object() -> None:
    tracks = [make_track(3, "mug"), make_track(5, "coffee can")]
    message = shown(MarkerBoard(), *tracks)
    assert len({(marker.ns, marker.id) for marker in message.markers}) == 6
    assert all(marker.header == HEADER for marker in message.markers)
    for said, track in zip(tracks_from_markers(message), tracks, strict=True):
        assert (said.track_id, said.estimate.category) == (track.track_id, track.estimate.category)
        assert (said.estimate.score, said.estimate.visible_fraction) == (0.875, 0.75)
        np.testing.assert_array_equal(said.estimate.size_m, track.estimate.size_m)
        torch.testing.assert_close(
            said.estimate.camera_from_object.matrix(), track.estimate.camera_from_object.matrix()
        )


def test_markers_of_objects_that_are_gone_are_deleted_once() -> None:
    board = MarkerBoard()
    shown(board, make_track(1), make_track(2))
    deleted = [m for m in shown(board, make_track(2)).markers if m.action == Marker.DELETE]
    assert sorted((marker.ns, marker.id) for marker in deleted) == [("axes", 1), ("box", 1), ("label", 1)]
    assert all(marker.action == Marker.ADD for marker in shown(board, make_track(2)).markers)
    assert len(shown(board).markers) == 3


def test_what_is_less_visible_is_fainter_but_never_gone() -> None:
    track = make_track(1)
    seen = [replace(track, estimate=replace(track.estimate, visible_fraction=share)) for share in (0.0, 0.5, 1.0)]
    alphas = [shown(MarkerBoard(), item).markers[0].color.a for item in seen]
    assert 0.1 < alphas[0] < alphas[1] < alphas[2] < 1


def test_the_label_says_category_id_and_score() -> None:
    labels = [marker for marker in shown(MarkerBoard(), make_track(12)).markers if marker.ns == "label"]
    assert [label.text for label in labels] == ["mug 12 0.88"]


@pytest.mark.parametrize("scale", [1.0, 35.0])
def test_labels_and_axes_can_be_read_on_mugs_and_on_cars(scale: float) -> None:
    track = make_track(1)
    size_m = scale * np.array([0.12, 0.08, 0.1])
    upright = SE3(torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]), torch.tensor([0.0, 0.0, 5 * scale]))
    track = replace(track, estimate=replace(track.estimate, size_m=size_m, camera_from_object=upright))
    _, axes, label = shown(MarkerBoard(), track).markers
    diagonal = np.linalg.norm(size_m)
    assert 0.1 < label.scale.z / diagonal < 0.25
    assert 0.005 < axes.scale.x / diagonal < 0.05
    above = -label.pose.position.y - size_m[2] / 2  # from the top of the box to the middle of the text
    assert 0.5 * label.scale.z < above < 2 * label.scale.z


def test_clearing_deletes_in_the_frame_in_which_the_markers_are_shown() -> None:
    board = MarkerBoard()
    shown(board, make_track(1))
    deleted = board.clear().markers
    assert len(deleted) == 3
    assert all(marker.header == HEADER and marker.action == Marker.DELETE for marker in deleted)
    assert board.clear().markers == []
