"""The paper's schedule on images whose features are right by construction."""

from __future__ import annotations

import math

import pytest
import torch
from neural_models import tiny_model
from oracle import SIZE_M, coordinate_frame, oracle_model

from category_pose_ros.estimation import paper_schedule
from category_pose_ros.estimation.belief import finished
from category_pose_ros.estimation.estimator import EstimatorConfig, PoseEstimator
from category_pose_ros.estimation.evidence import CorrespondenceConfig
from category_pose_ros.estimation.neural_mesh import NeuralMeshConfig
from category_pose_ros.estimation.paper_schedule import PaperSchedule
from category_pose_ros.geometry import SE3, Camera, so3
from category_pose_ros.models.checkpoint import save_model

CAMERA = Camera(300.0, 300.0, 159.5, 119.5, 320, 240)
UPRIGHT = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, -1.0], [-1.0, 0.0, 0.0]])  # its front to the camera


@pytest.fixture(scope="module")
def method() -> PaperSchedule:
    """With features that change smoothly over the surface, as trained ones do: Adam slides along them."""
    model = oracle_model()
    size = SIZE_M / SIZE_M.norm()
    waves = (model.meshes.points * size) @ (6 * torch.randn(3, 48)) + 2 * math.pi * torch.rand(48)
    model.meshes.memory.data = waves.cos()
    # The objects of the oracle are boxes: they fill their cuboids.
    correspondence = CorrespondenceConfig(full_presence=1.0)
    config = NeuralMeshConfig(precision="float32", runtime="pytorch", correspondence=correspondence)
    return PaperSchedule(model, ("mug",), torch.device("cpu"), config)


def pose(azimuth_deg: float, elevation_deg: float, x: float, z: float) -> SE3:
    turn = so3.exp(torch.tensor([0.0, 0.0, math.radians(azimuth_deg)]))
    tilt = so3.exp(torch.tensor([math.radians(elevation_deg), 0.0, 0.0]))
    return SE3(tilt @ UPRIGHT @ turn, torch.tensor([x, 0.01, z]))


def error_deg(found: SE3, truth: SE3) -> float:
    return math.degrees(float(so3.angle_between(found.rotation, truth.rotation)))


@pytest.mark.parametrize(("azimuth_deg", "elevation_deg"), [(40.0, 25.0), (200.0, 5.0)])
def test_finds_the_pose_of_one_box(method: PaperSchedule, azimuth_deg: float, elevation_deg: float) -> None:
    """Between the nodes of the grid: 30 degrees of azimuth, 45 of elevation, a ninth of the image.

    The distance comes out some per cent too long: nothing in the paper's loss holds the outline.
    """
    truth = pose(azimuth_deg, elevation_deg, 0.03, 0.5)
    best = finished(method.search(coordinate_frame(CAMERA, [truth], [SIZE_M])))[0]
    assert error_deg(best.camera_from_object, truth) < 3
    off = best.camera_from_object.translation - truth.translation
    assert off[:2].norm() < 0.01
    assert abs(off[2]) < 0.08 * truth.translation[2]
    assert best.score > 0.8
    assert best.visible_fraction > 0.9


def test_of_two_that_overlap_each_keeps_its_own_pixels(method: PaperSchedule) -> None:
    front, behind = pose(40.0, 20.0, -0.05, 0.3), pose(300.0, 20.0, 0.065, 0.42)
    frame = coordinate_frame(CAMERA, [behind, front], [SIZE_M, SIZE_M])
    found = finished(method.search(frame))
    seen = [item for item in found if item.score > 0.4]
    assert len(seen) == 2
    nearer, farther = sorted(seen, key=lambda item: float(item.camera_from_object.translation[2]))
    assert error_deg(nearer.camera_from_object, front) < 4
    assert error_deg(farther.camera_from_object, behind) < 8
    assert farther.visible_fraction < nearer.visible_fraction


def test_an_empty_image_has_nothing_worth_reporting(method: PaperSchedule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper_schedule, "ITERATIONS", 20)
    found = finished(method.search(coordinate_frame(CAMERA, [], [])))
    assert all(item.score < 0.05 and item.visible_fraction < 0.05 for item in found)


def test_a_search_is_done_in_pieces(method: PaperSchedule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper_schedule, "ITERATIONS", 50)
    frame = coordinate_frame(CAMERA, [pose(40.0, 20.0, 0.0, 0.5)], [SIZE_M])
    assert sum(1 for _ in method.search(frame)) >= 1 + 2 * 50 / 25


def test_it_is_a_setting_of_the_estimator(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper_schedule, "ITERATIONS", 2)
    monkeypatch.setattr(paper_schedule, "LEAST_SCORE", -1.0)  # an untrained network resembles nothing
    save_model(tmp_path / "tiny.safetensors", tiny_model())
    estimator = PoseEstimator.load(
        model=tmp_path / "tiny.safetensors", config=EstimatorConfig(score_threshold=0.0, schedule="paper")
    )
    found = estimator.estimate(coordinate_frame(CAMERA, [], []))
    assert {item.category for item in found} == {"can", "mug"}
    sizes = {item.category: item.size_m.tolist() for item in found}
    assert sizes["mug"] == pytest.approx([0.12, 0.09, 0.1], rel=1e-5)  # the mean of the category
    with pytest.raises(ValueError, match="schedule: expected one of ours, paper"):
        EstimatorConfig(schedule="fast")
