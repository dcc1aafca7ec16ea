"""A mug whose handle is hidden looks the same from every side: its annotation says so, and the metrics listen."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from category_pose_ros import SE3, Camera, Frame, ObjectEstimate
from category_pose_ros.data.annotations import AnnotatedFrame, GroundTruthObject
from category_pose_ros.data.bop import BopScene
from category_pose_ros.data.bop_writer import write_scene
from category_pose_ros.data.procedural.mugs import beside_body, make_mug
from category_pose_ros.data.procedural.surfaces import TextureSource
from category_pose_ros.evaluation.evaluate import pose_errors
from category_pose_ros.geometry import Symmetry, so3

SIZE = np.array([0.13, 0.09, 0.1])
CAMERA = Camera(80.0, 80.0, 31.5, 23.5, 64, 48)


def mug(symmetry: Symmetry | None) -> GroundTruthObject:
    pose = SE3(torch.eye(3).double(), torch.tensor([0.0, 0.0, 1.0]).double())
    return GroundTruthObject("mug", pose, SIZE, visible_fraction=1.0, symmetry=symmetry)


def turned(axis: int, degrees: float) -> ObjectEstimate:
    vector = torch.zeros(3, dtype=torch.float64)
    vector[axis] = math.radians(degrees)
    pose = SE3(so3.exp(vector), torch.tensor([0.0, 0.0, 1.0]).double())
    return ObjectEstimate("mug", pose, SIZE, 0.9, 1.0, np.eye(6))


def test_only_the_yaw_of_a_mug_with_a_hidden_handle_is_forgiven() -> None:
    hidden, shown = mug(Symmetry.AXIS_Z), mug(None)
    assert pose_errors(turned(2, 70), hidden).rotation_rad == pytest.approx(0.0, abs=1e-6)
    assert math.degrees(pose_errors(turned(2, 70), shown).rotation_rad) == pytest.approx(70)
    assert math.degrees(pose_errors(turned(0, 20), hidden).rotation_rad) == pytest.approx(20)


@pytest.mark.parametrize("symmetry", [Symmetry.AXIS_Z, None])
def test_the_scene_folder_keeps_it(tmp_path: Path, symmetry: Symmetry | None) -> None:
    frame = AnnotatedFrame(Frame(np.zeros((48, 64, 3), np.uint8), CAMERA), (mug(symmetry),), "")
    write_scene(tmp_path, [frame])
    (found,) = BopScene(tmp_path)[0].objects
    assert found.symmetry is symmetry
    assert found.seen_symmetry is (symmetry or Symmetry.NONE)


@pytest.mark.parametrize("seed", range(8))
def test_the_handle_is_what_is_beside_the_body(seed: int) -> None:
    """Of every mug of the family: most of the handle's vertices, and none of the body's."""
    instance = make_mug(np.random.default_rng(seed), TextureSource())
    body, handle = instance.parts[0][0].vertices, instance.parts[2][0].vertices
    assert not beside_body(body, instance.size_m).any()
    assert beside_body(handle, instance.size_m).mean() > 0.4
