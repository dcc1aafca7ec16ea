"""The default method: neural meshes, from coarse to fine (Ma et al. 2022).

`NeuralMeshMethod._search` reads as the steps of the method: features of the whole image, votes
for centres, a crop per candidate at one scale, coarse proposals, refinement, choice, duplicates.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from category_pose_ros.config import section, setting, validate
from category_pose_ros.estimation import depth as measured
from category_pose_ros.estimation import hints, images
from category_pose_ros.estimation.belief import Belief, Search, Sighting, finished
from category_pose_ros.estimation.crops import CropConfig, CropReader, Look
from category_pose_ros.estimation.depth import DepthPoints
from category_pose_ros.estimation.detection import (
    Candidate,
    DetectionConfig,
    distinct,
    find_candidates,
    finest_scale,
    merge_levels,
    pyramid,
)
from category_pose_ros.estimation.evidence import CorrespondenceConfig, Evidence
from category_pose_ros.estimation.proposals import ProposalConfig, ProposalGrid, log_score, vertex_support
from category_pose_ros.estimation.resting import (
    Planes,
    RestingConfig,
    find_planes,
    resting_term,
    scale_to_planes,
    shared_plane_term,
    shared_up_term,
)
from category_pose_ros.estimation.sizes import typical_sizes, with_sizes
from category_pose_ros.estimation.solver import Linearised, SolverConfig, Term, fastest_minimise, linearise, minimise
from category_pose_ros.estimation.state import Intrinsics, State
from category_pose_ros.estimation.terms import AxesTerm, BeliefTerm, CorrespondenceTerm, RestingTerm, SizePriorTerm
from category_pose_ros.estimation.uncertainty import (
    SystematicConfig,
    pose_covariance,
    systematic_covariance,
    tilt_variance,
)
from category_pose_ros.estimation.verdict import lay_over
from category_pose_ros.geometry import SE3, Camera
from category_pose_ros.geometry.symmetry import canonical, symmetry_of
from category_pose_ros.models.backbone import FeatureMap
from category_pose_ros.models.checkpoint import NeuralMeshModel
from category_pose_ros.models.posterior import CategoryTable, Posterior
from category_pose_ros.models.runtime import PRECISIONS, RUNTIMES, prepared, prepared_judge
from category_pose_ros.models.score import Signs
from category_pose_ros.records import Frame, ObjectEstimate

_FEW_CELLS = 6.0  # whose votes are not worth believing
_AT_ONCE = 6  # candidates treated in one piece of a search


@dataclass(frozen=True)
class NeuralMeshConfig:
    """The neural mesh method."""

    sizes: tuple[str, ...] = setting(
        (),
        "Typical sizes that are known better than the model knows them: CATEGORY=XxYxZ, in metres along the object's "
        "axes, or CATEGORY=XxYxZ~DEVIATION with the deviation of their logarithms, as mug=0.12x0.09x0.1~0.1.",
    )
    looks: int = setting(2, "Crops per candidate, each aimed by the votes in the one before.", minimum=1, maximum=5)
    least_cells: float = setting(
        12.0, "Candidates of whose crop fewer cells show the object are not followed up ...", minimum=0.0
    )
    rival_share: float = setting(
        0.6,
        "... nor those whose crop shows less than this share of what that of another category shows there.",
        minimum=0.0,
        maximum=1.0,
    )
    duplicate_distance: float = setting(
        0.35, "Two objects whose centres are closer than this share of the smaller diagonal are one.", minimum=0.0
    )
    precision: str = setting(
        "auto",
        "Number format of the network; auto: int8 where OpenVINO runs it and the model knows its ranges, "
        "else bfloat16 where the device has it.",
        choices=PRECISIONS,
    )
    runtime: str = setting(
        "auto",
        "What runs the network; auto: OpenVINO on a CPU if it is installed, else PyTorch. "
        "Unless it is pytorch, Numba runs the solver there, if it is installed.",
        choices=RUNTIMES,
    )
    detection: DetectionConfig = section(DetectionConfig)
    crops: CropConfig = section(CropConfig)
    proposals: ProposalConfig = section(ProposalConfig)
    correspondence: CorrespondenceConfig = section(CorrespondenceConfig)
    depth: measured.DepthConfig = section(measured.DepthConfig)
    resting: RestingConfig = section(RestingConfig)
    solver: SolverConfig = section(SolverConfig)
    systematic: SystematicConfig = section(SystematicConfig)
    follow_iterations: int = setting(5, "Damped steps per frame for an object that is tracked.", minimum=1, maximum=200)

    def __post_init__(self) -> None:
        validate(self)
        typical_sizes(self.sizes)


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
    rests: float  # as in Signs
    contradicted: float
    judged: float

    @property
    def signs(self) -> Signs:
        return Signs.of(self.support, self.presence, self.rests, self.contradicted, self.judged)

    @property
    def score(self) -> float:
        return self.evidence.table.score.score(self.signs)


@dataclass(frozen=True, eq=False)
class _Scene:
    """What the depth of a frame shows: itself, (H, W) in metres, and the planes in it."""

    depth: images.Depth
    planes: Planes


@dataclass(frozen=True, eq=False)
class _Readings:
    """What depth says about some objects: the readings on each, and the planes they may rest on."""

    points: list[DepthPoints]
    planes: Planes

    def lack(self, keep: int) -> Tensor:
        """Whether there are none on the object, (B,) for `keep` hypotheses of each: it is of glass, or too shiny."""
        return torch.stack([item.weight.sum() == 0 for item in self.points]).repeat_interleave(keep)


@dataclass(frozen=True, eq=False)
class _Solved:
    """B refined hypotheses.

    Attributes:
        states: of all objects, as many for each.
        curvature: of all terms there.
        rests: (B,) 1 at rest on a plane, -1 on none of those that there are, 0 without any.
        contradicted: (B,) 1 where many depth readings contradict a hypothesis.
    """

    states: State
    curvature: Linearised
    rests: Tensor
    contradicted: Tensor


class NeuralMeshMethod:
    """Estimates every object of a frame.

    Args:
        model: trained model.
        categories: those to look for.
        device: where the network and the solver run.
        config: settings.

    Raises:
        ValueError: `config.sizes` names a category that the model does not know.
    """

    def __init__(
        self, model: NeuralMeshModel, categories: tuple[str, ...], device: torch.device, config: NeuralMeshConfig
    ) -> None:
        self._network = prepared(model.backbone, device, config.runtime, config.precision, model.ranges)
        self._posterior = Posterior(with_sizes(model, config.sizes), categories, device)
        self._reader = CropReader(self._features, self._posterior, config.crops, config.correspondence)
        self._judge = None if model.judge is None else prepared_judge(model.judge, device, config.runtime)
        self._numbers = [model.meshes.names.index(name) for name in categories]
        self._minimise = minimise if config.runtime == "pytorch" else fastest_minimise(device)
        self._grids = [ProposalGrid(table, config.proposals) for table in self._posterior.tables]
        self._following = dataclasses.replace(config.solver, iterations=config.follow_iterations)
        self._device = device
        self._config = config

    @torch.inference_mode()
    def search(self, frame: Frame, explained: Sequence[Belief] = ()) -> Search:
        """All objects of the frame, best first, whatever their score, in short pieces of work.

        Args:
            explained: what is known to be there; candidates in these places are not followed up.
        """
        answers = yield from self._search(frame, explained)
        return [self._report(answer) for answer in answers]

    @torch.inference_mode()
    def explain(
        self, frame: Frame, explained: Sequence[Belief] = ()
    ) -> Generator[None, None, list[tuple[ObjectEstimate, Evidence]]]:
        """The objects as `search` finds them, each with what its crop says."""
        answers = yield from self._search(frame, explained)
        return [(self._report(answer), answer.evidence) for answer in answers]

    @torch.inference_mode()
    def weigh(self, frame: Frame) -> list[tuple[ObjectEstimate, Signs]]:
        """The objects as `search` finds them, each with what speaks for it."""
        return [(self._report(answer), answer.signs) for answer in finished(self._search(frame, ()))]

    @torch.inference_mode()
    def lay_out(self, frame: Frame) -> list[tuple[ObjectEstimate, Tensor]]:
        """The objects as `search` finds them, each laid over its crop (C, h, w) as a judge sees it."""
        answers = finished(self._search(frame, ()))
        return [(self._report(answer), _laid([answer])[0]) for answer in answers]

    def _search(self, frame: Frame, explained: Sequence[Belief]) -> Generator[None, None, list[_Answer]]:
        image, camera = images.rectify(frame)
        scene = self._scene(frame, camera)
        allowed = hints.allowed_pixels(frame, [table.name for table in self._posterior.tables])
        smaller = pyramid(image, camera, self._config.detection)
        yield  # little work, so that a frame that begins a search does not do the two largest pieces
        levels = []
        for small, small_camera in smaller:
            levels.append(self._find(small, small_camera, camera, allowed))
            yield
        answers: list[_Answer] = []
        candidates = merge_levels(levels, self._config.detection, finest_scale(camera, self._config.detection))
        taken = [self._where(belief, camera) for belief in explained]
        candidates = [item for item in candidates if not any(self._is_at(item, place) for place in taken)]
        seen: dict[Candidate, Look | None] = dict.fromkeys(candidates)
        for _ in range(self._config.looks - 1):
            seen = {}
            for group in _groups(candidates):
                seen |= self._reader.aim(image, camera, group)
                yield
            candidates = distinct(list(seen), self._config.least_cells, self._config.rival_share)
        largest = self._config.detection.largest_share * math.hypot(camera.width, camera.height)
        candidates = [item for item in candidates if item.diagonal_px <= largest]
        for group in _groups(candidates):
            evidence = self._reader.read(image, camera, group, twice=True, taken=seen)
            yield
            answers += self._answers(camera, scene, group, evidence)
            yield
        kept = _without_duplicates(answers, camera, self._config.duplicate_distance)
        if scene is None:
            kept = self._agreed(kept)
        return kept

    @torch.inference_mode()
    def look_at(self, frame: Frame, beliefs: Sequence[Belief]) -> list[Evidence]:
        """What a crop around the place of each belief says about it."""
        image, camera = images.rectify(frame)
        candidates = [self._where(belief, camera) for belief in beliefs]
        return self._reader.read(image, camera, candidates)

    @torch.inference_mode()
    def follow(
        self, frame: Frame, beliefs: Sequence[Belief], prior: Sequence[float], others: Sequence[Belief] = ()
    ) -> list[Sighting]:
        """What a frame makes of beliefs: one crop each, where the object should be, and no search.

        Args:
            beliefs: predicted for the frame's time.
            prior: per belief, the share of its category's size prior to add to what it knows.
            others: about objects that are not looked at; without depth they too say where objects stand.

        Returns:
            One sighting per belief.
        """
        if not beliefs:
            return []
        image, camera = images.rectify(frame)
        candidates = [self._where(belief, camera) for belief in beliefs]
        evidence = self._reader.read(image, camera, candidates)
        believed = _believed_states(beliefs, self._device)
        expected = BeliefTerm(believed, torch.stack([item.information for item in beliefs]).float().to(self._device))
        readings = self._readings(self._scene(frame, camera), camera, evidence)
        usual, share = _size_prior_term([item.table for item in evidence], 1), torch.tensor(prior, device=self._device)
        told: list[Term] = [expected]
        if readings is None and len(beliefs) + len(others) > 1 and self._config.resting.agree_deg > 0:
            told.append(self._shared_plane([*beliefs, *others], share))
        sizes = dataclasses.replace(usual, information=share[:, None, None] * usual.information)
        # Far from what the cells say the robust kernel would drop them all, so it starts where their votes are.
        start = _aimed(believed, evidence)
        terms = [*self._image_terms(evidence, 1), sizes, *told]
        if readings is None:
            solved = self._fit(terms, start, self._following)
        else:
            solved = self._fit_to_depth(evidence, terms, usual, start, readings, self._following)
        answers = self._choose(candidates, evidence, solved)
        strain = (2 * expected.cost(solved.states)).tolist()
        return [self._sighting(answer, row) for answer, row in zip(answers, strain, strict=True)]

    def _find(
        self, small: images.Image, small_camera: Camera, camera: Camera, allowed: hints.Mask | None
    ) -> list[Candidate]:
        """Candidates from one image of the pyramid, in pixels of the camera."""
        cells = images.cell_camera(small_camera)
        voting = None if allowed is None else hints.allowed_cells(allowed, camera, cells).to(self._device)
        features = self._features([small])
        return find_candidates(features, self._posterior, cells, camera, self._config.detection, voting)

    def _where(self, belief: Belief, camera: Camera) -> Candidate:
        """Where an object is believed to appear."""
        position = belief.camera_from_object.translation
        u, v = camera.project(position).tolist()
        diagonal = camera.fx * float(belief.size_m.norm() / position[2])
        return Candidate(self._number(belief), u, v, diagonal, 0.0)

    def _is_at(self, candidate: Candidate, place: Candidate) -> bool:
        """Whether two candidates, of whatever categories, are one object."""
        ratio = candidate.diagonal_px / place.diagonal_px
        apart = math.hypot(candidate.u - place.u, candidate.v - place.v)
        return 0.5 < ratio < 2.0 and apart < self._config.duplicate_distance * place.diagonal_px

    def _answers(
        self, camera: Camera, scene: _Scene | None, candidates: list[Candidate], evidence: list[Evidence]
    ) -> list[_Answer]:
        """Propose and refine: one answer per candidate."""
        starts = [self._grids[c.category].propose(item) for c, item in zip(candidates, evidence, strict=True)]
        readings = self._readings(scene, camera, evidence)
        keep = len(starts[0].log_size)
        prior = _size_prior_term([item.table for item in evidence], keep)
        terms: list[Term] = [*self._image_terms(evidence, keep), prior]
        solved = self._fit(terms, State.cat(starts), self._config.solver)
        if readings is not None:
            states = self._set_down(solved.states, prior, readings)
            solved = self._fit_to_depth(evidence, terms, prior, states, readings, self._config.solver)
        return self._choose(candidates, evidence, solved)

    def _scene(self, frame: Frame, camera: Camera) -> _Scene | None:
        depth = images.rectify_depth(frame)
        return None if depth is None else _Scene(depth, find_planes(depth, camera, self._config.resting))

    def _readings(self, scene: _Scene | None, camera: Camera, evidence: list[Evidence]) -> _Readings | None:
        if scene is None:
            return None
        points = [
            measured.sample_points(scene.depth, camera, item, self._config.depth, scene.planes) for item in evidence
        ]
        return _Readings(points, scene.planes)

    def _set_down(self, states: State, prior: SizePriorTerm, readings: _Readings) -> State:
        """Those without readings at the scale at which they stand on a plane that has some."""
        if not len(readings.planes):
            return states
        standing = states.scaled(scale_to_planes(states, readings.planes, self._config.resting))
        likely = measured.is_likely_size(standing, prior, self._config.depth.prior_deviations)
        return standing.where(readings.lack(len(states.log_size) // len(readings.points)) & likely, states)

    def _fit(self, terms: list[Term], start: State, solver: SolverConfig) -> _Solved:
        """All hypotheses of all objects in one batch."""
        states, curvature = self._minimise(terms, start, solver)
        nothing = torch.zeros_like(curvature.cost)
        return _Solved(states, curvature, nothing, nothing)

    def _fit_to_depth(
        self,
        evidence: list[Evidence],
        terms: list[Term],
        prior: SizePriorTerm,
        start: State,
        readings: _Readings,
        solver: SolverConfig,
    ) -> _Solved:
        """The same with depth, from hypotheses that are right but for their scale: it sets that first.

        Args:
            terms: those without depth.
            prior: by which depth may be wrong about the size, whatever share of it is among the terms.
        """
        keep = len(start.log_size) // len(evidence)
        term = measured.depth_term(readings.points, evidence, keep, self._config.depth.robust)
        states, term, contradicted = measured.to_scale(start, term, prior, self._config.depth)
        terms, rests = [*terms, term], torch.zeros_like(contradicted)
        if len(readings.planes):
            resting = resting_term(states, readings.planes, self._config.resting)
            terms.append(resting)
            rests = 2 * resting.weight - 1
            rests = torch.where(readings.lack(keep), rests.clamp_max(0), rests)  # set down by us it says nothing
        states, curvature = self._minimise(terms, states, solver)
        return _Solved(states, curvature, rests, contradicted)

    def _choose(self, candidates: list[Candidate], evidence: list[Evidence], solved: _Solved) -> list[_Answer]:
        """Of each object's hypotheses the one that explains its crop best."""
        states, curvature = solved.states, solved.curvature
        keep = len(states.log_size) // len(evidence)
        answers = []
        for number, (candidate, item) in enumerate(zip(candidates, evidence, strict=True)):
            rows = torch.arange(number * keep, (number + 1) * keep, device=self._device)
            support, presence = vertex_support(states[rows], item)
            turns = item.sight.T @ states[rows].camera_from_object.rotation
            scores = log_score(support, item, turns)
            favour = self._config.resting.log_odds * (solved.rests[rows] > 0)
            best = int((scores + favour).argmax())
            row = rows[best : best + 1]
            found = (float(support[best]), float(presence[best]), float(scores[best]))
            depth = float(solved.rests[row]), float(solved.contradicted[row])
            answers.append(_Answer(candidate, item, states[row], curvature[row], *found, *depth, 0.0))
        return self._judged(answers)

    def _judged(self, answers: list[_Answer]) -> list[_Answer]:
        """The answers with what the judge says of them, if there is one."""
        if self._judge is None:
            return answers
        category = torch.tensor([self._numbers[answer.candidate.category] for answer in answers], device=self._device)
        right = self._judge(_laid(answers), category)[:, 0].tolist()
        return [dataclasses.replace(answer, judged=each) for answer, each in zip(answers, right, strict=True)]

    def _agreed(self, answers: list[_Answer]) -> list[_Answer]:
        """The answers once more, now that each knows what the others say is up, and where they stand.

        What the others say moves an answer but makes it no surer: they err alike.
        """
        if len(answers) < 2 or self._config.resting.agree_deg == 0:
            return answers
        evidence = [answer.evidence for answer in answers]
        states = State.cat([answer.state for answer in answers])
        hessian = torch.cat([answer.curvature.hessian for answer in answers])
        score = torch.tensor([answer.score for answer in answers], device=self._device)
        shared = shared_up_term(
            states, tilt_variance(hessian, states.camera_from_object.rotation), score, self._config.resting
        )
        sizes = _size_prior_term([item.table for item in evidence], 1)
        own = [*self._image_terms(evidence, 1), sizes]
        states, _ = self._minimise([*own, shared], states, self._config.solver)
        plane = shared_plane_term(states, shared, sizes.scale_variance, score, self._config.resting)
        states, _ = self._minimise([*own, plane], states, self._config.solver)
        curvature = linearise(own, states)
        numbers = torch.arange(len(answers), device=self._device).split(1)
        return [
            dataclasses.replace(answer, state=states[number], curvature=curvature[number])
            for answer, number in zip(answers, numbers, strict=True)
        ]

    def _shared_plane(self, beliefs: Sequence[Belief], share: Tensor) -> RestingTerm:
        """What all say about where each of the first stands, counted like the size priors that it comes from.

        Args:
            share: of the size prior of the first, those that are asked about.
        """
        states, config = _believed_states(beliefs, self._device), self._config.resting
        sizes = _size_prior_term([self._posterior.tables[self._number(item)] for item in beliefs], 1)
        alike = torch.ones(len(beliefs), device=self._device)
        up = shared_up_term(states, alike, alike, config)
        plane = shared_plane_term(states, up, sizes.scale_variance, alike, config)
        plane = plane[torch.arange(len(share), device=self._device)]
        told = share * plane.weight * plane.deviation_m.isfinite()
        return dataclasses.replace(plane, weight=told, deviation_rad=torch.full_like(share, torch.inf))

    def _number(self, belief: Belief) -> int:
        """Of its category."""
        return [table.name for table in self._posterior.tables].index(belief.category)

    def _image_terms(self, evidence: list[Evidence], keep: int) -> list[Term]:
        return [
            _correspondence_term(evidence, keep, self._config.correspondence.robust_cells),
            _axes_term(evidence, keep),
        ]

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
        size_m = state.size_m[0].double().cpu().numpy()
        systematic = systematic_covariance(pose, float(np.linalg.norm(size_m)), self._config.systematic)
        return ObjectEstimate(
            category=table.name,
            camera_from_object=pose.to("cpu"),
            size_m=size_m,
            score=answer.score,
            visible_fraction=visible,
            covariance=pose_covariance(answer.curvature.hessian[0], pose, table.symmetry) + systematic,
        )

    def _features(self, pictures: list[images.Image]) -> FeatureMap:
        return self._network(images.to_tensor(pictures, self._device))


