"""`category-pose train`: train a model."""

from __future__ import annotations

import csv
from pathlib import Path

import click

from category_pose_ros.cli.settings import override
from category_pose_ros.training.train import TrainConfig
from category_pose_ros.training.train import train as run_training
from category_pose_ros.visualization.plots import plot_training


@click.command()
@click.argument("output", type=click.Path(file_okay=False, path_type=Path))
@click.option("--backgrounds", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Photographs.")
@click.option(
    "--initial",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Model file to start a new run from.",
)
@click.option("--set", "overrides", multiple=True, metavar="NAME=VALUE", help="One setting, by dotted name.")
def train(output: Path, backgrounds: Path | None, initial: Path | None, overrides: tuple[str, ...]) -> None:
    """Train the neural mesh model in the folder OUTPUT; a run that was stopped goes on.

    Leaves checkpoint.pt, log.csv, log.png and model.safetensors there.
    """
    model = run_training(override(TrainConfig(), overrides), output, backgrounds, initial)
    with (output / "log.csv").open() as file:
        (output / "log.png").write_bytes(plot_training(list(csv.DictReader(file))))
    click.echo(f"wrote {model} and {output / 'log.png'}")
