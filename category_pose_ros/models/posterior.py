"""What each cell may be: a vertex of one of the categories, or clutter."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from category_pose_ros.geometry import Symmetry
from category_pose_ros.models.backbone import FeatureMap
from category_pose_ros.models.checkpoint import NeuralMeshModel
from category_pose_ros.models.neural_mesh import TEMPERATURE, CategoryInfo

_NEIGHBOURHOOD = 0.16  # radius, in diagonals of the box, in which vertices count as the same place


@dataclass(frozen=True, eq=False)
class CategoryTable:
    """The neural mesh of one category, as the estimator uses it.

    Attributes:
        points: (V, 3) in units of the box.
        normals: (V, 3).
        neighbours: (V, V) 1 where two vertices are the same place, else 0.
        mirror: (V,) index of the vertex on the other side of the xz plane.
        log_size_mean, log_size_information: (3,), (3, 3), the size prior.
    """

    name: str
    symmetry: Symmetry
    points: Tensor
    normals: Tensor
    neighbours: Tensor
    mirror: Tensor
    log_size_mean: Tensor
    log_size_information: Tensor


class Posterior:
    """Compares features with the vertex memories of the loaded categories and the clutter.

    Args:
        model: trained model.
        categories: the ones to load; the others do not compete.
    """

    def __init__(self, model: NeuralMeshModel, categories: tuple[str, ...], device: torch.device) -> None:
        meshes = model.meshes
        wanted = [meshes.names.index(name) for name in categories]
        parts = [torch.nonzero(meshes.category == index).squeeze(-1) for index in wanted]
        features = meshes.vertex_features()
        table = torch.cat([*(features[part] for part in parts), meshes.clutter_features()]).detach()
        self._table = (table / TEMPERATURE).to(device)
        ends = torch.tensor([len(part) for part in parts]).cumsum(0).tolist()
        self._spans = [slice(end - len(part), end) for end, part in zip(ends, parts, strict=True)]
        self.tables = [
            _table(meshes.infos[index], meshes.points[part], meshes.normals[part], device)
            for index, part in zip(wanted, parts, strict=True)
        ]

    def category_probability(self, features: FeatureMap) -> Tensor:
        """(B, categories, h, w): the chance that a cell shows the category; the rest is clutter."""
        log_probability = self._log_probability(features.feature)
        spans = [torch.logsumexp(log_probability[:, span], dim=1) for span in self._spans]
        return torch.stack(spans, dim=1).exp()

    def vertex_probability(self, features: FeatureMap, categories: list[int]) -> list[Tensor]:
        """Per batch element (V, h, w): the chance that a cell shows a vertex of the category given for it."""
        log_probability = self._log_probability(features.feature)
        return [log_probability[row, self._spans[index]].exp() for row, index in enumerate(categories)]

    def _log_probability(self, feature: Tensor) -> Tensor:
        similarity = torch.einsum("vc,bchw->bvhw", self._table, feature)
        return similarity.log_softmax(dim=1)


def _table(info: CategoryInfo, points: Tensor, normals: Tensor, device: torch.device) -> CategoryTable:
    size = info.log_size_mean.exp()
    placed = points * (size / size.norm())
    return CategoryTable(
        info.name,
        info.symmetry,
        points.to(device),
        normals.to(device),
        (torch.cdist(placed, placed) < _NEIGHBOURHOOD).float().to(device),
        torch.cdist(points * points.new_tensor([1.0, -1.0, 1.0]), points).argmin(-1).to(device),
        info.log_size_mean.to(device),
        torch.linalg.inv(info.log_size_covariance).to(device),
    )
