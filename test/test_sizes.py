"""Sizes that a user knows: how they are written, and what they change."""

from __future__ import annotations

import pytest
import torch
from oracle import SIZE_M, coordinate_frame, oracle_model

from category_pose_ros import PoseEstimator
from category_pose_ros.estimation.belief import finished
from category_pose_ros.estimation.crops import CropConfig
from category_pose_ros.estimation.estimator import DEFAULT_MODEL, EstimatorConfig
from category_pose_ros.estimation.neural_mesh import NeuralMeshConfig, NeuralMeshMethod
from category_pose_ros.estimation.sizes import TypicalSize, typical_sizes, with_sizes
from category_pose_ros.geometry import SE3, Camera, rotations
from category_pose_ros.models.checkpoint import load_model


def test_sizes_are_read_by_category() -> None:
    assert typical_sizes(["car=3.9x1.6x1.5", "mug=0.12x.09x1e-1~0.05"]) == {
        "car": TypicalSize((3.9, 1.6, 1.5)),
        "mug": TypicalSize((0.12, 0.09, 0.1), 0.05),
    }


@pytest.mark.parametrize(
    "text",
    [
        *("car", "car=", "=1x1x1", "car=3.9", "car=3.9x1.6", "car=1x1x1x1", "car=axbxc", "car=1,1,1"),
        *("car=1x1xnan", "car=1x0x1", "car=1x-1x1", "car=1x1xinf", "car=1x1x1~", "car=1x1x1~0", "car=1x1x1~0.1~0.1"),
    ],
)
def test_what_is_no_size_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=r"sizes: expected CATEGORY=XxYxZ or .*, got"):
        NeuralMeshConfig(sizes=(text,))


def test_a_told_size_replaces_the_prior_of_its_category_alone() -> None:
    model = load_model(DEFAULT_MODEL)
    before = {info.name: info for info in model.meshes.infos}
    told = {info.name: info for info in with_sizes(model, ["mug=0.12x0.09x0.1", "can=0.07x0.07x0.1~0.05"]).meshes.infos}
    assert told["mug"].log_size_mean.exp().tolist() == pytest.approx([0.12, 0.09, 0.1])
    assert torch.equal(told["mug"].log_size_covariance, before["mug"].log_size_covariance)
    assert told["can"].log_size_covariance.diagonal().mean().sqrt().item() == pytest.approx(0.05)
    correlation = [torch.corrcoef(infos["can"].log_size_covariance) for infos in (told, before)]
    torch.testing.assert_close(*correlation)
    assert told["bowl"] is before["bowl"]
    assert model.meshes.infos == tuple(before.values())  # the model that was given stays as it was


def test_a_category_that_the_model_does_not_know_is_refused_by_name() -> None:
    config = EstimatorConfig(neural_mesh=NeuralMeshConfig(sizes=("spoon=0.2x0.04x0.02",)))
    with pytest.raises(ValueError, match=r"sizes: expected categories among bottle, .*, got 'spoon'"):
        PoseEstimator.load(config=config)


def test_what_is_larger_than_usual_is_as_far_away_as_it_is_where_its_size_is_told() -> None:
    camera, larger_m = Camera(600.0, 600.0, 319.5, 239.5, 640, 480), 1.5 * SIZE_M
    pose = SE3(rotations.super_fibonacci(12)[1], torch.tensor([0.05, -0.03, 0.9]))
    frame = coordinate_frame(camera, [pose], [larger_m])
    told = "mug=" + "x".join(f"{value:.3f}" for value in larger_m.tolist())
    found = {}
    for sizes in ((), (told,), (f"{told}~0.05",)):
        config = NeuralMeshConfig(precision="float32", runtime="pytorch", crops=CropConfig(mirror=False), sizes=sizes)
        method = NeuralMeshMethod(oracle_model(), ("mug",), torch.device("cpu"), config)
        found[sizes] = finished(method.search(frame))[0]
    usual, typical, sure = found.values()
    assert float(usual.camera_from_object.translation[2]) < 0.75  # nearer by as much as its size is unusual
    for answer in (typical, sure):
        assert float(answer.camera_from_object.translation[2]) == pytest.approx(0.9, rel=0.05)
        assert answer.size_m == pytest.approx(larger_m.numpy(), rel=0.1)
    assert sure.covariance[2, 2] < 0.5 * typical.covariance[2, 2]
