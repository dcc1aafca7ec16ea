"""The silhouette method: class and pose from the mask of an object, refined until its silhouette fits.

After Palazzi et al. 2018: the encoder names the representative instance that a mask is like and its
pose; steps through the renderer follow. Ours move the pose with the solver that all methods share;
the paper's move the weights of the encoder by gradient descent, and can be chosen instead.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from category_pose_ros.config import setting, validate
from category_pose_ros.estimation.belief import Belief, Search, Sighting
from category_pose_ros.estimation.foreground import Foreground, ObjectMask, given_masks
from category_pose_ros.estimation.solver import Linearised, SolverConfig, minimise
from category_pose_ros.estimation.state import Intrinsics, State
from category_pose_ros.estimation.terms import BeliefTerm, SilhouetteTerm, SizePriorTerm
from category_pose_ros.estimation.uncertainty import pose_covariance
from category_pose_ros.geometry import SE3, Camera
from category_pose_ros.geometry.symmetry import canonical, symmetry_of
from category_pose_ros.models.pose_encoder import (
    CROP_PX,
    EncoderModel,
    Encoding,
    Prototype,
    crop_around,
    nearest_prototype,
    poses,
    resampled,
    sight,
    twin,
)
from category_pose_ros.records import Frame, ObjectEstimate
from category_pose_ros.rendering.rasterizer import MEMBERSHIPS, cover, rasterize

REFINEMENTS = ("none", "pose", "encoder")
_COARSE_SHARE = 0.6  # of the steps with a wide edge, which reaches farther; the rest with a sharp one
_COARSE_SOFTNESS, _FINE_SOFTNESS = 1 / 20, 1 / 64  # in sides of the crop


@dataclass(frozen=True)
class SilhouetteConfig:
    """The silhouette method."""

    refine: str = setting("pose", "What the steps through the renderer move.", choices=REFINEMENTS)
    steps: int = setting(10, "Steps through the renderer; the paper takes 30.", minimum=1, maximum=1000)
    follow_steps: int = setting(6, "Steps per frame for an object that is tracked.", minimum=1, maximum=200)
    resolution_px: int = setting(64, "Side of the crop in which silhouettes are compared.", minimum=8, maximum=1024)
    encoder_deviation_deg: float = setting(
        5.0,
        "Standard deviation of the encoder's rotation; steps of the pose hold on to it.",
        minimum=0.1,
        maximum=180.0,
    )
    membership: str = setting("distance", "Renderer for steps of the encoder.", choices=MEMBERSHIPS)
    encoder_rate: float = setting(3e-5, "Learning rate (Adam) of steps of the encoder.", minimum=0.0, maximum=1.0)
    twin: bool = setting(True, "Refine the pose with the same silhouette from the other side too.")

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True, eq=False)
class View:
    """The crop around a mask.

    Attributes:
        camera: of the crop.
        mask: (side, side) in [0, 1].
        weight: (side, side) 0 where others may be in front and outside the image, otherwise 1.
        seen: (CROP_PX, CROP_PX) the same mask as the encoder sees it.
    """

    camera: Camera
    mask: Tensor
    weight: Tensor
    seen: Tensor


@dataclass(frozen=True, eq=False)
class Fit:
    """What a mask was explained by.

    Attributes:
        prototype: representative instance.
        state: batch of one, in the camera of the crop, which is that of the image.
        curvature: of all terms at the state.
        overlap: intersection over union with the mask.
        visible: share of the silhouette that the mask covers.
    """

    prototype: Prototype
    state: State
    curvature: Linearised
    overlap: float
    visible: float


def view_of(mask: Tensor, camera: Camera, side_px: int, ignored: Tensor | None = None) -> View:
    """The crop around a mask (H, W) in [0, 1] of an undistorted camera.

    Args:
        ignored: (H, W) bool, pixels that say nothing, such as those that other objects cover.

    Raises:
        ValueError: the mask is empty.
    """
    crop, seen = crop_around(mask, camera, side_px)
    known = torch.ones_like(mask) if ignored is None else (~ignored).to(mask.dtype)
    weight = (resampled(known, camera, seen) > 0.99).to(mask.dtype)
    return View(seen, crop, weight, resampled(mask, camera, seen.resized(CROP_PX, CROP_PX)))


def fit_mask(model: EncoderModel, view: View, config: SilhouetteConfig, category: str | None = None) -> Fit:
    """Encode a crop, and refine what the encoder says.

    Args:
        category: of the object, where it is known.
    """
    if config.refine == "encoder":
        model = _tuned(model, view, config, category)
    with torch.no_grad():
        encoding = model.encoder(view.seen.unsqueeze(0))
        number = _likeliest(model, encoding, category)
        prototype = model.prototypes[number]
        front, behind = _both_sides(model, encoding, view.camera, number)
        is_behind = bool(encoding.behind[0] > 0)
        first, second = (behind, front) if is_behind else (front, behind)
        if config.refine != "pose":
            return _fit(prototype, view, first)
        starts = State.cat([first, second]) if config.twin else first
        # The other side must fit better by as much as the encoder was sure.
        doubt = torch.tensor([0.0, float(encoding.behind[0].abs())])[: len(starts.log_size)]
        return refine_pose(prototype, view, starts, config, doubt)


@torch.no_grad()
def refine_pose(
    prototype: Prototype, view: View, starts: State, config: SilhouetteConfig, doubt: Tensor | None = None
) -> Fit:
    """The best of B starts after the solver's steps, a wide edge first.

    Args:
        starts: in the crop's camera.
        doubt: (B,) what each start costs by itself.
    """
    count = len(starts.log_size)
    coarse = round(_COARSE_SHARE * config.steps)
    held = (_prior(prototype, count), _said(starts, math.radians(config.encoder_deviation_deg)))
    wide, sharp = (_term(prototype, view, count, softness) for softness in (_COARSE_SOFTNESS, _FINE_SOFTNESS))
    states, _ = minimise((wide, *held), starts, SolverConfig(iterations=max(coarse, 1)))
    states, there = minimise((sharp, *held), states, SolverConfig(iterations=max(config.steps - coarse, 1)))
    cost = there.cost if doubt is None else there.cost + doubt
    best = cost.argmin().reshape(1)
    return _fit(prototype, view, states[best])


class SilhouetteMethod:
    """Estimates objects from their masks.

    Args:
        model: trained encoder.
        categories: those to look for.
        config: settings.
        foreground: where masks come from that the frame does not bring; None: such frames are refused.
    """

    def __init__(
        self,
        model: EncoderModel,
        categories: tuple[str, ...],
        config: SilhouetteConfig,
        foreground: Foreground | None = None,
    ) -> None:
        self._model = model
        self._categories = categories
        self._config = config
        self._foreground = foreground

    def search(self, frame: Frame) -> Search:
        """One object per mask, each independent of the others, best first.

        Raises:
            ValueError: the frame has no masks, and there is no other source of them.
        """
        masks = given_masks(frame)
        if masks is None:
            masks = yield from self._source().search(frame)
        camera = frame.camera.undistorted()
        found: list[ObjectEstimate] = []
        for number, mask in enumerate(masks):
            if mask.category in (None, *self._categories) and mask.is_large_enough:
                view = view_of(mask.pixels.float(), camera, self._config.resolution_px, _others(masks, number))
                fit = fit_mask(self._model, view, self._config, mask.category)
                if fit.prototype.category in self._categories:
                    found.append(_estimate(fit, mask.score))
            yield
        return sorted(found, key=lambda item: -item.score)

    def follow(self, frame: Frame, beliefs: Sequence[Belief], prior: Sequence[float]) -> list[Sighting]:
        """Each belief, refined from where it was believed to be, with its mask.

        Of masks that come with the frame, that is the one that it overlaps most. What is believed is
        where the steps begin and which rotation they hold on to, no more: what the mesh of another
        instance gets wrong it gets wrong in all frames alike, and adding it up drives the distance
        away. So the whole size prior counts in each frame, whatever share is asked for.
        """
        masks = given_masks(frame)
        camera = frame.camera.undistorted()
        if masks is None:
            masks = self._source().follow(frame, beliefs)
            chosen: list[int | None] = list(range(len(beliefs)))
        else:
            chosen = [self._most_overlapping(belief, masks, camera) for belief in beliefs]
        return [self._follow(belief, camera, masks, number) for belief, number in zip(beliefs, chosen, strict=True)]

    def _source(self) -> Foreground:
        if self._foreground is None:
            raise ValueError("regions: the silhouette method expected a mask for every object, got none")
        return self._foreground

    def _most_overlapping(self, belief: Belief, masks: list[ObjectMask], camera: Camera) -> int | None:
        surface = self._nearest(belief).surface.scaled(belief.size_m.float())
        covered = cover(surface, belief.mean.camera_from_object, camera)[0]
        overlaps = [
            _overlap(covered, mask.pixels) if mask.category in (None, belief.category) else 0.0 for mask in masks
        ]
        return int(np.argmax(overlaps)) if max(overlaps, default=0.0) > 0 else None

    def _follow(self, belief: Belief, camera: Camera, masks: list[ObjectMask], number: int | None) -> Sighting:
        mean, prototype = belief.mean, self._nearest(belief)
        if number is None or not masks[number].is_large_enough:
            estimate = _as_estimate(prototype, mean, torch.linalg.inv(belief.information)[:6, :6].numpy(), 0.0, 0.0)
            return Sighting(belief, estimate, float("-inf"), 0.0)
        view = view_of(masks[number].pixels.float(), camera, self._config.resolution_px, _others(masks, number))
        held = _said(mean, math.radians(self._config.encoder_deviation_deg))
        terms = (_term(prototype, view, 1, _FINE_SOFTNESS), _prior(prototype, 1), held)
        state, curvature = minimise(terms, mean, SolverConfig(iterations=self._config.follow_steps))
        fit = Fit(prototype, state, curvature, *_agreement(prototype, view, state))
        updated = Belief(belief.category, state.camera_from_object[0], state.log_size[0], curvature.hessian[0].double())
        return Sighting(updated, _estimate(fit, 1.0), -float(curvature.cost), float(2 * held.cost(state)))

    def _nearest(self, belief: Belief) -> Prototype:
        return nearest_prototype(self._model.prototypes, belief.category, belief.size_m.float())


def _tuned(model: EncoderModel, view: View, config: SilhouetteConfig, category: str | None) -> EncoderModel:
    """The model with its encoder's weights moved so that the rendered silhouette fits, the paper's way."""
    encoder = copy.deepcopy(model.encoder)
    optimiser = torch.optim.Adam(encoder.parameters(), lr=config.encoder_rate)
    seen = view.seen.unsqueeze(0)
    with torch.no_grad():
        number = _likeliest(model, encoder(seen), category)
    prototype = model.prototypes[number]
    surface = prototype.surface.scaled(prototype.size_m)
    for _ in range(config.steps):
        with torch.enable_grad():
            encoding = encoder(seen)
            pose = poses(encoding, model.prototypes, view.camera, torch.tensor([number]))
            rotation = torch.where(
                encoding.behind[:, None, None] > 0, _turned(pose.rotation, view.camera), pose.rotation
            )
            raster = rasterize(
                surface,
                SE3(rotation, pose.translation),
                view.camera,
                config.membership,
                _FINE_SOFTNESS * view.camera.width,
            )
            loss = (view.weight * (raster.occupancy[0] - view.mask).square()).mean()
            optimiser.zero_grad()
            loss.backward()
        optimiser.step()
    return EncoderModel(encoder, model.prototypes, model.config, model.training)


def _likeliest(model: EncoderModel, encoding: Encoding, category: str | None) -> int:
    """The likeliest prototype, among those of the category where one is named and known."""
    allowed = torch.tensor([category in (None, item.category) for item in model.prototypes])
    logits = encoding.prototype[0]
    return int((torch.where(allowed, logits, float("-inf")) if allowed.any() else logits).argmax())


def _both_sides(model: EncoderModel, encoding: Encoding, camera: Camera, number: int) -> tuple[State, State]:
    """The encoder's pose seen from the front, and its twin."""
    prototype = model.prototypes[number]
    pose = poses(encoding, model.prototypes, camera, torch.tensor([number]))
    other = SE3(_turned(pose.rotation, camera), pose.translation)
    log_size = prototype.size_m.log()[None]
    return State(pose, log_size), State(other, log_size)


