"""Evaluation of a tracker on annotated sequences: what it holds, what it loses, what it claims falsely."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from category_pose_ros.data.annotations import AnnotatedFrame, GroundTruthObject
from category_pose_ros.evaluation.evaluate import PoseErrors, pose_errors
from category_pose_ros.evaluation.matching import match
from category_pose_ros.records import Frame, Track

FALSE_ROTATION_DEG = 30.0
FALSE_DISTANCE = 0.2
"""A published track farther than this from the truth is a false claim: 30 degrees, or a position off by a
fifth of the distance from the camera."""

HIDDEN = 0.1
"""Visible fraction up to which an object counts as gone."""


@dataclass(frozen=True)
class Moment:
    """One object in one frame.

    Attributes:
        counts: whether it is to be tracked here.
        gone: whether it cannot be seen here.
        track_id: of the track published for it, None where there is none.
        errors: of that track.
        is_false: whether that track is a false claim.
    """

    counts: bool
    gone: bool
    track_id: int | None = None
    errors: PoseErrors | None = None
    is_false: bool = False


@dataclass
class SequenceEvaluation:
    """What happened in a sequence.

    Attributes:
        objects: per object its moments, frame by frame, from where it is first annotated.
        published: tracks published, over all frames.
        ghosts: of these, tracks that speak of no object.
        seconds: wall time of each update.
    """

    objects: dict[int, list[Moment]] = field(default_factory=dict)
    published: int = 0
    ghosts: int = 0
    seconds: list[float] = field(default_factory=list)


def evaluate_sequence(
    update: Callable[[Frame], Sequence[Track]], frames: Iterable[AnnotatedFrame], categories: Collection[str] = ()
) -> SequenceEvaluation:
    """Run a tracker over a sequence and compare.

    Args:
        update: the tracker's; called once per frame, in order.
        frames: of one camera, with `track_id` for every object.
        categories: only objects and tracks of these count; empty: all.

    Raises:
        ValueError: an object without track_id.
    """
    result = SequenceEvaluation()
    for annotated in frames:
        begin = time.perf_counter()
        tracks = update(annotated.frame)
        result.seconds.append(time.perf_counter() - begin)
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
    present = {item.track_id for item in objects}
    for number, moments in result.objects.items():
        if number not in present:
            moments.append(Moment(counts=False, gone=True))
    for column, item in enumerate(objects):
        assert item.track_id is not None
        track = by_object.get(column)
        gone = item.visible_fraction is not None and item.visible_fraction <= HIDDEN
        moment = Moment(not item.ignore, gone)
        if track is not None:
            errors = pose_errors(track.estimate, item)
            moment = Moment(not item.ignore, gone, track.track_id, errors, _is_false(errors, item))
        result.objects.setdefault(item.track_id, []).append(moment)


def _is_false(errors: PoseErrors, truth: GroundTruthObject) -> bool:
    apart = errors.translation_m / float(truth.camera_from_object.translation.norm())
    return math.degrees(errors.rotation_rad) > FALSE_ROTATION_DEG or apart > FALSE_DISTANCE


@dataclass(frozen=True)
class SequenceSummary:
    """Numbers of a sequence.

    Attributes:
        frames: object-frames that count.
        tracked: share of them in which the object has a published track that is no false claim.
        switches: how often an object's track is another one than the last it had.
        false_claims: share of the published tracks that are false claims or speak of no object.
        median_rotation_deg, median_distance: of the objects that have a track; the distance's error is a
            share of the distance. None where there is none.
        recovery_frames: median frames from the return of an object that was gone to its track. None where
            none was gone and came back.
        seconds_per_frame: median wall time of an update.
    """

    frames: int
    tracked: float
    switches: int
    false_claims: float
    median_rotation_deg: float | None
    median_distance: float | None
    recovery_frames: float | None
    seconds_per_frame: float


def summarise_sequence(evaluation: SequenceEvaluation) -> SequenceSummary:
    """Make numbers of what happened."""
    moments = [moment for object_moments in evaluation.objects.values() for moment in object_moments]
    counted = [moment for moment in moments if moment.counts]
    held = [moment for moment in counted if moment.track_id is not None and not moment.is_false]
    errors = [moment.errors for moment in counted if moment.errors is not None]
    false = sum(moment.is_false for moment in counted) + evaluation.ghosts
    recoveries = [length for each in evaluation.objects.values() for length in _recoveries(each)]
    return SequenceSummary(
        frames=len(counted),
        tracked=len(held) / max(len(counted), 1),
        switches=sum(_switches(each) for each in evaluation.objects.values()),
        false_claims=false / max(evaluation.published, 1),
        median_rotation_deg=_median([math.degrees(each.rotation_rad) for each in errors]),
        median_distance=_median([each.distance_fraction for each in errors]),
        recovery_frames=_median(recoveries),
        seconds_per_frame=statistics.median(evaluation.seconds) if evaluation.seconds else 0.0,
    )


def _switches(moments: Sequence[Moment]) -> int:
    ids = [moment.track_id for moment in moments if moment.track_id is not None]
    return sum(before != after for before, after in itertools.pairwise(ids))


def _recoveries(moments: Sequence[Moment]) -> list[float]:
    """Frames from each return to the next right track; what never got one again is as long as the rest."""
    found: list[float] = []
    for k in range(1, len(moments)):
        if moments[k].counts and any(moment.gone for moment in moments[:k]) and not moments[k - 1].counts:
            rest = moments[k:]
            right = (n for n, moment in enumerate(rest) if moment.track_id is not None and not moment.is_false)
            found.append(float(next(right, len(rest))))
    return found


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def sequence_text(summary: SequenceSummary) -> str:
    """A table of one row."""

    def shown(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    cells = {
        "object-frames": str(summary.frames),
        "tracked": f"{summary.tracked:.1%}",
        "false claims": f"{summary.false_claims:.1%}",
        "switches": str(summary.switches),
        "rot °": shown(summary.median_rotation_deg, ".1f"),
        "dist": shown(summary.median_distance, ".1%"),
        "recovery frames": shown(summary.recovery_frames, ".0f"),
        "ms/frame": f"{1e3 * summary.seconds_per_frame:.0f}",
    }
    widths = [max(len(name), len(cell)) for name, cell in cells.items()]
    rows = (cells.keys(), cells.values())
    return "\n".join("  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows)
