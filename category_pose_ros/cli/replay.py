"""`category-pose replay`: a bag through the tracker."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from category_pose_ros import Frame, Tracker
from category_pose_ros.cli.options import FOLDER, about, estimator_choice, estimator_options, make_folder
from category_pose_ros.data.bags import BagFrames
from category_pose_ros.evaluation.poses_csv import PosesWriter
from category_pose_ros.visualization.overlay import draw_overlay
from category_pose_ros.visualization.video import write_video

_FALLBACK_FPS = 10.0  # of a bag with a single image, which has no rate
_MINIMUM_FPS = 0.1
_MAXIMUM_FPS = 120.0  # of a bag whose stamps are no times


@click.command()
@click.argument("bag", type=click.Path(path_type=Path))
@click.option("--image-topic", metavar="T", help="Needed where the bag has several image topics.")
@click.option("--camera-info-topic", metavar="T", help="Where it does not stand beside the image topic.")
@estimator_options
@click.option("--output", type=FOLDER, required=True, help="Write poses.csv and overlay.mp4 into this folder.")
def replay(bag: Path, image_topic: str | None, camera_info_topic: str | None, output: Path, **choice: Any) -> None:
    """Track the objects in BAG, a rosbag2 folder, frame by frame."""
    chosen = estimator_choice(**choice)
    with about("BAG"):
        frames = BagFrames(bag, image_topic, camera_info_topic)
    make_folder(output)
    tracker = Tracker(chosen.load(), chosen.settings.tracker)
    with PosesWriter(output / "poses.csv") as poses:
        overlays = _track(tracker, tqdm(frames, unit="frame", desc=bag.name, disable=None), poses)
        fps = min(max(frames.rate_hz or _FALLBACK_FPS, _MINIMUM_FPS), _MAXIMUM_FPS)
        count = write_video(output / "overlay.mp4", overlays, fps)
    if not count:
        raise click.BadParameter(f"expected images on {frames.image_topic}, found none", param_hint="BAG")
    click.echo(f"{count} frames; wrote {output / 'poses.csv'} and {output / 'overlay.mp4'}")


def _track(tracker: Tracker, frames: Iterable[Frame], poses: PosesWriter) -> Iterator[npt.NDArray[np.uint8]]:
    """Write the poses of every frame and yield its overlay."""
    for frame in frames:
        tracks = tracker.update(frame)
        poses.write(frame.stamp_ns, tracks)
        yield draw_overlay(frame.rgb, frame.camera, tracks)
