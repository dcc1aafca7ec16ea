"""The model file of the neural mesh method."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from category_pose_ros.config import from_dict, to_dict
from category_pose_ros.geometry import Symmetry
from category_pose_ros.models.backbone import Backbone, BackboneConfig
from category_pose_ros.models.judge import Judge, JudgeConfig
from category_pose_ros.models.model_file import ModelFile, halved, part
from category_pose_ros.models.neural_mesh import CategoryInfo, NeuralMeshes
from category_pose_ros.models.quantization import Ranges, check_ranges
from category_pose_ros.models.score import ScoreWeights

FORMAT_VERSION = 5


@dataclass(frozen=True, eq=False)
class NeuralMeshModel:
    """A trained model.

    Attributes:
        backbone: the network.
        meshes: that it was trained with.
        config: of the backbone.
        training: how it came about.
        judge: of its answers, if any.
        ranges: of the inputs of its convolutions, if they were measured; without them it is not run in eight bits.
    """

    backbone: Backbone
    meshes: NeuralMeshes
    config: BackboneConfig
    training: dict[str, Any]
    judge: Judge | None = None
    ranges: Ranges | None = None


def save_model(path: Path, model: NeuralMeshModel) -> None:
    """Write a model file; weights are stored in half precision, the vertex tables in full."""
    meshes = model.meshes
    tensors = halved("backbone.", model.backbone.state_dict())
    tensors |= {f"meshes.{name}": value for name, value in meshes.state_dict().items()}
    categories = [
        {
            "name": info.name,
            "symmetry": info.symmetry.value,
            "log_size_mean": info.log_size_mean.tolist(),
            "log_size_covariance": info.log_size_covariance.tolist(),
            "score": asdict(info.score),
        }
        for info in meshes.infos
    ]
    header = {"backbone": to_dict(model.config), "categories": categories, "training": model.training}
    if model.judge is not None:
        header["judge"] = to_dict(model.judge.config)
        tensors |= halved("judge.", model.judge.state_dict())
    if model.ranges is not None:
        header["ranges"] = dict(model.ranges)
    _FILE.write(path, header, tensors)


def averaged(models: Sequence[NeuralMeshModel]) -> NeuralMeshModel:
    """The mean of the weights of several models, with the scores of the first (Izmailov et al. 2018).

    Without a judge and without ranges: each knows its own network alone.

    Raises:
        ValueError: they differ in network, categories or vertices, or there are none.
    """
    if not models:
        raise ValueError("models: expected at least one, got none")
    first = models[0]
    for other in models[1:]:
        same = other.config == first.config and other.meshes.names == first.meshes.names
        if not same or not torch.equal(other.meshes.points, first.meshes.points):
            raise ValueError("models: expected the same network, categories and vertices in all of them")
    backbone, meshes = Backbone(first.config), copy.deepcopy(first.meshes)
    backbone.load_state_dict(_mean([model.backbone.state_dict() for model in models]))
    meshes.load_state_dict(_mean([model.meshes.state_dict() for model in models]))
    record = {"averaged": [model.training for model in models]}
    return NeuralMeshModel(backbone.eval(), meshes.eval(), first.config, record)


def load_model(path: Path) -> NeuralMeshModel:
    """Read a model file.

    Raises:
        ValueError: the file is missing, damaged, of another format version or not one of ours.
    """
    return _FILE.read(path)


def _mean(states: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Of numbers; counters are those of the first."""
    return {
        name: torch.stack([state[name] for state in states]).mean(0) if value.is_floating_point() else value
        for name, value in states[0].items()
    }


def _assemble(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> NeuralMeshModel:
    config = from_dict(BackboneConfig, header["backbone"])
    infos = tuple(
        CategoryInfo(
            item["name"],
            Symmetry(item["symmetry"]),
            torch.tensor(item["log_size_mean"]),
            torch.tensor(item["log_size_covariance"]),
            ScoreWeights(**item["score"]),
        )
        for item in header["categories"]
    )
    backbone = Backbone(config)
    backbone.load_state_dict(part("backbone.", tensors))
    state = part("meshes.", tensors)
    _check_tables(state, len(infos), config.feature)
    meshes = NeuralMeshes(infos, config.feature, clutter_count=len(state["clutter"]))
    for name, value in state.items():  # the grids are those of the file, whatever made them
        current = getattr(meshes, name)
        setattr(meshes, name, torch.nn.Parameter(value) if isinstance(current, torch.nn.Parameter) else value)
    judge = None
    if "judge" in header:
        judge = Judge(from_dict(JudgeConfig, header["judge"]), len(infos), config.feature)
        judge.load_state_dict(part("judge.", tensors))
    ranges = None
    if "ranges" in header:
        ranges = {name: (float(low), float(high)) for name, (low, high) in header["ranges"].items()}
        check_ranges(backbone, ranges)
    return NeuralMeshModel(backbone.eval(), meshes.eval(), config, header["training"], judge and judge.eval(), ranges)


def _check_tables(state: dict[str, torch.Tensor], categories: int, feature: int) -> None:
    vertices = len(state["points"])
    shapes = {
        "points": (vertices, 3),
        "normals": (vertices, 3),
        "category": (vertices,),
        "memory": (vertices, feature),
        "clutter": (len(state["clutter"]), feature),
    }
    for name, shape in shapes.items():
        if state[name].shape != shape:
            raise ValueError(f"meshes.{name}: expected shape {shape}, got {tuple(state[name].shape)}")
    if not set(state["category"].tolist()) <= set(range(categories)):
        raise ValueError(f"meshes.category: expected numbers below {categories}")


_FILE = ModelFile(("a", "model"), "category_pose_ros", FORMAT_VERSION, _assemble)
