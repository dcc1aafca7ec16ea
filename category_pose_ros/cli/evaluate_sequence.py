"""`category-pose evaluate-sequence`: what the tracker holds, loses and claims falsely."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from category_pose_ros import Frame, PoseEstimator, Track, Tracker
from category_pose_ros.cli.options import (
    FOLDER,
    EstimatorChoice,
    about,
    estimator_choice,
    estimator_options,
    make_folder,
)
from category_pose_ros.data.annotations import AnnotatedFrame
from category_pose_ros.data.bop import BopScene
from category_pose_ros.data.damage import without_depth
from category_pose_ros.data.disturbances import DISTURBANCES
from category_pose_ros.evaluation.sequence import (
    LEGEND,
    SequenceSummary,
    calibration_text,
    sequence_text,
    summarise_sequence,
)
from category_pose_ros.evaluation.sequence import evaluate_sequence as run_evaluation
from category_pose_ros.geometry import SE3
from category_pose_ros.visualization.overlay import draw_overlay
from category_pose_ros.visualization.video import write_video

_FPS = 10.0


@click.command("evaluate-sequence")
@click.argument("dataset", type=click.Path(path_type=Path))
@estimator_options
@click.option("--no-depth", is_flag=True, help="Do not show the tracker the depth images.")
@click.option("--every", type=click.IntRange(1), default=1, show_default=True, help="Use each n-th image alone.")
@click.option("--only-annotated", is_flag=True, help="Do not judge images without annotations.")
@click.option("--camera-motion", is_flag=True, help="Tell the tracker where the camera was, as TF would.")
@click.option("--damage", is_flag=True, help="Again for each of several things that happen to sequences.")
@click.option("--output", type=FOLDER, help="Write sequence.json and overlay.mp4 into this folder.")
def evaluate_sequence(
    dataset: Path,
    no_depth: bool,
    every: int,
    only_annotated: bool,
    camera_motion: bool,
    damage: bool,
    output: Path | None,
    **choice: Any,
) -> None:
    """Track the objects of DATASET, a BOP-style scene folder whose images are one sequence, and print the tables.

    tracked: object-frames with a published track within 30 degrees and a fifth of the distance. false
    claims: share of the published tracks that are not, or that speak of no object. The second table says how
    well the covariances hold: NEES/dof is 1 and the shares are those of the headings where they do.
    """
    chosen = estimator_choice(**choice)
    with about("DATASET"):
        scene = BopScene(dataset)
        if damage and (count := len(range(0, len(scene), every))) < 2:
            raise ValueError(f"expected a sequence of at least 2 images for --damage, got {count}")
    if output:
        make_folder(output)
    estimator = chosen.load()

    def frames(name: str) -> Iterable[AnnotatedFrame]:
        picked = tqdm(itertools.islice(scene, 0, None, every), desc=name, disable=None)
        return without_depth(picked) if no_depth else picked

    def track(
        frames: Iterable[AnnotatedFrame], shown: list[tuple[Frame, list[Track]]] | None = None
    ) -> SequenceSummary:
        update = _tracker(estimator, chosen, shown)
        evaluation = run_evaluation(update, frames, chosen.categories, only_annotated, camera_motion)
        return summarise_sequence(evaluation)

    shown: list[tuple[Frame, list[Track]]] = []
    with about("DATASET"):
        summary = track(frames(dataset.name), shown if output else None)
    click.echo(sequence_text({"as it is": summary}))
    click.echo("\n" + calibration_text(summary))
    with about("DATASET"):
        disturbed = {item.name: track(item.apply(frames(item.name))) for item in (DISTURBANCES if damage else ())}
    if damage:
        click.echo("\n" + sequence_text({"as it is": summary, **disturbed}))
    click.echo(LEGEND)
    if output:
        record = dataclasses.asdict(summary)
        if damage:
            record["by_damage"] = {name: dataclasses.asdict(item) for name, item in disturbed.items()}
        (output / "sequence.json").write_text(json.dumps(record, indent=2) + "\n")
        write_video(output / "overlay.mp4", _overlays(shown), _FPS)
        click.echo(f"wrote {output / 'sequence.json'} and {output / 'overlay.mp4'}")


def _tracker(
    estimator: PoseEstimator, chosen: EstimatorChoice, shown: list[tuple[Frame, list[Track]]] | None
) -> Callable[[Frame, SE3 | None], list[Track]]:
    """A fresh tracker; what it publishes goes into `shown`."""
    tracker = Tracker(estimator, chosen.settings.tracker)

    def update(frame: Frame, world_from_camera: SE3 | None) -> list[Track]:
        tracks = tracker.update(frame, world_from_camera)
        if shown is not None:
            shown.append((frame, tracks))
        return tracks

    return update


def _overlays(shown: Iterable[tuple[Frame, list[Track]]]) -> Iterator[npt.NDArray[np.uint8]]:
    for frame, tracks in shown:
        yield draw_overlay(frame.rgb, frame.camera, tracks)
