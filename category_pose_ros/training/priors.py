"""What a category's model knows before any image, measured on its procedural family."""

from __future__ import annotations

import numpy as np
import torch

from category_pose_ros.data.procedural import shapes
from category_pose_ros.data.procedural.scenes import FAMILIES, SYMMETRIES
from category_pose_ros.data.procedural.surfaces import TextureSource
from category_pose_ros.geometry import Symmetry
from category_pose_ros.models.neural_mesh import CategoryInfo


def category_info(name: str, instances: int = 400) -> CategoryInfo:
    """Symmetry and size prior of a category.

    Symmetric instances are measured at a random yaw, as the canonical yaw shows them.
    """
    rng = np.random.default_rng(0)
    sizes = []
    for _ in range(instances):
        instance = FAMILIES[name](rng, TextureSource())
        yaw = rng.uniform(-np.pi, np.pi) if SYMMETRIES[name] is Symmetry.AXIS_Z else 0.0
        sizes.append(np.log(instance.extent(shapes.about(2, yaw))))
    logs = np.array(sizes)
    covariance = np.cov(logs.T) + 1e-4 * np.eye(3)  # keeps the x = y of round objects invertible
    return CategoryInfo(
        name,
        SYMMETRIES[name],
        torch.tensor(logs.mean(0), dtype=torch.float32),
        torch.tensor(covariance, dtype=torch.float32),
    )
