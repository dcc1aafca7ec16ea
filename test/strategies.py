"""Rotations and transforms for property tests, with the places where formulas break."""

from __future__ import annotations

import math

import torch
from hypothesis import strategies as st
from torch import Tensor

from category_pose_ros.geometry import SE3

SMALL_ANGLES = st.sampled_from([0.0, 1e-15, 1e-9, 1e-6, 9.99e-4, 1e-3, 1.01e-3, 9.99e-3, 1.01e-2])
NEAR_PI = st.sampled_from([math.pi - gap for gap in (1e-9, 1e-6, 1e-4, 1e-2)])
ANGLES = SMALL_ANGLES | NEAR_PI | st.floats(0, 3.14)


@st.composite
def directions(draw: st.DrawFn) -> Tensor:
    """Unit vectors (3,) in float64, the axes included."""
    number = st.floats(-1, 1) | st.sampled_from([-1.0, 0.0, 1.0])
    vector = torch.tensor(draw(st.tuples(number, number, number)), dtype=torch.float64)
    length = vector.norm()
    return vector / length if length > 1e-3 else torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)


@st.composite
def rotation_vectors(draw: st.DrawFn, angles: st.SearchStrategy[float] = ANGLES) -> Tensor:
    """Rotation vectors (3,) in float64 with angles from 0 to just below pi."""
    return draw(directions()) * draw(angles)


@st.composite
def points(draw: st.DrawFn) -> Tensor:
    """Points (3,) in float64 within ten metres."""
    number = st.floats(-10, 10)
    return torch.tensor(draw(st.tuples(number, number, number)), dtype=torch.float64)


@st.composite
def twists(draw: st.DrawFn, angles: st.SearchStrategy[float] = ANGLES) -> Tensor:
    """Twists (6,) in float64: translation part first."""
    return torch.cat([draw(points()), draw(rotation_vectors(angles))])


def transforms() -> st.SearchStrategy[SE3]:
    """Single transforms in float64."""
    return twists().map(SE3.exp)
