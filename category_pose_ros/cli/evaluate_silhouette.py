"""`category-pose evaluate-silhouette`: the silhouette method on masks, as in its paper."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import click
import torch
from tqdm import tqdm

from category_pose_ros.cli.options import EXISTING_FILE, NEW_FILE, about, make_folder
from category_pose_ros.cli.settings import override
from category_pose_ros.config import from_dict
from category_pose_ros.estimation.estimator import DEFAULT_ENCODER
from category_pose_ros.estimation.silhouette import SilhouetteConfig, View, fit_masks
from category_pose_ros.evaluation.silhouette import (
    Answer,
    Method,
    Outcome,
    Row,
    TrueMask,
    rotation_gain,
    run,
    summarise,
    table,
    true_masks,
)
from category_pose_ros.models.pose_encoder import EncoderConfig, EncoderModel, load_encoder, resampled, turned
from category_pose_ros.rendering.rasterizer import cover
from category_pose_ros.training.train_encoder import EncoderTrainConfig, MaskSource
from category_pose_ros.visualization.plots import plot_refinement

_RESOLUTIONS = (16, 32, 64, 128, 256)
_STEPS = (5, 10, 20, 30, 60)


@click.command("evaluate-silhouette")
@click.argument("encoder", type=EXISTING_FILE, default=DEFAULT_ENCODER)
@click.option("--category", default="car", show_default=True, help="Whose test instances.")
@click.option("--masks", type=click.IntRange(1), default=100, show_default=True, help="Each of another instance.")
@click.option("--seed", type=click.IntRange(0), default=7, show_default=True, help="Decides the views.")
@click.option("--paper", is_flag=True, help="Also steps of the encoder's weights, with both renderers; slow.")
@click.option("--resolutions", is_flag=True, help="Also steps of the pose at several resolutions, and fewer or more.")
@click.option("--either-side", is_flag=True, help="The other rotation with nearly the same silhouette counts as right.")
@click.option("--plot", type=NEW_FILE, help="Write the gains of --resolutions as a picture (PNG) to this file.")
@click.option("--set", "overrides", multiple=True, metavar="NAME=VALUE", help="One setting of the method.")
def evaluate_silhouette(
    encoder: Path,
    category: str,
    masks: int,
    seed: int,
    paper: bool,
    resolutions: bool,
    either_side: bool,
    plot: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """Evaluate the model file ENCODER on instances that its training held out, and print the tables.

    Masks are rendered as in the protocol of the paper. Gains are over what the encoder says by itself.
    """
    if plot and not resolutions:
        raise click.UsageError("--plot: expected together with --resolutions")
    if plot:
        make_folder(plot.parent, "--plot")
    model = load_encoder(encoder)
    trained = from_dict(EncoderTrainConfig, model.training["settings"])
    if category not in trained.categories:
        expected = ", ".join(trained.categories)
        raise click.BadParameter(f"expected one of {expected}, got {category!r}", param_hint="--category")
    source = MaskSource(trained, model.prototypes)
    shapes = itertools.islice(trained.family(category).split("testing"), masks)
    chosen = true_masks([(shape, source.prototype_of(shape)) for shape in shapes], seed)
    config = override(SilhouetteConfig(), overrides)

    def evaluated(name: str, variant: SilhouetteConfig) -> list[Outcome]:
        shown = tqdm(chosen, desc=name, unit="mask", disable=None)
        return run(_method(model, variant), shown, _other_side if either_side else None)

    def rows(variants: Mapping[str, SilhouetteConfig]) -> dict[str, Row]:
        return {name: summarise(evaluated(name, item)) for name, item in variants.items()}

    first = rows({"encoder": replace(config, refine="none")})
    click.echo(table(first | rows(_variants(config, paper))))
    if not resolutions:
        return
    by_resolution = rows({f"{side} px": replace(config, resolution_px=side) for side in _RESOLUTIONS})
    by_steps = rows({f"{steps} steps": replace(config, steps=steps) for steps in _STEPS})
    click.echo("\n" + table(first | by_resolution | by_steps))
    if plot:
        before = first["encoder"]
        curves = {
            "resolution (pixels)": _curve(_RESOLUTIONS, by_resolution, before),
            "steps": _curve(_STEPS, by_steps, before),
        }
        with about("--plot"):
            plot.write_bytes(plot_refinement(curves))


def _variants(config: SilhouetteConfig, paper: bool) -> dict[str, SilhouetteConfig]:
    variants = {"steps of the pose": config, "… without the other side": replace(config, twin=False)}
    if paper:
        tuned = replace(config, refine="encoder")
        variants["steps of the encoder, the paper's renderer"] = replace(tuned, membership="paper")
        variants["steps of the encoder, our renderer"] = replace(tuned, membership="distance")
    return variants


def _curve(values: Sequence[int], rows: Mapping[str, Row], before: Row) -> dict[str, list[float]]:
    """What `plot_refinement` draws against some values of one setting."""
    return {
        "value": [float(value) for value in values],
        "mIoU": [row.overlap for row in rows.values()],
        "rotation error, change (%)": [100 * rotation_gain(row, before) for row in rows.values()],
        "seconds per mask": [row.seconds for row in rows.values()],
    }


def _other_side(item: TrueMask) -> torch.Tensor:
    return turned(item.camera_from_object.rotation, item.camera)


def _method(model: EncoderModel, config: SilhouetteConfig) -> Method:
    def answer(item: TrueMask) -> Answer:
        view = _view(item, config.resolution_px, model.config)
        (fit,) = fit_masks(model, [view], config, [item.category])
        pose, surface = fit.state.camera_from_object, fit.prototype.surface.scaled(fit.state.size_m)
        covered = cover(surface, pose, item.camera)[0]
        number = next(index for index, known in enumerate(model.prototypes) if known is fit.prototype)
        return Answer(number, pose[0], covered)

    return answer


def _view(item: TrueMask, side: int, encoder: EncoderConfig) -> View:
    camera = item.camera.resized(side, side)
    shown = encoder.seen_camera(item.camera)
    mask, seen = (resampled(item.mask.float(), item.camera, seen) for seen in (camera, shown))
    return View(camera, mask, torch.ones_like(mask), shown, seen)