def _groups(candidates: list[Candidate]) -> list[list[Candidate]]:
    return [candidates[first : first + _AT_ONCE] for first in range(0, len(candidates), _AT_ONCE)]


def _laid(answers: list[_Answer]) -> Tensor:
    return lay_over([answer.evidence for answer in answers], State.cat([answer.state for answer in answers]))


def _believed_states(beliefs: Sequence[Belief], device: torch.device) -> State:
    """In canonical poses, of which the cells speak: what turned a round object since then is not to be seen."""
    means = [(item.mean, symmetry_of(item.category)) for item in beliefs]
    states = State.cat([State(canonical(mean.camera_from_object, each), mean.log_size) for mean, each in means])
    return State(states.camera_from_object.to(device), states.log_size.to(device))


def _aimed(states: State, evidence: list[Evidence]) -> State:
    """Moved, each with its size and rotation, to where the votes of its cells see it; stays where there are none."""
    moved = []
    for translation, size_m, item in zip(states.camera_from_object.translation, states.size_m, evidence, strict=True):
        voted = item.intrinsics.focal[0, 0] * size_m.norm() / item.diagonal.clamp_min(1e-3) * item.ray
        moved.append(torch.where(item.presence.sum() > _FEW_CELLS, voted, translation))
    return State(SE3(states.camera_from_object.rotation, torch.stack(moved)), states.log_size)


