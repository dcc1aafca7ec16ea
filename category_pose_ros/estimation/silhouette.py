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
from category_pose_ros.estimation.solver import Linearised, SolverConfig, linearise, minimise
from category_pose_ros.estimation.state import Intrinsics, State
from category_pose_ros.estimation.terms import BeliefTerm, SilhouetteTerm, SizePriorTerm
from category_pose_ros.estimation.uncertainty import SystematicConfig, pose_covariance, systematic_covariance
from category_pose_ros.geometry import SE3, Camera
from category_pose_ros.geometry.symmetry import canonical, symmetry_of
from category_pose_ros.models.pose_encoder import (
    EncoderConfig,
    EncoderModel,
    Encoding,
    PoseEncoder,
    Prototype,
    crop_around,
    nearest_prototype,
    poses,
    resampled,
    turned,
)
from category_pose_ros.records import Frame, ObjectEstimate
from category_pose_ros.rendering.rasterizer import MEMBERSHIPS, cover, rasterize
from category_pose_ros.rendering.surface import Surface

REFINEMENTS = ("none", "pose", "encoder")
_COARSE_SHARE = 0.6  # of the steps with a wide edge, which reaches farther; the rest with a sharp one
_COARSE_SOFTNESS, _FINE_SOFTNESS = 1 / 20, 1 / 64  # in sides of the crop
_ALONE = 1 / 64  # of the crop's side: an outline errs alike over so long a piece, however fine the image is
# The mesh is that of another instance, which neither pixels nor frames average out. Chosen on synthetic masks of other
# seeds; on seed 12, of 129 poses that are right within 30 degrees, 93 % lie in their 95 % ellipsoids, without it 59 %.
_SYSTEMATIC = SystematicConfig(rotation_deg=8.0, sight=0.1, lateral=0.04)
_SURE = 3.0  # log odds of the encoder from which on the silhouette of the other side never fitted so much better


@dataclass(frozen=True)
class SilhouetteConfig:
    """The silhouette method."""

    refine: str = setting("pose", "What the steps through the renderer move.", choices=REFINEMENTS)
    steps: int = setting(6, "Steps through the renderer; the paper takes 30.", minimum=2, maximum=1000)
    follow_steps: int = setting(6, "Steps per frame for an object that is tracked.", minimum=1, maximum=200)
    resolution_px: int = setting(32, "Side of the crop in which silhouettes are compared.", minimum=8, maximum=1024)
    encoder_deviation_deg: float = setting(
        5.0,
        "Standard deviation of the encoder's rotation; steps of the pose hold on to it.",
        minimum=0.1,
        maximum=180.0,
    )
    membership: str = setting("distance", "Renderer for steps of the encoder.", choices=MEMBERSHIPS)
    encoder_rate: float = setting(3e-5, "Learning rate (Adam) of steps of the encoder.", minimum=0.0, maximum=1.0)
    twin: bool = setting(
        True, "Where the encoder is unsure, refine the pose with the same silhouette from the other side too."
    )

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True, eq=False)
class View:
    """The crop around a mask.

    Attributes:
        camera: of the crop.
        mask: (side, side) in [0, 1].
        weight: (side, side) 0 where others may be in front and outside the image, otherwise 1.
        seen_camera: of what the encoder sees, of the same pose as the crop's.
        seen: (side, side) the same mask as the encoder sees it.
    """

    camera: Camera
    mask: Tensor
    weight: Tensor
    seen_camera: Camera
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


def view_of(mask: Tensor, camera: Camera, side_px: int, encoder: EncoderConfig, ignored: Tensor | None = None) -> View:
    """The crop around a mask (H, W) in [0, 1] of an undistorted camera.

    Args:
        encoder: says what the encoder sees.
        ignored: (H, W) bool, pixels that say nothing, such as those that other objects cover.

    Raises:
        ValueError: the mask is empty.
    """
    crop, seen = crop_around(mask, camera, side_px)
    known = torch.ones_like(mask) if ignored is None else (~ignored).to(mask.dtype)
    weight = (resampled(known, camera, seen) > 0.99).to(mask.dtype)
    shown = encoder.seen_camera(seen)
    return View(seen, crop, weight, shown, resampled(mask, camera, shown))


@dataclass(frozen=True, eq=False)
class _Guess:
    """What the encoder says about one mask.

    Attributes:
        prototype: representative instance.
        pose: batch of one.
        other: the pose with nearly the same silhouette, seen from the other side.
        odds: logarithm of the odds of the first against the other.
    """

    prototype: Prototype
    pose: State
    other: State
    odds: float


