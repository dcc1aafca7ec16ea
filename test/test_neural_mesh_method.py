"""The whole method on images whose features are right by construction: no data, no training."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from oracle import SIZE_M, coordinate_frame, oracle_model

from category_pose_ros import PoseEstimator
from category_pose_ros.data.bags import EXAMPLE_BAG, BagFrames
from category_pose_ros.estimation.belief import Belief, finished
from category_pose_ros.estimation.crops import CropConfig
from category_pose_ros.estimation.detection import DetectionConfig
from category_pose_ros.estimation.neural_mesh import NeuralMeshConfig, NeuralMeshMethod
from category_pose_ros.geometry import SE3, Camera, rotations, so3

CAMERA = Camera(600.0, 600.0, 319.5, 239.5, 640, 480)


@pytest.fixture(scope="module")
def method() -> NeuralMeshMethod:
    # The oracle reads box coordinates from colours, which a mirror does not change as it would an object.
    config = NeuralMeshConfig(precision="float32", runtime="pytorch", crops=CropConfig(mirror=False))
    return NeuralMeshMethod(oracle_model(), ("mug",), torch.device("cpu"), config)


@pytest.mark.parametrize("index", range(12))
def test_finds_the_pose_of_one_box(method: NeuralMeshMethod, index: int) -> None:
    rotation = rotations.super_fibonacci(12)[index]
    truth = SE3(rotation, torch.tensor([0.08 * math.sin(index), 0.06 * math.cos(index), 0.7]))
    best = finished(method.search(coordinate_frame(CAMERA, [truth], [SIZE_M])))[0]
    error_deg = math.degrees(float(so3.angle_between(best.camera_from_object.rotation, rotation)))
    assert error_deg < 6  # the box is about eleven cells wide, so this is half a cell
    assert (best.camera_from_object.translation - truth.translation).norm() < 0.03
    assert best.score > 0.5
    assert best.visible_fraction > 0.8


def test_what_appears_larger_than_most_of_the_image_is_not_found() -> None:
    detection = DetectionConfig(largest_share=0.2)
    config = NeuralMeshConfig(
        precision="float32", runtime="pytorch", crops=CropConfig(mirror=False), detection=detection
    )
    method = NeuralMeshMethod(oracle_model(), ("mug",), torch.device("cpu"), config)
    largest_px = 0.2 * math.hypot(CAMERA.width, CAMERA.height)
    for appears, found in ((0.7, True), (1.4, False)):
        distance = CAMERA.fx * float(SIZE_M.norm()) / (appears * largest_px)
        pose = SE3(rotations.super_fibonacci(12)[1], torch.tensor([0.0, 0.0, distance]))
        assert bool(finished(method.search(coordinate_frame(CAMERA, [pose], [SIZE_M])))) == found


def believed(pose: SE3, deviation: float) -> Belief:
    return Belief("mug", pose, SIZE_M.double().log(), torch.eye(9, dtype=torch.float64) / deviation**2)


def test_a_search_is_done_in_pieces(method: NeuralMeshMethod) -> None:
    truth = SE3(rotations.super_fibonacci(12)[2], torch.tensor([0.0, 0.0, 0.7]))
    search = method.search(coordinate_frame(CAMERA, [truth], [SIZE_M]))
    assert sum(1 for _ in search) >= 3  # two image levels and the candidates


@pytest.mark.parametrize("index", range(4))
def test_follows_an_object_that_has_moved(method: NeuralMeshMethod, index: int) -> None:
    before = SE3(rotations.super_fibonacci(12)[index], torch.tensor([0.02, 0.01, 0.7]))
    turn = so3.exp(torch.tensor([0.15, -0.1, 0.1]))
    now = SE3(turn @ before.rotation, before.translation + torch.tensor([0.015, -0.01, 0.0]))
    frame = coordinate_frame(CAMERA, [now], [SIZE_M])
    (sighting,) = method.follow(frame, [believed(before, 0.3)], [0.0])
    found = sighting.belief.camera_from_object
    assert math.degrees(float(so3.angle_between(found.rotation, now.rotation))) < 6
    assert (found.translation[:2] - now.translation[:2]).norm() < 0.01
    assert sighting.estimate.score > 0.5
    assert sighting.strain > 0


def test_a_sure_belief_is_moved_less_and_ends_surer(method: NeuralMeshMethod) -> None:
    before = SE3(torch.eye(3), torch.tensor([0.0, 0.0, 0.7]))
    frame = coordinate_frame(CAMERA, [SE3(torch.eye(3), torch.tensor([0.03, 0.0, 0.7]))], [SIZE_M])
    moved, information = [], []
    for deviation in (0.5, 1e-3):
        (sighting,) = method.follow(frame, [believed(before, deviation)], [0.0])
        moved.append(float((sighting.belief.camera_from_object.translation - before.translation).norm()))
        information.append(torch.linalg.eigvalsh(sighting.belief.information))
    assert moved[0] > 0.025
    assert moved[1] < 0.01
    assert (information[1] > information[0]).all()


def test_where_nothing_is_a_sighting_says_so(method: NeuralMeshMethod) -> None:
    pose = SE3(torch.eye(3), torch.tensor([0.0, 0.0, 0.7]))
    (sighting,) = method.follow(coordinate_frame(CAMERA, [], []), [believed(pose, 0.1)], [0.5])
    assert sighting.estimate.score < 0.1
    assert sighting.estimate.visible_fraction < 0.1


def test_objects_are_followed_together_as_each_alone(method: NeuralMeshMethod) -> None:
    poses = [SE3(rotations.super_fibonacci(12)[k], torch.tensor([x, 0.0, 0.8])) for k, x in ((1, -0.15), (5, 0.15))]
    frame = coordinate_frame(CAMERA, poses, [SIZE_M, SIZE_M])
    together = method.follow(frame, [believed(pose, 0.1) for pose in poses], [0.5, 0.5])
    for pose, sighting in zip(poses, together, strict=True):
        (alone,) = method.follow(frame, [believed(pose, 0.1)], [0.5])
        apart = alone.belief.camera_from_object.translation - sighting.belief.camera_from_object.translation
        assert apart.norm() < 1e-4
    assert method.follow(frame, [], []) == []


def test_what_is_not_looked_at_tells_where_the_others_stand(method: NeuralMeshMethod) -> None:
    """Two that stand on one plane; the first is believed nearer and smaller than it is."""
    upright = so3.exp(torch.tensor([-2.3, 0.0, 0.0]))  # z up, seen from above
    poses = [SE3(upright, torch.tensor([x, 0.0, 0.8])) for x in (-0.15, 0.15)]
    frame = coordinate_frame(CAMERA, poses, [SIZE_M, SIZE_M])
    near = SE3(upright, 0.7 * poses[0].translation)
    first = Belief("mug", near, (0.7 * SIZE_M.double()).log(), torch.eye(9, dtype=torch.float64) / 0.3**2)
    second = believed(poses[1], 0.02)
    (alone,) = method.follow(frame, [first], [0.2])
    (told,) = method.follow(frame, [first], [0.2], [second])
    together = method.follow(frame, [first, second], [0.2, 0.2])[0]
    places = [float(item.belief.camera_from_object.translation[2]) for item in (alone, told, together)]
    assert places[1] == pytest.approx(places[2], abs=1e-4)
    assert abs(places[1] - 0.8) < abs(places[0] - 0.8) - 0.005


def test_a_round_object_is_followed_whatever_yaw_is_believed_of_it() -> None:
    """Optical flow and a camera that moves turn what is believed, also about an axis about which nothing shows."""
    frame = next(iter(BagFrames(EXAMPLE_BAG)))
    estimator = PoseEstimator.load(("can",))
    seen = max(estimator.estimate(frame), key=lambda item: item.score)
    about = Belief.about(seen)
    told = []
    for yaw in (0.0, 1.2):
        pose = SE3(
            seen.camera_from_object.rotation @ so3.exp(torch.tensor([0.0, 0.0, yaw])),
            about.camera_from_object.translation,
        )
        (sighting,) = estimator.follow(frame, [dataclasses.replace(about, camera_from_object=pose)], [1.0])
        told.append(sighting)
    assert told[0].estimate.score > 0.5
    torch.testing.assert_close(*[item.belief.camera_from_object.matrix() for item in told], atol=1e-3, rtol=0)
    assert told[1].estimate.score == pytest.approx(told[0].estimate.score, abs=1e-2)


@pytest.mark.parametrize("gap_m", [0.0, 1.0])
def test_what_depth_does_not_show_is_where_it_stands(method: NeuralMeshMethod, gap_m: float) -> None:
    """A large box of glass, that is a hole in the depth of the table on which it stands, or high above it."""
    larger_m, upright = 1.5 * SIZE_M, so3.exp(torch.tensor([-2.3, 0.0, 0.0]))  # z up, seen from above
    pose = SE3(upright, torch.tensor([0.05, 0.02, 0.9]))
    frame = coordinate_frame(CAMERA, [pose], [larger_m])
    up = upright[:, 2]
    height_m = float(0.5 * larger_m[2] - up @ pose.translation) + gap_m  # of the camera above the table
    rows, columns = torch.meshgrid(torch.arange(CAMERA.height), torch.arange(CAMERA.width), indexing="ij")
    table = -height_m / (CAMERA.rays(torch.stack([columns, rows], -1).float()) @ up)
    depth = np.where((frame.rgb > 0).any(-1), 0.0, table.numpy()).astype(np.float32)
    found = [finished(method.search(dataclasses.replace(frame, depth=each)))[0] for each in (None, depth)]
    without, standing = (float(item.camera_from_object.translation[2]) for item in found)
    assert without < 0.75  # as near as the size that most have
    assert standing == pytest.approx(0.9 if gap_m == 0.0 else without, rel=0.03)  # on the table it would be too large
