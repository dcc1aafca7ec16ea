"""The tracker on scripted estimates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from category_pose_ros import SE3, Camera, Frame, ObjectEstimate, Tracker, TrackerConfig

CAMERA = Camera(600.0, 600.0, 31.5, 23.5, 64, 48)
SECOND_NS = 1_000_000_000


def estimate(x: float, category: str = "mug", z: float = 1.0) -> ObjectEstimate:
    pose = SE3(torch.eye(3), torch.tensor([x * z, 0.0, z]))
    return ObjectEstimate(category, pose, np.full(3, 0.1), 0.9, 1.0, np.eye(6))


class Script:
    """Answers frame n with the n-th list."""

    def __init__(self, *answers: Sequence[ObjectEstimate]) -> None:
        self._answers = iter(answers)

    def estimate(self, frame: Frame) -> list[ObjectEstimate]:
        return list(next(self._answers))


def frame(stamp_ns: int) -> Frame:
    return Frame(np.zeros((48, 64, 3), np.uint8), CAMERA, stamp_ns=stamp_ns)


def run(
    answers: Sequence[Sequence[ObjectEstimate]],
    stamps_ns: Sequence[int] | None = None,
    config: TrackerConfig = TrackerConfig(confirm_after=1),
) -> list[dict[int, ObjectEstimate]]:
    tracker = Tracker(Script(*answers), config)
    stamps = stamps_ns or [k * SECOND_NS // 10 for k in range(len(answers))]
    return [{track.track_id: track.estimate for track in tracker.update(frame(stamp))} for stamp in stamps]


def test_a_track_is_published_once_it_is_confirmed() -> None:
    seen = run([[estimate(0.0)]] * 3, config=TrackerConfig(confirm_after=2))
    assert [sorted(ids) for ids in seen] == [[], [1], [1]]


def test_identities_follow_objects_that_swap_their_order() -> None:
    left, right = estimate(-0.1), estimate(0.1)
    seen = run([[left, right], [right, left]])
    assert seen[0] == {1: left, 2: right} == seen[1]


def test_the_category_is_part_of_the_identity() -> None:
    seen = run([[estimate(0.0, "mug")], [estimate(0.0, "can")]])
    assert [sorted(ids) for ids in seen] == [[1], [2]]


def test_a_jump_beyond_the_gate_is_a_new_object() -> None:
    seen = run([[estimate(0.0)], [estimate(0.2)]])
    assert [sorted(ids) for ids in seen] == [[1], [2]]


def test_a_change_of_distance_alone_is_no_jump() -> None:
    """Without depth the distance moves with the size that was assumed."""
    seen = run([[estimate(0.05, z=1.0)], [estimate(0.05, z=1.3)]])
    assert [sorted(ids) for ids in seen] == [[1], [1]]


def test_a_gap_is_bridged_and_a_long_one_is_not() -> None:
    short = run([[estimate(0.0)], [], [estimate(0.0)]])
    assert [sorted(ids) for ids in short] == [[1], [], [1]]
    long = run([[estimate(0.0)], [], [estimate(0.0)]], [0, 2 * SECOND_NS, 2 * SECOND_NS + 1])
    assert [sorted(ids) for ids in long] == [[1], [], [2]]


def test_time_that_goes_backwards_ends_all_tracks_and_ids_are_not_used_again() -> None:
    seen = run([[estimate(0.0)], [estimate(0.0)]], [SECOND_NS, 0])
    assert [sorted(ids) for ids in seen] == [[1], [2]]


def test_reset_forgets() -> None:
    tracker = Tracker(Script([estimate(0.0)], [estimate(0.0)]), TrackerConfig(confirm_after=1))
    (before,) = tracker.update(frame(0))
    tracker.reset()
    (after,) = tracker.update(frame(1))
    assert (before.track_id, after.track_id) == (1, 2)
