"""Model files: safetensors with a JSON header. Nothing is unpickled."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from category_pose_ros.config import from_dict, to_dict
from category_pose_ros.geometry import Symmetry
from category_pose_ros.models.backbone import Backbone, BackboneConfig
from category_pose_ros.models.neural_mesh import CategoryInfo, NeuralMeshes

FORMAT_VERSION = 2


@dataclass(frozen=True, eq=False)
class NeuralMeshModel:
    """A trained model: the backbone and the neural meshes that it was trained with."""

    backbone: Backbone
    meshes: NeuralMeshes
    config: BackboneConfig
    training: dict[str, Any]


def save_model(path: Path, model: NeuralMeshModel) -> None:
    """Write a model file; weights are stored in half precision, the vertex tables in full."""
    meshes = model.meshes
    tensors = {f"backbone.{name}": value for name, value in model.backbone.state_dict().items()}
    tensors = {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}
    tensors |= {f"meshes.{name}": value for name, value in meshes.state_dict().items()}
    categories = [
        {
            "name": info.name,
            "symmetry": info.symmetry.value,
            "log_size_mean": info.log_size_mean.tolist(),
            "log_size_covariance": info.log_size_covariance.tolist(),
        }
        for info in meshes.infos
    ]
    header = {
        "format_version": FORMAT_VERSION,
        "backbone": to_dict(model.config),
        "categories": categories,
        "training": model.training,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    contiguous = {name: value.contiguous() for name, value in tensors.items()}
    save_file(contiguous, path, metadata={"category_pose_ros": json.dumps(header)})


def load_model(path: Path) -> NeuralMeshModel:
    """Read a model file.

    Raises:
        ValueError: the file is missing, damaged, of another format version or not one of ours.
    """
    if not path.is_file():
        raise ValueError(f"model: no such file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        header = json.loads(metadata["category_pose_ros"])
        version = header["format_version"]
        model = _assemble(header, tensors) if version == FORMAT_VERSION else None
    except KeyError as error:
        raise ValueError(f"model: {path} is not a model of this package, {error} is missing") from error
    except (SafetensorError, ValueError, RuntimeError, TypeError, AttributeError) as error:
        summary = str(error).splitlines()[0]
        raise ValueError(f"model: {path} is damaged: {summary}") from error
    if model is None:
        raise ValueError(f"model: {path} has format version {version}, expected {FORMAT_VERSION}")
    return model


def _assemble(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> NeuralMeshModel:
    config = from_dict(BackboneConfig, header["backbone"])
    infos = tuple(
        CategoryInfo(
            item["name"],
            Symmetry(item["symmetry"]),
            torch.tensor(item["log_size_mean"]),
            torch.tensor(item["log_size_covariance"]),
        )
        for item in header["categories"]
    )
    backbone = Backbone(config)
    backbone.load_state_dict(_part(tensors, "backbone."))
    state = _part(tensors, "meshes.")
    _check_tables(state, len(infos), config.feature)
    meshes = NeuralMeshes(infos, config.feature, clutter_count=len(state["clutter"]))
    for name, value in state.items():  # the grids are those of the file, whatever made them
        current = getattr(meshes, name)
        setattr(meshes, name, torch.nn.Parameter(value) if isinstance(current, torch.nn.Parameter) else value)
    return NeuralMeshModel(backbone.eval(), meshes.eval(), config, header["training"])


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
        if not state[name].isfinite().all():
            raise ValueError(f"meshes.{name}: expected finite values")
    if not set(state["category"].tolist()) <= set(range(categories)):
        raise ValueError(f"meshes.category: expected numbers below {categories}")


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    found = {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
    return {name: value.float() if value.is_floating_point() else value for name, value in found.items()}
