"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from category_pose_ros import PoseEstimator
from category_pose_ros.cli.settings import Settings, load_settings

Command = TypeVar("Command", bound=Callable[..., Any])

EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
NEW_FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)


@contextmanager
def about(argument: str) -> Iterator[None]:
    """Say of which argument an error inside speaks."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise click.BadParameter(str(error), param_hint=argument) from error


def make_folder(folder: Path, argument: str = "--output") -> None:
    """Before the work, and not after it: what cannot be written is refused at once."""
    with about(argument):
        folder.mkdir(parents=True, exist_ok=True)


def _names(context: click.Context, parameter: click.Parameter, text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",")) if text else ()
    if not all(names):
        raise click.BadParameter(f"expected names separated by commas, got {text!r}")
    return names


@dataclass(frozen=True)
class EstimatorChoice:
    """Which estimator the user asked for."""

    categories: tuple[str, ...]
    method: str
    device: str
    model: Path | None
    settings: Settings

    def load(self) -> PoseEstimator:
        return PoseEstimator.load(self.categories, self.method, self.device, self.model, self.settings.estimator)


def estimator_options(command: Command) -> Command:
    """Add the options that choose an estimator; `estimator_choice` takes what they give."""
    options = (
        click.option("--categories", callback=_names, default="", metavar="A,B", help="Only these [default: all]."),
        click.option("--method", default="neural_mesh", show_default=True, help="How poses are found."),
        click.option("--device", default="auto", show_default=True, metavar="cpu|cuda|auto", help="Where it runs."),
        click.option("--model", type=EXISTING_FILE, help="Model file instead of the one that is shipped."),
        click.option("--params", type=EXISTING_FILE, help="YAML file of settings."),
        click.option("--set", "overrides", multiple=True, metavar="NAME=VALUE", help="One setting, by dotted name."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def estimator_choice(
    categories: tuple[str, ...], method: str, device: str, model: Path | None, params: Path | None, overrides: Any
) -> EstimatorChoice:
    """What `estimator_options` gave, with its settings read."""
    return EstimatorChoice(categories, method, device, model, load_settings(params, overrides))
