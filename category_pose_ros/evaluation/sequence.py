"""Evaluation of a tracker on annotated sequences: what it holds, what it loses, what it claims falsely."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from category_pose_ros.data.annotations import AnnotatedFrame, GroundTruthObject
from category_pose_ros.evaluation.calibration import (
    INNER,
    OUTER,
    Calibration,
    NormalisedError,
    calibrate,
    normalised_errors,
    pose_error,
)
from category_pose_ros.evaluation.evaluate import PoseErrors, pose_errors
from category_pose_ros.evaluation.matching import match
from category_pose_ros.evaluation.report import aligned
from category_pose_ros.geometry import SE3
from category_pose_ros.records import Frame, Track

FALSE_ROTATION_DEG = 30.0
FALSE_DISTANCE = 0.2
"""A published track farther than this from the truth is a false claim: 30 degrees, or a position off by a
fifth of the distance from the camera."""

HIDDEN = 0.1
"""Visible fraction up to which an object counts as gone."""


@dataclass(frozen=True, eq=False)
class ObjectMoment:
    """One object in one frame.

    Attributes:
        counts: whether it is to be tracked here.
        gone: whether it cannot be seen here.
        track_id: of the track published for it, None where there is none.
        errors, normalised, vector: of that track; the last is `calibration.pose_error`.
        is_false: whether that track is a false claim.
        claimed: whether the track that it had last is still published, wherever.
    """

    counts: bool
    gone: bool
    track_id: int | None = None
    errors: PoseErrors | None = None
    normalised: Mapping[str, NormalisedError] | None = None
    is_false: bool = False
    claimed: bool = False
    vector: npt.NDArray[np.float64] | None = None

    @property
    def is_right(self) -> bool:
        """Whether the object has a track that is no false claim."""
        return self.track_id is not None and not self.is_false


@dataclass
class SequenceEvaluation:
    """What happened in a sequence.

    Attributes:
        objects: per object its moments, frame by frame, from where it is first annotated.
        published: tracks published, over all frames.
        ghosts: of these, tracks that speak of no object.
        seconds: wall time of each update.
        stamps_ns: of the frames that are judged.
    """

    objects: dict[int, list[ObjectMoment]] = field(default_factory=dict)
    published: int = 0
    ghosts: int = 0
    seconds: list[float] = field(default_factory=list)
    stamps_ns: list[int] = field(default_factory=list)


def evaluate_sequence(
    update: Callable[[Frame, SE3 | None], Sequence[Track]],
    frames: Iterable[AnnotatedFrame],
    categories: Collection[str] = (),
    only_annotated: bool = False,
    camera_motion: bool = False,
) -> SequenceEvaluation:
    """Run a tracker over a sequence and compare.

    Args:
        update: the tracker's; called once per frame, in order, with where the camera was.
        frames: of one camera, with `track_id` for every object.
        categories: only objects and tracks of these count; empty: all.
        only_annotated: frames without any annotated object are tracked but not judged: of them it is not
            known what they show. Otherwise every track in them is a false claim.
        camera_motion: the tracker is told where the camera was, as TF tells a robot; otherwise it is not.

    Raises:
        ValueError: an object without track_id, a frame that is no later than the one before, or one that does not
            say where its camera was and should.
    """
    result, before_ns = SequenceEvaluation(), -1
    for annotated in frames:
        if annotated.frame.stamp_ns <= before_ns:
            raise ValueError(f"frames: expected stamps that increase, got {annotated.frame.stamp_ns} after {before_ns}")
        before_ns = annotated.frame.stamp_ns
        if camera_motion and annotated.world_from_camera is None:
            raise ValueError(f"frames: expected the pose of the camera (cam_R_w2c), got none in {annotated.name}")
        begin = time.perf_counter()
        tracks = update(annotated.frame, annotated.world_from_camera if camera_motion else None)
        result.seconds.append(time.perf_counter() - begin)
        if only_annotated and not annotated.objects:
            continue
        result.stamps_ns.append(annotated.frame.stamp_ns)
        kept = [track for track in tracks if not categories or track.estimate.category in categories]
        objects = [item for item in annotated.objects if not categories or item.category in categories]
        if any(item.track_id is None for item in objects):
            raise ValueError(
                f"frames: expected a track_id for every object of a sequence, got none in {annotated.name}"
            )
        _compare(result, annotated, kept, objects)
    return result


def _compare(
    result: SequenceEvaluation, annotated: AnnotatedFrame, tracks: Sequence[Track], objects: Sequence[GroundTruthObject]
) -> None:
    matching = match(annotated.frame.camera, [track.estimate for track in tracks], objects)
    result.published += len(tracks)
    result.ghosts += len(matching.false_alarms)
    by_object = {column: tracks[row] for row, column in matching.pairs}
    published = {track.track_id for track in tracks}
    present = {item.track_id for item in objects}
    for number, moments in result.objects.items():
        if number not in present:
            moments.append(ObjectMoment(counts=False, gone=True, claimed=_last_id(moments) in published))
    for column, item in enumerate(objects):
        assert item.track_id is not None
        moments = result.objects.setdefault(item.track_id, [])
        moments.append(_moment(item, by_object.get(column), _last_id(moments) in published))


def _moment(truth: GroundTruthObject, track: Track | None, claimed: bool) -> ObjectMoment:
    gone = truth.visible_fraction is not None and truth.visible_fraction <= HIDDEN
    counts = not truth.ignore and not gone
    if track is None:
        return ObjectMoment(counts, gone, claimed=claimed)
    errors = pose_errors(track.estimate, truth)
    return ObjectMoment(
        counts=counts,
        gone=gone,
        track_id=track.track_id,
        errors=errors,
        normalised=normalised_errors(track.estimate, truth),
        is_false=_is_false(errors, truth),
        claimed=True,
        vector=pose_error(track.estimate, truth),
    )


def _last_id(moments: Sequence[ObjectMoment]) -> int | None:
    return next((item.track_id for item in reversed(moments) if item.track_id is not None), None)


def _is_false(errors: PoseErrors, truth: GroundTruthObject) -> bool:
    apart = errors.translation_m / float(truth.camera_from_object.translation.norm())
    return math.degrees(errors.rotation_rad) > FALSE_ROTATION_DEG or apart > FALSE_DISTANCE


@dataclass(frozen=True)
class SequenceSummary:
    """Numbers of a sequence. None where there is nothing to measure.

    Attributes:
        frames: object-frames that count.
        tracked: share of them in which the object has a published track that is no false claim.
        switches: how often an object's track is another one than the last it had.
        switches_per_minute: the same per minute of the sequence.
        false_claims: share of the published tracks that are false claims or speak of no object.
        median_rotation_deg, median_distance: of the objects that have a track; the distance's error is a
            share of the distance.
        notice_frames: median frames for which a right track is still published after its object has
            gone, or as a false claim after it has left its object.
        recovery_frames: median frames from the return of an object that was gone to its track.
        jitter_mm, jitter_deg: median change of the error of position and rotation from one frame to the
            next, of tracks that are right. Of an object at rest it is the change of its published pose.
        seconds_per_frame, slow_seconds_per_frame: wall time of an update, median and 95th percentile.
        calibration: by group of variables, of all objects that have a track (`calibration.calibrate`).
        calibration_of_right: the same without false claims.
    """

    frames: int
    tracked: float
    switches: int
    switches_per_minute: float | None
    false_claims: float
    median_rotation_deg: float | None
    median_distance: float | None
    notice_frames: float | None
    recovery_frames: float | None
    jitter_mm: float | None
    jitter_deg: float | None
    seconds_per_frame: float
    slow_seconds_per_frame: float
    calibration: dict[str, Calibration]
    calibration_of_right: dict[str, Calibration]


def summarise_sequence(evaluation: SequenceEvaluation) -> SequenceSummary:
    """Make numbers of what happened."""
    each = list(evaluation.objects.values())
    counted = [moment for moments in each for moment in moments if moment.counts]
    errors = [moment.errors for moment in counted if moment.errors is not None]
    false = sum(moment.is_false for moment in counted) + evaluation.ghosts
    switches = sum(_switches(moments) for moments in each)
    minutes = (evaluation.stamps_ns[-1] - evaluation.stamps_ns[0]) / 60e9 if evaluation.stamps_ns else 0.0
    jitter = [change for moments in each for change in _jitter(moments)]
    seconds = evaluation.seconds
    return SequenceSummary(
        frames=len(counted),
        tracked=sum(moment.is_right for moment in counted) / max(len(counted), 1),
        switches=switches,
        switches_per_minute=switches / minutes if minutes > 0 else None,
        false_claims=false / max(evaluation.published, 1),
        median_rotation_deg=_median([math.degrees(item.rotation_rad) for item in errors]),
        median_distance=_median([item.distance_fraction for item in errors]),
        notice_frames=_median([length for moments in each for length in _notices(moments)]),
        recovery_frames=_median([length for moments in each for length in _recoveries(moments)]),
        jitter_mm=_median([1e3 * shift for shift, _ in jitter]),
        jitter_deg=_median([math.degrees(turn) for _, turn in jitter]),
        seconds_per_frame=statistics.median(seconds) if seconds else 0.0,
        slow_seconds_per_frame=float(np.percentile(seconds, 95)) if seconds else 0.0,
        calibration=calibrate([moment.normalised for moment in counted if moment.normalised is not None]),
        calibration_of_right=calibrate(
            [moment.normalised for moment in counted if moment.normalised is not None and moment.is_right]
        ),
    )


def _switches(moments: Sequence[ObjectMoment]) -> int:
    ids = [moment.track_id for moment in moments if moment.track_id is not None]
    return sum(before != after for before, after in itertools.pairwise(ids))


def _notices(moments: Sequence[ObjectMoment]) -> list[float]:
    """Frames of each claim that is wrong, after one that was right; 0 where it is given up at once."""
    found: list[float] = []
    told = [moment for moment in moments if moment.counts or moment.gone]
    for k in range(1, len(told)):
        if told[k - 1].counts and told[k - 1].is_right and (told[k].gone or told[k].is_false):
            run = itertools.takewhile(lambda moment: (moment.gone and moment.claimed) or moment.is_false, told[k:])
            found.append(float(sum(1 for _ in run)))
    return found


def _recoveries(moments: Sequence[ObjectMoment]) -> list[float]:
    """Frames from each return to the next right track; what never got one again is as long as the rest."""
    found: list[float] = []
    for k in range(1, len(moments)):
        away = itertools.takewhile(lambda moment: not moment.counts, reversed(moments[:k]))
        if moments[k].counts and any(moment.gone for moment in away):
            rest = moments[k:]
            found.append(float(next((n for n, moment in enumerate(rest) if moment.is_right), len(rest))))
    return found


def _jitter(moments: Sequence[ObjectMoment]) -> list[tuple[float, float]]:
    """Change of the error from frame to frame of one right track: metres and radians."""
    found = []
    for before, now in itertools.pairwise(moments):
        if before.is_right and now.is_right and before.track_id == now.track_id:
            assert before.vector is not None
            assert now.vector is not None
            change = now.vector - before.vector
            found.append((float(np.linalg.norm(change[:3])), float(np.linalg.norm(change[3:]))))
    return found


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


_COLUMNS: dict[str, tuple[str, str]] = {  # of SequenceSummary: heading, format
    "frames": ("object-frames", "d"),
    "tracked": ("tracked", ".1%"),
    "false_claims": ("false claims", ".1%"),
    "switches": ("switches", "d"),
    "switches_per_minute": ("per min", ".1f"),
    "median_rotation_deg": ("rot °", ".1f"),
    "median_distance": ("dist", ".1%"),
    "notice_frames": ("notice", ".0f"),
    "recovery_frames": ("recover", ".0f"),
    "jitter_mm": ("jitter mm", ".1f"),
    "jitter_deg": ("jitter °", ".1f"),
    "seconds_per_frame": ("s/frame", ".3f"),
    "slow_seconds_per_frame": ("95 %", ".3f"),
}
LEGEND = (
    "tracked: right to 30° and a fifth of the distance; notice, recover: median frames until a loss is no longer "
    "claimed, until what returned is tracked; jitter: median change of the error from frame to frame"
)


def sequence_text(summaries: Mapping[str, SequenceSummary]) -> str:
    """A table with a row per named summary."""
    heading = ["", *(title for title, _ in _COLUMNS.values())]
    return aligned([heading, *([name, *_cells(summary)] for name, summary in summaries.items())])


def _cells(summary: SequenceSummary) -> list[str]:
    values = ((getattr(summary, name), form) for name, (_, form) in _COLUMNS.items())
    return ["-" if value is None else format(value, form) for value, form in values]


def calibration_text(summary: SequenceSummary) -> str:
    """How well the covariances hold, per group of variables, with and without false claims."""
    rows = [["covariance of", "tracks", "NEES/dof", "median", f"in {INNER:.0%}", f"in {OUTER:.0%}"]]
    for suffix, groups in (("", summary.calibration), (", right tracks", summary.calibration_of_right)):
        for name, item in groups.items():
            shares = (f"{item.inside_one:.0%}", f"{item.inside_two:.0%}")
            rows.append([name + suffix, str(item.count), f"{item.mean:.1f}", f"{item.median:.2f}", *shares])
    return aligned(rows)
