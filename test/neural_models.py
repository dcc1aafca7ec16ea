"""A tiny neural mesh model for tests: untrained, seconds to make."""

from __future__ import annotations

import math

import torch

from category_pose_ros.geometry import Symmetry
from category_pose_ros.models.backbone import Backbone, BackboneConfig
from category_pose_ros.models.checkpoint import NeuralMeshModel
from category_pose_ros.models.neural_mesh import CategoryInfo, NeuralMeshes

TINY = BackboneConfig(width=8, pyramid=16, feature=8)


def category(name: str, symmetry: Symmetry, size_m: tuple[float, float, float]) -> CategoryInfo:
    mean = torch.tensor([math.log(value) for value in size_m])
    return CategoryInfo(name, symmetry, mean, 0.04 * torch.eye(3) + 0.02)


INFOS = (
    category("can", Symmetry.AXIS_Z, (0.07, 0.07, 0.12)),
    category("mug", Symmetry.NONE, (0.12, 0.09, 0.1)),
)


def tiny_meshes(feature: int = TINY.feature, vertex_count: int = 60) -> NeuralMeshes:
    torch.manual_seed(0)
    return NeuralMeshes(INFOS, feature, vertex_count, clutter_count=3)


def tiny_model() -> NeuralMeshModel:
    meshes = tiny_meshes()
    return NeuralMeshModel(Backbone(TINY).eval(), meshes.eval(), TINY, {"steps_done": 0, "note": "untrained"})
