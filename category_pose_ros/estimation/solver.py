"""One solver for all terms: batched Levenberg-Marquardt with bounded steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from category_pose_ros.config import setting, validate
from category_pose_ros.estimation.state import DIMENSION, State


@dataclass(frozen=True, eq=False)
class Linearised:
    """A term around a state.

    Attributes:
        cost: (B,).
        gradient: (B, 9) of the cost by the step.
        hessian: (B, 9, 9) Gauss-Newton approximation, positive semi-definite.
    """

    cost: Tensor
    gradient: Tensor
    hessian: Tensor

    def __add__(self, other: Linearised) -> Linearised:
        return Linearised(self.cost + other.cost, self.gradient + other.gradient, self.hessian + other.hessian)

    def __getitem__(self, index: Tensor) -> Linearised:
        return Linearised(self.cost[index], self.gradient[index], self.hessian[index])


class Term(Protocol):
    """Anything that moves a pose. A term knows no other term."""

    def linearise(self, state: State) -> Linearised:
        """Cost, gradient and Gauss-Newton matrix at a state."""

    def cost(self, state: State) -> Tensor:
        """Cost (B,) alone."""


@dataclass(frozen=True)
class SolverConfig:
    """Levenberg-Marquardt."""

    iterations: int = setting(7, "Damped steps per hypothesis.", minimum=1, maximum=200)
    damping: float = setting(1e-2, "Initial damping, relative to the diagonal.", minimum=1e-9, maximum=1e3)
    max_rotation_deg: float = setting(25.0, "Bound on the rotation of one step.", minimum=0.1, maximum=180.0)
    max_log_step: float = setting(0.25, "Bound on one step of log size and of log distance.", minimum=1e-3, maximum=2.0)

    def __post_init__(self) -> None:
        validate(self)


Minimise: TypeAlias = Callable[[Sequence[Term], State, SolverConfig], tuple[State, Linearised]]


def fastest_minimise(device: torch.device) -> Minimise:
    """`minimise` for the terms of the neural mesh method, in the form that is fastest on a device.

    On a CPU it is compiled by Numba where that is installed; the first time takes seconds.
    """
    if device.type != "cpu" or find_spec("numba") is None:
        return minimise
    from category_pose_ros.estimation import compiled

    compiled.warm_up()
    return compiled.minimise


def minimise(terms: Sequence[Term], start: State, config: SolverConfig) -> tuple[State, Linearised]:
    """Minimise the sum of the terms for all hypotheses at once.

    A step is kept, per hypothesis, only where the cost fell (Marquardt 1963); elsewhere the damping
    grows and the start stays. Nothing leaves the device.

    Returns:
        The states reached and the terms linearised there.
    """
    state = start
    here = linearise(terms, state)
    damping = torch.full_like(here.cost, config.damping)
    for _ in range(config.iterations):
        step = _bounded(_solve(here, damping), state, config)
        trial = state.moved(step)
        there = linearise(terms, trial)
        better = there.cost < here.cost  # False for NaN, so a broken step is never kept
        state = trial.where(better, state)
        here = _select(better, there, here)
        damping = torch.where(better, damping * 0.3, damping * 6).clamp(1e-7, 1e6)
    return state, here


def linearise(terms: Sequence[Term], state: State) -> Linearised:
    """The sum of the terms around the states."""
    first, *rest = (term.linearise(state) for term in terms)
    for other in rest:
        first = first + other
    return first


def _solve(here: Linearised, damping: Tensor) -> Tensor:
    damped = here.hessian.clone()
    diagonal = damped.diagonal(dim1=-2, dim2=-1)
    diagonal += damping.unsqueeze(-1) * diagonal + 1e-6
    factor, failed = torch.linalg.cholesky_ex(damped)
    step = torch.cholesky_solve(here.gradient.unsqueeze(-1), factor).squeeze(-1)
    return -step.masked_fill((failed != 0).unsqueeze(-1), 0.0).nan_to_num(0.0)


def _bounded(step: Tensor, state: State, config: SolverConfig) -> Tensor:
    """Scale the whole step down where one of its parts is too long."""
    limits = step.new_tensor([config.max_log_step, config.max_rotation_deg * torch.pi / 180, config.max_log_step])
    lengths = step.unflatten(-1, (3, 3)).norm(dim=-1)  # (B, 3) of translation, rotation, log size
    lengths[:, 0] /= state.camera_from_object.translation.norm(dim=-1)
    shares = limits / lengths.clamp_min(1e-12)
    return step * shares.amin(-1, keepdim=True).clamp_max(1.0)


def _select(mask: Tensor, first: Linearised, second: Linearised) -> Linearised:
    return Linearised(
        torch.where(mask, first.cost, second.cost),
        torch.where(mask[:, None], first.gradient, second.gradient),
        torch.where(mask[:, None, None], first.hessian, second.hessian),
    )


def gauss_newton(residual: Tensor, jacobian: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient (B, 9) and matrix (B, 9, 9) of a weighted sum of squares.

    Args:
        residual: (B, N, R).
        jacobian: (B, N, R, 9).
        weight: (B, N).
    """
    batch = residual.shape[0]
    flat = jacobian.reshape(batch, -1, DIMENSION)
    weighted = (jacobian * weight[..., None, None]).reshape(batch, -1, DIMENSION)
    gradient = (weighted.transpose(-1, -2) @ residual.reshape(batch, -1, 1)).squeeze(-1)
    return gradient, weighted.transpose(-1, -2) @ flat
