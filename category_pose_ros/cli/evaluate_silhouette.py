"""`category-pose evaluate-silhouette`: the silhouette method on masks, as in its paper."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click
import torch
from tqdm import tqdm

from category_pose_ros.cli.options import EXISTING_FILE
from category_pose_ros.cli.settings import override
from category_pose_ros.config import from_dict
from category_pose_ros.estimation.silhouette import SilhouetteConfig, View, fit_mask
from category_pose_ros.evaluation.silhouette import Answer, Method, Outcome, TrueMask, run, table, true_masks
from category_pose_ros.models.pose_encoder import CROP_PX, EncoderModel, load_encoder
from category_pose_ros.rendering.rasterizer import cover
from category_pose_ros.training.train_encoder import EncoderTrainConfig, category_splits

_RESOLUTIONS = (16, 32, 64, 128, 256)


@click.command("evaluate-silhouette")
@click.argument("encoder", type=EXISTING_FILE)
@click.option("--category", default="car", show_default=True, help="Whose test instances.")
@click.option("--masks", type=click.IntRange(1), default=60, show_default=True, help="Of instances held out.")
@click.option("--seed", type=click.IntRange(0), default=7, show_default=True, help="Decides the views.")
@click.option("--paper", is_flag=True, help="Also steps of the encoder's weights, with both renderers; slow.")
@click.option("--resolutions", is_flag=True, help="Also steps of the pose at each resolution, and fewer steps.")
@click.option("--set", "overrides", multiple=True, metavar="NAME=VALUE", help="One setting of the method.")
def evaluate_silhouette(
    encoder: Path, category: str, masks: int, seed: int, paper: bool, resolutions: bool, overrides: tuple[str, ...]
) -> None:
    """Evaluate the model file ENCODER on the instances that its training held out, and print the tables."""
    model = load_encoder(encoder)
    trained = from_dict(EncoderTrainConfig, model.training["settings"])
    if category not in trained.categories:
        raise click.BadParameter(f"expected one of {', '.join(trained.categories)}, got {category!r}")
    chosen = true_masks(category_splits(trained, category).splits[2], masks, seed)
    config = override(SilhouetteConfig(), overrides)
    variants = _variants(config, paper)
    click.echo(table({name: _shown(name, model, item, chosen) for name, item in variants.items()}))
    if resolutions:
        rows = {f"{side} px": dataclasses.replace(config, resolution_px=side) for side in _RESOLUTIONS}
        rows |= {f"{steps} steps": dataclasses.replace(config, steps=steps) for steps in (5, 10, 20, 30, 60)}
        click.echo("\n" + table({name: _shown(name, model, item, chosen) for name, item in rows.items()}))


def _variants(config: SilhouetteConfig, paper: bool) -> dict[str, SilhouetteConfig]:
    variants = {
        "encoder": dataclasses.replace(config, refine="none"),
        "steps of the pose": config,
        "… without the other side": dataclasses.replace(config, twin=False),
    }
    if paper:
        for name, membership in (("ours", "distance"), ("the paper's", "paper")):
            label = f"steps of the encoder, {name} renderer"
            variants[label] = dataclasses.replace(config, refine="encoder", membership=membership)
    return variants


def _shown(name: str, model: EncoderModel, config: SilhouetteConfig, masks: list[TrueMask]) -> list[Outcome]:
    return run(_method(model, config), tqdm(masks, desc=name, unit="mask", disable=None))


def _method(model: EncoderModel, config: SilhouetteConfig) -> Method:
    category_first = {item.category: index for index, item in reversed(list(enumerate(model.prototypes)))}

    def answer(item: TrueMask) -> Answer:
        view = _view(item, config.resolution_px)
        fit = fit_mask(model, view, config, item.category)
        pose, surface = fit.state.camera_from_object, fit.prototype.surface.scaled(fit.state.size_m)
        covered = cover(surface, pose, item.camera)[0]
        number = next(index for index, known in enumerate(model.prototypes) if known is fit.prototype)
        return Answer(number - category_first[item.category], pose[0], covered)

    return answer


def _view(item: TrueMask, side: int) -> View:
    mask, seen = (_averaged(item.mask, size) for size in (side, CROP_PX))
    return View(item.camera.resized(side, side), mask, torch.ones_like(mask), seen)


def _averaged(mask: torch.Tensor, side: int) -> torch.Tensor:
    return torch.nn.functional.adaptive_avg_pool2d(mask.float()[None], (side, side))[0]
