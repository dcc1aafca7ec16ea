"""Objects that are known again by how they looked, in images with depth whose truth is known."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from test_flow import CAMERA, thing, view
from textured import WALL_M, depth_of

from category_pose_ros import ObjectEstimate
from category_pose_ros.estimation.belief import Belief
from category_pose_ros.geometry import so3
from category_pose_ros.geometry.box import box_window
from category_pose_ros.tracking.flow import View
from category_pose_ros.tracking.keyframe import (
    Keyframe,
    KeyframeConfig,
    Recognised,
    hidden_share,
    recognise,
    renewed,
    take,
)

CONFIG = KeyframeConfig()
CATEGORIES = ("can", "mug", "laptop")
Depth = npt.NDArray[np.float32]


def scene(item: ObjectEstimate, covered: float = 0.0) -> tuple[View, Depth]:
    """An object, and before a share of its width, from the left, a screen at seven tenths of its distance."""
    seen, depth = view(item), depth_of(CAMERA, [item])
    pose, size_m = item.camera_from_object, item.size_m
    left, top, right, bottom = box_window(pose, torch.from_numpy(size_m), CAMERA)
    window = np.s_[top:bottom, left : left + round(covered * (right - left))]
    seen.grey[window] = np.random.default_rng(0).integers(0, 255, seen.grey[window].shape)
    depth[window] = 0.7 * float(pose.translation[2])
    return seen, depth


def kept(item: ObjectEstimate, covered: float = 0.0) -> Keyframe:
    keyframe = take(*scene(item, covered), Belief.about(item), 0.9)
    assert keyframe is not None
    return keyframe


def errors(found: Recognised, item: ObjectEstimate) -> tuple[float, float]:
    """In diagonals and radians."""
    true = item.camera_from_object
    shift = found.camera_from_object.translation - true.translation.double()
    turn = so3.angle_between(found.camera_from_object.rotation, true.rotation.double())
    return float(shift.norm()) / float(np.linalg.norm(item.size_m)), float(turn)


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("covered", [0.0, 0.2, 0.4])
def test_an_object_is_known_again_by_the_part_of_it_that_is_seen(category: str, covered: float) -> None:
    now = thing(category, turn=0.06, shift=(0.01, -0.005, 0.01))
    found = recognise(kept(thing(category)), *scene(now, covered), Belief.about(thing(category)), CONFIG)
    assert found is not None
    metres, radians = errors(found, now)
    assert metres < 0.03
    assert radians < 0.06
    assert found.share == pytest.approx(1 - covered, abs=0.25)
    assert found.hidden == pytest.approx(covered, abs=0.25)


@pytest.mark.parametrize("category", ["can", "mug"])
def test_two_fifths_are_enough_of_an_object_that_is_where_it_should_be(category: str) -> None:
    item = thing(category)
    found = recognise(kept(item), *scene(item, 0.6), Belief.about(item), CONFIG)
    assert found is not None
    assert found.share < 0.6
    assert max(errors(found, item)) < 0.05


@pytest.mark.parametrize("category", CATEGORIES)
def test_what_has_gone_is_not_known_again(category: str) -> None:
    nothing = view(), np.full((CAMERA.height, CAMERA.width), WALL_M, np.float32)
    assert recognise(kept(thing(category)), *nothing, Belief.about(thing(category)), CONFIG) is None


def test_what_is_wholly_hidden_is_not_known_again() -> None:
    item = thing("can")
    assert recognise(kept(item), *scene(item, 1.0), Belief.about(item), CONFIG) is None


def test_the_shape_of_another_print_is_not_the_object() -> None:
    item = thing("can")
    seen, depth = scene(item)
    noise = np.random.default_rng(0).integers(0, 255, seen.grey.shape).astype(np.uint8)
    assert recognise(kept(item), View(noise, CAMERA), depth, Belief.about(item), CONFIG) is None


def test_a_change_of_light_changes_nothing() -> None:
    item = thing("mug")
    seen, depth = scene(item)
    brighter = View(np.clip(seen.grey.astype(int) + 25, 0, 255).astype(np.uint8), CAMERA)
    found = recognise(kept(item), brighter, depth, Belief.about(item), CONFIG)
    assert found is not None
    assert found.share > 0.8


def test_how_much_was_hidden_is_kept() -> None:
    item = thing("can")
    assert kept(item).hidden < 0.02
    assert kept(item, 0.4).hidden == pytest.approx(0.4, abs=0.15)


def test_without_readings_nothing_is_kept() -> None:
    item = thing("can")
    seen, depth = scene(item)
    for nothing in (np.zeros_like(depth), np.full_like(depth, np.nan), np.full_like(depth, np.inf)):
        assert take(seen, nothing, Belief.about(item), 0.9) is None
        assert recognise(kept(item), seen, nothing, Belief.about(item), CONFIG) is None


def test_an_object_outside_the_image_is_neither_kept_nor_known() -> None:
    item, far = thing("can"), thing("can", shift=(3.0, 0.0, 0.0))
    assert take(*scene(item), Belief.about(far), 0.9) is None
    assert recognise(kept(item), *scene(item), Belief.about(far), CONFIG) is None


@pytest.mark.parametrize("category", CATEGORIES)
def test_what_is_hidden_is_measured_before_the_object_is_looked_for(category: str) -> None:
    item = thing(category)
    shares = [
        hidden_share(kept(item), *scene(item, covered), Belief.about(item), CONFIG) for covered in (0.0, 0.3, 0.6)
    ]
    assert shares == sorted(shares)
    assert shares[2] - shares[0] == pytest.approx(0.6, abs=0.25)


def test_a_keyframe_is_renewed_where_the_object_shows_another_side() -> None:
    before, after = kept(thing("mug")), thing("mug", turn=0.4)
    assert renewed(before, *scene(thing("mug")), Belief.about(thing("mug"))) is before
    now = renewed(before, *scene(after), Belief.about(after))
    assert now is not before
    assert now.score == before.score
    found = recognise(now, *scene(after), Belief.about(after), CONFIG)
    assert found is not None
    assert found.share > 0.8
    assert max(errors(found, after)) < 0.02


def test_what_a_cover_hides_stays_as_it_was() -> None:
    item, after = thing("can"), thing("can", turn=0.4)
    now = renewed(kept(item), *scene(after, 0.4), Belief.about(after))
    old = {tuple(point) for point in kept(item).points}
    stays = np.array([tuple(point) in old for point in now.points])
    assert 0.1 < stays.mean() < 0.9
    found = recognise(now, *scene(after), Belief.about(after), CONFIG)
    assert found is not None
    assert max(errors(found, after)) < 0.02


def test_a_share_that_is_divided_by_is_not_zero() -> None:
    with pytest.raises(ValueError, match=r"least_hidden: expected at least 0\.001, got 0"):
        KeyframeConfig(least_hidden=0.0)