@dataclass(frozen=True, eq=False)
class _Pairs:
    """B pairs of a mask and an instance that may have made it, to be solved together.

    Attributes:
        prototypes: B instances.
        views: B masks, in crops of one size.
    """

    prototypes: Sequence[Prototype]
    views: Sequence[View]

    def term(self, softness: float) -> SilhouetteTerm:
        """With an edge of this width in sides of the crop."""
        cameras = [view.camera for view in self.views]
        side = cameras[0].width
        focal = torch.tensor([[camera.fx, camera.fy] for camera in cameras], dtype=torch.float32)
        centre = torch.tensor([[camera.cx, camera.cy] for camera in cameras], dtype=torch.float32)
        mask, weight = (torch.stack([getattr(view, name) for view in self.views]) for name in ("mask", "weight"))
        weight = weight / (_ALONE * side)
        surface = Surface.stacked([item.surface for item in self.prototypes])
        # A representative's outline is off by a share of the object, however fine the image is.
        return SilhouetteTerm(surface, Intrinsics(focal, centre), mask, weight, softness * side, deviation_px=side / 20)

    def prior(self) -> SizePriorTerm:
        mean = torch.stack([item.size_m.log() for item in self.prototypes])
        return SizePriorTerm(
            mean, torch.linalg.inv(torch.stack([item.log_size_covariance for item in self.prototypes]))
        )


def fit_masks(
    model: EncoderModel, views: Sequence[View], config: SilhouetteConfig, categories: Sequence[str | None]
) -> list[Fit]:
    """Encode crops, and refine what the encoder says; each by itself, but all at once.

    Args:
        categories: of the objects, where they are known.
    """
    if not views:
        return []
    guesses = [_guess(model, *item, config) for item in zip(views, categories, strict=True)]
    if config.refine == "pose":
        return _refined(guesses, views, config)
    return _fits(_Pairs([item.prototype for item in guesses], views), State.cat([item.pose for item in guesses]))


@torch.no_grad()
def _guess(model: EncoderModel, view: View, category: str | None, config: SilhouetteConfig) -> _Guess:
    encoding = model.encoder(view.seen.unsqueeze(0))
    number = _likeliest(model, encoding, category)
    if config.refine == "encoder":  # to this instance, so the answer is of this one too
        encoding = _tuned(model, view, number, config)(view.seen.unsqueeze(0))
    prototype = model.prototypes[number]
    pose = poses(encoding, model.prototypes, view.seen_camera, torch.tensor([number]))
    other = SE3(turned(pose.rotation, view.seen_camera), pose.translation)
    log_size, behind = prototype.size_m.log()[None], float(encoding.behind[0])
    front, back = State(pose, log_size), State(other, log_size)
    return _Guess(prototype, *((back, front) if behind > 0 else (front, back)), abs(behind))


@torch.no_grad()
def _refined(guesses: Sequence[_Guess], views: Sequence[View], config: SilhouetteConfig) -> list[Fit]:
    """The better of both sides of each guess after the solver's steps, a wide edge first."""
    starts, owner, doubt = [item.pose for item in guesses], list(range(len(guesses))), [0.0] * len(guesses)
    for number, item in enumerate(guesses):
        if config.twin and item.odds < _SURE:
            starts.append(item.other)
            owner.append(number)
            doubt.append(item.odds)  # it must fit better by as much as the encoder was sure
    start, pairs = State.cat(starts), _Pairs([guesses[index].prototype for index in owner], [views[i] for i in owner])
    coarse = max(1, round(_COARSE_SHARE * config.steps))
    held = (pairs.prior(), _said(start, config))
    states, _ = minimise((pairs.term(_COARSE_SOFTNESS), *held), start, SolverConfig(iterations=coarse))
    sharp = SolverConfig(iterations=max(1, config.steps - coarse))
    states, there = minimise((pairs.term(_FINE_SOFTNESS), *held), states, sharp)
    cost = (there.cost + torch.tensor(doubt)).tolist()
    rows = range(len(owner))
    best = [min((row for row in rows if owner[row] == number), key=cost.__getitem__) for number in range(len(guesses))]
    return _fits(_Pairs([pairs.prototypes[row] for row in best], views), states[torch.tensor(best)])


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

    def search(self, frame: Frame, explained: Sequence[Belief] = ()) -> Search:
        """One object per mask, best first; each independent of the others, but all in one piece of work.

        Args:
            explained: what is known to be there; the foreground need not show it.

        Raises:
            ValueError: the frame has no masks, and there is no other source of them.
        """
        masks = given_masks(frame)
        if masks is None:
            masks = yield from self._source().search(frame, explained)
        camera = frame.camera.undistorted()
        named = [mask.category in (None, *self._categories) for mask in masks]
        chosen = [number for number, mask in enumerate(masks) if named[number] and mask.is_large_enough]
        views = [self._view(masks, number, camera) for number in chosen]
        fits = fit_masks(self._model, views, self._config, [masks[number].category for number in chosen])
        pairs = zip(fits, chosen, strict=True)
        found = [_estimate(fit, masks[number].score) for fit, number in pairs]
        found = [item for item in found if item.category in self._categories]
        return sorted(found, key=lambda item: -item.score)

    def follow(
        self, frame: Frame, beliefs: Sequence[Belief], prior: Sequence[float], others: Sequence[Belief] = ()
    ) -> list[Sighting]:
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
        views = {
            row: self._view(masks, number, camera)
            for row, number in enumerate(chosen)
            if number is not None and masks[number].is_large_enough
        }
        seen = iter(self._followed([beliefs[row] for row in views], list(views.values())))
        return [next(seen) if row in views else self._unseen(belief) for row, belief in enumerate(beliefs)]

    def _view(self, masks: list[ObjectMask], number: int, camera: Camera) -> View:
        mask, side = masks[number].pixels.float(), self._config.resolution_px
        return view_of(mask, camera, side, self._model.config, _others(masks, number))

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

    def _unseen(self, belief: Belief) -> Sighting:
        pose = belief.mean.camera_from_object[0]
        covariance = pose_covariance(belief.information, pose, symmetry_of(belief.category))
        estimate = _as_estimate(self._nearest(belief), belief.mean, covariance, 0.0, 0.0)
        return Sighting(belief, estimate, float("-inf"), 0.0)

    @torch.no_grad()
    def _followed(self, beliefs: list[Belief], views: list[View]) -> list[Sighting]:
        if not beliefs:
            return []
        pairs = _Pairs([self._nearest(belief) for belief in beliefs], views)
        start = State.cat([belief.mean for belief in beliefs])
        held = _said(start, self._config)
        terms = (pairs.term(_FINE_SOFTNESS), pairs.prior(), held)
        states, there = minimise(terms, start, SolverConfig(iterations=self._config.follow_steps))
        strain = (2 * held.cost(states)).tolist()
        sightings = []
        for row, fit in enumerate(_described(pairs, states, there)):
            state = fit.state
            information = there.hessian[row].double()
            updated = Belief(fit.prototype.category, state.camera_from_object[0], state.log_size[0], information)
            sightings.append(Sighting(updated, _estimate(fit, 1.0), -float(there.cost[row]), strain[row]))
        return sightings

    def _nearest(self, belief: Belief) -> Prototype:
        return nearest_prototype(self._model.prototypes, belief.category, belief.size_m.float())


