"""The command group, and how errors are told."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

import click

from category_pose_ros import __version__
from category_pose_ros.cli.average import average
from category_pose_ros.cli.benchmark import benchmark
from category_pose_ros.cli.calibrate import calibrate
from category_pose_ros.cli.estimate import estimate
from category_pose_ros.cli.evaluate import evaluate
from category_pose_ros.cli.evaluate_sequence import evaluate_sequence
from category_pose_ros.cli.evaluate_silhouette import evaluate_silhouette
from category_pose_ros.cli.medoids import medoids
from category_pose_ros.cli.replay import replay
from category_pose_ros.cli.synthesize import synthesize
from category_pose_ros.cli.train import train
from category_pose_ros.cli.train_encoder import train_encoder
from category_pose_ros.cli.train_judge import train_judge

_USAGE_ERROR = 2
_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
_TERMINATED = 143  # 128 + SIGTERM


# Without arguments click would print its help as an error; ours is one line.
@click.group(no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def commands() -> None:
    """6D pose and size of every object of a known category, from one camera."""


_COMMANDS = (
    estimate,
    replay,
    evaluate,
    evaluate_sequence,
    evaluate_silhouette,
    synthesize,
    medoids,
    train,
    average,
    train_judge,
    calibrate,
    train_encoder,
    benchmark,
)
for command in _COMMANDS:
    commands.add_command(command)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    What the user can set right (a ValueError, an OSError, a wrong argument) is one line on standard
    error and exit status 2. Anything else is a bug and shows its traceback.
    """
    try:
        with _closing_at_sigterm():
            status = commands.main(args=arguments, prog_name="category-pose", standalone_mode=False)
    except click.Abort:
        sys.exit(_INTERRUPTED)
    except click.ClickException as error:
        _refuse(error.format_message())
    except (ValueError, OSError) as error:
        _refuse(str(error))
    sys.exit(status if isinstance(status, int) else 0)


@contextmanager
def _closing_at_sigterm() -> Iterator[None]:
    """SIGTERM ends what is inside like an exception, so that files are closed and stay of use."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _refuse(message: str) -> NoReturn:
    click.echo(f"category-pose: error: {' '.join(message.split())}", err=True)
    sys.exit(_USAGE_ERROR)
