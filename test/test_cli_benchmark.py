"""`category-pose benchmark` with a scripted estimator and a small yardstick."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from category_pose_ros import SE3, Frame, ObjectEstimate
from category_pose_ros.cli import main
from category_pose_ros.cli.benchmark import _problem
from category_pose_ros.estimation.belief import Belief, Sighting
from category_pose_ros.estimation.solver import SolverConfig, minimise

POSE = SE3(torch.eye(3), torch.tensor([0.0, 0.0, 1.0]))
MUG = ObjectEstimate("mug", POSE, np.array([0.12, 0.08, 0.1]), 0.9, 0.8, np.eye(6))


class ScriptedEstimator:
    device = "cpu"

    def __init__(self, found: list[ObjectEstimate]) -> None:
        self.found = found
        self.sizes: set[tuple[int, ...]] = set()
        self.followed: set[tuple[int, int]] = set()  # objects that were looked at, and beside them

    def load(self, *arguments: Any) -> ScriptedEstimator:
        return self

    def estimate(self, frame: Frame) -> list[ObjectEstimate]:
        self.sizes.add(frame.rgb.shape)
        return self.found

    def follow(
        self, frame: Frame, beliefs: Sequence[Belief], prior: Sequence[float], others: Sequence[Belief] = ()
    ) -> list[Sighting]:
        assert len(beliefs) == len(prior)
        self.followed.add((len(beliefs), len(others)))
        return [Sighting(item, MUG, 0.0, 0.0) for item in beliefs]


@pytest.fixture(autouse=True)
def _without_pytorch3d(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alike on machines that have it."""
    monkeypatch.setattr("category_pose_ros.cli.benchmark.find_spec", lambda name: None)


@pytest.fixture
def estimator(monkeypatch: pytest.MonkeyPatch) -> ScriptedEstimator:
    scripted = ScriptedEstimator([MUG])
    monkeypatch.setattr("category_pose_ros.cli.options.PoseEstimator", scripted)
    monkeypatch.setattr("category_pose_ros.cli.benchmark.PaperBackbone", torch.nn.Identity)
    return scripted


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main(["benchmark", "--rounds", "2", *map(str, arguments)])
    return int(end.value.code or 0)


def test_every_case_is_a_row_with_its_ratio(
    estimator: ScriptedEstimator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "ratios.json"
    assert run("--objects", "1,3", "--sizes", "64x48", "--output", output) == 0
    table = capsys.readouterr().out
    ratios = json.loads(output.read_text())["ratios"]
    names = [f"{what} {count}, 640x480" for count in ("1 object", "3 objects") for what in ("tracking,", "a look at")]
    assert [*ratios][1:] == ["detection, 64x48", *names, "solver, 10 iterations, 1 object"]
    assert "rasterizer, forward and backward, 448x320: not installed" in table
    assert "cuda: not measured" in table
    assert all(name in table for name in ratios)
    assert all(ratio > 0 for ratio in ratios.values())
    assert (48, 64, 3) in estimator.sizes
    assert estimator.followed == {(1, 0), (3, 0)}  # nothing there is a mug, which flow could carry
    assert json.loads(output.read_text())["clock"] == "wall"
    again = tmp_path / "again.json"
    assert run("--objects", "1", "--sizes", "64x48", "--baseline", output, "--cpu-time", "--output", again) == 0
    assert "baseline" in capsys.readouterr().out
    assert json.loads(again.read_text())["clock"] == "processor"


def test_the_solver_is_timed_on_a_problem_that_it_solves() -> None:
    start, terms = _problem(torch.device("cpu"))
    states, end = minimise(terms, start, SolverConfig(iterations=30))
    before = sum(float(term.cost(start)) for term in terms)
    assert before > 1
    assert float(end.cost) < 0.2 * before
    assert float(states.camera_from_object.translation[0, 0]) == pytest.approx(0.02, abs=0.005)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(("--objects", "0"), "--objects"), (("--objects", "a"), "--objects"), (("--sizes", "9"), "--sizes")],
)
def test_wrong_input_is_one_line_that_names_it(
    estimator: ScriptedEstimator, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], named: str
) -> None:
    assert run(*arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("category-pose: error: ")
    assert message.count("\n") == 1
    assert named in message


def test_a_model_that_finds_nothing_cannot_be_timed(
    estimator: ScriptedEstimator, capsys: pytest.CaptureFixture[str]
) -> None:
    estimator.found = []
    assert run("--sizes", "64x48") == 2
    assert "finds nothing" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["{}", "[1]", "no json"])
def test_a_baseline_that_is_none_is_refused(
    estimator: ScriptedEstimator, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    (tmp_path / "baseline.json").write_text(content)
    assert run("--sizes", "64x48", "--baseline", tmp_path / "baseline.json") == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "--baseline" in message
