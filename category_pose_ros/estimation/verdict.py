"""Answers laid over what their crops show, for the judge of `models.judge`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from category_pose_ros.estimation.evidence import Evidence, grid_cells
from category_pose_ros.estimation.state import Intrinsics, State
from category_pose_ros.geometry.box import enter_box
from category_pose_ros.geometry.rotations import line_of_sight

_FEATURE_SCALE = 3.0  # unit vectors of fifty numbers would be small beside the other channels
_CHANCES = ("presence", "inside")
_FARTHEST = 3.0  # in diagonals, and in logarithms; votes farther off say no more


def lay_over(evidence: Sequence[Evidence], answers: State) -> Tensor:
    """What the judge sees of answers: (B, LAID_CHANNELS + C, h, w), one per crop.

    Of each cell: whether its ray meets the answer's box, and where it enters, in units of the box (3);
    the chance that it shows the place of the mesh nearest to that, the object, and the image at all;
    its votes against the answer: centre (2) in diagonals, log diagonal, the agreement of both axes (2),
    log proportions (3); and its features.

    Args:
        evidence: of B crops.
        answers: (B,).
    """
    optics = Intrinsics.cat([item.intrinsics for item in evidence])
    height, width = evidence[0].presence.shape
    cells = grid_cells(height, width).to(optics.focal.device)  # (N, 2)
    focal, principal = optics.focal.unsqueeze(1), optics.centre.unsqueeze(1)
    rays = functional.pad((cells - principal) / focal, (0, 1), value=1.0)  # (B, N, 3)
    poses, size_m = answers.camera_from_object, answers.size_m
    point, meets = enter_box(poses, size_m, rays)  # (B, N, 3), (B, N)
    shown = torch.stack([_shown(*each) for each in zip(evidence, point, size_m, meets, strict=True)])

    def stack(name: str) -> Tensor:
        """What the network says about the cells, (B, ..., N)."""
        return torch.stack([getattr(item.said, name) for item in evidence]).flatten(-2)

    diagonal = optics.focal[:, 0] * size_m.norm(dim=-1) / poses.translation[:, 2].clamp_min(1e-3)  # (B,) cells
    centre = optics.project(poses.translation.unsqueeze(1))  # (B, 1, 2)
    aside = (stack("centre") + (cells - centre).transpose(1, 2)) / diagonal[:, None, None]
    larger = stack("log_diagonal") - diagonal.log().unsqueeze(-1)
    turned = line_of_sight(poses.translation).transpose(-1, -2) @ poses.rotation
    agreement = (stack("axes") * turned[..., [0, 2]].transpose(-1, -2).unsqueeze(-1)).sum(2)  # (B, 2, N)
    longer = stack("log_shape") - (size_m / size_m.norm(dim=-1, keepdim=True)).log().unsqueeze(-1)
    presence, inside = (torch.stack([getattr(item, name) for item in evidence]).flatten(1) for name in _CHANCES)
    channels = [
        torch.stack([meets.float(), shown, presence, inside.float()], 1),
        (point * meets.unsqueeze(-1)).transpose(1, 2),
        aside.clamp(-_FARTHEST, _FARTHEST),
        larger.clamp(-_FARTHEST, _FARTHEST).unsqueeze(1),
        agreement,
        longer,
        _FEATURE_SCALE * stack("feature"),
    ]
    return torch.cat(channels, 1).unflatten(-1, (height, width))


def _shown(evidence: Evidence, point: Tensor, size_m: Tensor, meets: Tensor) -> Tensor:
    """Chance (N,) that each cell shows the place of the mesh nearest to its point of the box (N, 3); 0 beside it."""
    vertices = evidence.table.points * size_m
    away = vertices.square().sum(-1) - 2 * (point[meets] * size_m) @ vertices.T  # (n, V), less the square of the point
    here = evidence.shown.flatten(1)[:, meets].T
    shown = meets.float()
    shown[meets] = (evidence.table.neighbours[away.argmin(-1)] * here).sum(-1)
    return shown
