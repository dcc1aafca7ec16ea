"""The judge: what it is shown of an answer, that it learns, and the command that trains it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from neural_models import tiny_model
from oracle import SIZE_M, coordinate_frame, oracle_model
from test_evidence import MESHES, MODEL, SIDE, evidence_of, see, state_of
from test_score import at, mug_scene
from torch import Tensor

from category_pose_ros.cli import main
from category_pose_ros.estimation.belief import finished
from category_pose_ros.estimation.crops import CropConfig
from category_pose_ros.estimation.neural_mesh import NeuralMeshConfig, NeuralMeshMethod
from category_pose_ros.estimation.state import State
from category_pose_ros.estimation.verdict import lay_over
from category_pose_ros.geometry import SE3, Camera, rotations, so3
from category_pose_ros.models.checkpoint import load_model, save_model
from category_pose_ros.models.judge import LAID_CHANNELS, Judge, JudgeConfig
from category_pose_ros.records import Frame, ObjectEstimate
from category_pose_ros.training.train_judge import JudgeTrainConfig, Laid, train_judge

MEETS, SHOWN, PRESENCE, INSIDE = range(4)
ASIDE, LARGER, AGREEMENT, LONGER = slice(7, 9), 9, slice(10, 12), slice(12, 15)


def turned(state: State, angle_rad: float) -> State:
    turn = so3.exp(torch.tensor([0.3, 0.8, -0.5]) * angle_rad)
    pose = state.camera_from_object
    return State(SE3(turn @ pose.rotation, pose.translation), state.log_size)


@pytest.mark.parametrize("category", [0, 1])
def test_a_right_answer_agrees_with_all_that_its_crop_shows(category: int) -> None:
    view = see(category)
    (laid,) = lay_over([evidence_of(view)], state_of(view))
    hit = view.hit.view(SIDE, SIDE)
    assert laid.shape == (LAID_CHANNELS + MESHES.memory.shape[1], SIDE, SIDE)
    assert torch.equal(laid[MEETS], hit.float())
    assert laid[SHOWN][hit].mean() > 0.7
    assert laid[PRESENCE][hit].min() > 0.5
    assert laid[SHOWN][~hit].max() < 0.1
    assert (laid[INSIDE] == 1).all()
    assert laid[ASIDE].abs().max() < 1e-3
    assert laid[LARGER].abs().max() < 1e-3
    assert (laid[AGREEMENT] - 1).abs().max() < 1e-3
    assert laid[LONGER].abs().max() < 1e-3


def test_a_wrong_answer_does_not() -> None:
    view = see(1)
    evidence, state = evidence_of(view), state_of(view)
    moved = State(SE3(state.camera_from_object.rotation, 1.5 * state.camera_from_object.translation), state.log_size)
    right, wrong, far = lay_over([evidence] * 3, State.cat([state, turned(state, 2.0), moved]))
    hit = view.hit.view(SIDE, SIDE)
    assert wrong[SHOWN][hit].mean() < 0.5 * right[SHOWN][hit].mean()
    assert wrong[AGREEMENT].mean() < 0.5
    assert far[LARGER].mean() == pytest.approx(np.log(1.5), abs=1e-3)
    assert far[MEETS].sum() < right[MEETS].sum()


def answers(seeds: range) -> list[Laid]:
    """Of views of a can and a mug, the true one and one that is turned."""
    found = []
    for seed in seeds:
        view = see(seed % 2, seed)
        evidence, state = evidence_of(view), state_of(view)
        for angle in (0.0, 1.2):
            (laid,) = lay_over([evidence], turned(state, angle))
            found.append(Laid(laid, view.category, angle == 0.0, True))
    return found


def test_a_judge_tells_answers_that_it_never_saw_apart() -> None:
    config = JudgeTrainConfig(steps=250, batch=16, judge=JudgeConfig(width=8))
    untaught = replace(MODEL, config=replace(MODEL.config, feature=MESHES.memory.shape[1]))
    model = train_judge(untaught, answers(range(24)), config)
    assert model.judge is not None
    unseen = answers(range(100, 120))
    laid = torch.stack([item.channels for item in unseen])
    with torch.no_grad():
        decided = model.judge(laid, torch.tensor([item.category for item in unseen]))
    says_right = (decided[:, 0] > 0).tolist()
    assert np.mean([said == item.is_right for said, item in zip(says_right, unseen, strict=True)]) > 0.85
    assert model.training["judge"]["answers"] == 48


@pytest.mark.parametrize("steps", [1, 10, 20])
def test_a_few_steps_are_a_trial(steps: int) -> None:
    untaught = replace(MODEL, config=replace(MODEL.config, feature=MESHES.memory.shape[1]))
    config = JudgeTrainConfig(steps=steps, batch=4, judge=JudgeConfig(width=8))
    assert train_judge(untaught, answers(range(4)), config).judge is not None


def test_answers_of_one_kind_teach_nothing() -> None:
    for is_right in (True, False):
        alike = [replace(item, is_right=is_right) for item in answers(range(2))]
        with pytest.raises(ValueError, match=r"answers: expected right and wrong ones, got .* of 4"):
            train_judge(MODEL, alike, JudgeTrainConfig())


class Constant(Judge):
    """Says the same of every answer."""

    def __init__(self, log_odds: float) -> None:
        super().__init__(JudgeConfig(), 1, 1)
        self.log_odds = log_odds

    def forward(self, laid: Tensor, category: Tensor) -> Tensor:
        assert laid.shape[0] == category.shape[0]
        return torch.full((len(laid), 2), self.log_odds)


def test_what_the_judge_says_is_in_the_score() -> None:
    camera = Camera(600.0, 600.0, 319.5, 239.5, 640, 480)
    frame = coordinate_frame(camera, [SE3(rotations.super_fibonacci(12)[2], torch.tensor([0.0, 0.0, 0.7]))], [SIZE_M])
    config = NeuralMeshConfig(precision="float32", runtime="pytorch", crops=CropConfig(mirror=False))
    scores = []
    for judge in (Constant(-20.0), None, Constant(0.0)):
        method = NeuralMeshMethod(replace(oracle_model(), judge=judge), ("mug",), torch.device("cpu"), config)
        scores.append(finished(method.search(frame))[0].score)
    assert scores[0] < 0.05 < scores[1] == pytest.approx(scores[2])


class ScriptedMethod:
    """Sees a mug where one is and a can where none is; what the judge sees of them is plainly different."""

    def __init__(self, *_: object) -> None:
        pass

    def lay_out(self, frame: Frame) -> list[tuple[ObjectEstimate, Tensor]]:
        size_m, nothing = np.array([0.12, 0.08, 0.1]), np.zeros((6, 6))
        laid = torch.ones(LAID_CHANNELS + 8, 4, 4)
        return [
            (ObjectEstimate("mug", at(0.05), size_m, 0.9, 1.0, nothing), laid),
            (ObjectEstimate("can", at(-0.2), size_m, 0.9, 1.0, nothing), -laid),
        ]


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return mug_scene(tmp_path / "scene")


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(each) for each in arguments])
    return int(stopped.value.code or 0)


def test_train_judge_writes_a_model_with_a_judge(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("category_pose_ros.cli.train_judge.NeuralMeshMethod", ScriptedMethod)
    save_model(tmp_path / "tiny.safetensors", tiny_model())
    output = tmp_path / "judged.safetensors"
    assert run("train-judge", tmp_path / "tiny.safetensors", scene, "--output", output, "--set", "steps=40") == 0
    assert "16 answers, 8 right" in capsys.readouterr().out  # four frames, with and without depth
    judge = load_model(output).judge
    assert judge is not None
    laid = torch.ones(LAID_CHANNELS + 8, 4, 4)
    with torch.no_grad():
        wrong, right = judge(torch.stack([-laid, laid]), torch.tensor([0, 1]))[:, 0].tolist()
    assert wrong < 0 < right


@pytest.mark.parametrize("command", ["train-judge", "calibrate"])
def test_what_cannot_be_written_is_refused_before_the_work(
    command: str, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("train_judge", "calibrate"):
        monkeypatch.setattr(f"category_pose_ros.cli.{module}.judged_answers", lambda *_: pytest.fail("worked"))
    save_model(tmp_path / "tiny.safetensors", tiny_model())
    (tmp_path / "file").touch()
    output = tmp_path / "file" / "model.safetensors"
    assert run(command, tmp_path / "tiny.safetensors", scene, "--output", output) == 2
    assert "--output" in capsys.readouterr().err


def test_train_judge_says_when_the_data_sets_teach_nothing(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An untrained model finds nothing in a grey image."""
    save_model(tmp_path / "tiny.safetensors", tiny_model())
    output = tmp_path / "judged.safetensors"
    assert run("train-judge", tmp_path / "tiny.safetensors", scene, "--output", output) == 2
    assert "expected right and wrong ones" in capsys.readouterr().err
    assert not output.exists()