def _turned(rotation: Tensor, camera: Camera) -> Tensor:
    """The twin of rotations (B, 3, 3) in a crop's camera."""
    along = sight(camera)
    return along @ twin(along.T @ rotation)


def _term(prototype: Prototype, view: View, count: int, softness: float) -> SilhouetteTerm:
    side = view.camera.width
    focal = torch.tensor([[view.camera.fx, view.camera.fy]], dtype=torch.float32).expand(count, 2)
    centre = torch.tensor([[view.camera.cx, view.camera.cy]], dtype=torch.float32).expand(count, 2)
    mask, weight = (item.expand(count, side, side) for item in (view.mask, view.weight))
    # A representative's outline is off by a share of the object, however fine the image is.
    return SilhouetteTerm(
        prototype.surface, Intrinsics(focal, centre), mask, weight, softness * side, deviation_px=side / 20
    )


def _prior(prototype: Prototype, count: int) -> SizePriorTerm:
    information = torch.linalg.inv(prototype.log_size_covariance)
    return SizePriorTerm(prototype.size_m.log().expand(count, 3), information.expand(count, 3, 3))


def _said(starts: State, deviation: float) -> BeliefTerm:
    """The rotations of the starts, which a silhouette of another instance would otherwise turn away from."""
    information = torch.zeros(len(starts.log_size), 9, 9)
    information[:, 3:6, 3:6] = torch.eye(3) / deviation**2
    return BeliefTerm(starts, information)


