"""Evaluation of a tracker on sequences worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from category_pose_ros import SE3, Camera, Frame, ObjectEstimate, Track, TrackState
from category_pose_ros.data.annotations import AnnotatedFrame, GroundTruthObject
from category_pose_ros.evaluation.sequence import (
    calibration_text,
    evaluate_sequence,
    sequence_text,
    summarise_sequence,
)
from category_pose_ros.geometry import so3

CAMERA = Camera(100.0, 100.0, 31.5, 23.5, 64, 48)
SIZE = np.array([0.1, 0.1, 0.1])
SECOND_NS = 1_000_000_000  # from frame to frame


def pose(x: float = 0.0, z: float = 1.0, turn_deg: float = 0.0) -> SE3:
    rotation = so3.exp(torch.tensor([0.0, 0.0, np.radians(turn_deg)], dtype=torch.float64))
    return SE3(rotation, torch.tensor([x, 0.0, z], dtype=torch.float64))


def thing(number: int | None = 1, x: float = 0.0, visible: float = 1.0) -> GroundTruthObject:
    return GroundTruthObject("mug", pose(x), SIZE, ignore=visible < 0.25, visible_fraction=visible, track_id=number)


def track(number: int, camera_from_object: SE3) -> Track:
    estimate = ObjectEstimate("mug", camera_from_object, SIZE, 0.9, 1.0, np.eye(6))
    return Track(number, TrackState.CONFIRMED, estimate, 0)


def run(
    truth: Sequence[Sequence[GroundTruthObject]], published: Sequence[Sequence[Track]], *, only_annotated: bool = False
):
    image = np.zeros((48, 64, 3), np.uint8)
    frames = [
        AnnotatedFrame(Frame(image, CAMERA, stamp_ns=k * SECOND_NS), tuple(objects), str(k))
        for k, objects in enumerate(truth)
    ]
    answers = iter(published)
    evaluation = evaluate_sequence(lambda frame, there: list(next(answers)), frames, only_annotated=only_annotated)
    return summarise_sequence(evaluation)


def test_a_perfect_tracker() -> None:
    summary = run([[thing()]] * 4, [[track(7, pose())]] * 4)
    assert (summary.frames, summary.tracked, summary.switches, summary.false_claims) == (4, 1.0, 0, 0.0)
    assert summary.median_rotation_deg == pytest.approx(0.0, abs=1e-6)
    assert summary.median_distance == pytest.approx(0.0, abs=1e-9)
    assert summary.recovery_frames is None


def test_what_is_not_published_is_not_tracked_and_no_false_claim() -> None:
    summary = run([[thing()]] * 4, [[], [track(1, pose())], [], []])
    assert summary.tracked == 0.25
    assert summary.false_claims == 0


@pytest.mark.parametrize(
    ("wrong", "is_false"),
    [
        (pose(turn_deg=29), False),
        (pose(turn_deg=31), True),
        (pose(z=1.19), False),
        (pose(z=1.21), True),
    ],
)
def test_a_claim_is_false_beyond_30_degrees_or_a_fifth_of_the_distance(wrong: SE3, is_false: bool) -> None:
    summary = run([[thing()]] * 2, [[track(1, pose())], [track(1, wrong)]])
    assert summary.false_claims == (0.5 if is_false else 0.0)
    assert summary.tracked == (0.5 if is_false else 1.0)


def test_a_track_of_nothing_is_a_false_claim() -> None:
    summary = run([[thing()]], [[track(1, pose()), track(2, pose(x=0.25))]])
    assert summary.false_claims == 0.5
    assert summary.tracked == 1.0


def test_of_what_nobody_annotated_nothing_is_known() -> None:
    truth, published = [[], [thing()], []], [[track(1, pose())]] * 3
    assert run(truth, published).false_claims == pytest.approx(2 / 3)
    summary = run(truth, published, only_annotated=True)
    assert (summary.frames, summary.tracked, summary.false_claims) == (1, 1.0, 0.0)


def test_another_identity_is_a_switch_and_an_interruption_is_none() -> None:
    def tracks(*ids: int) -> list[list[Track]]:
        return [[track(number, pose())] if number else [] for number in ids]

    assert run([[thing()]] * 5, tracks(1, 1, 0, 1, 1)).switches == 0
    switching = run([[thing()]] * 5, tracks(1, 1, 2, 2, 1))
    assert switching.switches == 2
    assert switching.switches_per_minute == pytest.approx(30)  # two in four seconds
    assert run([[thing()]], tracks(1)).switches_per_minute is None


def test_frames_from_the_return_to_the_right_track() -> None:
    """Hidden in frames 2 and 3, back in frame 4, wrong there, right in frame 6."""
    truth = [[thing(visible=share)] for share in (1, 1, 0.05, 0.05, 1, 1, 1)]
    right, wrong = [track(1, pose())], [track(1, pose(turn_deg=90))]
    summary = run(truth, [right, right, [], [], wrong, [], right])
    assert summary.recovery_frames == 2
    assert summary.frames == 5


def test_an_object_that_is_not_annotated_for_a_while_is_gone() -> None:
    right = [track(1, pose())]
    assert run([[thing()], [], [thing()], [thing()]], [right, [], [], right]).recovery_frames == 1


def test_frames_until_a_loss_is_noticed() -> None:
    """Gone from frame 2 on, the track still published in frames 2 and 3."""
    right = [track(1, pose())]
    truth = [[thing(visible=share)] for share in (1, 1, 0.05, 0.05, 0.05, 1)]
    assert run(truth, [right, right, right, right, [], []]).notice_frames == 2
    assert run(truth, [right, right, [], [], [], right]).notice_frames == 0
    assert run(truth, [right, right, [track(2, pose(x=0.25))], [], [], right]).notice_frames == 0
    assert run([[thing()], [], [], []], [right, right, right, []]).notice_frames == 2
    assert run([[thing()]] * 2, [right, right]).notice_frames is None


def test_what_is_seen_too_little_to_count_before_it_is_gone_has_left_all_the_same() -> None:
    right = [track(1, pose())]
    truth = [[thing(visible=share)] for share in (1, 0.2, 0.05, 0.05)]
    assert run(truth, [right, right, right, []]).notice_frames == 1


def test_a_track_that_leaves_its_object_is_noticed_when_it_is_no_longer_claimed() -> None:
    right, wrong = [track(1, pose())], [track(1, pose(turn_deg=90))]
    assert run([[thing()]] * 6, [right, wrong, wrong, wrong, [], right]).notice_frames == 3


def test_jitter_is_the_change_of_the_error_and_no_bias() -> None:
    biased = [track(1, pose(x=0.004, turn_deg=5))]
    steady = run([[thing()]] * 3, [biased] * 3)
    assert (steady.jitter_mm, steady.jitter_deg) == pytest.approx((0, 0), abs=1e-6)
    other = [track(1, pose(x=-0.002, turn_deg=3))]
    shaky = run([[thing()]] * 3, [biased, other, biased])
    assert (shaky.jitter_mm, shaky.jitter_deg) == pytest.approx((6, 2), rel=1e-5)
    moving = [[thing(x=0.01 * k)] for k in range(3)]
    assert run(moving, [[track(1, pose(x=0.01 * k))] for k in range(3)]).jitter_mm == pytest.approx(0, abs=1e-6)


def test_covariances_are_judged_with_and_without_false_claims() -> None:
    right, wrong = [track(1, pose())], [track(1, pose(turn_deg=90))]
    summary = run([[thing()]] * 4, [right, right, right, wrong])
    assert summary.calibration["rotation"].count == 4
    assert summary.calibration["rotation"].mean == pytest.approx((np.pi / 2) ** 2 / 3 / 4)
    assert summary.calibration_of_right["rotation"].count == 3
    assert summary.calibration_of_right["rotation"].mean == pytest.approx(0, abs=1e-9)
    lines = calibration_text(summary).split("\n")
    assert len(lines) == 2 + 2 * 4
    assert len({len(line) for line in lines}) == 1


def test_a_sequence_needs_identities() -> None:
    with pytest.raises(ValueError, match="frames: expected a track_id for every object of a sequence, got none in 0"):
        run([[thing(number=None)]], [[]])


def test_the_table_has_a_name_above_every_number() -> None:
    lines = sequence_text({"as it is": run([[thing()]], [[]]), "again": run([[thing()]], [[]])}).split("\n")
    assert len({len(line) for line in lines}) == 1
    assert "tracked" in lines[0]
    assert "-" in lines[2].split()  # nothing was found, so no error was measured
    assert lines[3].startswith("again")


def test_what_is_hidden_counts_no_more_than_what_is_absent() -> None:
    there, away = [thing()], [GroundTruthObject("mug", pose(), SIZE, visible_fraction=0.0, track_id=1)]
    published = [[track(7, pose())]] * 2 + [[]] * 4 + [[track(7, pose())]] * 2
    for gone in (away, []):
        summary = run([there, there, gone, gone, gone, there, there, there], published)
        assert (summary.frames, summary.tracked, summary.recovery_frames) == (5, 0.8, 1.0)
    held = [[track(7, pose())]] * 8
    for gone in (away, []):
        assert run([there, there, gone, gone, gone, there, there, there], held).notice_frames == 3.0


def test_only_what_was_gone_returns() -> None:
    ignored = [GroundTruthObject("mug", pose(), SIZE, visible_fraction=0.2, ignore=True, track_id=1)]
    truth = [[thing()], [], [thing()], [thing()], [thing()], ignored, [thing()], ignored, [thing()]]
    published = [[track(7, pose())], [], [], [], *[[track(7, pose())]] * 5]
    assert run(truth, published).recovery_frames == 2.0
