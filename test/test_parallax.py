"""Distance by the motion of the camera: lines of sight alone, then in tracks whose images leave the scale open."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from test_tracker import CAMERA, Thing, World, every
from torch import Tensor
from torch.testing import assert_close

from category_pose_ros import SE3, Frame, Track, Tracker, TrackerConfig
from category_pose_ros.estimation.belief import Belief, Sighting
from category_pose_ros.geometry import so3
from category_pose_ros.records import SECOND_NS
from category_pose_ros.tracking.parallax import Parallax, ParallaxConfig, at_distance, looked

CONFIG = ParallaxConfig()


def belief(position: Sequence[float], tied: float = 1e4, scale: float = 16.0) -> Belief:
    """Sure of the direction and of how large it appears, but for a scale with this information not of its size."""
    place = torch.tensor(position, dtype=torch.float64)
    length = float(place.norm())
    ray = place / length
    information = 1e-3 * torch.eye(9, dtype=torch.float64)
    information[:3, :3] += 1e5 * (torch.eye(3) - ray[:, None] * ray)
    information[3:6, 3:6] += 1e3 * torch.eye(3)
    apparent = torch.cat([ray / length, torch.zeros(3), -torch.full((3,), 1 / 3)]).double()
    shape = torch.block_diag(torch.zeros(6, 6), torch.eye(3) - 1 / 3).double()
    prior = torch.cat([torch.zeros(6), torch.full((3,), 1 / 3)]).double()
    information += tied * apparent[:, None] * apparent + tied * shape + scale * prior[:, None] * prior
    return Belief("mug", SE3(torch.eye(3), place.float()), torch.full((3,), 0.1).double().log(), information)


def moves(*shift: float, turn: Sequence[float] = (0.0, 0.0, 0.0)) -> SE3:
    """`now_from_then` of a camera."""
    return SE3(so3.exp(torch.tensor(turn, dtype=torch.float64)), torch.tensor(shift, dtype=torch.float64))


STEPS = [moves(0.05, 0.01, -0.02, turn=(0.02, 0.1, -0.03)), moves(-0.03, 0.06, 0.0, turn=(-0.05, 0.02, 0.01))] * 3


def seen_from(step: SE3, place: Tensor) -> Tensor:
    return (step @ place[None])[0]


def lines_to(place: Tensor, steps: Sequence[SE3], drift: Tensor | None = None) -> tuple[Parallax, Tensor]:
    """Of an object that moves by a drift between two lines, and where it is at last."""
    parallax = Parallax.nothing().sighted(3 * place, 0.01)
    for step in steps:
        place = seen_from(step, place if drift is None else place + drift)
        parallax = parallax.seen_from(step).sighted(0.4 * place, 0.01)
    return parallax, place


def test_lines_of_sight_meet_where_the_object_is() -> None:
    parallax, place = lines_to(torch.tensor([0.1, -0.05, 0.8], dtype=torch.float64), STEPS)
    distance, variance = parallax.distance(place / place.norm())
    assert distance == pytest.approx(float(place.norm()), abs=1e-9)
    assert 0 < variance < 0.1**2
    assert parallax.strain() == pytest.approx(0.0, abs=1e-6)


def test_the_variance_is_that_of_lines_with_their_deviation() -> None:
    rng = np.random.default_rng(1)
    errors, stated = [], []
    for _ in range(300):
        place = torch.tensor([0.1, -0.05, 0.8], dtype=torch.float64)
        parallax = Parallax.nothing()
        for step in STEPS:
            place = seen_from(step, place)
            parallax = parallax.seen_from(step).sighted(place + torch.from_numpy(rng.normal(0, 0.01, 3)), 0.01)
        distance, variance = parallax.distance(place / place.norm())
        errors.append(distance - float(place.norm()))
        stated.append(variance)
    assert np.std(errors) == pytest.approx(math.sqrt(np.mean(stated)), rel=0.15)


@pytest.mark.parametrize("step", [moves(0.0, 0.0, 0.0), moves(0.0, 0.0, 0.0, turn=(0.1, 0.2, 0.0))])
def test_a_camera_that_stays_tells_no_distance(step: SE3) -> None:
    parallax, place = lines_to(torch.tensor([0.1, 0.0, 0.8], dtype=torch.float64), [step] * 5)
    _, variance = parallax.distance(place / place.norm())
    assert variance > 1e3


def test_one_line_tells_no_distance() -> None:
    ray = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    assert Parallax.nothing().sighted(ray, 0.01).distance(ray)[1] == math.inf
    assert Parallax.nothing().distance(ray)[1] == math.inf


def test_an_object_that_moves_by_itself_strains_the_lines_and_they_begin_anew() -> None:
    place, drift = torch.tensor([0.1, 0.0, 0.8], dtype=torch.float64), torch.tensor([0.0, 0.05, 0.0]).double()
    parallax, there = lines_to(place, STEPS, drift)
    assert parallax.strain() > CONFIG.strain
    assert looked(parallax, belief(there.tolist()), CONFIG).lines == 1
    still, there = lines_to(place, STEPS)
    assert looked(still, belief(there.tolist()), CONFIG).lines == pytest.approx(CONFIG.memory * 7 + 1)


def test_size_goes_with_the_distance_and_the_belief_is_surer() -> None:
    parallax, place = lines_to(torch.tensor([0.1, -0.05, 0.8], dtype=torch.float64), STEPS)
    wrong = belief((1.25 * place).tolist())
    right, _ = at_distance(wrong, parallax, 0.75, CONFIG)
    position = right.camera_from_object.translation
    assert float(position.norm()) == pytest.approx(float(place.norm()), rel=0.05)
    assert_close(position / position.norm(), place / place.norm(), atol=1e-3, rtol=0)
    shrunk = (right.log_size - wrong.log_size).exp()
    assert_close(
        shrunk,
        torch.full((3,), float(position.norm()) / (1.25 * float(place.norm())), dtype=torch.float64),
        atol=0.02,
        rtol=0,
    )
    unsure, surer = (torch.linalg.inv(item.information)[2, 2] for item in (wrong, right))
    assert float(surer) < 0.25 * float(unsure)


def test_what_lines_have_told_is_no_news() -> None:
    parallax, place = lines_to(torch.tensor([0.1, -0.05, 0.8], dtype=torch.float64), STEPS)
    once, parallax = at_distance(belief(place.tolist()), parallax, 0.75, CONFIG)
    twice, _ = at_distance(once, parallax, 1.0, CONFIG)
    assert_close(twice.information, once.information)
    assert looked(parallax, once, CONFIG).told == parallax.told > 0
    faded, _ = at_distance(once.faded(0.75), parallax, 0.75, CONFIG)
    ray = place / place.norm()
    assert float(ray @ (faded.information - 0.75 * once.information)[:3, :3] @ ray) == pytest.approx(
        0.25 * parallax.told, rel=1e-6
    )


def test_a_distance_far_from_what_is_believed_is_not_used() -> None:
    parallax, place = lines_to(torch.tensor([0.1, -0.05, 0.8], dtype=torch.float64), STEPS)
    sure = belief((2 * place).tolist(), scale=1e4)
    kept, after = at_distance(sure, parallax, 0.75, CONFIG)
    assert kept is sure
    assert after.told == 0


class OneEyed(World):
    """Sees things as they are, but for their scale, which stays as it is believed."""

    def _sighting(self, belief_: Belief, time: float) -> Sighting:
        seen = super()._sighting(belief_, time)
        if seen.estimate.score == 0:
            return seen
        true = seen.estimate.camera_from_object
        scale = float(belief_.camera_from_object.translation.norm() / true.translation.norm())
        shape = belief(true.translation.double().mul(scale).tolist(), scale=0.0)
        found = Belief(
            "mug",
            SE3(true.rotation, true.translation * scale),
            torch.from_numpy(np.log(seen.estimate.size_m * scale)),
            shape.information + 0.25 * belief_.information,
        )
        size_m, pose = found.log_size.exp().numpy(), found.camera_from_object
        estimate = dataclasses.replace(seen.estimate, camera_from_object=pose, size_m=size_m)
        return Sighting(found, estimate, seen.log_score, 0.0)


def tracked(
    place: Callable[[float], tuple[float, float, float]],
    way: Callable[[float], float],
    known: bool = True,
    depth: bool = False,
) -> list[tuple[float, Track]]:
    """Of a mug whose searches see it half as far again; the camera moves sideways; with the time."""

    def seen(time: float) -> tuple[float, float, float]:
        x, y, z = place(time)
        return x - way(time), y, z

    def misread(estimate, time):  # type: ignore[no-untyped-def]
        pose = estimate.camera_from_object
        wrong = SE3(pose.rotation, 1.5 * pose.translation)
        return dataclasses.replace(estimate, camera_from_object=wrong, size_m=1.5 * estimate.size_m)

    world = OneEyed([Thing(seen, "mug")], misread=misread)
    tracker = Tracker(world, TrackerConfig(search_every_s=100.0))
    result = []
    for time in every(0.1, 3.0):
        image = np.zeros((CAMERA.height, CAMERA.width, 3), np.uint8)
        readings = np.ones(image.shape[:2], np.float32) if depth else None
        frame = Frame(image, CAMERA, readings, round(time * SECOND_NS))
        camera = SE3(torch.eye(3).double(), torch.tensor([way(time), 0.0, 0.0]).double())
        result += [(time, track) for track in tracker.update(frame, camera if known else None)]
    return result


def distance_of(track: Track) -> float:
    return float(track.estimate.camera_from_object.translation[2])


def test_a_camera_that_moves_finds_the_distance_and_the_size() -> None:
    tracks = tracked(lambda time: (0.1, 0.0, 1.0), lambda time: 0.1 * time)
    assert {track.track_id for _, track in tracks} == {1}
    assert distance_of(tracks[0][1]) > 1.3
    for time, track in tracks:
        if time > 2.0:
            assert distance_of(track) == pytest.approx(1.0, rel=0.08)
            assert track.estimate.size_m == pytest.approx(np.array([0.1, 0.08, 0.1]), rel=0.1)


@pytest.mark.parametrize(("speed", "known", "depth"), [(0.1, False, False), (0.0, True, False), (0.1, True, True)])
def test_without_its_motion_and_where_there_is_depth_nothing_changes(speed: float, known: bool, depth: bool) -> None:
    tracks = tracked(lambda time: (0.1, 0.0, 1.0), lambda time: speed * time, known, depth)
    assert distance_of(tracks[-1][1]) == pytest.approx(distance_of(tracks[0][1]), rel=0.05)


def test_what_moves_by_itself_is_not_measured_by_the_camera_s_motion() -> None:
    tracks = tracked(lambda time: (0.1, 0.15 * math.sin(3 * time), 1.0), lambda time: 0.1 * time)
    assert distance_of(tracks[-1][1]) == pytest.approx(distance_of(tracks[0][1]), rel=0.15)
