"""Losses of the neural mesh model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from category_pose_ros.data.samples import BACKGROUND, Samples
from category_pose_ros.geometry import Symmetry
from category_pose_ros.models.backbone import FeatureMap
from category_pose_ros.models.neural_mesh import TEMPERATURE, NeuralMeshes

BACKGROUND_STEP = 3  # every third background cell is enough: they are many and alike


@dataclass(frozen=True, eq=False)
class Losses:
    """Scalars; `total` is what is minimised, the rest is for the log."""

    total: Tensor
    object: Tensor
    clutter: Tensor
    centre: Tensor
    diagonal: Tensor
    axes: Tensor
    shape: Tensor


def neural_mesh_loss(output: FeatureMap, meshes: NeuralMeshes, target: Samples, spread: float = 0.09) -> Losses:
    """Contrast of every cell against all vertices of all categories and the clutter.

    A cell on an object is drawn to the vertices around the point where its ray enters the object's
    box, with Gaussian weights, so that features vary smoothly over the surface; a cell on the
    background to any of the clutter features; of an UNKNOWN one nothing is asked. It is the
    cross-entropy that the authors' code uses for equation 4 of Ma et al. 2022, asked of cells
    instead of vertices, so that no vertex is trained on what it does not see.

    Args:
        spread: standard deviation of the weights, in diagonals of the box.
    """
    feature = output.feature.permute(0, 2, 3, 1).flatten(0, 2)  # (B * S * S, C)
    category, point = target.category.flatten(), target.box_point.flatten(0, 2)
    table = torch.cat([meshes.vertex_features(), meshes.clutter_features()])
    vertices, on_object = len(meshes.points), torch.nonzero(category >= 0).squeeze(-1)
    background = torch.nonzero(category == BACKGROUND).squeeze(-1)[::BACKGROUND_STEP]

    log_probability = functional.log_softmax(feature[on_object] @ table.T / TEMPERATURE, dim=-1)  # (M, V + K)
    weights = vertex_weights(meshes, category[on_object], point[on_object], spread)  # (M, V)
    object_loss = -_mean((weights * log_probability[:, :vertices]).sum(-1))
    log_background = functional.log_softmax(feature[background] @ table.T / TEMPERATURE, dim=-1)
    clutter_loss = -_mean(torch.logsumexp(log_background[:, vertices:], dim=-1))

    centre = output.centre.permute(0, 2, 3, 1).flatten(0, 2)[on_object]
    size = target.log_diagonal.flatten()[on_object].exp().unsqueeze(-1)
    centre_loss = _mean(((centre - target.centre.flatten(0, 2)[on_object]) / size).abs())
    diagonal = output.log_diagonal.flatten()[on_object]
    diagonal_loss = _mean((diagonal - target.log_diagonal.flatten()[on_object]).abs())
    axes = output.axes.permute(0, 3, 4, 1, 2).flatten(0, 2)[on_object]  # (M, 2, 3)
    missed = (axes - target.axes.flatten(0, 2)[on_object]).square().sum(-1)
    # The x axis of a symmetric category follows from its z axis and says nothing of its own.
    has_yaw = torch.tensor([info.symmetry is Symmetry.NONE for info in meshes.infos], device=missed.device)
    axes_loss = _mean(missed[:, 1]) + _mean(missed[:, 0] * has_yaw[category[on_object]])
    shape = output.log_shape.permute(0, 2, 3, 1).flatten(0, 2)[on_object]
    shape_loss = _mean((shape - target.log_shape.flatten(0, 2)[on_object]).abs())
    total = object_loss + clutter_loss + 2 * centre_loss + diagonal_loss + 2 * axes_loss + shape_loss
    return Losses(total, object_loss, clutter_loss, centre_loss, diagonal_loss, axes_loss, shape_loss)


def _mean(values: Tensor) -> Tensor:
    """The mean, 0 of nothing: a small batch may hold no object, or no background."""
    return values.mean() if values.numel() else values.sum()


def vertex_weights(meshes: NeuralMeshes, category: Tensor, point: Tensor, spread: float) -> Tensor:
    """Soft targets: Gaussian weights over the vertices of the right category.

    Args:
        category: (M,) index.
        point: (M, 3) in units of the box.

    Returns:
        (M, V), each row sums to one.
    """
    sizes = torch.stack([info.log_size_mean for info in meshes.infos]).exp().to(point)
    sizes = sizes / sizes.norm(dim=-1, keepdim=True)  # (categories, 3), diagonal one
    vertices = meshes.points * sizes[meshes.category]
    squared = torch.cdist(point * sizes[category], vertices).square()
    logits = -squared / (2 * spread**2)
    return logits.masked_fill(meshes.category != category.unsqueeze(-1), -torch.inf).softmax(-1)
