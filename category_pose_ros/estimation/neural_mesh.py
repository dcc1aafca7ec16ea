"""The default method: neural meshes, from coarse to fine (Ma et al. 2022).

`NeuralMeshMethod.estimate` reads as the steps of the method: features of the whole image, votes
for centres, a crop per candidate at one scale, coarse proposals, refinement, choice, duplicates.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from category_pose_ros.config import section, setting, validate
from category_pose_ros.estimation import depth as measured
from category_pose_ros.estimation import hints, images
from category_pose_ros.estimation.belief import Belief, Search, Sighting
from category_pose_ros.estimation.depth import DepthPoints
from category_pose_ros.estimation.detection import (
    Candidate,
    DetectionConfig,
    distinct,
    find_candidates,
    merge_levels,
)
from category_pose_ros.estimation.evidence import (
    CorrespondenceConfig,
    Evidence,
    Votes,
    gather_evidence,
    gather_votes,
)
from category_pose_ros.estimation.proposals import ProposalConfig, ProposalGrid, log_score, vertex_support
from category_pose_ros.estimation.solver import Linearised, SolverConfig, Term, minimise
from category_pose_ros.estimation.state import Intrinsics, State
from category_pose_ros.estimation.terms import AxesTerm, BeliefTerm, CorrespondenceTerm, SizePriorTerm
from category_pose_ros.estimation.uncertainty import pose_covariance
from category_pose_ros.geometry import SE3, Camera, rotations
from category_pose_ros.geometry.symmetry import canonical
from category_pose_ros.models.backbone import FeatureMap, folded
from category_pose_ros.models.checkpoint import NeuralMeshModel
from category_pose_ros.models.posterior import Posterior
from category_pose_ros.records import Frame, ObjectEstimate

_FEW_CELLS = 6.0  # whose votes are not worth believing
_AT_ONCE = 4  # candidates treated in one piece of a search


@dataclass(frozen=True)
class NeuralMeshConfig:
    """The neural mesh method."""

    crop_px: int = setting(128, "Side of the crop around each candidate, a multiple of 32.", minimum=64, maximum=512)
    crop_diagonal_px: float = setting(92.0, "Apparent diagonal of the object in its crop.", minimum=32.0, maximum=512.0)
    looks: int = setting(2, "Crops per candidate, each aimed by the votes in the one before.", minimum=1, maximum=5)
    least_cells: float = setting(
        8.0, "Candidates of whose crop fewer cells show the object are not followed up.", minimum=0.0
    )
    mirror: bool = setting(True, "The last crop of each candidate is also read mirrored, as a second opinion.")
    duplicate_distance: float = setting(
        0.35, "Two objects whose centres are closer than this share of the smaller diagonal are one.", minimum=0.0
    )
    even_support: float = setting(
        0.075, "Mean support of the visible vertices at which the score is one half.", minimum=1e-3, maximum=1.0
    )
    precision: str = setting("auto", "Number format of the network.", choices=("auto", "float32", "bfloat16"))
    detection: DetectionConfig = section(DetectionConfig)
    proposals: ProposalConfig = section(ProposalConfig)
    correspondence: CorrespondenceConfig = section(CorrespondenceConfig)
    depth: measured.DepthConfig = section(measured.DepthConfig)
    solver: SolverConfig = section(SolverConfig)
    follow_iterations: int = setting(5, "Damped steps per frame for an object that is tracked.", minimum=1, maximum=200)

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True, eq=False)
class _Answer:
    """The chosen hypothesis of a candidate."""

    candidate: Candidate
    evidence: Evidence
    state: State  # batch of one
    curvature: Linearised  # of all terms, batch of one
    support: float
    presence: float
    log_score: float
    trust: float  # 1, or less where depth contradicts it


class NeuralMeshMethod:
    """Estimates every object of a frame.

    Args:
        model: trained model.
        categories: those to look for.
        device: where the network and the solver run.
        config: settings.
    """

    def __init__(
        self, model: NeuralMeshModel, categories: tuple[str, ...], device: torch.device, config: NeuralMeshConfig
    ) -> None:
        bfloat16 = config.precision == "bfloat16" or (config.precision == "auto" and _prefers_bfloat16(device))
        network = folded(model.backbone).to(torch.bfloat16 if bfloat16 else torch.float32)
        self._backbone = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._posterior = Posterior(model, categories, device)
        self._grids = [ProposalGrid(table, config.proposals) for table in self._posterior.tables]
        self._device = device
        self._config = config

    @torch.inference_mode()
    def search(self, frame: Frame) -> Search:
        """All objects of the frame, best first, whatever their score, in short pieces of work."""
        image, camera = images.rectify(frame)
        depth = images.rectify_depth(frame)
        allowed = hints.allowed_pixels(frame, [table.name for table in self._posterior.tables])
        levels = []
        for level in range(self._config.detection.levels):
            levels.append(self._find(image, camera, level, allowed))
            yield
        answers: list[_Answer] = []
        candidates = merge_levels(levels, self._config.detection, self._finest(camera))
        for _ in range(self._config.looks - 1):
            aimed: list[Candidate] = []
            for group in _groups(candidates):
                votes = self._aim(image, camera, group)
                aimed += [_sharpened(*pair, camera) for pair in zip(group, votes, strict=True)]
                yield
            candidates = distinct(aimed, self._config.least_cells)
        for group in _groups(candidates):
            evidence = self._look_closer(image, camera, group, self._config.mirror)
            yield
            answers += self._answers(camera, depth, group, evidence)
            yield
        kept = _without_duplicates(answers, camera, self._config.duplicate_distance)
        return [self._report(answer) for answer in kept]

    @torch.inference_mode()
    def follow(self, frame: Frame, beliefs: Sequence[Belief], prior: Sequence[float]) -> list[Sighting]:
        """What a frame makes of beliefs: one crop each, where the object should be, and no search.

        Args:
            beliefs: predicted for the frame's time.
            prior: per belief, the share of its category's size prior to add to what it knows.

        Returns:
            One sighting per belief.
        """
        if not beliefs:
            return []
        image, camera = images.rectify(frame)
        names = [table.name for table in self._posterior.tables]
        candidates = [_where_believed(belief, names.index(belief.category), camera) for belief in beliefs]
        evidence = self._look_closer(image, camera, candidates)
        believed = _believed_states(beliefs, self._device)
        expected = BeliefTerm(believed, torch.stack([item.information for item in beliefs]).float().to(self._device))
        solver = dataclasses.replace(self._config.solver, iterations=self._config.follow_iterations)
        readings = self._readings(images.rectify_depth(frame), camera, evidence)
        sizes = _size_prior_term(evidence, 1)
        share = torch.tensor(prior, device=self._device)[:, None, None]
        sizes = dataclasses.replace(sizes, information=share * sizes.information)
        # Far from what the cells say the robust kernel would drop them all, so it starts where their votes are.
        start = _aimed(believed, evidence)
        states, curvature, trust = self._solve(evidence, start, sizes, [expected], readings, solver)
        answers = self._choose(candidates, evidence, states, curvature, trust)
        strain = (2 * expected.cost(states)).tolist()
        return [self._sighting(answer, row) for answer, row in zip(answers, strain, strict=True)]

    def _find(self, image: images.Image, camera: Camera, level: int, allowed: hints.Mask | None) -> list[Candidate]:
        """Candidates from one level of a pyramid of images, in pixels of the given one."""
        config = self._config.detection
        long_side = round(self._finest(camera) * max(camera.width, camera.height))
        small, small_camera = images.fit(image, camera, long_side >> level)
        cells = images.cell_camera(small_camera)
        voting = None if allowed is None else hints.allowed_cells(allowed, camera, cells).to(self._device)
        return find_candidates(self._features([small]), self._posterior, cells, camera, config, voting)

    def _finest(self, camera: Camera) -> float:
        """Scale of the finest level of the pyramid, relative to the image."""
        return min((self._config.detection.area_px / (camera.width * camera.height)) ** 0.5, 1.0)

    def _answers(
        self, camera: Camera, depth: images.Depth | None, candidates: list[Candidate], evidence: list[Evidence]
    ) -> list[_Answer]:
        """Propose and refine: one answer per candidate."""
        starts = [self._grids[c.category].propose(item) for c, item in zip(candidates, evidence, strict=True)]
        readings = self._readings(depth, camera, evidence)
        prior = _size_prior_term(evidence, len(starts[0].log_size))
        solved = self._solve(evidence, State.cat(starts), prior, [], readings, self._config.solver)
        return self._choose(candidates, evidence, *solved)

    def _aim(self, image: images.Image, camera: Camera, candidates: list[Candidate]) -> list[Votes]:
        """Where the cells of a crop around each candidate see it."""
        crops, cells = self._crops(image, camera, candidates)
        categories = [candidate.category for candidate in candidates]
        features = self._features(crops)
        return gather_votes(features, self._posterior, categories, cells, camera, self._config.correspondence)

    def _look_closer(
        self, image: images.Image, camera: Camera, candidates: list[Candidate], mirror: bool = False
    ) -> list[Evidence]:
        """What a crop around each candidate says about it, read mirrored too if wished."""
        crops, cells = self._crops(image, camera, candidates)
        features = self._features(crops)
        mirrored = self._features([np.ascontiguousarray(crop[:, ::-1]) for crop in crops]) if mirror else None
        categories = [candidate.category for candidate in candidates]
        config = self._config.correspondence
        return gather_evidence(features, self._posterior, categories, cells, camera, config, mirrored)

    def _crops(
        self, image: images.Image, camera: Camera, candidates: list[Candidate]
    ) -> tuple[list[images.Image], list[Camera]]:
        """A crop around every candidate, all of which appear at one scale, and the cameras of their cells."""
        crops, cells = [], []
        for candidate in candidates:
            side = candidate.diagonal_px * self._config.crop_px / self._config.crop_diagonal_px
            patch, patch_camera = images.square_crop(
                image, camera, (candidate.u, candidate.v), side, self._config.crop_px
            )
            crops.append(patch)
            cells.append(images.cell_camera(patch_camera))
        return crops, cells

    def _readings(self, depth: images.Depth | None, camera: Camera, evidence: list[Evidence]) -> list[DepthPoints]:
        if depth is None:
            return []
        return [measured.sample_points(depth, camera, item, self._config.depth) for item in evidence]

    def _solve(
        self,
        evidence: list[Evidence],
        start: State,
        prior: SizePriorTerm,
        others: list[Term],
        readings: list[DepthPoints],
        solver: SolverConfig,
    ) -> tuple[State, Linearised, Tensor]:
        """All hypotheses of all objects in one batch, and how far depth lets each be believed, (B,).

        Depth, where there is any, comes second: it sets the scale of what the image has found.
        """
        keep = len(start.log_size) // len(evidence)
        terms: list[Term] = [
            _correspondence_term(evidence, keep, self._config.correspondence.robust_cells),
            _axes_term(evidence, keep),
            prior,
            *others,
        ]
        states, curvature = minimise(terms, start, solver)
        trust = torch.ones(len(start.log_size), device=self._device)
        if readings:
            term = measured.depth_term(readings, evidence, keep, self._config.depth.robust)
            states, term, trust = measured.to_scale(states, term, prior, self._config.depth)
            states, curvature = minimise([*terms, term], states, solver)
        return states, curvature, trust

    def _choose(
        self,
        candidates: list[Candidate],
        evidence: list[Evidence],
        states: State,
        curvature: Linearised,
        trust: Tensor,
    ) -> list[_Answer]:
        """Of each object's hypotheses the one that explains its crop best."""
        keep = len(states.log_size) // len(evidence)
        answers = []
        for number, (candidate, item) in enumerate(zip(candidates, evidence, strict=True)):
            rows = torch.arange(number * keep, (number + 1) * keep, device=self._device)
            support, presence = vertex_support(states[rows], item)
            turns = rotations.line_of_sight(item.ray).T @ states[rows].camera_from_object.rotation
            scores = log_score(support, item, turns)
            best = int(scores.argmax())
            row = rows[best : best + 1]
            chosen = Linearised(curvature.cost[row], curvature.gradient[row], curvature.hessian[row])
            found = (float(support[best]), float(presence[best]), float(scores[best]), float(trust[row]))
            answers.append(_Answer(candidate, item, states[row], chosen, *found))
        return answers

    def _sighting(self, answer: _Answer, strain: float) -> Sighting:
        estimate = self._report(answer)
        information = answer.curvature.hessian[0].double().cpu()
        log_size = answer.state.log_size[0].double().cpu()
        belief = Belief(estimate.category, estimate.camera_from_object, log_size, information)
        return Sighting(belief, estimate, answer.log_score, strain)

    def _report(self, answer: _Answer) -> ObjectEstimate:
        state, table = answer.state, answer.evidence.table
        pose = canonical(state.camera_from_object[torch.tensor(0)], table.symmetry)
        visible = min(answer.presence / self._config.correspondence.full_presence, 1.0)
        return ObjectEstimate(
            category=table.name,
            camera_from_object=pose.to("cpu"),
            size_m=state.size_m[0].double().cpu().numpy(),
            score=answer.trust * answer.support / (answer.support + self._config.even_support),
            visible_fraction=visible,
            covariance=pose_covariance(answer.curvature.hessian[0], pose, table.symmetry),
        )

    def _features(self, pictures: list[images.Image]) -> FeatureMap:
        features: FeatureMap = self._backbone(images.to_tensor(pictures, self._device))
        return features


