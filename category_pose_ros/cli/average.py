"""`category-pose average`: one model from several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from category_pose_ros.cli.options import EXISTING_FILE, NEW_FILE, about, make_folder
from category_pose_ros.models.checkpoint import averaged, load_model, save_model


@click.command()
@click.argument("models", type=EXISTING_FILE, nargs=-1, required=True)
@click.option("--output", type=NEW_FILE, required=True, help="Where the averaged model goes.")
def average(models: Sequence[Path], output: Path) -> None:
    """Average the weights of MODELS: ends of one run whose learning rate fell several times.

    Their mean is often better than each (Izmailov et al. 2018). It has the scores of the first model, no judge and no
    ranges for eight bits: go on with `train-judge`, then `calibrate`.
    """
    make_folder(output.parent)
    with about("MODELS"):
        model = averaged([load_model(path) for path in models])
    save_model(output, model)
    click.echo(f"wrote {output}")
