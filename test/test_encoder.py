"""The pose encoder: geometry of crops, rotations and twins, model files, a short training."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from PIL import Image
from safetensors.torch import save_file
from strategies import rotation_vectors
from torch.nn import functional

from category_pose_ros.cli import main
from category_pose_ros.data.procedural import shapes
from category_pose_ros.data.silhouettes import CAMERA, Family, Shape, crop_boxes, random_views, render_masks
from category_pose_ros.geometry import SE3, Camera, so3
from category_pose_ros.models.pose_encoder import (
    CROP_PX,
    WHOLE,
    EncoderConfig,
    Encoding,
    PoseEncoder,
    crop_around,
    from_columns,
    from_cosines,
    is_behind,
    load_encoder,
    poses,
    sight,
    square_camera,
    turned,
    twin,
)
from category_pose_ros.rendering.rasterizer import rasterize
from category_pose_ros.rendering.surface import Surface
from category_pose_ros.training.train_encoder import (
    EncoderTrainConfig,
    _prototype,
    damaged,
    encoder_loss,
    mask_samples,
    train_encoder,
)


def wedge(category: str = "car") -> Shape:
    """A car of two boxes, its own mirror image in y."""
    body = shapes.moved(shapes.box((4.4, 1.8, 0.8)), z=-0.35)
    mesh = shapes.merge([body, shapes.moved(shapes.box((2.0, 1.6, 0.7)), x=-0.6, z=0.4)])
    surface = Surface.from_triangles(mesh.vertices, mesh.faces)
    return Shape(category, surface, torch.tensor([4.4, 1.8, 1.5]))


@given(rotation_vectors())
def test_a_twin_looks_the_same_far_away_and_is_the_other_one_twice_taken(vector: torch.Tensor) -> None:
    rotation = so3.exp(vector)
    other = twin(rotation)
    torch.testing.assert_close(twin(other), rotation)
    torch.testing.assert_close(torch.linalg.det(other), torch.ones((), dtype=other.dtype))
    if abs(float(rotation[2, 0])) > 1e-9:
        assert is_behind(rotation) != is_behind(other)


def test_a_twin_has_the_same_silhouette() -> None:
    camera = Camera(4000.0, 4000.0, 31.5, 31.5, 64, 64)
    rotation = so3.exp(torch.tensor([[0.5, 0.4, 1.2]]))
    far = torch.tensor([[0.0, 0.0, 500.0]])
    masks = [rasterize(wedge().surface, SE3(item, far), camera).covered for item in (rotation, twin(rotation))]
    assert (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum() > 0.97


@settings(max_examples=30)
@given(rotation_vectors())
def test_two_columns_give_the_rotation_back(vector: torch.Tensor) -> None:
    rotation = so3.exp(vector).float()[None]
    found = from_columns(torch.cat([3 * rotation[:, :, 0], 0.5 * rotation[:, :, 2]], -1))
    torch.testing.assert_close(found, rotation, atol=5e-3, rtol=0)


def test_cosines_give_rotations_but_not_the_sign_of_an_angle() -> None:
    angles = torch.tensor([[0.3, 1.0, 2.0], [2.5, 0.1, 0.7]])
    found = from_cosines(angles.cos())
    identity = torch.eye(3).expand(2, 3, 3)
    torch.testing.assert_close(found @ found.transpose(-1, -2), identity, atol=1e-5, rtol=0)
    torch.testing.assert_close(from_cosines((-angles).cos()), found)


def test_the_pose_of_a_sample_is_the_pose_that_it_was_rendered_with() -> None:
    shape = wedge()
    rng = np.random.default_rng(0)
    truth = random_views(np.random.default_rng(0), shape, 8)
    samples = mask_samples(rng, shape, 0, 8, EncoderConfig())
    boxes = crop_boxes(shape.surface, truth, CAMERA).tolist()
    for row in range(8):
        camera = square_camera(CAMERA, tuple(boxes[row]), CROP_PX)
        one = samples[torch.tensor([row])]
        encoding = Encoding(torch.zeros(1, 1), one.rotation, torch.zeros(1), one.centre, one.log_distance)
        found = poses(encoding, (_prototype(shape, torch.eye(3)),), camera, torch.tensor([0]))
        along = sight(camera)
        rotation = along @ twin(along.T @ found.rotation) if one.behind[0] else found.rotation
        torch.testing.assert_close(rotation[0], truth.rotation[row], atol=1e-4, rtol=0)
        torch.testing.assert_close(found.translation[0], truth.translation[row], atol=1e-3, rtol=1e-4)


def test_a_mirrored_sample_is_what_a_mirrored_camera_sees() -> None:
    shape = wedge()
    samples = mask_samples(np.random.default_rng(1), shape, 0, 6, EncoderConfig())
    mirrored = samples.mirrored()
    for row in range(6):
        depth = samples.log_distance[row].exp() * shape.size_m.norm()
        camera = Camera(CROP_PX, CROP_PX, (CROP_PX - 1) / 2, (CROP_PX - 1) / 2, CROP_PX, CROP_PX)
        masks = []
        for item in (samples, mirrored):
            rotation = twin(item.rotation[row]) if item.behind[row] else item.rotation[row]
            centre = torch.cat([item.centre[row], torch.ones(1)]) * depth
            masks.append(rasterize(shape.surface, SE3(rotation[None], centre[None]), camera).covered[0])
        assert (masks[0].flip(-1) & masks[1]).sum() / (masks[0].flip(-1) | masks[1]).sum() > 0.98


def test_cars_stand_on_the_ground_below_the_camera() -> None:
    shape = wedge()
    views = random_views(np.random.default_rng(0), shape, 30)
    ground = (views @ torch.tensor([[0.0, 0.0, -0.75]]))[:, 0]
    torch.testing.assert_close(ground[:, 1], torch.full((30,), 1.5), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        views.rotation[:, :, 2], torch.tensor([[0.0, -1.0, 0.0]]).expand(30, 3), atol=1e-5, rtol=0
    )


def test_a_crop_sees_what_the_image_sees() -> None:
    shape = wedge()
    pose = random_views(np.random.default_rng(4), shape, 1)
    whole = render_masks(shape.surface, pose, [CAMERA])[0].float()
    crop, camera = crop_around(whole, CAMERA, 96)
    direct = render_masks(shape.surface, pose, [camera])[0]
    assert ((crop > 0.5) & direct).sum() / ((crop > 0.5) | direct).sum() > 0.93
    with pytest.raises(ValueError, match="mask: expected at least one pixel"):
        crop_around(torch.zeros(8, 8), CAMERA, 32)


def test_damage_only_takes_away_and_blurs() -> None:
    torch.manual_seed(0)
    mask = torch.zeros(64, 32, 32, dtype=torch.bool)
    mask[:, 8:24, 8:24] = True
    found = damaged(mask)
    assert found[:, :7].max() == 0
    lost = (found < 0.1)[:, 10:22, 10:22].any(-1).any(-1)
    assert 0 < lost.float().mean() < 0.5


PAPER = EncoderConfig(width=8, rotation="cosine", layers="paper", sees="image")


@pytest.mark.parametrize(
    ("config", "pose"),
    [(EncoderConfig(width=8), "parts"), (EncoderConfig(width=8, rotation="cosine"), "parts"), (PAPER, "matrix")],
)
def test_the_loss_falls_with_training(config: EncoderConfig, pose: str) -> None:
    torch.manual_seed(0)
    samples = mask_samples(np.random.default_rng(2), wedge(), 0, 32, config)
    encoder = PoseEncoder(config, 2)
    optimiser = torch.optim.Adam(encoder.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        loss = encoder_loss(encoder(samples.mask.float()), samples, pose)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_a_trained_encoder_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    overrides = {"gallery": 4, "instances": 3, "choosing": 2, "prototypes": 2, "views": 4, "steps": 4, "batch": 4}
    config = EncoderTrainConfig(("car",), cells=10, encoder=EncoderConfig(width=4), **overrides)  # type: ignore[arg-type]
    path = train_encoder(config, tmp_path / "encoder.safetensors")
    model = load_encoder(path)
    assert [item.category for item in model.prototypes] == ["car", "car"]
    assert model.training["settings"]["instances"] == 3
    assert all(item.surface.vertices.abs().max() < 0.51 for item in model.prototypes)
    again = load_encoder(train_encoder(config, tmp_path / "again.safetensors"))
    mask = torch.rand(2, CROP_PX, CROP_PX)
    assert torch.equal(model.encoder(mask).rotation, again.encoder(mask).rotation)


def test_the_loss_of_the_matrix_is_that_of_the_translation_in_diagonals() -> None:
    shape = wedge()
    samples = mask_samples(np.random.default_rng(3), shape, 0, 5, PAPER)
    truth = random_views(np.random.default_rng(3), shape, 5)
    exact = Encoding(
        20 * functional.one_hot(samples.prototype, 2).float(),
        samples.rotation,
        40 * samples.behind.float() - 20,
        samples.centre,
        samples.log_distance,
    )
    assert float(encoder_loss(exact, samples, "matrix")) < 1e-6
    farther = dataclasses.replace(exact, log_distance=exact.log_distance + math.log(1.1))
    scale = torch.tensor([1.0, 1.0, WHOLE.width / WHOLE.fx])  # as a camera whose focal length is its side
    expected = (0.1 * truth.translation * scale / shape.size_m.norm()).square().sum(-1).mean()
    torch.testing.assert_close(encoder_loss(farther, samples, "matrix"), expected, rtol=1e-3, atol=1e-5)


def test_whole_images_are_of_one_camera_and_the_poses_in_them_the_true_ones() -> None:
    shape = wedge()
    truth = random_views(np.random.default_rng(5), shape, 6)
    samples = mask_samples(np.random.default_rng(5), shape, 0, 6, PAPER)
    assert torch.equal(samples.mask, render_masks(shape.surface, truth, [WHOLE] * 6))
    encoding = Encoding(torch.zeros(6, 1), samples.rotation, torch.zeros(6), samples.centre, samples.log_distance)
    found = poses(encoding, (_prototype(shape, torch.eye(3)),), WHOLE, torch.zeros(6, dtype=torch.long))
    rotation = torch.where(samples.behind[:, None, None], turned(found.rotation, WHOLE), found.rotation)
    torch.testing.assert_close(rotation, truth.rotation, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.translation, truth.translation, atol=1e-3, rtol=1e-4)
    # In the paper's protocol the cosines tell the heading as far as they can: up to which side is seen.
    angle = torch.atan2(-samples.rotation[:, 2, 0], samples.rotation[:, 0, 0])
    cosines = torch.stack([torch.ones(6), angle.cos(), torch.zeros(6)], -1)
    torch.testing.assert_close(from_cosines(cosines), samples.rotation, atol=0.03, rtol=0)


def test_the_commands_train_and_evaluate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "encoder.safetensors")
    small = [
        "categories=car",
        "gallery=4",
        "instances=3",
        "choosing=2",
        "prototypes=2",
        "views=2",
        "steps=2",
        "batch=4",
    ]
    small += ["cells=8", "encoder.width=4"]
    with pytest.raises(SystemExit) as end:
        main(["train-encoder", path, *(word for item in small for word in ("--set", item))])
    assert end.value.code == 0
    with pytest.raises(SystemExit) as end:
        main(["evaluate-silhouette", path, "--masks", "2", "--paper", "--set", "steps=2", "--set", "resolution_px=16"])
    assert end.value.code == 0
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("|")][2:]
    assert [row[1].strip() for row in rows][:2] == ["encoder", "steps of the pose"]
    assert len(rows) == 5
    assert float(rows[1][3]) > float(rows[0][3])  # an untrained encoder leaves much to gain
    assert float(rows[1][4]) == pytest.approx(float(rows[1][3]) - float(rows[0][3]), abs=2e-3)
    assert (rows[0][4].strip(), rows[0][6].strip()) == ("", "")
    rotations = []
    for words in ([], ["--either-side"]):
        with pytest.raises(SystemExit) as end:
            main(["evaluate-silhouette", path, "--masks", "2", "--set", "refine=none", *words])
        assert end.value.code == 0
        table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")][2:]
        rotations.append(float(table[0].split("|")[5].strip(" °")))
    assert rotations[1] <= rotations[0]
    with pytest.raises(SystemExit) as end:
        main(["evaluate-silhouette", path, "--category", "mug"])
    assert end.value.code == 2
    assert "expected one of car, got 'mug'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        main(["evaluate-silhouette", path, "--plot", "gains.png"])
    assert end.value.code == 2
    assert "--plot: expected together with --resolutions" in capsys.readouterr().err


def test_the_gains_of_resolutions_and_steps_are_told_and_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("category_pose_ros.cli.evaluate_silhouette._RESOLUTIONS", (16, 24))
    monkeypatch.setattr("category_pose_ros.cli.evaluate_silhouette._STEPS", (2, 4))
    small = EncoderTrainConfig(
        ("can",), 1, 3, 2, 1, 1, choosing=1, cells=8, steps=1, batch=2, encoder=EncoderConfig(width=4)
    )
    path = train_encoder(small, tmp_path / "encoder.safetensors")
    plot = tmp_path / "gains.png"
    arguments = ["--category", "can", "--masks", "1", "--resolutions", "--plot", str(plot)]
    with pytest.raises(SystemExit) as end:
        main(["evaluate-silhouette", str(path), *arguments])
    assert end.value.code == 0
    names = [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert [name for name in names if name.endswith(("px", "steps"))] == ["16 px", "24 px", "2 steps", "4 steps"]
    with Image.open(plot) as picture:
        assert np.ptp(np.array(picture)) > 100


def test_instances_are_numbered_without_end_and_each_is_in_one_split_or_a_representative_or_none() -> None:
    family = Family("can", seed=3, cells=8, gallery=5)
    names = {"training": 6, "choosing": 2, "testing": 2}
    split = [item for name, count in names.items() for item in itertools.islice(family.split(name), count)]
    numbered = [family.instance(number) for number in range(5, 15)]
    assert sorted(item.size_m.tolist() for item in split) == sorted(item.size_m.tolist() for item in numbered)
    assert len({tuple(item.size_m.tolist()) for item in split}) == 10
    gallery = [family.instance(number) for number in range(5)]
    chosen = family.representatives(2)
    for medoid in chosen.medoids:
        assert any(torch.equal(medoid.surface.vertices, item.surface.vertices) for item in gallery)
    assert torch.linalg.eigvalsh(chosen.log_size_covariance).min() > 0


def test_new_masks_take_the_place_of_old_ones() -> None:
    pool, fresh = (mask_samples(np.random.default_rng(seed), wedge(), seed, 4, EncoderConfig()) for seed in (1, 2))
    before = pool[torch.arange(4)]
    pool.replace(1, fresh[torch.arange(2)])
    for name, value in vars(pool).items():
        assert torch.equal(value[1:3], getattr(fresh, name)[:2])
        assert torch.equal(value[[0, 3]], getattr(before, name)[[0, 3]])


def test_files_that_are_no_encoder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="encoder: no such file"):
        load_encoder(tmp_path / "missing.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(ValueError, match="is damaged"):
        load_encoder(tmp_path / "text.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="is not an encoder of this package"):
        load_encoder(tmp_path / "other.safetensors")
