"""Cuboids seen by a camera, with exact correspondences: the solver's oracle."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from category_pose_ros.estimation.state import Intrinsics, State
from category_pose_ros.geometry import SE3, so3
from category_pose_ros.geometry.box import enter_box

SIZE = torch.tensor([0.12, 0.09, 0.16], dtype=torch.float64)
CELLS = 24


def intrinsics(batch: int = 1) -> Intrinsics:
    focal = torch.tensor([[90.0, 88.0]], dtype=torch.float64)
    centre = torch.tensor([[11.0, 12.5]], dtype=torch.float64)
    return Intrinsics(focal.expand(batch, 2), centre.expand(batch, 2))


def truth(seed: int = 0, batch: int = 1) -> State:
    """Cuboids near the optical axis, turned anyhow."""
    rng = np.random.default_rng(seed)
    rotation = so3.exp(torch.from_numpy(rng.normal(0, 1, (batch, 3))))
    translation = torch.from_numpy(rng.uniform([-0.02, -0.02, 0.75], [0.02, 0.02, 0.95], (batch, 3)))
    return State(SE3(rotation, translation), SIZE.log().expand(batch, 3))


def correspondences(state: State, optics: Intrinsics) -> tuple[Tensor, Tensor, Tensor]:
    """What every cell of a rendered cuboid sees.

    Returns:
        Points (B, N, 3) in units of the box, cells (N, 2), and whether they are on it, (B, N).
    """
    rows, columns = torch.meshgrid(torch.arange(CELLS), torch.arange(CELLS), indexing="ij")
    cells = torch.stack([columns, rows], -1).flatten(0, 1).double()
    rays = torch.cat([(cells - optics.centre[0]) / optics.focal[0], torch.ones(len(cells), 1).double()], -1)
    poses = state.camera_from_object
    seen = [enter_box(poses[k], state.size_m[k], rays) for k in range(len(state.log_size))]
    return torch.stack([points for points, _ in seen]), cells, torch.stack([hit for _, hit in seen]).double()


def perturbed(
    state: State, seed: int, rotation_deg: float = 20.0, shift_m: float = 0.02, log_size: float = 0.15
) -> State:
    rng = np.random.default_rng(seed)
    step = rng.normal(0, 1, (len(state.log_size), 9))
    lengths = (shift_m, np.radians(rotation_deg), log_size)
    for k, length in enumerate(lengths):
        part = step[:, 3 * k : 3 * k + 3]
        part *= length / np.linalg.norm(part, axis=1, keepdims=True)
    return state.moved(torch.from_numpy(step))


def errors(found: State, expected: State) -> tuple[float, float, float]:
    """Largest angle in degrees, distance in metres, and error of the log size."""
    first, second = found.camera_from_object, expected.camera_from_object
    angle = so3.angle_between(first.rotation, second.rotation).max()
    distance = (first.translation - second.translation).norm(dim=-1).max()
    return float(angle.rad2deg()), float(distance), float((found.log_size - expected.log_size).abs().max())
