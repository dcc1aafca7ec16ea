"""The training loop: it can be killed at any moment and ends with the same weights."""

from __future__ import annotations

import csv
import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from category_pose_ros.data.samples import SampleConfig
from category_pose_ros.models.backbone import Backbone, BackboneConfig
from category_pose_ros.models.checkpoint import load_model
from category_pose_ros.training import train as training
from category_pose_ros.training.priors import category_info
from category_pose_ros.training.schedule import learning_rate
from category_pose_ros.training.train import TrainConfig, train

pytest.importorskip("embreex", reason="training samples are ray traced with embreex (the `train` extra)")

CONFIG = TrainConfig(
    categories=("can", "mug"),
    steps=6,
    scenes_per_batch=1,
    warmup_steps=2,
    average_decay=0.5,
    checkpoint_every=2,
    workers=0,
    samples=SampleConfig(size_px=64, views_per_scene=1),
    backbone=BackboneConfig(width=8, pyramid=16, feature=8),
)


class KilledError(Exception):
    """Stands for a signal that no program can catch."""


@pytest.fixture(scope="module", autouse=True)
def _few_instances() -> Iterator[None]:
    """A size prior from twenty instances is measured in no time; and the other tests keep their threads."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "category_info", lambda name: category_info(name, instances=20))
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    train(CONFIG, folder)
    return folder


def checkpoint(folder: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(folder / "checkpoint.pt", weights_only=True)
    return state


def assert_same_end(folder: Path, other: Path) -> None:
    """Bitwise: weights, their average, the optimiser and the model file."""
    first, second = checkpoint(folder), checkpoint(other)
    assert first["step"] == second["step"] == CONFIG.steps
    for part in ("model", "average"):
        assert first[part].keys() == second[part].keys()
        for name, value in first[part].items():
            assert torch.equal(value, second[part][name]), name
    for number, state in first["optimiser"]["state"].items():
        for name, value in state.items():
            assert torch.equal(value, second["optimiser"]["state"][number][name]), name
    models = [load_model(each / "model.safetensors") for each in (folder, other)]
    for name, value in models[0].backbone.state_dict().items():
        assert torch.equal(value, models[1].backbone.state_dict()[name]), name


def logged_steps(folder: Path) -> list[int]:
    with (folder / "log.csv").open(newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


def kill_at(monkeypatch: pytest.MonkeyPatch, name: str, call: int) -> None:
    """The process dies when a function of the loop is called for the n-th time."""
    function, calls = getattr(training, name), []

    def dies(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == call:
            raise KilledError
        return function(*arguments)

    monkeypatch.setattr(training, name, dies)


def test_a_run_leaves_a_model_a_log_and_a_checkpoint(uninterrupted: Path) -> None:
    model = load_model(uninterrupted / "model.safetensors")
    assert model.meshes.names == ("can", "mug")
    assert model.training["step"] == CONFIG.steps
    (stage,) = model.training["stages"]
    assert stage["settings"]["seed"] == CONFIG.seed
    assert stage["from_step"] == 0
    assert stage["photographs"] is False
    assert logged_steps(uninterrupted) == [CONFIG.steps]
    assert not list(uninterrupted.glob("*.tmp"))


@pytest.mark.parametrize("steps_before", [3, 5])
def test_a_killed_run_ends_with_the_same_weights(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps_before: int
) -> None:
    with monkeypatch.context() as patch:
        kill_at(patch, "neural_mesh_loss", steps_before + 1)
        with pytest.raises(KilledError):
            train(CONFIG, tmp_path)
    assert checkpoint(tmp_path)["step"] == steps_before - 1
    train(CONFIG, tmp_path)
    assert_same_end(uninterrupted, tmp_path)
    assert logged_steps(tmp_path) == [CONFIG.steps]


@pytest.mark.parametrize("name", ["_export", "_checkpoint"])
def test_a_kill_around_the_last_checkpoint_loses_nothing(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with monkeypatch.context() as patch:
        kill_at(patch, name, 3)
        with pytest.raises(KilledError):
            train(CONFIG, tmp_path)
    train(CONFIG, tmp_path)
    assert_same_end(uninterrupted, tmp_path)
    assert logged_steps(tmp_path) == [CONFIG.steps]


def test_a_kill_while_writing_leaves_the_last_checkpoint_whole(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = torch.save

    def dies_half_way(state: dict[str, Any], path: Path) -> None:
        save(state, path)
        if state["step"] == 4:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", dies_half_way)
        with pytest.raises(KilledError):
            train(CONFIG, tmp_path)
    assert checkpoint(tmp_path)["step"] == 2
    train(CONFIG, tmp_path)
    assert_same_end(uninterrupted, tmp_path)


def test_a_finished_run_is_not_trained_again(uninterrupted: Path) -> None:
    before = (uninterrupted / "checkpoint.pt").stat().st_mtime_ns
    assert train(CONFIG, uninterrupted) == uninterrupted / "model.safetensors"
    assert (uninterrupted / "checkpoint.pt").stat().st_mtime_ns == before


def test_another_seed_makes_other_weights(uninterrupted: Path, tmp_path: Path) -> None:
    train(dataclasses.replace(CONFIG, seed=2, steps=2), tmp_path)
    assert not torch.equal(
        checkpoint(tmp_path)["model"]["meshes.memory"], checkpoint(uninterrupted)["model"]["meshes.memory"]
    )


def write_log(folder: Path, steps: list[int], tail: str = "") -> None:
    for step in steps:
        training._append_log(folder / "log.csv", {**dict.fromkeys(training._LOG_FIELDS, 1.0), "step": step})
    with (folder / "log.csv").open("a") as file:
        file.write(tail)


@pytest.mark.parametrize("tail", ["", "1", "80,12,3"])
def test_the_log_is_cut_back_to_the_checkpoint(tmp_path: Path, tail: str) -> None:
    write_log(tmp_path, [20, 40, 60], tail)
    training._cut_log(tmp_path / "log.csv", 40)
    assert logged_steps(tmp_path) == [20, 40]


def test_a_log_without_a_checkpoint_starts_anew(tmp_path: Path) -> None:
    write_log(tmp_path, [20, 40])
    training._cut_log(tmp_path / "log.csv", 0)
    training._cut_log(tmp_path / "log.csv", 0)  # where there is none, nothing happens
    assert not (tmp_path / "log.csv").exists()


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loss = training.neural_mesh_loss

    def broken(*arguments: Any) -> Any:
        losses = loss(*arguments)
        return dataclasses.replace(losses, total=losses.total * torch.nan)

    monkeypatch.setattr(training, "neural_mesh_loss", broken)
    with pytest.raises(FloatingPointError, match="the loss is nan at step 6"):
        train(dataclasses.replace(CONFIG, checkpoint_every=100), tmp_path)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_the_learning_rate_warms_up_and_falls_to_nothing() -> None:
    rates = [learning_rate(1.0, step, steps=100, warmup_steps=10) for step in range(101)]
    assert rates[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert max(rates) == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0.0)


@pytest.mark.parametrize("decay", [0.9, 0.999, 0.9995])
def test_indices_survive_the_moving_average(decay: float) -> None:
    """Averaged in floating point, 3 becomes 2.9999998, and 2 when it is an integer again."""
    model = nn.BatchNorm1d(3)
    model.register_buffer("category", torch.arange(12))
    average = AveragedModel(model, multi_avg_fn=training._moving_average(decay), use_buffers=True)
    for _ in range(20):
        with torch.no_grad():
            model.weight += 1.0
        average.update_parameters(model)
    assert average.module.category.tolist() == list(range(12))
    assert 1.0 < average.module.weight[0] < model.weight[0]


@pytest.mark.parametrize("name", ["bottle", "can", "mug"])
def test_size_priors_are_plausible(name: str) -> None:
    info = category_info(name, instances=60)
    size = info.log_size_mean.exp()
    assert ((size > 0.03) & (size < 0.35)).all()
    assert torch.linalg.eigvalsh(info.log_size_covariance).min() > 0
    assert torch.equal(category_info(name, instances=60).log_size_mean, info.log_size_mean)


def test_a_run_that_goes_on_says_that_its_first_weights_are_not_used(
    uninterrupted: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    initial = uninterrupted / "model.safetensors"
    config = dataclasses.replace(CONFIG, steps=1)
    train(config, tmp_path, initial=initial)
    assert not caplog.records
    train(config, tmp_path, initial=initial)
    assert caplog.messages == ["initial: not used, the run goes on from its checkpoint at step 1"]


def test_a_run_can_start_from_a_model(uninterrupted: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, steps=1, checkpoint_every=1, learning_rate=0.0, categories=("mug", "can"))
    model = load_model(train(config, tmp_path, initial=uninterrupted / "model.safetensors"))
    before = load_model(uninterrupted / "model.safetensors")
    weight = model.backbone.stem[0].weight
    assert torch.equal(weight, before.backbone.stem[0].weight)
    own, theirs = (
        item.meshes.memory[item.meshes.category == item.meshes.names.index("can")] for item in (model, before)
    )
    assert torch.allclose(own, theirs)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"categories": ("mug", "can")}, r"categories: the run in .* has \['can', 'mug'\], got \['mug', 'can'\]"),
        ({"backbone": BackboneConfig(width=16, pyramid=16, feature=8)}, r"backbone: the run in .*'width': 8.*"),
    ],
)
def test_a_run_goes_on_with_what_it_began_with(
    uninterrupted: Path, change: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    shutil.copytree(uninterrupted, tmp_path / "run")
    with pytest.raises(ValueError, match=expected):
        train(dataclasses.replace(CONFIG, **change), tmp_path / "run")


def test_photographs_that_come_or_go_are_noted(uninterrupted: Path, tmp_path: Path) -> None:
    shutil.copytree(uninterrupted, tmp_path / "run")
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for number in range(20):
        picture = np.full((60, 80, 3), 10 * number, np.uint8)
        assert cv2.imwrite(str(photographs / f"{number}.png"), picture)
    for steps, folder in ((2, photographs), (4, None)):
        train(dataclasses.replace(CONFIG, steps=CONFIG.steps + steps), tmp_path / "run", backgrounds=folder)
    stages = load_model(tmp_path / "run" / "model.safetensors").training["stages"]
    assert [stage["photographs"] for stage in stages] == [False, True, False]


def test_a_run_begun_elsewhere_goes_on_here(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint from a machine with CUDA is one whose tensors say so."""
    state = checkpoint(uninterrupted)
    monkeypatch.setattr(torch.serialization, "location_tag", lambda _: "cuda:0")
    torch.save(state, tmp_path / "checkpoint.pt")
    monkeypatch.undo()
    longer = dataclasses.replace(CONFIG, steps=CONFIG.steps + 2)
    assert load_model(train(longer, tmp_path)).training["step"] == longer.steps


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"categories": ("can", "can")}, "categories: expected each name once, got can, can"),
        ({"samples": SampleConfig(emphasis=("mugg",))}, r"samples\.emphasis: expected names among .*, got 'mugg'"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        dataclasses.replace(CONFIG, **change)


def test_crops_fit_the_network() -> None:
    with pytest.raises(ValueError, match="size_px: expected a multiple of 32, got 100"):
        SampleConfig(size_px=100)


@pytest.mark.parametrize("kept", [0, 1000])
def test_a_damaged_checkpoint_is_named(uninterrupted: Path, tmp_path: Path, kept: int) -> None:
    (tmp_path / "checkpoint.pt").write_bytes((uninterrupted / "checkpoint.pt").read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"checkpoint\.pt: damaged: \w"):
        train(CONFIG, tmp_path)


def test_a_checkpoint_of_something_else_is_named(tmp_path: Path) -> None:
    torch.save({"stages": []}, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match=r"checkpoint\.pt: damaged: list index out of range"):
        train(CONFIG, tmp_path)


def test_a_missing_device_and_missing_photographs_are_named(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device: cuda was asked for"):
            train(dataclasses.replace(CONFIG, device="cuda"), tmp_path)
    (tmp_path / "photographs").mkdir()
    with pytest.raises(ValueError, match=r"backgrounds: expected .* found none"):
        train(CONFIG, tmp_path, backgrounds=tmp_path / "photographs")
    (tmp_path / "photographs" / "damaged.png").touch()
    with pytest.raises(ValueError, match=r"^backgrounds: .*damaged\.png: damaged: "):
        train(dataclasses.replace(CONFIG, workers=1), tmp_path, backgrounds=tmp_path / "photographs")


def test_a_deeper_network_begins_as_the_one_that_it_starts_from(uninterrupted: Path, tmp_path: Path) -> None:
    deeper = dataclasses.replace(CONFIG.backbone, extra=2)
    config = dataclasses.replace(CONFIG, steps=1, checkpoint_every=1, learning_rate=0.0, backbone=deeper)
    model = load_model(train(config, tmp_path / "run", initial=uninterrupted / "model.safetensors"))
    before = load_model(uninterrupted / "model.safetensors")
    assert len(model.backbone.stages[3]) == len(before.backbone.stages[3]) + 2
    # A step without learning changes but the statistics of the batch norms.
    weights = dict(model.backbone.named_parameters())
    for name, value in before.backbone.named_parameters():
        torch.testing.assert_close(weights.pop(name), value, rtol=1e-3, atol=1e-4)  # in half precision
    residuals = [value for name, value in weights.items() if name.endswith("second.1.weight")]
    assert len(residuals) == 4
    assert not any(value.any() for value in residuals)
    fresh = Backbone(deeper).eval()
    fresh.take_over(before.backbone)
    image = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    torch.testing.assert_close(fresh(image).feature, before.backbone(image).feature)
    with pytest.raises(ValueError, match=r"initial: expected a network of .*extra=0.*, got .*extra=2"):
        train(CONFIG, tmp_path / "back", initial=tmp_path / "run" / "model.safetensors")


def test_a_run_cannot_start_from_a_network_of_another_size(uninterrupted: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, backbone=BackboneConfig(width=16, pyramid=16, feature=8))
    with pytest.raises(ValueError, match=r"initial: expected a network of .*width=16.*, got .*width=8"):
        train(config, tmp_path, initial=uninterrupted / "model.safetensors")
