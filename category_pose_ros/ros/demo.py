"""`make demo`: the real node in its own process, fed over DDS with the bundled bag.

python -m category_pose_ros.ros.demo [--bag PATH] [--output out/demo] [--categories A,B] [--rate 1.0]
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click
import rclpy
from rclpy.context import Context
from tqdm import tqdm

from category_pose_ros.data.bags import EXAMPLE_BAG, BagFrames
from category_pose_ros.estimation.estimator import METHODS
from category_pose_ros.ros.demo_report import table, write_files
from category_pose_ros.ros.playback import Playback

_NODE = (sys.executable, "-m", "category_pose_ros.ros.node")
_START_TIMEOUT_S = 300.0  # loading PyTorch and the model on a busy machine
_LAST_ANSWER_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 30.0
# The node subscribes best effort, as one does to cameras. But a 640x480 image is many packets, and where the model
# keeps all cores busy about half of the images lose one of them on the way (52 of 100 arrived on two cores, reliably
# sent ones all). The demo is to show the estimator, so every image shall reach it.
_RELIABLE = "qos_overrides./image.subscription.reliability:=reliable"


@click.command()
@click.option("--bag", type=click.Path(path_type=Path), default=EXAMPLE_BAG, help="A bag; default: the bundled one.")
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), default=Path("out/demo"), show_default=True)
@click.option("--method", type=click.Choice(METHODS), default=METHODS[0], show_default=True)
@click.option("--model", default="", help="A model file; default: the one that comes with the package.")
@click.option("--categories", default="bottle,can,mug", show_default=True, help="To look for; empty: all.")
@click.option("--rate", type=click.FloatRange(0, 100, min_open=True), default=1.0, help="Speed of playing.")
def main(bag: Path, output: Path, method: str, model: str, categories: str, rate: float) -> None:
    """Play BAG into the estimator node, print what came back, and write poses.csv and overlays."""
    try:
        frames = BagFrames(bag)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--bag") from error
    if not len(frames):
        raise click.BadParameter(f"{bag}: no images on {frames.image_topic}", param_hint="--bag")
    _isolate()
    parameters = {"method": method, "model": model, "categories": f"[{categories}]" if categories else ""}
    with _node_process(parameters) as node, _playback() as playback:
        _wait_until_active(node, playback)
        _play(node, playback, frames, rate)
        account = playback.account
    if not any(account.pose_counts.values()):
        raise click.ClickException(f"the node published no poses for {len(account.sent_s)} frames")
    write_files(output, frames, account)
    click.echo(table(frames, account))
    click.echo(f"wrote poses.csv, overlay.mp4 and overlay.png to {output}")


def _isolate() -> None:
    """A graph of our own on this machine, so that the demo neither hears nor disturbs a robot."""
    os.environ["ROS_DOMAIN_ID"] = str(random.randint(1, 101))
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    if os.environ.get("ROS_DISTRO") == "humble":  # which does not know the variable above
        os.environ["ROS_LOCALHOST_ONLY"] = "1"


@contextmanager
def _node_process(parameters: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """The estimator node, whose empty parameters stay at their defaults; gone at the end, whatever happens."""
    settings = [_RELIABLE, *(f"{name}:={value}" for name, value in parameters.items() if value)]
    arguments = [part for setting in settings for part in ("-p", setting)]
    process = subprocess.Popen([*_NODE, "--ros-args", *arguments])
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _playback() -> Iterator[Playback]:
    context = Context()
    rclpy.init(context=context)
    playback = Playback(context)
    try:
        yield playback
    finally:
        playback.destroy_node()
        rclpy.shutdown(context=context)


def _wait_until_active(node: subprocess.Popen[bytes], playback: Playback) -> None:
    click.echo("starting the estimator node ...")
    if not playback.spin_until(lambda: playback.is_heard() or node.poll() is not None, _START_TIMEOUT_S):
        raise click.ClickException(f"the node was not active after {_START_TIMEOUT_S:.0f} s")
    _check_alive(node)


def _play(node: subprocess.Popen[bytes], playback: Playback, frames: BagFrames, rate: float) -> None:
    account = playback.account
    with tqdm(total=len(frames), unit="frame", desc="playing") as bar:

        def on_sent() -> None:
            _check_alive(node)
            bar.set_postfix(answered=len(account.answered_s), refresh=False)
            bar.update()

        playback.play(frames, rate, on_sent)
    last = max(account.sent_s)  # the newest frame wins, so this one is answered in any case
    playback.spin_until(lambda: account.is_complete(last) or node.poll() is not None, _LAST_ANSWER_TIMEOUT_S)
    _check_alive(node)


def _check_alive(node: subprocess.Popen[bytes]) -> None:
    if node.poll() is not None:
        raise click.ClickException(f"the estimator node ended with exit status {node.returncode}")


if __name__ == "__main__":
    main()
