"""`category-pose train-judge`: teach a model to tell its right answers from its wrong ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import click
import torch

from category_pose_ros.cli.answers import judged_answers
from category_pose_ros.cli.options import EXISTING_FILE, NEW_FILE, about, make_folder
from category_pose_ros.cli.settings import override
from category_pose_ros.data.datasets import open_dataset
from category_pose_ros.estimation.neural_mesh import NeuralMeshConfig, NeuralMeshMethod
from category_pose_ros.evaluation.matching import RIGHT_RAD
from category_pose_ros.models.checkpoint import load_model, save_model
from category_pose_ros.training.train_judge import JudgeTrainConfig, Laid
from category_pose_ros.training.train_judge import train_judge as run_training


@click.command("train-judge")
@click.argument("model", type=EXISTING_FILE)
@click.argument("datasets", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--output", type=NEW_FILE, required=True, help="Where the model with its judge goes.")
@click.option("--set", "overrides", multiple=True, metavar="NAME=VALUE", help="One setting, by dotted name.")
def train_judge(model: Path, datasets: Sequence[Path], output: Path, overrides: tuple[str, ...]) -> None:
    """Train the judge of MODEL on its answers to DATASETS; `calibrate` the model afterwards.

    DATASETS are as for `calibrate`, but others: what the judge has seen it knows better than what is new.
    """
    config = override(JudgeTrainConfig(), overrides)
    make_folder(output.parent)
    with about("MODEL"):
        loaded = load_model(model)
    with about("DATASETS"):
        opened = [open_dataset(path) for path in datasets]
    # Of the answers in one place the score, and so the judge, decides; so it is shown all of them.
    method = NeuralMeshMethod(
        loaded, loaded.meshes.names, torch.device("cpu"), NeuralMeshConfig(duplicate_distance=0.0)
    )
    answers = [
        Laid(laid, loaded.meshes.names.index(category), angle < RIGHT_RAD, math.isfinite(angle))
        for category, laid, angle in judged_answers(method.lay_out, opened)
    ]
    with about("DATASETS"):
        judged = run_training(loaded, answers, config)
    save_model(output, judged)
    click.echo(f"{len(answers)} answers, {sum(answer.is_right for answer in answers)} right\nwrote {output}")