def _tuned(model: EncoderModel, view: View, number: int, config: SilhouetteConfig) -> PoseEncoder:
    """The encoder with weights moved so that the silhouette of an instance fits, the paper's way."""
    encoder = copy.deepcopy(model.encoder)
    optimiser = torch.optim.Adam(encoder.parameters(), lr=config.encoder_rate)
    seen = view.seen.unsqueeze(0)
    prototype = model.prototypes[number]
    surface = prototype.surface.scaled(prototype.size_m)
    for _ in range(config.steps):
        with torch.enable_grad():
            encoding = encoder(seen)
            pose = poses(encoding, model.prototypes, view.seen_camera, torch.tensor([number]))
            rotation = torch.where(
                encoding.behind[:, None, None] > 0, turned(pose.rotation, view.seen_camera), pose.rotation
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
    return encoder


def _likeliest(model: EncoderModel, encoding: Encoding, category: str | None) -> int:
    """The likeliest prototype, among those of the category where one is named and known."""
    allowed = torch.tensor([category in (None, item.category) for item in model.prototypes])
    logits = encoding.prototype[0]
    return int((torch.where(allowed, logits, float("-inf")) if allowed.any() else logits).argmax())


def _said(starts: State, config: SilhouetteConfig) -> BeliefTerm:
    """The rotations of the starts, which a silhouette of another instance would otherwise turn away from."""
    information = torch.zeros(len(starts.log_size), 9, 9)
    information[:, 3:6, 3:6] = torch.eye(3) / math.radians(config.encoder_deviation_deg) ** 2
    return BeliefTerm(starts, information)


@torch.no_grad()
def _fits(pairs: _Pairs, states: State) -> list[Fit]:
    """What mask and size prior say of states, without the encoder."""
    return _described(pairs, states, linearise((pairs.term(_FINE_SOFTNESS), pairs.prior()), states))


def _described(pairs: _Pairs, states: State, curvature: Linearised) -> list[Fit]:
    fits = []
    for row, (prototype, view) in enumerate(zip(pairs.prototypes, pairs.views, strict=True)):
        index = torch.tensor([row])
        overlap, visible = _agreement(prototype, view, states[index])
        fits.append(Fit(prototype, states[index], curvature[index], overlap, visible))
    return fits


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
    """As sure as the mask is itself, as far as the silhouette agrees: any two shapes at one place share a half."""
    symmetry = symmetry_of(fit.prototype.category)
    covariance = pose_covariance(fit.curvature.hessian[0], fit.state.camera_from_object[0], symmetry)
    return _as_estimate(fit.prototype, fit.state, covariance, score * max(0.0, 2 * fit.overlap - 1), fit.visible)


def _as_estimate(
    prototype: Prototype, state: State, covariance: npt.NDArray[np.float64], score: float, visible: float
) -> ObjectEstimate:
    pose = canonical(state.camera_from_object[0], symmetry_of(prototype.category))
    size_m = state.size_m[0].double().numpy()
    return ObjectEstimate(
        category=prototype.category,
        camera_from_object=pose,
        size_m=size_m,
        score=score,
        visible_fraction=visible,
        covariance=covariance + systematic_covariance(pose, float(np.linalg.norm(size_m)), _SYSTEMATIC),
    )
