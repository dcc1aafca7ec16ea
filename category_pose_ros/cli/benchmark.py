"""`category-pose benchmark`: how long everything takes, as ratios in one run."""

from __future__ import annotations

import functools
import itertools
import json
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import torch

from category_pose_ros import Frame, PoseEstimator
from category_pose_ros.cli.options import EXISTING_FILE, NEW_FILE, about, estimator_choice, estimator_options
from category_pose_ros.data.bags import EXAMPLE_BAG, BagFrames
from category_pose_ros.estimation.belief import Belief
from category_pose_ros.evaluation.timing import Timing, time_in_turn
from category_pose_ros.models.paper_backbone import IMAGE_SIZE, PaperBackbone

_YARDSTICK = f"paper's backbone, {IMAGE_SIZE[1]}x{IMAGE_SIZE[0]}, float32"


def _sizes(context: click.Context, parameter: click.Parameter, text: str) -> tuple[tuple[int, int], ...]:
    try:
        pairs = [tuple(map(int, item.split("x"))) for item in text.split(",")]
        return tuple((width, height) for width, height in pairs)
    except ValueError as error:
        raise click.BadParameter(f"expected WIDTHxHEIGHT,…, got {text!r}") from error


def _numbers(context: click.Context, parameter: click.Parameter, text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(map(int, text.split(",")))
    except ValueError as error:
        raise click.BadParameter(f"expected numbers separated by commas, got {text!r}") from error
    if min(numbers) < 1:
        raise click.BadParameter(f"expected positive numbers, got {text!r}")
    return numbers


@click.command()
@estimator_options
@click.option("--objects", callback=_numbers, default="1,3,8,16", show_default=True, help="Tracks followed at once.")
@click.option("--sizes", callback=_sizes, default="320x240,640x480,1280x720", show_default=True, help="Image sizes.")
@click.option("--rounds", type=click.IntRange(1), default=15, show_default=True, help="Times each case is timed.")
@click.option("--baseline", type=EXISTING_FILE, help="Earlier --output.")
@click.option("--output", type=NEW_FILE, help="Write the ratios as JSON.")
def benchmark(
    objects: tuple[int, ...],
    sizes: tuple[tuple[int, int], ...],
    rounds: int,
    baseline: Path | None,
    output: Path | None,
    **choice: Any,
) -> None:
    """Time detection and tracking, and print them as ratios to a yardstick timed in the same run.

    The yardstick is one forward pass of the backbone of Ma et al. 2022 at their image size, in
    single precision, on the same device. Images are those of the bundled example.
    """
    chosen = estimator_choice(**choice)
    estimator = chosen.load()
    known = _ratios(baseline) if baseline else {}
    cases = _cases(estimator, objects, sizes)
    timings = time_in_turn(cases, _YARDSTICK, rounds)
    click.echo(_table(timings, known))
    click.echo(
        f"{estimator.device}, {torch.get_num_threads()} threads, {platform.machine()}, PyTorch {torch.__version__}"
    )
    if output:
        record = {"rounds": rounds, "device": estimator.device, "threads": torch.get_num_threads()}
        ratios = {name: float(f"{timing.ratio:.4g}") for name, timing in timings.items()}
        output.write_text(json.dumps({**record, "ratios": ratios}, indent=2) + "\n")


def _ratios(baseline: Path) -> Mapping[str, float]:
    with about("--baseline"):
        record = json.loads(baseline.read_text())
        if not isinstance(record, dict) or not isinstance(record.get("ratios"), dict):
            raise ValueError(f"{baseline}: expected what --output writes")
        return dict(record["ratios"])


def _cases(
    estimator: PoseEstimator, objects: tuple[int, ...], sizes: tuple[tuple[int, int], ...]
) -> Mapping[str, Callable[[], object]]:
    # A CUDA call returns before its work is done; the estimator's own results are read, which waits.
    wait = torch.cuda.synchronize if estimator.device == "cuda" else _nothing
    network = PaperBackbone().eval().to(estimator.device)
    image = torch.rand(1, 3, *IMAGE_SIZE, device=estimator.device)
    frame = next(iter(BagFrames(EXAMPLE_BAG)))
    cases: dict[str, Callable[[], object]] = {_YARDSTICK: lambda: (_forward(network, image), wait())}
    for width, height in sizes:
        resized = _resized(frame, width, height)
        cases[f"detection, {width}x{height}"] = functools.partial(estimator.estimate, resized)
    seen = [Belief.about(item) for item in estimator.estimate(frame)]
    if not seen:
        raise click.ClickException("the model finds nothing in the bundled example, so tracking cannot be timed")
    for count in objects:
        beliefs = list(itertools.islice(itertools.cycle(seen), count))
        name = f"tracking, {count} object{'s' if count > 1 else ''}, {frame.camera.width}x{frame.camera.height}"
        cases[name] = functools.partial(estimator.follow, frame, beliefs, [0.25] * count)
    return cases


@torch.inference_mode()
def _forward(network: torch.nn.Module, image: torch.Tensor) -> torch.Tensor:
    features: torch.Tensor = network(image)
    return features


def _nothing() -> None:
    """Nothing to wait for."""


def _resized(frame: Frame, width: int, height: int) -> Frame:
    rgb = np.asarray(cv2.resize(frame.rgb, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return Frame(rgb, frame.camera.resized(width, height))


def _table(timings: Mapping[str, Timing], baseline: Mapping[str, float]) -> str:
    width = max(map(len, timings))
    head = f"{'':{width}}  median ms  least ms  ratio to yardstick" + ("  baseline" if baseline else "")
    lines = [head, "-" * len(head)]
    for name, timing in timings.items():
        ratio = f"{timing.ratio:.4f} = 1/{1 / timing.ratio:.1f}"
        before = f"  {baseline[name]:8.4f}" if name in baseline else ""
        lines.append(f"{name:{width}}  {1e3 * timing.median_s:9.1f}  {1e3 * timing.least_s:8.1f}  {ratio:>18}{before}")
    return "\n".join(lines)
