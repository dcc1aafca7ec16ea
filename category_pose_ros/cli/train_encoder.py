"""`category-pose train-encoder`: train the pose encoder of the silhouette method."""

from __future__ import annotations

from pathlib import Path

import click

from category_pose_ros.cli.options import NEW_FILE, make_folder
from category_pose_ros.cli.settings import override
from category_pose_ros.training.train_encoder import EncoderTrainConfig
from category_pose_ros.training.train_encoder import train_encoder as run_training


@click.command("train-encoder")
@click.argument("output", type=NEW_FILE)
@click.option("--set", "overrides", multiple=True, metavar="NAME=VALUE", help="One setting, by dotted name.")
def train_encoder(output: Path, overrides: tuple[str, ...]) -> None:
    """Train the encoder of the silhouette method and write the model file OUTPUT."""
    config = override(EncoderTrainConfig(), overrides)
    make_folder(output.parent, "OUTPUT")
    click.echo(f"wrote {run_training(config, output)}")