def _groups(candidates: list[Candidate]) -> list[list[Candidate]]:
    return [candidates[first : first + _AT_ONCE] for first in range(0, len(candidates), _AT_ONCE)]


def _where_believed(belief: Belief, category: int, camera: Camera) -> Candidate:
    position = belief.camera_from_object.translation
    u, v = camera.project(position).tolist()
    diagonal = camera.fx * float(belief.size_m.norm() / position[2])
    return Candidate(category, u, v, diagonal, 0.0)


def _believed_states(beliefs: Sequence[Belief], device: torch.device) -> State:
    rotation = torch.stack([item.camera_from_object.rotation for item in beliefs]).float().to(device)
    translation = torch.stack([item.camera_from_object.translation for item in beliefs]).float().to(device)
    return State(SE3(rotation, translation), torch.stack([item.log_size for item in beliefs]).float().to(device))


def _aimed(states: State, evidence: list[Evidence]) -> State:
    """Moved, each with its size and rotation, to where the votes of its cells see it; stays where there are none."""
    moved = []
    for translation, size_m, item in zip(states.camera_from_object.translation, states.size_m, evidence, strict=True):
        voted = item.intrinsics.focal[0, 0] * size_m.norm() / item.diagonal.clamp_min(1e-3) * item.ray
        moved.append(torch.where(item.presence.sum() > _FEW_CELLS, voted, translation))
    return State(SE3(states.camera_from_object.rotation, torch.stack(moved)), states.log_size)


