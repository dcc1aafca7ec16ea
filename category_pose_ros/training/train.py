"""Training of the neural mesh model: one loop, read from top to bottom.

A run lives in a folder: `checkpoint.pt` (replaced atomically), `log.csv`, `log.png` and, at the
end, `model.safetensors`. Started again it goes on where it was; settings changed meanwhile are
noted in the model file with the step from which they held. Every sample depends on the seed and
its number alone, so a run that was killed ends with the same weights as one that was not.
"""

from __future__ import annotations

import csv
import logging
import math
import os
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from tqdm import tqdm

from category_pose_ros.config import from_dict, section, setting, to_dict, validate
from category_pose_ros.data.procedural.scenes import FAMILIES, known_families
from category_pose_ros.data.procedural.surfaces import TextureSource
from category_pose_ros.data.samples import SampleConfig, Samples, SceneSamples
from category_pose_ros.models.backbone import Backbone, BackboneConfig
from category_pose_ros.models.checkpoint import NeuralMeshModel, load_model, save_model
from category_pose_ros.models.neural_mesh import NeuralMeshes
from category_pose_ros.models.runtime import device_for
from category_pose_ros.training.losses import neural_mesh_loss
from category_pose_ros.training.priors import category_info
from category_pose_ros.training.schedule import learning_rate

_LOG_FIELDS = (
    "step",
    "images",
    "seconds",
    "learning_rate",
    "total",
    "object",
    "clutter",
    "centre",
    "diagonal",
    "axes",
    "shape",
)
_Tensors = tuple[Tensor, ...] | list[Tensor]


@dataclass(frozen=True)
class TrainConfig:
    """How the neural mesh model is trained."""

    categories: tuple[str, ...] = setting(("bottle", "can", "mug"), "Categories to learn.")
    steps: int = setting(9000, "Optimisation steps.", minimum=1)
    scenes_per_batch: int = setting(8, "Scenes per batch; each gives several crops.", minimum=1)
    learning_rate: float = setting(1e-3, "Peak learning rate of AdamW.", minimum=0.0)
    weight_decay: float = setting(1e-2, "Weight decay of AdamW.", minimum=0.0)
    warmup_steps: int = setting(200, "Steps of linear warm-up; a cosine follows.", minimum=0)
    average_decay: float = setting(0.999, "Decay of the moving average of weights that is shipped.", minimum=0.0)
    seed: int = setting(1, "Decides the initial weights and every sample.", minimum=0)
    checkpoint_every: int = setting(200, "Steps between checkpoints.", minimum=1)
    device: str = setting("cpu", "Device to train on.", choices=("cpu", "cuda"))
    bfloat16: bool = setting(True, "Convolutions in bfloat16.")
    workers: int = setting(2, "Processes that render samples.", minimum=0)
    threads: int = setting(1, "CPU threads of the optimisation.", minimum=1)
    samples: SampleConfig = section(SampleConfig)
    backbone: BackboneConfig = section(BackboneConfig)

    def __post_init__(self) -> None:
        validate(self)
        known_families(self.categories)
        if len(set(self.categories)) < len(self.categories):
            raise ValueError(f"categories: expected each name once, got {', '.join(self.categories)}")
        for name in self.samples.emphasis:
            if name not in FAMILIES:
                raise ValueError(f"samples.emphasis: expected names among {', '.join(FAMILIES)}, got {name!r}")


