"""Neural meshes: per category a cuboid with a feature vector at each vertex, and clutter features.

After Wang et al. 2021 (NeMo) and Ma et al. 2022. Where they differ from the paper, for a reason:
- The cuboid is scaled to the size of the instance (three free extents, with the category's size
  prior), so that vertex coordinates are those of the object's own tight box.
- The memory is a parameter trained by gradient with the backbone, not a moving average: both sides
  of the contrast move, which converges in far fewer images.
- Clutter is several vectors, not one mean.
- Categories with rotational symmetry have one canonical yaw, towards the camera (geometry.symmetry).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from category_pose_ros.geometry import Symmetry
from category_pose_ros.geometry.mesh import cuboid_grid
from category_pose_ros.models.score import UNCALIBRATED, ScoreWeights

TEMPERATURE = 0.07  # of the contrast, in training and at test; Ma et al. 2022, released configuration


@dataclass(frozen=True, eq=False)
class CategoryInfo:
    """What is known of a category before any image.

    Attributes:
        name: of the category.
        symmetry: about its z axis.
        log_size_mean: (3,) mean of the log extents in metres.
        log_size_covariance: (3, 3) of the log extents.
        score: what the scores of its answers mean.
    """

    name: str
    symmetry: Symmetry
    log_size_mean: Tensor
    log_size_covariance: Tensor
    score: ScoreWeights = UNCALIBRATED


class NeuralMeshes(nn.Module):
    """Vertex memories of all categories and the clutter, as one table.

    Attributes:
        points: (V, 3) vertices of all categories, each in units of its box.
        normals: (V, 3).
        category: (V,) index into `infos`.
        memory: (V, C) parameter; use `vertex_features` for unit vectors.
        clutter: (K, C) parameter; use `clutter_features`.
    """

    points: Tensor
    normals: Tensor
    category: Tensor

    def __init__(
        self, infos: tuple[CategoryInfo, ...], feature: int, vertex_count: int = 320, clutter_count: int = 12
    ) -> None:
        super().__init__()
        self.infos = infos
        grids = [cuboid_grid(np.exp(info.log_size_mean.numpy()), vertex_count) for info in infos]
        self.register_buffer("points", torch.from_numpy(np.concatenate([points for points, _ in grids])))
        self.register_buffer("normals", torch.from_numpy(np.concatenate([normals for _, normals in grids])))
        counts = torch.tensor([len(points) for points, _ in grids])
        self.register_buffer("category", torch.repeat_interleave(torch.arange(len(infos)), counts))
        self.memory = nn.Parameter(self._smooth_start(feature))
        self.clutter = nn.Parameter(functional.normalize(torch.randn(clutter_count, feature), dim=-1))

    def _smooth_start(self, feature: int) -> Tensor:
        """Random Fourier features of the vertex coordinates: neighbours start alike, far ones apart."""
        placed = torch.cat([self.points, functional.one_hot(self.category).float()], dim=-1)
        frequencies = torch.randn(placed.shape[-1], feature) * 2.0
        return functional.normalize(torch.cos(placed @ frequencies + 6.3 * torch.rand(feature)), dim=-1)

    @torch.no_grad()
    def take_over(self, other: NeuralMeshes) -> None:
        """Start from the memory of trained meshes: clutter, and categories that both know.

        Their vertices may lie elsewhere; each of ours takes the vector of the nearest.
        """
        for index, name in enumerate(self.names):
            if name not in other.names:
                continue
            mine = torch.nonzero(self.category == index).squeeze(-1)
            theirs = torch.nonzero(other.category == other.names.index(name)).squeeze(-1)
            nearest = torch.cdist(self.points[mine], other.points[theirs]).argmin(-1)
            self.memory[mine] = other.memory[theirs[nearest]]
        count = min(len(self.clutter), len(other.clutter))
        self.clutter[:count] = other.clutter[:count]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(info.name for info in self.infos)

    def vertex_features(self) -> Tensor:
        return functional.normalize(self.memory, dim=-1)

    def clutter_features(self) -> Tensor:
        return functional.normalize(self.clutter, dim=-1)
