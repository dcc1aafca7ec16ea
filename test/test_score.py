"""Scores: what they are made of, how they are fitted, and the command that does it."""

from __future__ import annotations

from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from neural_models import tiny_model

from category_pose_ros.cli import main
from category_pose_ros.data.annotations import AnnotatedFrame, GroundTruthObject
from category_pose_ros.data.bop_writer import write_scene
from category_pose_ros.geometry import SE3, Camera
from category_pose_ros.models.checkpoint import load_model, save_model
from category_pose_ros.models.quantization import check_ranges
from category_pose_ros.models.score import UNCALIBRATED, ScoreWeights, Signs
from category_pose_ros.records import Frame, ObjectEstimate
from category_pose_ros.training.calibration import Judged, fit_scores, pooled_scores

CAMERA = Camera(80.0, 80.0, 31.5, 23.5, 64, 48)
shares = st.floats(0.0, 1.0)


@given(support=shares, more=shares, presence=shares)
def test_a_score_is_a_chance_and_more_support_never_lowers_it(support: float, more: float, presence: float) -> None:
    weights = ScoreWeights(support=3.0, presence=-1.0, bias=4.0)
    low, high = sorted((support, more))
    first, second = (weights.score(Signs.of(value, presence)) for value in (low, high))
    assert 0 <= first <= second <= 1


def test_the_score_is_one_half_where_the_weights_say_so() -> None:
    weights = ScoreWeights(support=2.0, presence=-1.0, bias=-(2.0 * np.log(0.3) - np.log(0.6)))
    assert weights.score(Signs.of(0.3, 0.6)) == pytest.approx(0.5)


def test_what_depth_says_counts_where_there_is_depth() -> None:
    weights = ScoreWeights(support=2.0, presence=-1.0, rests=1.0, contradicted=-2.0, bias=1.0)
    rests, nothing, floats = (weights.score(Signs.of(0.3, 0.6, rests)) for rests in (1.0, 0.0, -1.0))
    assert rests > nothing > floats
    assert nothing == weights.score(Signs.of(0.3, 0.6))
    assert weights.score(Signs.of(0.3, 0.6, 1.0, 1.0)) < rests


def test_what_the_judge_says_counts_where_there_is_one() -> None:
    doubted, unjudged, trusted = (UNCALIBRATED.score(Signs.of(0.3, 0.6, judged=each)) for each in (-2.0, 0.0, 2.0))
    assert doubted < unjudged < trusted
    assert unjudged == UNCALIBRATED.score(Signs.of(0.3, 0.6))


def judged(category: str, weights: ScoreWeights, count: int, seed: int) -> list[Judged]:
    """Answers that are right as often as the weights say; half of them with depth."""
    rng = np.random.default_rng(seed)
    seen = rng.uniform([-4.0, -2.0], [-0.5, 0.0], (count, 2))
    depth = np.stack([rng.choice([-1.0, 1.0], count), rng.random(count) < 0.3], -1) * (rng.random(count) < 0.5)[:, None]
    judge = rng.normal(0.0, 2.0, (count, 1))
    signs = [Signs(*row) for row in np.concatenate([seen, depth, judge], -1).tolist()]
    return [Judged(category, item, bool(rng.random() < weights.score(item))) for item in signs]


def test_a_fit_finds_how_often_answers_are_right_in_each_category() -> None:
    true = {"can": ScoreWeights(3.0, -1.0, 1.0, -1.0, 0.5, 5.0), "mug": ScoreWeights(3.0, -1.0, 0.5, -2.0, 1.0, 8.0)}
    answers = [item for seed, name in enumerate(true) for item in judged(name, true[name], 12000, seed)]
    found = fit_scores(answers, ("can", "mug"))
    for name, weights in true.items():
        for item in judged(name, weights, 200, 9):
            assert found[name].score(item.signs) == pytest.approx(weights.score(item.signs), abs=0.08)


def test_a_category_without_answers_takes_what_the_others_have_in_common() -> None:
    found = fit_scores(judged("can", ScoreWeights(3.0, 0.0, bias=5.0), 2000, 0), ("can", "mug"))
    signs = Signs.of(0.3, 0.5)
    assert found["mug"].score(signs) == pytest.approx(found["can"].score(signs), abs=0.1)