class _Model(nn.Module):
    """Backbone and meshes as one module, so that one optimiser and one average hold both."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.backbone = Backbone(config.backbone).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.meshes = NeuralMeshes(tuple(map(category_info, config.categories)), config.backbone.feature)


def train(config: TrainConfig, output: Path, backgrounds: Path | None = None, initial: Path | None = None) -> Path:
    """Train, or go on training, in a folder.

    Args:
        output: folder of the run.
        backgrounds: folder of photographs to put behind objects and on them; None: noise instead.
        initial: model file whose weights a new run starts from, for the categories that it knows.

    Returns:
        Path of the finished model file.

    Raises:
        ValueError: `initial` is no model file, or its network is of another size or deeper; the run in `output` is
            damaged, or of other categories or another network; there are no photographs, or no CUDA.
    """
    device = device_for(config.device)
    TextureSource.from_folder(backgrounds)  # what cannot be read is said here, and not by the processes that render
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    output.mkdir(parents=True, exist_ok=True)
    model = _Model(config)
    if initial is not None:
        known = load_model(initial)
        model.backbone.take_over(known.backbone)
        model.meshes.take_over(known.meshes)
    model = model.to(device)
    average = AveragedModel(model, multi_avg_fn=_moving_average(config.average_decay), use_buffers=True)
    optimiser = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    step, seconds, stages = _resume(output, config, model, average, optimiser)
    if initial is not None and step:
        # No error: the line that began a run is also the one that goes on with it.
        logging.getLogger(__name__).warning("initial: not used, the run goes on from its checkpoint at step %d", step)
    started = time.monotonic() - seconds
    stage = {"photographs": backgrounds is not None, "settings": to_dict(config)}
    if not stages or {name: stages[-1][name] for name in stage} != stage:
        stages.append({"from_step": step, **stage})
    dataset = SceneSamples(config.categories, config.samples, config.seed, backgrounds)
    bar = tqdm(total=config.steps, initial=step, desc="training", unit="step", dynamic_ncols=True)
    for batch in _batches(dataset, config, step):
        model.train()
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(config.learning_rate, step, config.steps, config.warmup_steps)
        with torch.autocast(device.type, torch.bfloat16, enabled=config.bfloat16):
            features = model.backbone(batch.image.to(device))
        losses = neural_mesh_loss(features, model.meshes, batch.to(device))
        optimiser.zero_grad()
        losses.total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        average.update_parameters(model)
        step += 1
        bar.update()
        if step % 20 == 0 or step == config.steps:
            values = {name: getattr(losses, name).item() for name in _LOG_FIELDS[4:]}
            if not math.isfinite(values["total"]):
                raise FloatingPointError(
                    f"the loss is {values['total']} at step {step}; the checkpoint before is whole"
                )
            bar.set_postfix(values)
            row = {"step": step, "images": step * len(batch.image), "seconds": round(time.monotonic() - started, 1)}
            _append_log(output / "log.csv", {**row, "learning_rate": group["lr"], **values})
        if step % config.checkpoint_every == 0 or step == config.steps:
            # In this order: after a kill between the two, the steps are done and exported again.
            done = {"step": step, "seconds": time.monotonic() - started, "stages": stages}
            _export(output, average, config, done)
            _checkpoint(output, model, average, optimiser, done)
    bar.close()
    return output / "model.safetensors"


def _moving_average(decay: float) -> Callable[[_Tensors, _Tensors, Tensor | int], None]:
    """Exponential average of weights and statistics; integers are copied, since their average is cut off."""
    blend = get_ema_multi_avg_fn(decay)

    def update(averaged: _Tensors, current: _Tensors, count: Tensor | int) -> None:
        if averaged[0].is_floating_point():
            blend(averaged, current, count)
        else:
            for old, new in zip(averaged, current, strict=True):
                old.copy_(new)

    return update


def _batches(dataset: SceneSamples, config: TrainConfig, first_step: int) -> Iterator[Samples]:
    numbers = range(first_step * config.scenes_per_batch, config.steps * config.scenes_per_batch)
    loader = DataLoader(
        dataset,
        batch_size=config.scenes_per_batch,
        sampler=numbers,
        num_workers=config.workers,
        collate_fn=Samples.cat,
        prefetch_factor=4 if config.workers else None,
        worker_init_fn=_one_thread,
        # A forked worker would inherit OpenCV's and OpenMP's locks as they happen to stand.
        multiprocessing_context="spawn" if config.workers else None,
    )
    return iter(loader)


def _one_thread(worker: int) -> None:
    import cv2

    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def _resume(
    output: Path, config: TrainConfig, model: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer
) -> tuple[int, float, list[dict[str, Any]]]:
    """Load the last checkpoint, if any, and cut the log back to it.

    Returns:
        Steps done, seconds spent, and the settings used so far, each with the step from which on.
    """
    path = output / "checkpoint.pt"
    if not path.is_file():
        _cut_log(output / "log.csv", 0)
        return 0, 0.0, []
    now = to_dict(config)
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        settings = state["stages"][-1]["settings"]
        backbone = to_dict(from_dict(BackboneConfig, settings["backbone"]))
        begun = {"categories": settings["categories"], "backbone": backbone}  # what the weights are, in which order
    except (RuntimeError, EOFError, LookupError, TypeError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path}: damaged: {str(error).partition(chr(10))[0] or type(error).__name__}") from error
    for name, then in begun.items():
        if now[name] != then:
            raise ValueError(f"{name}: the run in {output} has {then}, got {now[name]}")
    model.load_state_dict(state["model"])
    average.load_state_dict(state["average"])
    optimiser.load_state_dict(state["optimiser"])
    _cut_log(output / "log.csv", state["step"])
    return state["step"], state["seconds"], state["stages"]


def _checkpoint(
    output: Path, model: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer, done: dict[str, Any]
) -> None:
    """Written beside and renamed, so that a kill at any moment leaves a whole file."""
    state = {"model": model.state_dict(), "average": average.state_dict(), "optimiser": optimiser.state_dict()}
    torch.save({**state, **done}, output / "checkpoint.tmp")
    os.replace(output / "checkpoint.tmp", output / "checkpoint.pt")


def _export(output: Path, average: AveragedModel, config: TrainConfig, done: dict[str, Any]) -> None:
    model = cast(_Model, average.module)
    record = {**done, "seconds": round(done["seconds"]), "torch": torch.__version__}
    save_model(output / "model.safetensors", NeuralMeshModel(model.backbone, model.meshes, config.backbone, record))


def _cut_log(path: Path, step: int) -> None:
    """Drop the rows after a step, which will be done again, and a last row that a kill cut short."""
    if not path.is_file():
        return
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if None not in row.values() and int(row["step"]) <= step]
    rest = path.with_suffix(".tmp")
    rest.unlink(missing_ok=True)
    for row in rows:
        _append_log(rest, row)
    if rows:
        os.replace(rest, path)
    else:
        path.unlink()


def _append_log(path: Path, row: dict[str, Any]) -> None:
    new = not path.is_file()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, _LOG_FIELDS)
        if new:
            writer.writeheader()
        writer.writerow({name: _short(row[name]) for name in _LOG_FIELDS})


def _short(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value
