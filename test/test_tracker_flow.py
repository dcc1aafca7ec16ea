"""The tracker between looks: a simulated estimator, and images in which optical flow sees how things move."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pytest
import torch
from test_tracker import Thing, World, every
from textured import Image, depth_of, picture

from category_pose_ros import SE3, Camera, Frame, ObjectEstimate, Track, Tracker, TrackerConfig
from category_pose_ros.estimation.belief import Belief, Sighting
from category_pose_ros.geometry import so3
from category_pose_ros.records import SECOND_NS
from category_pose_ros.tracking.flow import FlowConfig
from category_pose_ros.tracking.keyframe import KeyframeConfig

Depth = npt.NDArray[np.float32]
CAMERA = Camera(240.0, 240.0, 79.5, 59.5, 160, 120)


@dataclass
class Timed(World):
    """Remembers in which frames it was asked to follow."""

    stamps_ns: list[int] = field(default_factory=list)

    def follow(
        self, frame: Frame, beliefs: Sequence[Belief], prior: Sequence[float], others: Sequence[Belief] = ()
    ) -> list[Sighting]:
        self.stamps_ns.append(frame.stamp_ns)
        return super().follow(frame, beliefs, prior, others)


def seen_by(
    world: World,
    times: Sequence[float],
    config: TrackerConfig = TrackerConfig(),
    change: Callable[[Image, float], None] = lambda rgb, time: None,
    camera_at: Callable[[float], SE3] | None = None,
    measured: Callable[[list[ObjectEstimate], float], Depth] | None = None,
) -> list[dict[int, Track]]:
    """Tracks of each frame, whose image `change` may paint over; `measured` is its depth."""
    tracker = Tracker(world, config)
    result = []
    for time in times:
        things = [thing.estimate(time) for thing in world.things]
        rgb, depth = picture(CAMERA, things), measured and measured(things, time)
        change(rgb, time)
        frame = Frame(rgb, CAMERA, depth=depth, stamp_ns=round(time * SECOND_NS))
        tracks = tracker.update(frame, camera_at(time) if camera_at else None)
        result.append({track.track_id: track for track in tracks})
    return result


def error(track: Track, thing: Thing, time: float) -> tuple[float, float]:
    """Metres across the line of sight, and radians."""
    found, true = track.estimate.camera_from_object, thing.estimate(time).camera_from_object
    shift = (found.translation.double() - true.translation.double())[:2]
    return float(shift.norm()), float(so3.angle_between(found.rotation.double(), true.rotation.double()))


def weaving(time: float) -> tuple[float, float, float]:
    return (0.06 * math.sin(4 * time), 0.03 * math.sin(3 * time), 0.5)


def beside(x: float) -> Callable[[float], tuple[float, float, float]]:
    return lambda time: (x, 0.02 * math.sin(4 * time), 0.5)


def test_between_looks_a_track_goes_where_the_image_shows_it() -> None:
    thing = Thing(weaving, "camera", turn=lambda time: 0.3 * math.sin(5 * time))
    world, times = World([thing]), every(1 / 30, 1.0)
    tracks = seen_by(world, times, TrackerConfig(look_every_s=0.1, search_every_s=100.0))
    looks = len(world.follows)
    assert looks <= 5 + len(times) / 3
    for time, found in list(zip(times, tracks, strict=True))[3:]:
        assert sorted(found) == [1]
        assert found[1].stamp_ns == round(time * SECOND_NS)
        metres, radians = error(found[1], thing, time)
        assert metres < 0.003
        assert radians < 0.06


def test_each_frame_is_looked_at_where_that_is_wished() -> None:
    world, times = World([Thing(weaving, "camera")]), every(1 / 30, 0.5)
    seen_by(world, times, TrackerConfig(look_every_s=0.0, search_every_s=100.0))
    assert len(world.follows) >= len(times)


@pytest.mark.parametrize("rate_hz", [10, 15, 30])
def test_looks_are_as_frequent_whatever_the_rate_of_the_camera(rate_hz: int) -> None:
    world = World([Thing(beside(x), "camera") for x in (-0.11, 0.0, 0.11)])
    tracks = seen_by(world, every(1 / rate_hz, 3.0), TrackerConfig(look_every_s=0.3, search_every_s=100.0))
    assert all(sorted(found) == [1, 2, 3] for found in tracks[3:])
    assert sum(world.follows) == pytest.approx(3 * 3.0 / 0.3, abs=6)


def test_no_more_than_a_third_of_the_tracks_is_looked_at_where_frames_are_late() -> None:
    world = World([Thing(lambda time, x=x: (x, 0.0, 0.5), "camera") for x in (-0.11, 0.0, 0.11)])  # type: ignore[misc]
    seen_by(world, every(0.2, 4.0), TrackerConfig(search_every_s=100.0))
    assert set(world.follows[-12:]) == {1}


def test_looks_at_several_tracks_are_spread_over_the_frames() -> None:
    world = World([Thing(beside(x), "camera") for x in (-0.11, 0.0, 0.11)])
    times = every(1 / 30, 1.0)
    tracks = seen_by(world, times, TrackerConfig(look_every_s=0.1, search_every_s=100.0))
    assert all(sorted(found) == [1, 2, 3] for found in tracks[3:])
    assert world.follows[5:] == [1] * len(world.follows[5:])
    assert len(world.follows) >= len(times) - 2


def test_looks_are_an_even_stream_though_all_tracks_began_together() -> None:
    world = Timed([Thing(beside(x), "camera") for x in (-0.11, 0.0, 0.11)])
    seen_by(world, every(1 / 30, 2.0), TrackerConfig(look_every_s=0.3, search_every_s=100.0))
    late = [stamp_ns for stamp_ns in world.stamps_ns if stamp_ns > 0.5 * SECOND_NS]
    apart_s = np.diff(late) / SECOND_NS
    assert world.follows[-len(late) :] == [1] * len(late)
    assert apart_s == pytest.approx(np.full(len(apart_s), 0.1), abs=0.035)


def test_a_look_that_does_not_see_a_track_is_believed_though_flow_carries_it() -> None:
    world = World([Thing(weaving, "camera", visible=lambda time: float(time < 0.5))])
    times = every(1 / 30, 1.0)
    tracks = seen_by(world, times, TrackerConfig(look_every_s=0.1, search_every_s=100.0))
    assert max(time for time, found in zip(times, tracks, strict=True) if found) < 0.5 + 3 / 30


def test_what_flow_has_not_carried_is_looked_at_at_once() -> None:
    def noise(rgb: Image, time: float) -> None:
        if time >= 0.5:
            rgb[:] = np.random.default_rng(round(1000 * time)).integers(0, 255, rgb.shape)

    world, times = World([Thing(weaving, "camera")]), every(1 / 30, 1.0)
    seen_by(world, times, TrackerConfig(look_every_s=0.1, search_every_s=100.0), noise)
    assert len(world.follows) >= len(times) / 2 + len(times) / 2 / 3


@pytest.mark.parametrize("doubt_share", [0.0, 0.75])
def test_what_something_comes_in_front_of_is_looked_at(doubt_share: float) -> None:
    """Flow still carries it by the points that are left."""

    def cover(rgb: Image, time: float) -> None:
        if time >= 0.5:
            rgb[:, 86:] = 90

    world = Timed([Thing(beside(0.0), "camera")])
    config = TrackerConfig(look_every_s=5.0, search_every_s=100.0, flow=FlowConfig(doubt_share=doubt_share))
    tracks = seen_by(world, every(1 / 30, 0.8), config, cover)
    assert all(sorted(found) == [1] for found in tracks[3:])
    looks = [stamp_ns for stamp_ns in world.stamps_ns if stamp_ns > 0.3 * SECOND_NS]
    assert looks[:1] == ([] if doubt_share == 0 else [round(0.5 * SECOND_NS)])


def test_points_are_found_again_though_the_camera_moves() -> None:
    """Its motion is known, and the expected place in the image takes it into account."""

    def about(time: float) -> SE3:
        turn = so3.exp(torch.tensor([0.0, 0.12 * math.sin(9 * time), 0.1 * time], dtype=torch.float64))
        return SE3(turn, torch.tensor([0.03 * math.sin(4 * time), 0.0, 0.0], dtype=torch.float64))

    class Placed(Thing):
        def estimate(self, time: float):  # type: ignore[no-untyped-def]
            there = super().estimate(time)
            pose = about(time).inverse() @ there.camera_from_object.to(torch.float64)
            return dataclasses.replace(there, camera_from_object=pose.to(torch.float32))

    thing = Placed(lambda time: (0.0, 0.0, 0.5), "camera")
    world, times = World([thing]), every(1 / 30, 1.0)
    tracks = seen_by(world, times, TrackerConfig(search_every_s=100.0), camera_at=about)
    assert len(world.follows) <= 5 + len(times) / 3
    for time, found in list(zip(times, tracks, strict=True))[3:]:
        assert sorted(found) == [1]
        assert error(found[1], thing, time)[0] < 0.004


def test_a_stamp_that_repeats_carries_nothing() -> None:
    tracks = seen_by(World([Thing(weaving, "camera")]), [0.0, 0.1, 0.2, 0.2, 0.3])
    assert [sorted(found) for found in tracks[2:]] == [[1]] * 3


def behind_a_screen(
    from_s: float,
) -> tuple[Callable[[Image, float], None], Callable[[list[ObjectEstimate], float], Depth]]:
    """The left of the image, up to the middle of the object, covered from some time on, in colour and in depth."""
    half = np.s_[:, : CAMERA.width // 2 - 6]

    def paint(rgb: Image, time: float) -> None:
        if time >= from_s:
            rgb[half] = np.random.default_rng(1).integers(0, 255, rgb[half].shape)

    def measure(things: list[ObjectEstimate], time: float) -> Depth:
        depth = depth_of(CAMERA, things)
        if time >= from_s:
            depth[half] = 0.25
        return depth

    return paint, measure


def half_hidden() -> Thing:
    """In the middle of the image; from half a second on no network sees it."""
    return Thing(lambda time: (0.003 * math.sin(4 * time), 0.0, 0.5), "camera", visible=lambda time: float(time < 0.5))


def test_what_is_half_covered_is_held_by_how_it_looked() -> None:
    thing, times = half_hidden(), every(1 / 15, 2.0)
    paint, measure = behind_a_screen(0.5)
    tracks = seen_by(World([thing]), times, change=paint, measured=measure)
    for time, found in list(zip(times, tracks, strict=True))[3:]:
        assert sorted(found) == [1]
        metres, radians = error(found[1], thing, time)
        assert metres < 0.01
        assert radians < 0.15
    assert tracks[-1][1].estimate.visible_fraction < 0.8
    assert tracks[-1][1].estimate.score == pytest.approx(0.9)


@pytest.mark.parametrize("covered", [False, True])
def test_what_the_network_denies_is_not_held_in_full_view_nor_without_depth(covered: bool) -> None:
    paint, measure = behind_a_screen(0.5 if covered else 10.0)
    tracks = seen_by(World([half_hidden()]), every(1 / 15, 1.5), change=paint, measured=None if covered else measure)
    assert tracks[5]
    assert not tracks[-1]


@pytest.mark.parametrize("covered", [False, True])
def test_a_sure_look_is_believed_in_full_view_and_not_under_a_cover(covered: bool) -> None:
    thing = dataclasses.replace(half_hidden(), visible=lambda time: 1.0 if time < 0.5 else 0.4)
    paint, measure = behind_a_screen(0.5 if covered else 10.0)
    config = TrackerConfig(keyframe=KeyframeConfig(score=0.55))
    tracks = seen_by(World([thing]), every(1 / 15, 1.5), config, paint, measured=measure)
    score = tracks[-1][1].estimate.score
    assert score == pytest.approx(0.9) if covered else score < 0.8
