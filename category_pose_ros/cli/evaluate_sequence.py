"""`category-pose evaluate-sequence`: what the tracker holds, loses and claims falsely."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from category_pose_ros import Frame, Track, Tracker
from category_pose_ros.cli.options import FOLDER, about, estimator_choice, estimator_options
from category_pose_ros.data.annotations import AnnotatedFrame
from category_pose_ros.data.bop import BopScene
from category_pose_ros.data.damage import without_depth
from category_pose_ros.evaluation.sequence import evaluate_sequence as run_evaluation
from category_pose_ros.evaluation.sequence import sequence_text, summarise_sequence
from category_pose_ros.visualization.overlay import draw_overlay
from category_pose_ros.visualization.video import write_video

_FPS = 10.0


@click.command("evaluate-sequence")
@click.argument("dataset", type=click.Path(path_type=Path))
@estimator_options
@click.option("--no-depth", is_flag=True, help="Do not show the tracker the depth images.")
@click.option("--every", type=click.IntRange(1), default=1, show_default=True, help="Use each n-th image alone.")
@click.option("--output", type=FOLDER, help="Write sequence.json and overlay.mp4 into this folder.")
def evaluate_sequence(dataset: Path, no_depth: bool, every: int, output: Path | None, **choice: Any) -> None:
    """Track the objects of DATASET, a BOP-style scene folder whose images are one sequence, and print the table.

    tracked: object-frames with a published track within 30 degrees and a fifth of the distance. false
    claims: share of the published tracks that are not, or that speak of no object.
    """
    chosen = estimator_choice(**choice)
    with about("DATASET"):
        scene = BopScene(dataset)
    tracker = Tracker(chosen.load(), chosen.settings.tracker)
    shown: list[tuple[Frame, list[Track]]] = []

    def update(frame: Frame) -> list[Track]:
        tracks = tracker.update(frame)
        if output:
            shown.append((frame, tracks))
        return tracks

    frames: Iterable[AnnotatedFrame] = tqdm(itertools.islice(scene, 0, None, every), desc=dataset.name, disable=None)
    with about("DATASET"):
        evaluation = run_evaluation(update, without_depth(frames) if no_depth else frames, chosen.categories)
    summary = summarise_sequence(evaluation)
    click.echo(sequence_text(summary))
    if output:
        with about("--output"):
            output.mkdir(parents=True, exist_ok=True)
        (output / "sequence.json").write_text(json.dumps(dataclasses.asdict(summary), indent=2) + "\n")
        write_video(output / "overlay.mp4", _overlays(shown), _FPS)
        click.echo(f"wrote {output / 'sequence.json'} and {output / 'overlay.mp4'}")


def _overlays(shown: Iterable[tuple[Frame, list[Track]]]) -> Iterator[npt.NDArray[np.uint8]]:
    for frame, tracks in shown:
        yield draw_overlay(frame.rgb, frame.camera, tracks)