def _fit(prototype: Prototype, view: View, state: State) -> Fit:
    term, prior = _term(prototype, view, 1, _FINE_SOFTNESS), _prior(prototype, 1)
    return Fit(prototype, state, term.linearise(state) + prior.linearise(state), *_agreement(prototype, view, state))


def _agreement(prototype: Prototype, view: View, state: State) -> tuple[float, float]:
    """Intersection over union with the mask, and the share of the silhouette that the mask covers."""
    covered = cover(prototype.surface.scaled(state.size_m), state.camera_from_object, view.camera)[0]
    visible = float((covered * view.mask).sum() / covered.sum().clamp_min(1))
    known = view.weight > 0
    return _overlap(covered & known, (view.mask > 0.5) & known), min(visible, 1.0)


def _overlap(first: Tensor, second: Tensor) -> float:
    return float((first & second).sum() / (first | second).sum().clamp_min(1))


def _others(masks: list[ObjectMask], number: int) -> Tensor:
    """Pixels (H, W) of all masks but one: what they cover is not held against it."""
    others = torch.zeros_like(masks[number].pixels)
    for index, mask in enumerate(masks):
        if index != number:
            others |= mask.pixels & ~masks[number].pixels
    return others


def _estimate(fit: Fit, score: float) -> ObjectEstimate:
    """As sure as the silhouette agrees with the mask, and no surer than the mask is itself."""
    symmetry = symmetry_of(fit.prototype.category)
    covariance = pose_covariance(fit.curvature.hessian[0], fit.state.camera_from_object[0], symmetry)
    return _as_estimate(fit.prototype, fit.state, covariance, min(fit.overlap, score), fit.visible)


def _as_estimate(
    prototype: Prototype, state: State, covariance: npt.NDArray[np.float64], score: float, visible: float
) -> ObjectEstimate:
    pose = canonical(state.camera_from_object[0], symmetry_of(prototype.category))
    return ObjectEstimate(
        category=prototype.category,
        camera_from_object=pose,
        size_m=state.size_m[0].double().numpy(),
        score=score,
        visible_fraction=visible,
        covariance=covariance,
    )