def _sharpened(candidate: Candidate, found: Votes, camera: Camera) -> Candidate:
    """The candidate as the votes in its crop place it, in pixels of the camera."""
    focal, principal = found.intrinsics.focal[0], found.intrinsics.centre[0]
    across, down = ((found.centre - principal) / focal).tolist()
    diagonal = float(found.diagonal / focal[0]) * camera.fx
    votes = float(found.presence.sum())
    if not 0.5 < diagonal / candidate.diagonal_px < 2.0:  # nothing was seen in the crop
        return dataclasses.replace(candidate, votes=votes)
    u, v = across * camera.fx + camera.cx, down * camera.fy + camera.cy
    return Candidate(candidate.category, u, v, diagonal, votes)


def _correspondence_term(evidence: list[Evidence], keep: int, robust_cells: float) -> CorrespondenceTerm:
    def stack(name: str) -> Tensor:
        return torch.stack([getattr(item, name) for item in evidence]).repeat_interleave(keep, 0)

    intrinsics = Intrinsics(
        torch.cat([item.intrinsics.focal for item in evidence]).repeat_interleave(keep, 0),
        torch.cat([item.intrinsics.centre for item in evidence]).repeat_interleave(keep, 0),
    )
    return CorrespondenceTerm(intrinsics, stack("points_box"), stack("cells"), stack("weight"), robust_cells)


