"""`category-pose calibrate`: make the scores of a model mean something."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor

from category_pose_ros.cli.answers import judged_answers
from category_pose_ros.cli.options import EXISTING_FILE, NEW_FILE, about, make_folder
from category_pose_ros.data.annotations import AnnotatedFrame
from category_pose_ros.data.datasets import open_dataset
from category_pose_ros.estimation.detection import DetectionConfig, pyramid
from category_pose_ros.estimation.images import rectify, to_tensor
from category_pose_ros.estimation.neural_mesh import NeuralMeshConfig, NeuralMeshMethod
from category_pose_ros.evaluation.matching import RIGHT_RAD
from category_pose_ros.evaluation.report import aligned
from category_pose_ros.models.checkpoint import NeuralMeshModel, load_model, save_model
from category_pose_ros.models.quantization import input_ranges
from category_pose_ros.models.score import ScoreWeights
from category_pose_ros.training.calibration import Judged, pooled_scores

_PICTURES = 20  # at most, of each data set, to measure ranges on
_BINS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)


@click.command()
@click.argument("model", type=EXISTING_FILE)
@click.argument("datasets", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--output", type=NEW_FILE, required=True, help="Where the calibrated model goes.")
@click.option("--keep-scores", is_flag=True, help="Measure the inputs of the convolutions alone.")
def calibrate(model: Path, datasets: Sequence[Path], output: Path, keep_scores: bool) -> None:
    """Fit the scores of MODEL on DATASETS, so that a score is the chance that an answer is right.

    Before that it measures on some of their images how large the inputs of each convolution become, so that
    OpenVINO can run the network in eight bits; the scores are those of answers as they are given then.
    Right is an answer that speaks of an object of its category, with its rotation within 30 degrees. DATASETS are
    as for `evaluate`, folders of images without any object among them; none of them should be evaluated on
    afterwards. What has depth is judged with and without it. Prints by score how many answers were right.
    """
    make_folder(output.parent)
    with about("MODEL"):
        loaded = load_model(model)
    with about("DATASETS"):
        opened = [open_dataset(path) for path in datasets]
    names, config = loaded.meshes.names, NeuralMeshConfig()
    with about("DATASETS"):
        loaded = replace(loaded, ranges=input_ranges(loaded.backbone, _pictures(opened, config.detection)))
    if keep_scores:
        save_model(output, loaded)
        click.echo(f"wrote {output}")
        return
    method = NeuralMeshMethod(loaded, names, torch.device("cpu"), config)
    found = judged_answers(method.weigh, opened)
    answers = [Judged(category, signs, angle < RIGHT_RAD) for category, signs, angle in found]
    with about("DATASETS"):
        scores = pooled_scores(answers, names)
    save_model(output, _with_scores(loaded, scores))
    click.echo(aligned(_reliability(answers, scores)))
    click.echo(f"wrote {output}")


def _pictures(datasets: Sequence[Sequence[AnnotatedFrame]], config: DetectionConfig) -> Iterator[Tensor]:
    """Images from all over the data sets, as they are searched."""
    for dataset in datasets:
        for number in range(0, len(dataset), -(-len(dataset) // _PICTURES)):
            (picture, _), *_ = pyramid(*rectify(dataset[number].frame), config)
            yield to_tensor([picture], torch.device("cpu"))


def _with_scores(model: NeuralMeshModel, scores: Mapping[str, ScoreWeights]) -> NeuralMeshModel:
    model.meshes.infos = tuple(replace(info, score=scores[info.name]) for info in model.meshes.infos)
    return model


def _reliability(answers: Sequence[Judged], scores: Mapping[str, ScoreWeights]) -> list[list[str]]:
    """By score: how many answers, their mean score, and the share that was right."""
    score = np.array([scores[answer.category].score(answer.signs) for answer in answers])
    right = np.array([answer.is_right for answer in answers])
    rows = [["score", "answers", "mean score", "right"]]
    for low, high in itertools.pairwise(_BINS):
        inside = (score >= low) & ((score < high) | (high == _BINS[-1]))
        if inside.any():
            shares = [f"{values[inside].mean():.2f}" for values in (score, right)]
            rows.append([f"{low:.1f} to {high:.1f}", str(inside.sum()), *shares])
    return rows
