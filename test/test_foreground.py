"""Masks for the silhouette method: those of a frame, and those of a neural mesh model that is right by construction."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from oracle import SIZE_M, coordinate_frame, oracle_model
from torch import Tensor

from category_pose_ros.data.procedural import shapes
from category_pose_ros.estimation.belief import Belief, finished
from category_pose_ros.estimation.crops import CropConfig
from category_pose_ros.estimation.foreground import Foreground, ObjectMask, given_masks
from category_pose_ros.estimation.neural_mesh import NeuralMeshConfig, NeuralMeshMethod
from category_pose_ros.estimation.silhouette import SilhouetteConfig, SilhouetteMethod
from category_pose_ros.geometry import SE3, Camera, rotations
from category_pose_ros.models.pose_encoder import EncoderConfig, EncoderModel, PoseEncoder, Prototype
from category_pose_ros.records import Frame, Region
from category_pose_ros.rendering.rasterizer import cover
from category_pose_ros.rendering.surface import Surface

CAMERA = Camera(600.0, 600.0, 319.5, 239.5, 640, 480)
POSES = [
    SE3(rotations.super_fibonacci(12)[1], torch.tensor([-0.15, 0.0, 0.7])),
    SE3(rotations.super_fibonacci(12)[5], torch.tensor([0.15, 0.05, 0.9])),
]


@pytest.fixture(scope="module")
def foreground() -> Foreground:
    config = NeuralMeshConfig(precision="float32", runtime="pytorch", crops=CropConfig(mirror=False))
    return Foreground(NeuralMeshMethod(oracle_model(), ("mug",), torch.device("cpu"), config))


def box() -> Surface:
    mesh = shapes.box((1.0, 1.0, 1.0))
    return Surface.from_triangles(mesh.vertices, mesh.faces)


def true_mask(pose: SE3) -> Tensor:
    return cover(box().scaled(SIZE_M), SE3(pose.rotation[None], pose.translation[None]), CAMERA)[0]


def overlap(first: Tensor, second: Tensor) -> float:
    return float((first & second).sum() / (first | second).sum())


def found(foreground: Foreground, frame: Frame) -> list[ObjectMask]:
    search = foreground.search(frame)
    while True:
        try:
            next(search)
        except StopIteration as end:
            return list(end.value)


def test_the_foreground_of_each_object_is_its_mask(foreground: Foreground) -> None:
    masks = found(foreground, coordinate_frame(CAMERA, POSES, [SIZE_M, SIZE_M]))
    assert len(masks) == 2
    for pose in POSES:
        best = max(masks, key=lambda mask: overlap(mask.pixels, true_mask(pose)))
        assert overlap(best.pixels, true_mask(pose)) > 0.85
        assert best.category == "mug"
        assert 0.5 < best.score <= 1


def test_the_foreground_is_followed_and_empty_where_nothing_is(foreground: Foreground) -> None:
    frame = coordinate_frame(CAMERA, POSES[:1], [SIZE_M])
    beliefs = [Belief("mug", pose, SIZE_M.double().log(), torch.eye(9, dtype=torch.float64)) for pose in POSES]
    seen, gone = foreground.follow(frame, beliefs)
    assert overlap(seen.pixels, true_mask(POSES[0])) > 0.85
    assert not gone.is_large_enough
    assert foreground.follow(frame, []) == []


def test_an_object_without_a_given_mask_is_estimated_from_its_foreground(foreground: Foreground) -> None:
    torch.manual_seed(0)
    prototype = Prototype("mug", box(), SIZE_M, 1e-3 * torch.eye(3))
    model = EncoderModel(PoseEncoder(EncoderConfig(width=4), 1).eval(), (prototype,), EncoderConfig(), {})
    method = SilhouetteMethod(model, ("mug",), SilhouetteConfig(steps=14, resolution_px=48), foreground)
    frame = coordinate_frame(CAMERA, POSES[:1], [SIZE_M])
    (item,) = finished(method.search(frame))
    assert item.category == "mug"
    assert torch.allclose(CAMERA.project(item.camera_from_object.translation).float(),
                          CAMERA.project(POSES[0].translation), atol=12)  # fmt: skip
    start = Belief("mug", POSES[0], SIZE_M.double().log(), 100 * torch.eye(9, dtype=torch.float64))
    (sighting,) = method.follow(frame, [start], [0.5])
    assert sighting.estimate.score > 0.8
    assert (sighting.belief.camera_from_object.translation - POSES[0].translation).norm() < 0.05


def frame(*regions: Region, camera: Camera = CAMERA) -> Frame:
    return Frame(np.zeros((480, 640, 3), np.uint8), camera, regions=regions)


def test_a_mask_alone_may_show_several_objects_and_masks_with_categories_are_one_object_each() -> None:
    both = np.zeros((480, 640), bool)
    both[100:150, 100:150] = True
    both[100:150, 300:320] = True
    parts = given_masks(frame(Region(mask=both)))
    assert parts is not None
    assert sorted(int(part.pixels.sum()) for part in parts) == [1000, 2500]
    named = given_masks(frame(Region(mask=both, category="mug")))
    assert named is not None
    assert [int(item.pixels.sum()) for item in named] == [3500]
    two = given_masks(frame(Region(mask=both), Region(mask=~both)))
    assert two is not None
    assert len(two) == 2


def test_boxes_alone_and_no_regions_give_no_masks() -> None:
    assert given_masks(Frame(np.zeros((480, 640, 3), np.uint8), CAMERA)) is None
    assert given_masks(frame(Region(box=(0, 0, 5, 5)), Region(mask=np.ones((480, 640), bool)))) is None
    assert given_masks(frame()) == []


def test_masks_of_a_distorted_camera_are_rectified() -> None:
    bent = dataclasses.replace(CAMERA, distortion=(-0.3, 0.1, 0.0, 0.0))
    corner = np.zeros((480, 640), bool)
    corner[20:60, 20:60] = True
    (straight,) = given_masks(frame(Region(mask=corner))) or []
    (moved,) = given_masks(frame(Region(mask=corner), camera=bent)) or []
    assert moved.pixels.any()
    assert overlap(straight.pixels, moved.pixels) < 0.5
