"""Even samplings of rotations and axes: rotations indeed, and without holes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from category_pose_ros.geometry import so3
from category_pose_ros.geometry.rotations import fibonacci_axes, super_fibonacci


def random_rotations(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return so3.from_quaternion_wxyz(torch.randn(count, 4, generator=generator))


def largest_gap_deg(grid: Tensor, probes: Tensor) -> float:
    """Angle from the loneliest probe to its nearest grid rotation."""
    trace = torch.einsum("nij,mij->nm", probes, grid)
    return math.degrees(float(((trace.amax(1) - 1) / 2).clamp(-1, 1).acos().max()))


@pytest.mark.parametrize("sampling", [super_fibonacci, fibonacci_axes])
@pytest.mark.parametrize("count", [1, 7, 300])
def test_they_are_rotations(sampling: object, count: int) -> None:
    assert callable(sampling)
    rotations = sampling(count)
    assert rotations.shape == (count, 3, 3)
    assert_close(rotations @ rotations.transpose(-1, -2), torch.eye(3).expand(count, 3, 3), atol=1e-5, rtol=0)
    assert_close(torch.linalg.det(rotations), torch.ones(count), atol=1e-5, rtol=0)


# Disjoint balls of 16.6 and 10.6 degrees would fill the space of rotations, and balls must overlap.
@pytest.mark.parametrize(("count", "limit_deg"), [(768, 26.0), (3000, 16.5)])
def test_no_rotation_is_far_from_the_grid(count: int, limit_deg: float) -> None:
    assert largest_gap_deg(super_fibonacci(count), random_rotations(20000)) < limit_deg


def test_rotations_are_spread_evenly() -> None:
    """An even spread has mean zero: the columns of the rotations cancel out."""
    assert super_fibonacci(2000).mean(0).abs().max() < 0.01


@pytest.mark.parametrize(("count", "limit_deg"), [(128, 14.0), (1000, 5.0)])
def test_no_direction_is_far_from_an_axis(count: int, limit_deg: float) -> None:
    probes = random_rotations(20000)[:, :, 2]
    cosine = (probes @ fibonacci_axes(count)[:, :, 2].T).amax(1)
    assert math.degrees(float(cosine.clamp(-1, 1).acos().max())) < limit_deg


def test_axes_cover_both_poles() -> None:
    z = fibonacci_axes(200)[:, 2, 2]
    assert z.max() > 0.99
    assert z.min() < -0.99
