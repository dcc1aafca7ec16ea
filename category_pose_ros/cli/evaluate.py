"""`category-pose evaluate`: numbers on an annotated data set."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from category_pose_ros import PoseEstimator
from category_pose_ros.cli.options import (
    FOLDER,
    EstimatorChoice,
    about,
    estimator_choice,
    estimator_options,
    make_folder,
)
from category_pose_ros.data.annotations import AnnotatedFrame, with_masks
from category_pose_ros.data.damage import DAMAGES, damaged, without_depth
from category_pose_ros.data.datasets import LAYOUTS, open_dataset
from category_pose_ros.evaluation.evaluate import Evaluation
from category_pose_ros.evaluation.evaluate import evaluate as run_evaluation
from category_pose_ros.evaluation.examples import examples
from category_pose_ros.evaluation.report import (
    LEGEND,
    Picture,
    aligned,
    group_rows,
    table_text,
    write_metrics,
    write_page,
)
from category_pose_ros.evaluation.summary import (
    AP_ROTATION_DEG,
    AP_TRANSLATION_CM,
    Metrics,
    PrecisionCurves,
    precision_curves,
    summarise,
)
from category_pose_ros.visualization.overlay import draw_box, draw_overlay
from category_pose_ros.visualization.plots import plot_average_precision, plot_trade_off

_TRUTH_COLOUR = (255, 255, 255)


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path))
@estimator_options
@click.option("--format", "layout", type=click.Choice(list(LAYOUTS)), help="Layout of DATASET [default: as it looks].")
@click.option("--schedule", type=click.Choice(["ours", "paper"]), help="How to search; as estimator.schedule.")
@click.option("--every", type=click.IntRange(1), default=1, show_default=True, help="Use each n-th image alone.")
@click.option("--no-depth", is_flag=True, help="Do not show the estimator the depth images.")
@click.option("--with-depth", is_flag=True, help="Use only the images that have depth.")
@click.option("--masks", is_flag=True, help="Show the estimator the annotated masks of the objects.")
@click.option("--damage", is_flag=True, help="Again for each of several damages to the depth, and without depth.")
@click.option("--vary", multiple=True, metavar="NAME=A,B,C", help="Again with each of these values of a setting.")
@click.option("--output", type=FOLDER, help="Write metrics.json and report.html into this folder.")
def evaluate(
    dataset: Path,
    layout: str | None,
    schedule: str | None,
    every: int,
    no_depth: bool,
    with_depth: bool,
    masks: bool,
    damage: bool,
    vary: tuple[str, ...],
    output: Path | None,
    **choice: Any,
) -> None:
    """Evaluate on DATASET and print the table.

    DATASET is a BOP-style scene folder, a data set in a layout of its own (doc/datasets.md), or a folder of
    images without any object, which tells how many false alarms there are. With --categories only objects of
    these count.
    """
    if no_depth and damage:
        raise click.UsageError("--damage: expected depth, but --no-depth leaves it out")
    if masks and damage:
        raise click.UsageError("--masks: expected without --damage")
    if schedule:
        choice["overrides"] += (f"estimator.schedule={schedule}",)
    chosen = estimator_choice(**choice)
    others = _variants(vary, choice)
    with about("DATASET"):
        scene = _Thinned(open_dataset(dataset, layout), every, with_depth)
        if damage and all(item.frame.depth is None for item in scene):
            raise ValueError("expected depth for --damage, found none")
    if output:
        make_folder(output)
    estimator = chosen.load()
    with about("--vary"):  # now, and not after the first run
        varied = {label: other.load() for label, other in others.items()}

    def run(estimator: PoseEstimator, label: str) -> Evaluation:
        frames = _shown(scene, label)
        if masks:
            frames = with_masks(frames)
        with about("DATASET"):
            return run_evaluation(estimator.estimate, without_depth(frames) if no_depth else frames, chosen.categories)

    evaluation = run(estimator, dataset.name)
    summary = summarise(evaluation)
    click.echo(table_text(summary))
    compared: dict[str, dict[str, Metrics]] = {}
    if damage:
        compared["by_damage"] = {"as it is": summary["overall"], **_by_damage(estimator, scene, chosen.categories)}
    if varied:
        numbers = {label: summarise(run(other, label))["overall"] for label, other in varied.items()}
        compared["by_setting"] = {"as it is": summary["overall"], **numbers}
    for groups in compared.values():
        click.echo("\n" + aligned(group_rows(groups)))
    click.echo(LEGEND)
    if output:
        write_metrics(output / "metrics.json", summary, compared)
        schedule = chosen.settings.estimator.schedule
        title = f"{dataset.resolve().name}: {chosen.method}{'' if schedule == 'ours' else ', schedule of the paper'}"
        plots = [*_plots(evaluation), *_trade_off(compared.get("by_setting", {}))]
        write_page(output / "report.html", title, summary, plots, _overlays(evaluation, scene), compared)
        click.echo(f"wrote {output / 'metrics.json'} and {output / 'report.html'}")


class _Thinned(Sequence[AnnotatedFrame]):
    """Each n-th frame, or of these the ones that have depth."""

    def __init__(self, frames: Sequence[AnnotatedFrame], every: int, with_depth: bool) -> None:
        self._frames = frames
        self._chosen = [k for k in range(0, len(frames), every) if not with_depth or frames[k].frame.depth is not None]
        if not self._chosen:
            raise ValueError(f"expected images{' with depth' if with_depth else ''}, found none")

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: Any) -> Any:
        return self._frames[self._chosen[index]]

    def __iter__(self) -> Iterator[AnnotatedFrame]:
        return (self._frames[number] for number in self._chosen)


def _shown(scene: Sequence[AnnotatedFrame], label: str) -> Iterable[AnnotatedFrame]:
    """The frames, with a progress bar on a terminal."""
    frames: Iterable[AnnotatedFrame] = tqdm(scene, unit="image", desc=label, disable=None)
    return frames


def _variants(texts: Sequence[str], choice: dict[str, Any]) -> dict[str, EstimatorChoice]:
    """By NAME=VALUE the estimator with that one setting changed."""
    single = []
    for text in texts:
        name, separator, values = text.partition("=")
        if not separator or not all(values.split(",")):
            raise click.BadParameter(f"expected NAME=A,B,C, got {text!r}", param_hint="--vary")
        single += [f"{name}={value}" for value in values.split(",")]
    with about("--vary"):
        return {text: estimator_choice(**{**choice, "overrides": (*choice["overrides"], text)}) for text in single}


def _by_damage(
    estimator: PoseEstimator, scene: Sequence[AnnotatedFrame], categories: tuple[str, ...]
) -> dict[str, Metrics]:
    """The overall numbers without depth and with each of the damages to it."""
    label = "without depth"
    runs = {label: without_depth(_shown(scene, label))}
    runs |= {item.name: damaged(_shown(scene, item.name), item) for item in DAMAGES}
    return {
        name: summarise(run_evaluation(estimator.estimate, frames, categories))["overall"]
        for name, frames in runs.items()
    }


def _plots(evaluation: Evaluation) -> list[Picture]:
    curves = _curves(evaluation)
    if not curves:
        return []
    rotation = {name: item.rotation for name, item in curves.items()}
    translation = {name: item.translation for name, item in curves.items()}
    caption = "Average precision where an estimate is right whose {} error is at most this, whatever the other errors."
    return [
        Picture(caption.format("rotation"), plot_average_precision("rotation", "degrees", AP_ROTATION_DEG, rotation)),
        Picture(
            caption.format("translation"),
            plot_average_precision("translation", "centimetres", AP_TRANSLATION_CM, translation),
        ),
    ]


def _trade_off(by_setting: dict[str, Metrics]) -> list[Picture]:
    if not by_setting or any(numbers["acc_pi_6"] is None for numbers in by_setting.values()):
        return []
    return [Picture("Accuracy against time, for every setting that was tried.", plot_trade_off(by_setting))]


def _curves(evaluation: Evaluation) -> dict[str, PrecisionCurves]:
    """Overall and per category that has objects."""
    objects, alarms = evaluation.objects, evaluation.false_alarms
    curves = {"overall": precision_curves(objects, alarms)}
    for name in sorted({item.category for item in objects}):
        own = [item for item in objects if item.category == name]
        curves[name] = precision_curves(own, [alarm for alarm in alarms if alarm.category == name])
    return {name: item for name, item in curves.items() if item is not None}


def _overlays(evaluation: Evaluation, scene: Sequence[AnnotatedFrame]) -> list[Picture]:
    """The examples' images, with the true boxes in white under the estimates."""
    index_of = {name: index for index, name in enumerate(evaluation.estimates)}
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
