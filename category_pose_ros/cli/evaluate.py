"""`category-pose evaluate`: numbers on an annotated data set."""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from category_pose_ros.cli.options import FOLDER, about, estimator_choice, estimator_options
from category_pose_ros.data.annotations import AnnotatedFrame
from category_pose_ros.data.bop import BopScene
from category_pose_ros.evaluation.evaluate import Evaluation, PoseErrors
from category_pose_ros.evaluation.evaluate import evaluate as run_evaluation
from category_pose_ros.evaluation.examples import examples
from category_pose_ros.evaluation.report import LEGEND, Picture, table_text, write_metrics, write_page
from category_pose_ros.evaluation.summary import summarise
from category_pose_ros.visualization.overlay import draw_box, draw_overlay
from category_pose_ros.visualization.plots import Curve, plot_accuracy

_TRUTH_COLOUR = (255, 255, 255)


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path))
@estimator_options
@click.option("--no-depth", is_flag=True, help="Do not show the estimator the depth images.")
@click.option("--output", type=FOLDER, help="Write metrics.json and report.html into this folder.")
def evaluate(dataset: Path, no_depth: bool, output: Path | None, **choice: Any) -> None:
    """Evaluate on DATASET, a BOP-style scene folder, and print the table.

    With --categories only objects of these count.
    """
    chosen = estimator_choice(**choice)
    with about("DATASET"):
        scene = BopScene(dataset)
    estimator = chosen.load()
    frames: Iterable[AnnotatedFrame] = tqdm(scene, unit="image", desc=dataset.name, disable=None)
    if no_depth:
        frames = _without_depth(frames)
    evaluation = run_evaluation(estimator.estimate, frames, chosen.categories)
    summary = summarise(evaluation)
    click.echo(table_text(summary))
    click.echo(LEGEND)
    if output:
        with about("--output"):
            output.mkdir(parents=True, exist_ok=True)
        write_metrics(output / "metrics.json", summary)
        title = f"{dataset.resolve().name}: {chosen.method}"
        write_page(output / "report.html", title, summary, _plots(evaluation), _overlays(evaluation, scene))
        click.echo(f"wrote {output / 'metrics.json'} and {output / 'report.html'}")


def _without_depth(frames: Iterable[AnnotatedFrame]) -> Iterator[AnnotatedFrame]:
    for item in frames:
        yield dataclasses.replace(item, frame=dataclasses.replace(item.frame, depth=None))


def _plots(evaluation: Evaluation) -> list[Picture]:
    def rotation(errors: PoseErrors) -> float:
        return math.degrees(errors.rotation_rad)

    def translation(errors: PoseErrors) -> float:
        return errors.translation_m * 100

    return [
        Picture(
            f"Share of the objects with at most this {what} error; objects that were not found never come in.",
            plot_accuracy(f"{what} error", unit, limit, _curves(evaluation, measure)),
        )
        for what, unit, limit, measure in (
            ("rotation", "degrees", 60.0, rotation),
            ("translation", "centimetres", 15.0, translation),
        )
    ]


def _curves(evaluation: Evaluation, measure: Any) -> dict[str, Curve]:
    groups = {"overall": evaluation.objects}
    for category in sorted({item.category for item in evaluation.objects}):
        groups[category] = [item for item in evaluation.objects if item.category == category]
    return {
        name: Curve([measure(item.errors) for item in group if item.errors is not None], len(group))
        for name, group in groups.items()
    }


def _overlays(evaluation: Evaluation, scene: BopScene) -> list[Picture]:
    """The examples' images, with the true boxes in white under the estimates."""
    index_of = {f"{image_id:06d}": index for index, image_id in enumerate(scene.image_ids)}
    pictures = []
    for example in examples(evaluation):
        annotated = scene[index_of[example.frame_name]]
        canvas, camera = annotated.frame.rgb.copy(), annotated.frame.camera
        for item in annotated.objects:
            draw_box(canvas, camera, item.camera_from_object, item.size_m, _TRUTH_COLOUR)
        canvas = draw_overlay(canvas, camera, evaluation.estimates[example.frame_name])
        pictures.append(Picture(example.caption, _png(canvas)))
    return pictures


def _png(rgb: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, format="PNG")
    return buffer.getvalue()