def _correspondence_term(evidence: list[Evidence], keep: int, robust_cells: float) -> CorrespondenceTerm:
    def stack(name: str) -> Tensor:
        return torch.stack([getattr(item, name) for item in evidence]).repeat_interleave(keep, 0)

    optics = Intrinsics.cat([item.intrinsics for item in evidence])
    intrinsics = Intrinsics(optics.focal.repeat_interleave(keep, 0), optics.centre.repeat_interleave(keep, 0))
    return CorrespondenceTerm(intrinsics, stack("points_box"), stack("cells"), stack("weight"), robust_cells)


def _axes_term(evidence: list[Evidence], keep: int) -> AxesTerm:
    axes = torch.stack([item.axes @ item.sight.T for item in evidence])
    information = torch.stack([item.axes_information for item in evidence])
    return AxesTerm(axes.repeat_interleave(keep, 0), information.repeat_interleave(keep, 0))


def _size_prior_term(tables: list[CategoryTable], keep: int) -> SizePriorTerm:
    mean = torch.stack([table.log_size_mean for table in tables])
    information = torch.stack([table.log_size_information for table in tables])
    return SizePriorTerm(mean.repeat_interleave(keep, 0), information.repeat_interleave(keep, 0))


def _without_duplicates(answers: list[_Answer], camera: Camera, share: float) -> list[_Answer]:
    """One answer per place, whatever the categories: the likeliest.

    A large near object also gives rise to answers that see a part of it as a whole of the same
    category; they go too.
    """
    kept: list[tuple[_Answer, Tensor, float]] = []
    placed = [(item, *_appearance(item, camera)) for item in answers if float(_position(item)[2]) > 0]
    for answer, centre, diagonal in sorted(placed, key=lambda item: -item[0].score):
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
