"""The solver on a CPU: the sum of all terms in one pass over each object's measurements, compiled by Numba.

A step of `solver.minimise` is some hundred small PyTorch operations, each of which costs more to start
than to do. Here each hypothesis goes through all its steps alone, in loops over plain arrays. Every
function below says in scalars what `linearise` of a term says in tensors; that is its oracle in the
tests, and what runs on a GPU or where Numba is not installed.

All in one file: Numba keeps what it compiled beside it, and looks no farther for changes. The few constants
from elsewhere (DIMENSION, FAR_M, values of Solid) are compiled in: after a change to them this file must be saved anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from category_pose_ros.estimation.solver import Linearised, SolverConfig, Term
from category_pose_ros.estimation.state import DIMENSION, State
from category_pose_ros.estimation.terms import (
    AxesTerm,
    BeliefTerm,
    CorrespondenceTerm,
    DepthTerm,
    RestingTerm,
    SizePriorTerm,
)
from category_pose_ros.geometry import SE3
from category_pose_ros.geometry.solids import FAR_M, Solid

_Array = npt.NDArray[np.float64]
_Flags = npt.NDArray[np.bool_]

_Function = TypeVar("_Function", bound=Callable[..., object])
_Kind = TypeVar("_Kind", bound=np.generic)

_CYLINDER, _VESSEL, _BOWL = int(Solid.CYLINDER), int(Solid.VESSEL), int(Solid.BOWL)  # for Numba, which knows no enums
# Sums may be taken in any order. That NaN never occurs is not assumed: a step that breaks must be seen to.
_FAST = {"reassoc", "contract", "arcp", "nsz"}


class _Correspondences(NamedTuple):
    focal: _Array
    centre: _Array
    points_box: _Array
    cells: _Array
    weight: _Array
    scale: float


class _Axes(NamedTuple):
    axes: _Array
    information: _Array


class _SizePrior(NamedTuple):
    mean: _Array
    information: _Array


class _Belief(NamedTuple):
    rotation: _Array
    translation: _Array
    log_size: _Array
    information: _Array


class _Depth(NamedTuple):
    kind: npt.NDArray[np.int64]
    shares: _Array
    absent: _Flags
    opening: _Flags
    both: _Flags
    handle: _Flags
    margin: _Array
    points_camera: _Array
    deviation_m: _Array
    weight: _Array
    scale: float


class _Resting(NamedTuple):
    normal: _Array
    offset_m: _Array
    upright: _Array
    weight: _Array
    deviation_rad: _Array
    deviation_m: _Array


class _Terms(NamedTuple):
    """One of each kind; without hypotheses where there is none."""

    correspondences: _Correspondences
    axes: _Axes
    prior: _SizePrior
    belief: _Belief
    depth: _Depth
    resting: _Resting


class _States(NamedTuple):
    rotation: _Array  # (B, 3, 3)
    translation: _Array  # (B, 3)
    log_size: _Array  # (B, 3)


class _Around(NamedTuple):
    """As `solver.Linearised`."""

    cost: _Array
    gradient: _Array
    hessian: _Array


class _Limits(NamedTuple):
    iterations: int
    damping: float
    log_step: float
    rotation_rad: float


def warm_up() -> None:
    """Compile now, or read what was compiled earlier, instead of at the first frame."""
    nothing = State(SE3(torch.zeros(0, 3, 3), torch.zeros(0, 3)), torch.zeros(0, 3))
    _minimise(_states(nothing), _packed([], 0), _Limits(0, 1.0, 1.0, 1.0), _around(0))


def minimise(terms: Sequence[Term], start: State, config: SolverConfig) -> tuple[State, Linearised]:
    """As `solver.minimise`, on the CPU, for terms of the neural mesh method, of each kind at most one.

    Raises:
        TypeError: a term is of another kind.
    """
    count = len(start.log_size)
    states, around = _states(start), _around(count)
    limits = _Limits(config.iterations, config.damping, config.max_log_step, math.radians(config.max_rotation_deg))
    _minimise(states, _packed(terms, count), limits, around)
    rotation, translation, log_size = (torch.from_numpy(array).to(start.log_size.dtype) for array in states)
    # The curvature stays as exact as it is: of what is far away the inverse of a rounded one is no covariance.
    cost, gradient, hessian = map(torch.from_numpy, around)
    return State(SE3(rotation, translation), log_size), Linearised(cost, gradient, hessian)


def _states(state: State) -> _States:
    count, pose = len(state.log_size), state.camera_from_object
    return _States(
        _array(pose.rotation, count, 3, 3),
        _array(pose.translation, count, 3),
        _array(state.log_size, count, 3),
    )


def _around(count: int) -> _Around:
    return _Around(np.empty(count), np.empty((count, DIMENSION)), np.empty((count, DIMENSION, DIMENSION)))


def _packed(terms: Sequence[Term], count: int) -> _Terms:
    by_kind = {type(term): term for term in terms}
    if len(by_kind) != len(terms):
        raise TypeError(f"terms: expected one of each kind, got {[type(term).__name__ for term in terms]}")
    packed = _Terms(
        _correspondences(cast("CorrespondenceTerm | None", by_kind.pop(CorrespondenceTerm, None)), count),
        _axes(cast("AxesTerm | None", by_kind.pop(AxesTerm, None)), count),
        _size_prior(cast("SizePriorTerm | None", by_kind.pop(SizePriorTerm, None)), count),
        _belief(cast("BeliefTerm | None", by_kind.pop(BeliefTerm, None)), count),
        _depth(cast("DepthTerm | None", by_kind.pop(DepthTerm, None)), count),
        _resting(cast("RestingTerm | None", by_kind.pop(RestingTerm, None)), count),
    )
    if by_kind:
        raise TypeError(f"terms: {[kind.__name__ for kind in by_kind]} cannot be compiled")
    return packed


def _array(tensor: Tensor, *shape: int) -> _Array:
    return _filled(tensor.numpy(), shape, np.float64)


def _flags(tensor: Tensor, *shape: int) -> _Flags:
    return _filled(tensor.numpy(), shape, np.bool_)


def _filled(values: npt.NDArray[Any], shape: tuple[int, ...], kind: type[_Kind]) -> npt.NDArray[_Kind]:
    """An array of its own: Numba would compile everything once more for one that is read only or has gaps."""
    result = np.empty(shape, kind)
    result[...] = values
    return result


def _correspondences(term: CorrespondenceTerm | None, count: int) -> _Correspondences:
    if term is None:
        flat, deep = np.empty((0, 0)), np.empty((0, 0, 0))
        return _Correspondences(flat, flat, deep, deep, flat, 1.0)
    cells = term.points_box.shape[1]
    return _Correspondences(
        _array(term.intrinsics.focal, count, 2),
        _array(term.intrinsics.centre, count, 2),
        _array(term.points_box, count, cells, 3),
        _array(term.cells, count, cells, 2),
        _array(term.weight, count, cells),
        float(term.scale),
    )


def _axes(term: AxesTerm | None, count: int) -> _Axes:
    if term is None:
        return _Axes(np.empty((0, 2, 3)), np.empty((0, 2)))
    return _Axes(_array(term.axes, count, 2, 3), _array(term.information, count, 2))


def _size_prior(term: SizePriorTerm | None, count: int) -> _SizePrior:
    if term is None:
        return _SizePrior(np.empty((0, 3)), np.empty((0, 3, 3)))
    return _SizePrior(_array(term.mean, count, 3), _array(term.information, count, 3, 3))


def _belief(term: BeliefTerm | None, count: int) -> _Belief:
    if term is None:
        return _Belief(np.empty((0, 3, 3)), np.empty((0, 3)), np.empty((0, 3)), np.empty((0, DIMENSION, DIMENSION)))
    pose = term.mean.camera_from_object
    return _Belief(
        _array(pose.rotation, count, 3, 3),
        _array(pose.translation, count, 3),
        _array(term.mean.log_size, count, 3),
        _array(term.information, count, DIMENSION, DIMENSION),
    )


def _depth(term: DepthTerm | None, count: int) -> _Depth:
    if term is None:
        kind, shares, margin = np.empty(0, np.int64), np.empty((0, 0, 0, 0)), np.empty(0)
        flat, deep = np.empty((0, 0)), np.empty((0, 0, 0))
        flags, deep_flags = np.empty((0, 0), bool), np.empty((0, 0, 0), bool)
        return _Depth(kind, shares, deep_flags, deep_flags, flags, flags, margin, deep, flat, flat, 1.0)
    solids, readings = term.solids, term.weight.shape[1]
    boxes, faces = solids.shares.shape[1:3]
    return _Depth(
        _filled(solids.kind.numpy(), (count,), np.int64),
        _array(solids.shares, count, boxes, faces, 3),
        _flags(solids.absent[:, :, 0], count, boxes, faces),
        _flags(solids.opening[:, :, 0], count, boxes, faces),
        _flags(solids.both[:, 0, 0], count, faces),
        _flags(solids.handle[:, :, 0, 0], count, boxes),
        _array(solids.margin, count),
        _array(term.points_camera, count, readings, 3),
        _array(term.deviation_m, count, readings),
        _array(term.weight, count, readings),
        float(term.scale),
    )


def _resting(term: RestingTerm | None, count: int) -> _Resting:
    if term is None:
        nothing = np.empty(0)
        return _Resting(np.empty((0, 3)), nothing, nothing, nothing, nothing, nothing)
    return _Resting(
        _array(term.normal, count, 3),
        _array(term.offset_m, count),
        _array(term.upright, count),
        _array(term.weight, count),
        _array(term.deviation_rad, count),
        _array(term.deviation_m, count),
    )


def _compiled(function: _Function) -> _Function:
    """Compiled with what calls it."""
    return cast(_Function, numba.njit(nogil=True, fastmath=_FAST)(function))


def _kept(function: _Function) -> _Function:
    """Compiled, with all that it calls, once for all processes."""
    try:
        return cast(_Function, numba.njit(cache=True, nogil=True, fastmath=_FAST)(function))
    except RuntimeError:  # there is no place to keep it
        return _compiled(function)


@_kept
def _minimise(states: _States, terms: _Terms, limits: _Limits, around: _Around) -> None:
    """Levenberg-Marquardt as `solver.minimise` does it, one hypothesis after the other, in place."""
    rows = max(2 * terms.correspondences.weight.shape[1], terms.depth.weight.shape[1])
    work = np.empty((DIMENSION + 2, rows))
    factor, step = np.empty((DIMENSION, DIMENSION)), np.empty(DIMENSION)
    here, trial = np.empty((5, 3)), np.empty((5, 3))  # rotation, translation, log size
    gradient, hessian = np.empty(DIMENSION), np.empty((DIMENSION, DIMENSION))
    for b in range(len(around.cost)):
        here[:3], here[3], here[4] = states.rotation[b], states.translation[b], states.log_size[b]
        cost = _linearise(b, here, terms, around.gradient[b], around.hessian[b], work)
        damping = limits.damping
        for _ in range(limits.iterations):
            _damped_step(around.gradient[b], around.hessian[b], damping, factor, step)
            _bound(step, here, limits)
            _move(here, step, trial)
            there = _linearise(b, trial, terms, gradient, hessian, work)
            if there < cost:  # False for NaN, so a broken step is never kept
                cost = there
                here[:] = trial
                around.gradient[b], around.hessian[b] = gradient, hessian
                damping = max(0.3 * damping, 1e-7)
            else:
                damping = min(6 * damping, 1e6)
        states.rotation[b], states.translation[b], states.log_size[b] = here[:3], here[3], here[4]
        around.cost[b] = cost


@_compiled
def _linearise(b: int, state: _Array, terms: _Terms, gradient: _Array, hessian: _Array, work: _Array) -> float:
    """Cost of hypothesis b in a state (5, 3); its gradient and its matrix, which are filled."""
    rotation, translation, log_size = state[:3], state[3], state[4]
    size = np.exp(log_size)
    gradient[:], hessian[:] = 0.0, 0.0
    cost = 0.0
    # Each fills the upper triangle.
    if len(terms.correspondences.weight) > 0:
        cost += _by_correspondences(b, rotation, translation, size, terms.correspondences, gradient, hessian, work)
    if len(terms.depth.weight) > 0:
        cost += _by_depth(b, rotation, translation, size, terms.depth, gradient, hessian, work)
    if len(terms.axes.information) > 0:
        cost += _by_axes(b, rotation, terms.axes, gradient, hessian)
    if len(terms.prior.mean) > 0:
        cost += _by_size_prior(b, log_size, terms.prior, gradient, hessian)
    if len(terms.belief.log_size) > 0:
        cost += _by_belief(b, rotation, translation, log_size, terms.belief, gradient, hessian)
    if len(terms.resting.weight) > 0:
        cost += _by_resting(b, rotation, translation, size, terms.resting, gradient, hessian)
    for i in range(DIMENSION):
        for j in range(i):
            hessian[i, j] = hessian[j, i]
    return cost


@_compiled
def _damped_step(gradient: _Array, hessian: _Array, damping: float, factor: _Array, step: _Array) -> None:
    """Minus the damped inverse of the matrix times the gradient, by Cholesky; zero where it is not positive."""
    for i in range(DIMENSION):
        for j in range(i + 1):
            total = hessian[i, j]
            if i == j:
                total += damping * total + 1e-6
            for k in range(j):
                total -= factor[i, k] * factor[j, k]
            if i > j:
                factor[i, j] = total / factor[j, j]
            elif total > 0:
                factor[i, i] = math.sqrt(total)
            else:  # NaN too
                step[:] = 0.0
                return
    for i in range(DIMENSION):
        total = -gradient[i]
        for k in range(i):
            total -= factor[i, k] * step[k]
        step[i] = total / factor[i, i]
    for i in range(DIMENSION - 1, -1, -1):
        total = step[i]
        for k in range(i + 1, DIMENSION):
            total -= factor[k, i] * step[k]
        step[i] = total / factor[i, i]


@_compiled
def _bound(step: _Array, state: _Array, limits: _Limits) -> None:
    """Scale the whole step down where one of its parts is too long, in place."""
    distance = _length(state[3])
    share = min(1.0, limits.log_step / max(_length(step[:3]) / distance, 1e-12))
    share = min(share, limits.rotation_rad / max(_length(step[3:6]), 1e-12))
    share = min(share, limits.log_step / max(_length(step[6:]), 1e-12))
    step *= share


@_compiled
def _move(state: _Array, step: _Array, moved: _Array) -> None:
    """As `State.moved`."""
    angle = _length(step[3:6])
    half = math.sin(0.5 * angle)
    sine = math.sin(angle) / angle if angle > 1e-12 else 1.0
    cosine = 2 * half * half / (angle * angle) if angle > 1e-12 else 0.5
    x, y, z = step[3], step[4], step[5]
    for column in range(3):
        a, b, c = state[0, column], state[1, column], state[2, column]
        dot = x * a + y * b + z * c
        keep = 1 - cosine * angle * angle
        moved[0, column] = keep * a + sine * (y * c - z * b) + cosine * dot * x
        moved[1, column] = keep * b + sine * (z * a - x * c) + cosine * dot * y
        moved[2, column] = keep * c + sine * (x * b - y * a) + cosine * dot * z
    for k in range(3):
        moved[3, k] = state[3, k] + step[k]
        moved[4, k] = state[4, k] + step[6 + k]


@_compiled
def _length(vector: _Array) -> float:
    return math.sqrt(vector[0] ** 2 + vector[1] ** 2 + vector[2] ** 2)


@_compiled
def _add_squares(work: _Array, count: int, gradient: _Array, hessian: _Array) -> None:
    """Add what a weighted sum of squares gives, as `solver.gauss_newton`.

    Args:
        work: rows of a Jacobian (9, count), of the residual and of the weight.
    """
    for i in range(DIMENSION):
        total = 0.0
        for n in range(count):
            total += work[i, n] * work[DIMENSION, n] * work[DIMENSION + 1, n]
        gradient[i] += total
        for j in range(i, DIMENSION):
            total = 0.0
            for n in range(count):
                total += work[i, n] * work[j, n] * work[DIMENSION + 1, n]
            hessian[i, j] += total


@_compiled
def _by_correspondences(
    b: int,
    rotation: _Array,
    translation: _Array,
    size: _Array,
    term: _Correspondences,
    gradient: _Array,
    hessian: _Array,
    work: _Array,
) -> float:
    fx, fy = term.focal[b, 0], term.focal[b, 1]
    c2, cost, count = term.scale**2, 0.0, term.weight.shape[1]
    for n in range(count):
        sx, sy, sz = (
            term.points_box[b, n, 0] * size[0],
            term.points_box[b, n, 1] * size[1],
            term.points_box[b, n, 2] * size[2],
        )
        tx = rotation[0, 0] * sx + rotation[0, 1] * sy + rotation[0, 2] * sz  # about the object's centre
        ty = rotation[1, 0] * sx + rotation[1, 1] * sy + rotation[1, 2] * sz
        tz = rotation[2, 0] * sx + rotation[2, 1] * sy + rotation[2, 2] * sz
        nearness = 1 / max(tz + translation[2], 1e-3)
        across, down = (tx + translation[0]) * nearness, (ty + translation[1]) * nearness
        u = across * fx + term.centre[b, 0] - term.cells[b, n, 0]
        v = down * fy + term.centre[b, 1] - term.cells[b, n, 1]
        squared = u * u + v * v
        share = c2 / (c2 + squared)
        cost += 0.5 * term.weight[b, n] * squared * share
        weight = term.weight[b, n] * share * share
        ax, by = fx * nearness, fy * nearness
        az, bz = -ax * across, -by * down
        for k, (x, y, z, residual) in enumerate(((ax, 0.0, az, u), (0.0, by, bz, v))):
            row = k * count + n
            work[0, row], work[1, row], work[2, row] = x, y, z
            work[3, row] = ty * z - tz * y
            work[4, row] = tz * x - tx * z
            work[5, row] = tx * y - ty * x
            work[6, row] = (x * rotation[0, 0] + y * rotation[1, 0] + z * rotation[2, 0]) * sx
            work[7, row] = (x * rotation[0, 1] + y * rotation[1, 1] + z * rotation[2, 1]) * sy
            work[8, row] = (x * rotation[0, 2] + y * rotation[1, 2] + z * rotation[2, 2]) * sz
            work[9, row], work[10, row] = residual, weight
    _add_squares(work, 2 * count, gradient, hessian)
    return cost


@_compiled
def _by_axes(b: int, rotation: _Array, term: _Axes, gradient: _Array, hessian: _Array) -> float:
    cost = 0.0
    for k in range(2):
        information, axis, seen = term.information[b, k], term.axes[b, k], rotation[:, 2 * k]
        for i in range(3):
            j, m = (i + 1) % 3, (i + 2) % 3
            cost += 0.5 * information * (seen[i] - axis[i]) ** 2
            gradient[3 + i] += information * (axis[j] * seen[m] - axis[m] * seen[j])
            hessian[3 + i, 3 + i] += information
            for n in range(i, 3):
                hessian[3 + i, 3 + n] -= information * seen[i] * seen[n]
    return cost


@_compiled
def _by_size_prior(b: int, log_size: _Array, term: _SizePrior, gradient: _Array, hessian: _Array) -> float:
    cost = 0.0
    for i in range(3):
        pull = 0.0
        for j in range(3):
            pull += term.information[b, i, j] * (log_size[j] - term.mean[b, j])
            hessian[6 + i, 6 + j] += term.information[b, i, j]
        gradient[6 + i] += pull
        cost += 0.5 * pull * (log_size[i] - term.mean[b, i])
    return cost


@_compiled
def _by_belief(
    b: int,
    rotation: _Array,
    translation: _Array,
    log_size: _Array,
    term: _Belief,
    gradient: _Array,
    hessian: _Array,
) -> float:
    mean = term.rotation[b]
    step, jacobian = np.zeros(DIMENSION), np.eye(DIMENSION)
    trace = 0.0
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        step[i], step[6 + i] = translation[i] - term.translation[b, i], log_size[i] - term.log_size[b, i]
        for column in range(3):
            step[3 + i] += 0.5 * (mean[j, column] * rotation[k, column] - mean[k, column] * rotation[j, column])
            trace += mean[i, column] * rotation[i, column]
    for i in range(3):
        for j in range(3):
            turn = 0.0
            for k in range(3):
                turn += rotation[i, k] * mean[j, k]
            jacobian[3 + i, 3 + j] = 0.5 * ((trace if i == j else 0.0) - turn)
    cost = 0.0
    for i in range(DIMENSION):
        pulled = 0.0
        for k in range(DIMENSION):
            pulled += term.information[b, i, k] * step[k]
        cost += 0.5 * step[i] * pulled
    pull = np.zeros((DIMENSION, DIMENSION))
    for i in range(DIMENSION):
        for j in range(DIMENSION):
            for k in range(DIMENSION):
                pull[i, j] += jacobian[k, i] * term.information[b, k, j]
    for i in range(DIMENSION):
        for k in range(DIMENSION):
            gradient[i] += pull[i, k] * step[k]
        for j in range(i, DIMENSION):
            for k in range(DIMENSION):
                hessian[i, j] += pull[i, k] * jacobian[k, j]
    return cost


@_compiled
def _by_resting(
    b: int,
    rotation: _Array,
    translation: _Array,
    size: _Array,
    term: _Resting,
    gradient: _Array,
    hessian: _Array,
) -> float:
    weight = term.weight[b]
    if weight == 0:
        return 0.0
    normal, upright, deviation = term.normal[b], term.upright[b], term.deviation_rad[b]
    work = np.zeros((DIMENSION + 2, 4))
    axis = rotation[:, 2]
    along = normal[0] * axis[0] + normal[1] * axis[1] + normal[2] * axis[2]
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        if upright == 0:  # lies: only what of its axis is along the normal counts
            work[DIMENSION, i] = along * normal[i] / deviation
            for m in range(3):
                n, o = (m + 1) % 3, (m + 2) % 3
                work[3 + m, i] = normal[i] * (axis[n] * normal[o] - axis[o] * normal[n]) / deviation
        else:
            work[DIMENSION, i] = (axis[i] - upright * normal[i]) / deviation
            work[3 + j, i], work[3 + k, i] = axis[k] / deviation, -axis[j] / deviation
    scaled, lever = np.zeros(3), np.zeros(3)
    squared, gap = 0.0, term.offset_m[b]
    for i in range(3):
        for k in range(3):
            scaled[i] += rotation[k, i] * normal[k] * size[i]
        squared += scaled[i] ** 2
        gap += normal[i] * translation[i]
    reach = 0.5 * max(math.sqrt(squared), 1e-9)
    for i in range(3):
        for k in range(3):
            lever[i] += rotation[i, k] * scaled[k] * size[k] / (4 * reach)
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        work[i, 3] = normal[i] / term.deviation_m[b]
        work[3 + i, 3] = -(lever[j] * normal[k] - lever[k] * normal[j]) / term.deviation_m[b]
        work[6 + i, 3] = -(scaled[i] ** 2) / (4 * reach) / term.deviation_m[b]
    work[DIMENSION, 3] = (gap - reach) / term.deviation_m[b]
    work[DIMENSION + 1] = weight
    _add_squares(work, 4, gradient, hessian)
    cost = 0.0
    for k in range(4):
        cost += 0.5 * weight * work[DIMENSION, k] ** 2
    return cost


@_compiled
def _by_depth(
    b: int,
    rotation: _Array,
    translation: _Array,
    size: _Array,
    term: _Depth,
    gradient: _Array,
    hessian: _Array,
    work: _Array,
) -> float:
    eye = np.zeros(3)  # the camera in the object frame
    for i in range(3):
        for k in range(3):
            eye[i] -= rotation[k, i] * translation[k]
    inside = term.kind[b] in (_VESSEL, _BOWL) and eye[2] > 0.5 * size[2]  # the camera looks into an open top
    margin_m = term.margin[b] * _length(size)
    planes, seen = _faces(b, size, eye, inside, term)
    point, by_point, by_log_size = np.empty(3), np.empty(3), np.empty(3)
    c2, cost, count = term.scale**2, 0.0, term.weight.shape[1]
    for n in range(count):
        arm_x = term.points_camera[b, n, 0] - translation[0]
        arm_y = term.points_camera[b, n, 1] - translation[1]
        arm_z = term.points_camera[b, n, 2] - translation[2]
        for i in range(3):
            point[i] = rotation[0, i] * arm_x + rotation[1, i] * arm_y + rotation[2, i] * arm_z
        nearness = 1 / term.deviation_m[b, n]
        residual = nearness * _signed_distance(
            b, size, point, eye, inside, margin_m, planes, seen, term, by_point, by_log_size
        )
        squared = residual * residual
        share = c2 / (c2 + squared)
        cost += 0.5 * term.weight[b, n] * squared * share
        x = rotation[0, 0] * by_point[0] + rotation[0, 1] * by_point[1] + rotation[0, 2] * by_point[2]
        y = rotation[1, 0] * by_point[0] + rotation[1, 1] * by_point[1] + rotation[1, 2] * by_point[2]
        z = rotation[2, 0] * by_point[0] + rotation[2, 1] * by_point[1] + rotation[2, 2] * by_point[2]
        work[0, n], work[1, n], work[2, n] = -nearness * x, -nearness * y, -nearness * z
        work[3, n] = nearness * (y * arm_z - z * arm_y)
        work[4, n] = nearness * (z * arm_x - x * arm_z)
        work[5, n] = nearness * (x * arm_y - y * arm_x)
        for i in range(3):
            work[6 + i, n] = nearness * by_log_size[i]
        work[DIMENSION, n], work[DIMENSION + 1, n] = residual, term.weight[b, n] * share * share
    _add_squares(work, count, gradient, hessian)
    return cost


@_compiled
def _faces(b: int, size: _Array, eye: _Array, inside: bool, term: _Depth) -> tuple[_Array, _Flags]:
    """Distance (K, F) of each flat face from the centre of the box, and whether it is seen."""
    boxes, faces = term.absent.shape[1], term.absent.shape[2]
    planes, seen = np.zeros((boxes, faces)), np.empty((boxes, faces), np.bool_)
    for k in range(boxes):
        for f in range(faces):
            for i in range(3):
                planes[k, f] += term.shares[b, k, f, i] * size[i]
            towards = -eye[f] if f < 3 else eye[f - 3]
            seen[k, f] = towards > planes[k, f] or term.both[b, f] or (inside and not term.handle[b, k])
    return planes, seen


@_compiled
def _signed_distance(
    b: int,
    size: _Array,
    point: _Array,
    eye: _Array,
    inside: bool,
    margin_m: float,
    planes: _Array,
    seen: _Flags,
    term: _Depth,
    by_point: _Array,
    by_log_size: _Array,
) -> float:
    """As `geometry.solids.signed_distance` of one point; fills its derivatives."""
    kind = term.kind[b]
    side, is_round = 0.0, kind in (_CYLINDER, _VESSEL, _BOWL)
    if is_round:
        side = _round_side(kind, size, point, eye, inside, margin_m, by_point, by_log_size)
    nearest, is_side, nearest_box, nearest_face = 3 * FAR_M, False, 0, 0
    for k in range(len(planes)):
        flat, face = -3 * FAR_M, 0
        for f in range(planes.shape[1]):
            away = (-point[f] if f < 3 else point[f - 3]) - planes[k, f]
            distance = away
            if not seen[k, f]:
                distance = FAR_M if away > margin_m else -FAR_M
            if term.absent[b, k, f] or (term.opening[b, k, f] and away < 0):
                distance = -FAR_M
            if distance > flat:
                flat, face = distance, f
        sideways = is_round and not term.handle[b, k] and side > flat
        if sideways:
            flat = side
        if flat < nearest:  # of two boxes the nearer counts
            nearest, is_side, nearest_box, nearest_face = flat, sideways, k, face
    if not is_side:
        for i in range(3):
            by_point[i] = 0.0
            by_log_size[i] = -term.shares[b, nearest_box, nearest_face, i] * size[i]
        by_point[nearest_face % 3] = -1.0 if nearest_face < 3 else 1.0
    return nearest


@_compiled
def _round_side(
    kind: int,
    size: _Array,
    point: _Array,
    eye: _Array,
    inside: bool,
    margin_m: float,
    by_point: _Array,
    by_log_size: _Array,
) -> float:
    """Distance to the round side, and its derivatives."""
    shift = 0.5 * (size[1] - size[0]) if kind == _VESSEL else 0.0  # of its axis along x
    half_x, half_y, half_z = 0.5 * (size[1] if kind == _VESSEL else size[0]), 0.5 * size[1], 0.5 * size[2]
    x, y, z = (point[0] - shift) / half_x, point[1] / half_y, 0.0
    eye_x, eye_y, eye_z = (eye[0] - shift) / half_x, eye[1] / half_y, 0.0
    if kind == _BOWL:
        z, eye_z = 0.5 * (point[2] / half_z - 1), 0.5 * (eye[2] / half_z - 1)
    rho = max(math.sqrt(x * x + y * y + z * z), 1e-6)
    mean = math.sqrt(half_x * half_y)
    distance = (rho - 1) * mean
    by_point[0] = mean * x / (half_x * rho)
    by_point[1] = mean * y / (half_y * rho)
    by_point[2] = mean * z / (2 * half_z * rho)
    by_x = 0.5 * distance - by_point[0] * (point[0] - shift)
    by_y = 0.5 * distance - by_point[1] * point[1]
    by_log_size[0], by_log_size[1], by_log_size[2] = by_x, by_y, -by_point[2] * point[2]
    if kind == _VESSEL:  # as deep as wide, and it moves along x as the box grows around it
        by_log_size[0] = 0.5 * by_point[0] * size[0]
        by_log_size[1] = by_x + by_y - 0.5 * by_point[0] * size[1]
    if x * eye_x + y * eye_y + z * eye_z > rho or inside:
        return distance
    return FAR_M if distance > margin_m else -FAR_M
