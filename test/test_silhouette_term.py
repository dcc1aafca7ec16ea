"""The silhouette term: derivative, convergence, occlusion."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from category_pose_ros.data.procedural import shapes
from category_pose_ros.data.procedural.cars import make_car
from category_pose_ros.data.procedural.shapes import merge
from category_pose_ros.data.procedural.surfaces import TextureSource
from category_pose_ros.estimation.solver import SolverConfig, minimise
from category_pose_ros.estimation.state import Intrinsics, State
from category_pose_ros.estimation.terms import SilhouetteTerm, SizePriorTerm
from category_pose_ros.geometry import SE3, Camera, so3
from category_pose_ros.rendering.rasterizer import rasterize
from category_pose_ros.rendering.surface import Surface, simplified

CAMERA = Camera(fx=70.0, fy=70.0, cx=31.5, cy=31.5, width=64, height=64)
SIZE = torch.tensor([[4.4, 1.8, 1.5]])


def car(seed: int = 0) -> Surface:
    instance = make_car(np.random.default_rng(seed), TextureSource())
    mesh = merge([part for part, _ in instance.parts])
    return Surface.from_triangles(*simplified(mesh.vertices / instance.size_m, mesh.faces, 24))


def standing(yaw: float, x: float = 0.2, depth: float = 7.0) -> State:
    """A car on a road ahead, seen from 1.5 m above it."""
    upright = torch.stack([torch.tensor([1.0, 0, 0]), torch.tensor([0, 0, 1.0]), torch.tensor([0, -1.0, 0])], 1)
    rotation = so3.exp(torch.tensor([0.12, 0, 0])) @ upright @ so3.exp(torch.tensor([0, 0, yaw]))
    return State(SE3(rotation[None], torch.tensor([[x, 0.7, depth]])), SIZE.log())


def intrinsics(camera: Camera = CAMERA) -> Intrinsics:
    return Intrinsics(torch.tensor([[camera.fx, camera.fy]]), torch.tensor([[camera.cx, camera.cy]]))


def mask_of(surface: Surface, state: State) -> Tensor:
    return rasterize(surface.scaled(state.size_m), state.camera_from_object, CAMERA).covered.float()


def overlap(surface: Surface, state: State, mask: Tensor) -> float:
    """Intersection over union of a silhouette and a mask."""
    covered = mask_of(surface, state)
    return float((covered * mask).sum() / torch.maximum(covered, mask).sum())


def term_for(surface: Surface, mask: Tensor, weight: Tensor | None = None, softness_px: float = 2.0) -> SilhouetteTerm:
    return SilhouetteTerm(surface, intrinsics(), mask, torch.ones_like(mask) if weight is None else weight, softness_px)


def prior() -> SizePriorTerm:
    return SizePriorTerm(SIZE.log(), 1e4 * torch.eye(3)[None])


def error(found: State, truth: State) -> tuple[float, float]:
    """Degrees, and metres."""
    turn = so3.angle_between(found.camera_from_object.rotation, truth.camera_from_object.rotation)
    away = found.camera_from_object.translation - truth.camera_from_object.translation
    return math.degrees(float(turn)), float(away.norm())


def test_the_gradient_is_that_of_finite_differences_and_the_matrix_that_of_its_residuals() -> None:
    surface, truth = car().to(torch.float64), standing(0.8)
    state = State(SE3(truth.camera_from_object.rotation.double(), truth.camera_from_object.translation.double()),
                  truth.log_size.double())  # fmt: skip
    mask = mask_of(car(), standing(0.6, 0.4, 7.5)).double()
    weight = torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    where = Intrinsics(intrinsics().focal.double(), intrinsics().centre.double())
    term = SilhouetteTerm(surface, where, mask, weight, 1.0)
    here = term.linearise(state)
    torch.testing.assert_close(term.cost(state), here.cost)
    for axis in range(9):
        step = torch.zeros(1, 9, dtype=torch.float64)
        step[0, axis] = 1e-6
        difference = (term.cost(state.moved(step)) - term.cost(state.moved(-step))) / 2e-6
        torch.testing.assert_close(
            here.gradient[:, axis], difference, rtol=2e-2, atol=0.01 * float(here.gradient.abs().max())
        )
    assert (torch.linalg.eigvalsh(here.hessian) > -1e-6 * here.hessian.abs().max()).all()


@pytest.mark.parametrize("yaw", [0.5, 1.9, 3.6, -0.6])
def test_the_solver_finds_a_perturbed_pose_from_the_silhouette_alone(yaw: float) -> None:
    surface, truth = car(), standing(yaw)
    term = term_for(surface, mask_of(surface, truth))
    start = truth.moved(torch.tensor([[0.5, -0.2, 0.6, 0.05, 0.2, -0.05, 0, 0, 0]]))
    found, _ = minimise([term, prior()], start, SolverConfig(iterations=25))
    found, _ = minimise([replace(term, softness_px=0.7), prior()], found, SolverConfig(iterations=10))
    degrees, metres = error(found, truth)
    assert overlap(surface, found, term.mask) > 0.97
    assert degrees < 3
    assert metres < 0.15


def test_a_silhouette_beside_its_mask_is_drawn_onto_it() -> None:
    surface, truth = car(), standing(0.7)
    term = term_for(surface, mask_of(surface, truth))
    start = truth.moved(torch.tensor([[3.0, 0, 0, 0, 0, 0, 0, 0, 0]]))
    assert overlap(surface, start, term.mask) < 0.2
    found, _ = minimise([term, prior()], start, SolverConfig(iterations=40))
    assert overlap(surface, found, term.mask) > 0.8


def test_what_others_cover_is_not_held_against_the_silhouette() -> None:
    surface, truth = car(), standing(0.7)
    mask = mask_of(surface, truth)
    in_front = torch.zeros_like(mask)
    in_front[:, :, 36:] = 1  # something hides the right side
    seen = mask * (1 - in_front)
    assert seen.sum() < 0.85 * mask.sum()
    start = truth.moved(torch.tensor([[0.2, 0.05, 0.3, 0, 0.1, 0, 0, 0, 0]]))
    errors = []
    for weight in (1 - in_front, torch.ones_like(mask)):
        found, _ = minimise([term_for(surface, seen, weight), prior()], start, SolverConfig(iterations=30))
        errors.append(error(found, truth)[1])
    assert errors[0] < 0.2
    assert errors[1] > 2 * errors[0]


def test_hypotheses_are_refined_alone_as_in_a_batch() -> None:
    surface, truth = car(), standing(0.7)
    mask = mask_of(surface, truth)
    states = State.cat([standing(0.6), standing(1.0, 0.5, 8.0)])
    both = Intrinsics(intrinsics().focal.expand(2, 2), intrinsics().centre.expand(2, 2))
    together = SilhouetteTerm(surface, both, mask.expand(2, -1, -1), torch.ones(2, 64, 64)).linearise(states)
    for row in range(2):
        alone = term_for(surface, mask).linearise(states[torch.tensor([row])])
        torch.testing.assert_close(together.gradient[row], alone.gradient[0], rtol=1e-3, atol=1e-2)


def test_a_state_without_silhouette_in_the_image_costs_and_does_not_pull() -> None:
    surface = car()
    term = term_for(surface, mask_of(surface, standing(0.7)))
    for state in (standing(0.7, x=40.0), standing(0.7, depth=-5.0)):
        here = term.linearise(state)
        assert here.cost > 0
        assert here.gradient.abs().max() == 0
        assert here.hessian.isfinite().all()


@pytest.mark.parametrize(
    ("translation", "flat"),
    [
        ([0.0, 0.0, 0.1], 1.0),  # the camera is inside
        ([1.5, 0.0, 0.2], 1.0),  # partly behind it
        ([0.0, 0.0, -7.0], 1.0),  # wholly behind it
        ([0.0, 0.0, 5000.0], 1.0),  # smaller than a pixel
        ([0.0, 0.7, 7.0], 1e-7),  # pressed flat: slivers, all seen edge on
    ],
)
def test_no_state_gives_a_step_that_is_not_finite(translation: list[float], flat: float) -> None:
    pose = SE3(standing(0.8).camera_from_object.rotation, torch.tensor([translation]))
    state = State(pose, (SIZE * torch.tensor([1.0, 1.0, flat])).log())
    there = term_for(car(), mask_of(car(), standing(0.8))).linearise(state)
    for value in (there.cost, there.gradient, there.hessian):
        assert value.isfinite().all()


def test_different_meshes_in_one_batch_count_as_each_by_itself() -> None:
    box = shapes.box((1.0, 1.0, 1.0))
    surfaces = [car(), Surface.from_triangles(box.vertices, box.faces), car(3)]
    states = [standing(0.8), standing(-1.0, 0.4, 9.0), standing(2.0)]
    masks = torch.cat([mask_of(car(), standing(0.6, 0.3 * row)) for row in range(3)])
    where = Intrinsics(intrinsics().focal.expand(3, 2), intrinsics().centre.expand(3, 2))
    term = SilhouetteTerm(Surface.stacked(surfaces), where, masks, torch.ones_like(masks))
    together = term.linearise(State.cat(states))
    for row, (surface, state) in enumerate(zip(surfaces, states, strict=True)):
        alone = term_for(surface, masks[row : row + 1]).linearise(state)
        for name in ("cost", "gradient", "hessian"):
            found, expected = getattr(together, name)[row], getattr(alone, name)[0]
            torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3 * float(expected.abs().max()))
    assert Surface.stacked([surfaces[0], surfaces[0]]) is surfaces[0]