def test_a_judge_is_believed_by_half() -> None:
    answers = judged("can", ScoreWeights(3.0, -1.0, 1.0, -1.0, 2.0, 5.0), 4000, 0)
    alone, pooled = fit_scores(answers, ("can",))["can"], pooled_scores(answers, ("can",))["can"]
    assert pooled.judged == pytest.approx(0.5 * alone.judged)
    unjudged = [replace(item, signs=item.signs._replace(judged=0.0)) for item in answers]
    without = fit_scores(unjudged, ("can",))["can"]
    assert pooled.support == pytest.approx(0.5 * (alone.support + without.support))
    assert astuple(pooled_scores(unjudged, ("can",))["can"]) == pytest.approx(astuple(without))


@pytest.mark.parametrize("is_right", [True, False])
def test_answers_of_one_kind_tell_nothing(is_right: bool) -> None:
    answers = [replace(item, is_right=is_right) for item in judged("can", UNCALIBRATED, 10, 0)]
    with pytest.raises(ValueError, match=r"answers: expected right and wrong ones, got .* of 10"):
        fit_scores(answers, ("can",))


class ScriptedMethod:
    """Sees a mug where one is, well supported, and a can where none is, badly and at rest on nothing."""

    def __init__(self, *_: object) -> None:
        pass

    def weigh(self, frame: Frame) -> list[tuple[ObjectEstimate, Signs]]:
        rests = 0.0 if frame.depth is None else 1.0
        size_m, nothing = np.array([0.12, 0.08, 0.1]), np.zeros((6, 6))
        return [
            (ObjectEstimate("mug", at(0.05), size_m, 0.9, 1.0, nothing), Signs.of(0.5, 0.9, rests)),
            (ObjectEstimate("can", at(-0.2), size_m, 0.9, 1.0, nothing), Signs.of(0.05, 0.3, -rests)),
        ]


def at(x: float) -> SE3:
    return SE3(torch.eye(3, dtype=torch.float64), torch.tensor([x, 0.0, 1.0], dtype=torch.float64))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_model(tmp_path / "tiny.safetensors", tiny_model())
    return tmp_path / "tiny.safetensors"


def mug_scene(folder: Path) -> Path:
    """Four grey images, with depth, of which the annotation says that each shows a mug."""
    frame = Frame(np.full((48, 64, 3), 90, dtype=np.uint8), CAMERA, np.ones((48, 64), dtype=np.float32))
    mug = GroundTruthObject("mug", at(0.05), np.array([0.12, 0.08, 0.1]), visible_fraction=1.0)
    write_scene(folder, [AnnotatedFrame(frame, (mug,), "")] * 4)
    return folder


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return mug_scene(tmp_path / "scene")


def test_calibrate_writes_a_model_whose_scores_are_chances(
    model: Path, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("category_pose_ros.cli.calibrate.NeuralMeshMethod", ScriptedMethod)
    with pytest.raises(SystemExit) as stopped:
        main(["calibrate", str(model), str(scene), "--output", str(tmp_path / "new.safetensors")])
    assert not stopped.value.code
    assert "mean score" in capsys.readouterr().out
    calibrated = load_model(tmp_path / "new.safetensors")
    check_ranges(calibrated.backbone, calibrated.ranges or {})
    can, mug = calibrated.meshes.infos
    assert mug.score.score(Signs.of(0.5, 0.9)) > 0.7
    assert can.score.score(Signs.of(0.05, 0.3)) < 0.3
    assert can.score.rests > 0  # the two differ so, once with depth


def test_calibrate_may_keep_the_scores(model: Path, scene: Path, tmp_path: Path) -> None:
    output = tmp_path / "new.safetensors"
    with pytest.raises(SystemExit) as stopped:
        main(["calibrate", str(model), str(scene), "--output", str(output), "--keep-scores"])
    assert not stopped.value.code
    before, after = load_model(model), load_model(output)
    assert [info.score for info in after.meshes.infos] == [info.score for info in before.meshes.infos]
    check_ranges(after.backbone, after.ranges or {})


def test_calibrate_says_when_the_data_sets_tell_nothing(
    model: Path, scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An untrained model finds nothing in a grey image."""
    with pytest.raises(SystemExit) as stopped:
        main(["calibrate", str(model), str(scene), "--output", str(tmp_path / "new.safetensors")])
    assert stopped.value.code == 2
    assert "expected right and wrong ones" in capsys.readouterr().err
    assert not (tmp_path / "new.safetensors").exists()
