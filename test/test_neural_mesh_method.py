"""The whole method on images whose features are right by construction: no data, no training."""

from __future__ import annotations

import math

import pytest
import torch
from oracle import SIZE_M, coordinate_frame, oracle_model

from category_pose_ros.estimation.neural_mesh import NeuralMeshConfig, NeuralMeshMethod
from category_pose_ros.geometry import SE3, Camera, rotations, so3

CAMERA = Camera(600.0, 600.0, 319.5, 239.5, 640, 480)


@pytest.fixture(scope="module")
def method() -> NeuralMeshMethod:
    return NeuralMeshMethod(oracle_model(), ("mug",), torch.device("cpu"), NeuralMeshConfig(precision="float32"))


@pytest.mark.parametrize("index", range(12))
def test_finds_the_pose_of_one_box(method: NeuralMeshMethod, index: int) -> None:
    rotation = rotations.super_fibonacci(12)[index]
    truth = SE3(rotation, torch.tensor([0.08 * math.sin(index), 0.06 * math.cos(index), 0.7]))
    best = method.estimate(coordinate_frame(CAMERA, [truth], [SIZE_M]))[0]
    error_deg = math.degrees(float(so3.angle_between(best.camera_from_object.rotation, rotation)))
    assert error_deg < 6  # the box is about eleven cells wide, so this is half a cell
    assert (best.camera_from_object.translation - truth.translation).norm() < 0.03
    assert best.score > 0.5
    assert best.visible_fraction > 0.8
