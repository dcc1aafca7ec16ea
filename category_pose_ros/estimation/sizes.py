"""Sizes that a user knows better than the model: of the mugs in this kitchen, of the cars in this street."""

from __future__ import annotations

import copy
import dataclasses
import math
import re
from collections.abc import Sequence

import torch

from category_pose_ros.models.checkpoint import NeuralMeshModel
from category_pose_ros.models.neural_mesh import CategoryInfo

_FORM = re.compile(r"(?P<category>[^=]+)=(?P<size>[^x~]+x[^x~]+x[^x~]+)(~(?P<deviation>[^~]+))?")


@dataclasses.dataclass(frozen=True)
class TypicalSize:
    """Of the instances of a category that there are where the robot is.

    Attributes:
        size_m: extents along x, y, z of the object frame, metres.
        deviation: of the log of an extent; None: as the model has it.
    """

    size_m: tuple[float, float, float]
    deviation: float | None = None


def typical_sizes(texts: Sequence[str]) -> dict[str, TypicalSize]:
    """Sizes by category, from `CATEGORY=XxYxZ` or `CATEGORY=XxYxZ~DEVIATION`.

    Raises:
        ValueError: a text of another form, or a number that is not positive and finite.
    """
    found = {}
    for text in texts:
        try:
            parts = _FORM.fullmatch(text)
            if parts is None:
                raise ValueError
            x, y, z = (_positive(number) for number in parts["size"].split("x"))
            deviation = None if parts["deviation"] is None else _positive(parts["deviation"])
        except ValueError:
            raise ValueError(
                f"sizes: expected CATEGORY=XxYxZ or CATEGORY=XxYxZ~DEVIATION with positive numbers, got {text!r}"
            ) from None
        found[parts["category"]] = TypicalSize((x, y, z), deviation)
    return found


def with_sizes(model: NeuralMeshModel, sizes: Sequence[str]) -> NeuralMeshModel:
    """The model with other size priors.

    Args:
        sizes: as `typical_sizes` reads them.

    Raises:
        ValueError: as `typical_sizes`, or a category that the model does not know.
    """
    known = typical_sizes(sizes)
    for name in known:
        if name not in model.meshes.names:
            raise ValueError(f"sizes: expected categories among {', '.join(model.meshes.names)}, got {name!r}")
    meshes = copy.copy(model.meshes)  # shares its weights with the model
    meshes.infos = tuple(_with_size(info, known.get(info.name)) for info in meshes.infos)
    return dataclasses.replace(model, meshes=meshes)


def _with_size(info: CategoryInfo, size: TypicalSize | None) -> CategoryInfo:
    if size is None:
        return info
    covariance = info.log_size_covariance
    if size.deviation is not None:  # of the same shape: what is tall is also wide
        covariance = covariance * size.deviation**2 / covariance.diagonal().mean()
    mean = torch.tensor(size.size_m).log().to(info.log_size_mean)
    return dataclasses.replace(info, log_size_mean=mean, log_size_covariance=covariance)


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError
    return value
