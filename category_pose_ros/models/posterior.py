"""What each cell may be: a vertex of one of the categories, or clutter."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from category_pose_ros.geometry import Symmetry
from category_pose_ros.models.backbone import FeatureMap
from category_pose_ros.models.checkpoint import NeuralMeshModel
from category_pose_ros.models.neural_mesh import TEMPERATURE, CategoryInfo
from category_pose_ros.models.score import ScoreWeights

_NEIGHBOURHOOD = 0.16  # radius, in diagonals of the box, in which vertices count as the same place
_SHARE = 4  # where only how much of a category there is counts, one vertex in so many stands for its neighbours


@dataclass(frozen=True, eq=False)
class CategoryTable:
    """The neural mesh of one category, as the estimator uses it.

    Attributes:
        points: (V, 3) in units of the box.
        normals: (V, 3).
        neighbours: (V, V) 1 where two vertices are the same place, else 0.
        mirror: (V,) index of the vertex on the other side of the xz plane.
        log_size_mean, log_size_information: (3,), (3, 3), the size prior.
        score: what the scores of its answers mean.
    """

    name: str
    symmetry: Symmetry
    points: Tensor
    normals: Tensor
    neighbours: Tensor
    mirror: Tensor
    log_size_mean: Tensor
    log_size_information: Tensor
    score: ScoreWeights


class Posterior:
    """Compares features with the vertex memories of the loaded categories and the clutter.

    The other categories of the model compete as clutter, so that a bowl is not taken for a can where
    nobody asked for bowls.

    Args:
        model: trained model.
        categories: the ones to load.
    """

    def __init__(self, model: NeuralMeshModel, categories: tuple[str, ...], device: torch.device) -> None:
        meshes = model.meshes
        wanted = [meshes.names.index(name) for name in categories]
        parts = [torch.nonzero(meshes.category == index).squeeze(-1) for index in wanted]
        others = torch.nonzero(~torch.isin(meshes.category, torch.tensor(wanted))).squeeze(-1)
        groups = [*parts, others]
        self._places = _Contrast(model, [(part, _SHARE) for part in groups], device)
        self._vertices = [
            _Contrast(model, [(part, 1 if part is own else _SHARE) for part in groups], device) for own in parts
        ]
        self.tables = [
            _table(meshes.infos[index], meshes.points[part], meshes.normals[part], device)
            for index, part in zip(wanted, parts, strict=True)
        ]

    def category_probability(self, features: FeatureMap) -> Tensor:
        """(B, categories, h, w): the chance that a cell shows the category; the rest is clutter."""
        return torch.stack([self._categories(feature) for feature in features.feature])

    def vertex_probability(self, features: FeatureMap, categories: list[int]) -> list[Tensor]:
        """Per batch element (V, h, w): the chance that a cell shows a vertex of the category given for it."""
        return [self._of(index, feature) for index, feature in zip(categories, features.feature, strict=True)]

    def _categories(self, feature: Tensor) -> Tensor:
        weight = self._places.weights(feature)
        spans = self._places.spans[: len(self.tables)]
        return torch.stack([weight[span].sum(0) for span in spans]) / weight.sum(0)

    def _of(self, category: int, feature: Tensor) -> Tensor:
        contrast = self._vertices[category]
        weight = contrast.weights(feature)
        return weight[contrast.spans[category]] / weight.sum(0)


class _Contrast:
    """The softmax over groups of vertices, of each one in so many, and the clutter.

    Attributes:
        spans: of each group in the softmax.
    """

    def __init__(self, model: NeuralMeshModel, groups: list[tuple[Tensor, int]], device: torch.device) -> None:
        chosen = [vertices[::step] for vertices, step in groups]
        features, clutter = model.meshes.vertex_features(), model.meshes.clutter_features()
        table = torch.cat([*(features[vertices] for vertices in chosen), clutter]).detach()
        self._table = (table / TEMPERATURE).to(device)
        # A vertex counts as often as those that it stands for.
        counts = [torch.full((len(vertices),), float(step)) for vertices, (_, step) in zip(chosen, groups, strict=True)]
        self._log_count = torch.cat([*counts, torch.ones(len(clutter))]).log().view(-1, 1).to(device)
        ends = torch.tensor([len(vertices) for vertices in chosen]).cumsum(0).tolist()
        self.spans = [slice(end - len(vertices), end) for end, vertices in zip(ends, chosen, strict=True)]

    def weights(self, feature: Tensor) -> Tensor:
        """(vertices and clutter, h, w) for features (C, h, w): what each counts before they are made to sum to one.

        Features are unit vectors, so that no exponent is beyond the inverse temperature and none overflows.
        """
        similarity = torch.addmm(self._log_count, self._table, feature.flatten(1))
        return similarity.exp_().view(-1, *feature.shape[1:])


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
        info.score,
    )
