"""`category-pose benchmark`: how long everything takes, as ratios in one run."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import torch
from scipy.spatial import ConvexHull
from torch import Tensor

from category_pose_ros import Frame, ObjectEstimate, PoseEstimator, Tracker, TrackerConfig
from category_pose_ros.cli.options import (
    EXISTING_FILE,
    NEW_FILE,
    about,
    estimator_choice,
    estimator_options,
    make_folder,
)
from category_pose_ros.config import LONGEST_S
from category_pose_ros.data.bags import EXAMPLE_BAG, BagFrames
from category_pose_ros.estimation.belief import Belief, Search, Sighting
from category_pose_ros.estimation.solver import SolverConfig, Term, fastest_minimise
from category_pose_ros.estimation.state import Intrinsics, State
from category_pose_ros.estimation.terms import AxesTerm, CorrespondenceTerm, SizePriorTerm
from category_pose_ros.evaluation.timing import Timing, time_in_turn
from category_pose_ros.geometry import SE3, Camera
from category_pose_ros.geometry.mesh import box_corners
from category_pose_ros.models.paper_backbone import IMAGE_SIZE, PaperBackbone
from category_pose_ros.records import SECOND_NS
from category_pose_ros.rendering.rasterizer import rasterize
from category_pose_ros.rendering.surface import Surface

_RASTERIZER_YARDSTICK = "paper's membership"
_SOLVER_STEPS = 10
_SOLVER = f"solver, {_SOLVER_STEPS} iterations, 1 object"
_RASTERIZER = "pytorch3d's rasterizer, forward and backward, 448x320"
_STREAM = 30  # frames of the example, played to and fro
_RATE_HZ = 30
_FIRST = 5  # frames of a track that are not typical
_YARDSTICK = f"paper's backbone, {IMAGE_SIZE[1]}x{IMAGE_SIZE[0]}, float32"


def _sizes(context: click.Context, parameter: click.Parameter, text: str) -> tuple[tuple[int, int], ...]:
    try:
        pairs = [tuple(map(int, item.split("x"))) for item in text.split(",")]
        sizes = tuple((width, height) for width, height in pairs)
    except ValueError as error:
        raise click.BadParameter(f"expected WIDTHxHEIGHT,…, got {text!r}") from error
    if min(min(size) for size in sizes) < 1:
        raise click.BadParameter(f"expected positive sizes, got {text!r}")
    return sizes


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
@click.option("--rasterizer", is_flag=True, help="Time the rasterizer instead: forward and backward.")
@click.option("--cpu-time", is_flag=True, help="Processor time instead of wall time, for a machine under load.")
@click.option("--baseline", type=EXISTING_FILE, help="Earlier --output.")
@click.option("--output", type=NEW_FILE, help="Write the ratios as JSON.")
def benchmark(
    objects: tuple[int, ...],
    sizes: tuple[tuple[int, int], ...],
    rounds: int,
    rasterizer: bool,
    cpu_time: bool,
    baseline: Path | None,
    output: Path | None,
    **choice: Any,
) -> None:
    """Time detection and tracking, and print them as ratios to a yardstick timed in the same run.

    The yardstick is one forward pass of the backbone of Ma et al. 2022 at their image size, in
    single precision, on the same device. Images are those of the bundled example. Tracking is one
    frame of a stream at 30 Hz, searches left out: optical flow for all objects, and a look through the
    network at those whose turn it is or that are in doubt; the median shows frames as most are, the mean
    what the stream costs, and what a look at all takes is a row of its own. The yardstick of the rasterizer
    is the membership of Palazzi et al. 2018, for 1000 triangles at 128x128 pixels.
    """
    if rasterizer and (output or baseline or cpu_time):
        raise click.UsageError("--rasterizer: expected without --output, --baseline and --cpu-time")
    if rasterizer:
        click.echo(_table(time_in_turn(_rasterizer_cases(), _RASTERIZER_YARDSTICK, rounds), {}))
        click.echo(f"cpu, {torch.get_num_threads()} threads, {platform.machine()}, PyTorch {torch.__version__}")
        return
    chosen = estimator_choice(**choice)
    estimator = chosen.load()
    known = _ratios(baseline) if baseline else {}
    if output:
        make_folder(output.parent)
    cases = {**_cases(estimator, objects, sizes), **_solver_cases(torch.device(estimator.device))}
    timings = time_in_turn(cases, _YARDSTICK, rounds, time.process_time if cpu_time else time.perf_counter)
    click.echo(_table(timings, known))
    click.echo(_beside_rasterizer(timings))
    if estimator.device != "cuda":
        click.echo("cuda: not measured")
    click.echo(
        f"{estimator.device}, {torch.get_num_threads()} threads, {platform.machine()}, PyTorch {torch.__version__}"
    )
    if output:
        clock = "processor" if cpu_time else "wall"
        record = {"rounds": rounds, "clock": clock, "device": estimator.device, "threads": torch.get_num_threads()}
        ratios = {name: float(f"{timing.ratio:.4g}") for name, timing in timings.items()}
        output.write_text(json.dumps({**record, "ratios": ratios}, indent=2) + "\n")


def _ratios(baseline: Path) -> Mapping[str, float]:
    with about("--baseline"):
        record = json.loads(baseline.read_text())
        if not isinstance(record, dict) or not isinstance(record.get("ratios"), dict):
            raise ValueError(f"{baseline}: expected what --output writes")
        for name, ratio in record["ratios"].items():
            if isinstance(ratio, bool) or not isinstance(ratio, (int, float)):
                raise ValueError(f"{baseline}: ratios: {name}: expected a number, got {ratio!r}")
        return dict(record["ratios"])


def _cases(
    estimator: PoseEstimator, objects: tuple[int, ...], sizes: tuple[tuple[int, int], ...]
) -> Mapping[str, Callable[[], object]]:
    # A CUDA call returns before its work is done; the estimator's own results are read, which waits.
    wait = torch.cuda.synchronize if estimator.device == "cuda" else _nothing
    network = PaperBackbone().eval().to(estimator.device)
    image = torch.rand(1, 3, *IMAGE_SIZE, device=estimator.device)
    stream = list(itertools.islice(BagFrames(EXAMPLE_BAG), _STREAM))
    frame, camera = stream[0], stream[0].camera
    cases: dict[str, Callable[[], object]] = {_YARDSTICK: lambda: (_forward(network, image), wait())}
    for width, height in sizes:
        resized = _resized(frame, width, height)
        cases[f"detection, {width}x{height}"] = functools.partial(estimator.estimate, resized)
    seen = estimator.estimate(frame)
    if not seen:
        raise click.ClickException("the model finds nothing in the bundled example, so tracking cannot be timed")
    for count in objects:
        found = list(itertools.islice(itertools.cycle(seen), count))
        number = f"{count} object{'s' if count > 1 else ''}, {camera.width}x{camera.height}"
        cases[f"tracking, {number}"] = _tracking(estimator, stream, found)
        beliefs = [Belief.about(item) for item in found]
        cases[f"a look at {number}"] = functools.partial(estimator.follow, frame, beliefs, [0.25] * count)
    return cases


class _Found:
    """An estimator that has found its objects and searches no more."""

    def __init__(self, estimator: PoseEstimator, found: list[ObjectEstimate]) -> None:
        self._estimator = estimator
        self._found = found

    def search(self, frame: Frame, explained: Sequence[Belief] = ()) -> Search:
        found, self._found = self._found, []
        yield from ()
        return found

    def follow(
        self, frame: Frame, beliefs: Sequence[Belief], prior: Sequence[float], others: Sequence[Belief] = ()
    ) -> list[Sighting]:
        return self._estimator.follow(frame, beliefs, prior, others)


def _tracking(estimator: PoseEstimator, stream: list[Frame], found: list[ObjectEstimate]) -> Callable[[], object]:
    """The next frame of a stream without end; objects that are counted more than once stay apart."""
    tracker = Tracker(_Found(estimator, found), TrackerConfig(search_every_s=LONGEST_S, same_place=0.0))
    frames = _to_and_fro(stream)
    for _ in range(_FIRST):
        tracker.update(next(frames))
    return lambda: tracker.update(next(frames))


def _to_and_fro(stream: list[Frame]) -> Iterator[Frame]:
    for number, frame in enumerate(itertools.cycle([*stream, *stream[-2:0:-1]])):
        yield dataclasses.replace(frame, stamp_ns=number * SECOND_NS // _RATE_HZ)


def _rasterizer_cases() -> Mapping[str, Callable[[], object]]:
    """Silhouette of a rounded body of 1000 triangles that fills half the image, and its derivative by the pose."""
    angles = np.stack(np.meshgrid(np.linspace(0, np.pi, 26), np.linspace(0, 2 * np.pi, 21)), -1).reshape(-1, 2)
    upper, around = angles.T
    points = np.stack([np.sin(upper) * np.cos(around), np.sin(upper) * np.sin(around), np.cos(upper)], 1)
    row, column = np.divmod(np.arange(20 * 25), 25)
    first = row * 26 + column
    quads = np.stack([first, first + 1, first + 27, first + 26], 1)
    surface = Surface.from_triangles(points, np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]))
    camera = Camera(150.0, 150.0, 63.5, 63.5, 128, 128)

    def case(membership: str) -> None:
        shift = torch.zeros(1, 3, requires_grad=True)
        pose = SE3(torch.eye(3)[None], torch.tensor([[0.1, 0.05, 4.0]]) + shift)
        rasterize(surface, pose, camera, membership).occupancy.sum().backward()

    return {
        _RASTERIZER_YARDSTICK: functools.partial(case, "paper"),
        "distance to the outline": functools.partial(case, "distance"),
    }


def _solver_cases(device: torch.device) -> Mapping[str, Callable[[], object]]:
    """The solver on one object with 96 correspondences and, where it is installed, pytorch3d on a cuboid."""
    start, terms = _problem(device)
    minimise = fastest_minimise(device)
    config = SolverConfig(iterations=_SOLVER_STEPS)

    def solve() -> Tensor:
        with torch.inference_mode():
            states, _ = minimise(terms, start, config)
        return states.log_size.cpu()  # waits for a GPU

    cases: dict[str, Callable[[], object]] = {_SOLVER: solve}
    if find_spec("pytorch3d") is not None:
        cases[_RASTERIZER] = _rasterizer_case(device)
    return cases


def _problem(device: torch.device) -> tuple[State, list[Term]]:
    """Points of a box, seen where another pose would see them."""
    source = torch.Generator().manual_seed(0)
    points = torch.rand(1, 96, 3, generator=source) - 0.5
    start = State(SE3(torch.eye(3)[None], torch.tensor([[0.0, 0.0, 1.0]])), torch.tensor([[0.12, 0.08, 0.1]]).log())
    optics = Intrinsics(torch.tensor([[90.0, 90.0]]), torch.tensor([[7.5, 7.5]]))
    true = start.moved(torch.tensor([[0.02, -0.01, 0.05, 0.3, -0.2, 0.4, 0.1, 0.0, -0.1]]))
    cells = optics.project(true.points_camera(points))
    axes = true.camera_from_object.rotation[..., [0, 2]].transpose(-1, -2)
    terms: list[Term] = [
        CorrespondenceTerm(
            Intrinsics(optics.focal.to(device), optics.centre.to(device)),
            points.to(device),
            cells.to(device),
            torch.ones(1, 96, device=device),
            1.5,
        ),
        AxesTerm(axes.to(device), torch.ones(1, 2, device=device)),
        SizePriorTerm(start.log_size.to(device), 25 * torch.eye(3, device=device)[None]),
    ]
    return State(start.camera_from_object.to(device), start.log_size.to(device)), terms


def _rasterizer_case(device: torch.device) -> Callable[[], object]:
    """Depth of a cuboid and its gradient by the vertices, as a renderer in the loop would need it for one step."""
    from pytorch3d.renderer import MeshRasterizer, PerspectiveCameras, RasterizationSettings
    from pytorch3d.structures import Meshes

    corners = box_corners((0.12, 0.08, 0.1))
    vertices = torch.from_numpy(corners + np.array([0.0, 0.0, 0.5])).float().to(device)
    faces = torch.from_numpy(ConvexHull(corners).simplices).long().to(device)
    cameras = PerspectiveCameras(focal_length=2.5, device=device)
    rasterizer = MeshRasterizer(cameras, RasterizationSettings(image_size=IMAGE_SIZE))

    def step() -> Tensor:
        moved = vertices.clone().requires_grad_()
        depth = rasterizer(Meshes([moved], [faces])).zbuf
        depth.clamp_min(0).sum().backward()
        assert moved.grad is not None
        return moved.grad.cpu()

    return step


@torch.inference_mode()
def _forward(network: torch.nn.Module, image: Tensor) -> Tensor:
    features: Tensor = network(image)
    return features


def _nothing() -> None:
    """Nothing to wait for."""


def _resized(frame: Frame, width: int, height: int) -> Frame:
    rgb = np.asarray(cv2.resize(frame.rgb, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return Frame(rgb, frame.camera.resized(width, height))


def _beside_rasterizer(timings: Mapping[str, Timing]) -> str:
    if _RASTERIZER not in timings:
        return f"{_RASTERIZER}: not installed"
    share = timings[_RASTERIZER].ratio / timings[_SOLVER].ratio * _SOLVER_STEPS
    return f"{_RASTERIZER}: takes as long as {share:.0f} iterations of the solver"


def _table(timings: Mapping[str, Timing], baseline: Mapping[str, float]) -> str:
    width = max(map(len, timings))
    head = f"{'':{width}}  median ms  mean ms  least ms  ratio to yardstick" + ("  baseline" if baseline else "")
    lines = [head, "-" * len(head)]
    for name, timing in timings.items():
        ratio = f"{timing.ratio:.4f} = 1/{1 / timing.ratio:.1f}"
        before = f"  {baseline[name]:8.4f}" if name in baseline else ""
        times = f"{1e3 * timing.median_s:9.1f}  {1e3 * timing.mean_s:7.1f}  {1e3 * timing.least_s:8.1f}"
        lines.append(f"{name:{width}}  {times}  {ratio:>18}{before}")
    return "\n".join(lines)