def _axes_term(evidence: list[Evidence], keep: int) -> AxesTerm:
    axes = torch.stack([item.axes @ rotations.line_of_sight(item.ray).T for item in evidence])
    information = torch.stack([item.axes_information for item in evidence])
    return AxesTerm(axes.repeat_interleave(keep, 0), information.repeat_interleave(keep, 0))


def _size_prior_term(evidence: list[Evidence], keep: int) -> SizePriorTerm:
    mean = torch.stack([item.table.log_size_mean for item in evidence])
    information = torch.stack([item.table.log_size_information for item in evidence])
    return SizePriorTerm(mean.repeat_interleave(keep, 0), information.repeat_interleave(keep, 0))


def _without_duplicates(answers: list[_Answer], camera: Camera, share: float) -> list[_Answer]:
    """One answer per place, whatever the categories: the one that its crop supports best.

    A large near object also gives rise to answers that see a part of it as a whole of the same
    category; they go too.
    """
    kept: list[tuple[_Answer, Tensor, float]] = []
    placed = [(item, *_appearance(item, camera)) for item in answers if float(_position(item)[2]) > 0]
    for answer, centre, diagonal in sorted(placed, key=lambda item: -item[0].support):
        for other, other_centre, other_diagonal in kept:
            distance = float((centre - other_centre).norm())
            same_place = distance < share * min(diagonal, other_diagonal)
            part = diagonal < 0.65 * other_diagonal and distance < 0.5 * other_diagonal
            if same_place or (part and answer.candidate.category == other.candidate.category):
                break
        else:
            kept.append((answer, centre, diagonal))
    return [answer for answer, _, _ in kept]


def _position(answer: _Answer) -> Tensor:
    return answer.state.camera_from_object.translation[0]


def _appearance(answer: _Answer, camera: Camera) -> tuple[Tensor, float]:
    """Projected centre and apparent diagonal, in pixels."""
    position = _position(answer).cpu()
    return camera.project(position), camera.fx * float(answer.state.size_m[0].norm() / position[2])


def _prefers_bfloat16(device: torch.device) -> bool:
    """CPUs without bfloat16 instructions emulate them, slower than single precision."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
