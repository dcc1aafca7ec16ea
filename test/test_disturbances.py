"""A disturbed sequence shows what its name says, and its truth says what is still to be seen."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from category_pose_ros.data.annotations import AnnotatedFrame, GroundTruthObject
from category_pose_ros.data.disturbances import DISTURBANCES, blurred, dropped, hidden, jumping, occluded, resting
from category_pose_ros.geometry import SE3, Camera, Symmetry, so3
from category_pose_ros.records import Frame

CAMERA = Camera(80.0, 80.0, 79.5, 59.5, 160, 120)
SIZE_M = np.array([0.2, 0.2, 0.1])


def sequence(count, with_depth=True):
    """A box of one colour at rest, 40 x 40 pixels at 0.4 m, before a plain wall."""
    pose = SE3(torch.eye(3, dtype=torch.float64), torch.tensor([0.0, 0.0, 0.45], dtype=torch.float64))
    thing = GroundTruthObject("mug", pose, SIZE_M, visible_fraction=1.0, track_id=1)
    rgb = np.zeros((120, 160, 3), np.uint8)
    rgb[40:80, 60:100] = (255, 0, 0)
    depth = np.where(rgb[..., 0] > 0, 0.45, 1.0).astype(np.float32)
    return [
        AnnotatedFrame(Frame(rgb, CAMERA, depth if with_depth else None, k * 10**8), (thing,), str(k), pose.inverse())
        for k in range(count)
    ]


def middle_px(frame):
    """Mean column of what is red."""
    red = (frame.rgb[..., 0] > 200) & (frame.rgb[..., 1] < 50)
    return np.nonzero(red)[1].mean()


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_a_screen_covers_its_share_and_stands_nearer(share):
    (item,) = occluded(share).apply(sequence(1))
    before = sequence(1)[0].frame
    left = (item.frame.rgb[40:80, 60:100] == (255, 0, 0)).all(-1).mean()
    assert left == pytest.approx(1 - share, abs=0.05)
    covered = item.frame.depth != before.depth
    assert item.frame.depth[covered] == pytest.approx(0.9 * 0.45)
    assert covered[40:80, 60:100].mean() == pytest.approx(share, abs=0.05)
    assert item.objects[0].visible_fraction == pytest.approx(1 - share)
    assert not item.objects[0].ignore


def test_nothing_covers_what_is_behind_the_camera():
    (item,) = sequence(1)
    away = SE3(torch.eye(3, dtype=torch.float64), torch.tensor([0.0, 0.0, -10.0], dtype=torch.float64))
    behind = dataclasses.replace(item, objects=(dataclasses.replace(item.objects[0], camera_from_object=away),))
    (covered,) = occluded(0.4).apply([behind])
    assert (covered.frame.depth == behind.frame.depth).all()
    assert covered.objects[0].visible_fraction == behind.objects[0].visible_fraction


@pytest.mark.parametrize(
    ("category", "yaw_deg", "share", "may_turn"),
    [
        ("mug", 180, 0.4, True),  # the handle is on the left, where the screen stands
        ("mug", 180, 0.2, False),  # the screen leaves a part of it
        ("mug", 0, 0.4, False),
        ("mug", 90, 0.4, False),  # behind or before the body: who knows what shows
        ("camera", 180, 0.4, False),
    ],
)
def test_a_handle_behind_the_screen_is_one_that_nobody_can_see(category, yaw_deg, share, may_turn):
    upright = so3.exp(torch.tensor([np.pi / 2, 0.0, 0.0], dtype=torch.float64))
    turn = so3.exp(torch.tensor([0.0, 0.0, np.radians(yaw_deg)], dtype=torch.float64))
    pose = SE3(upright @ turn, torch.tensor([0.0, 0.0, 0.45], dtype=torch.float64))
    thing = GroundTruthObject(category, pose, np.array([0.12, 0.08, 0.1]), visible_fraction=1.0)
    item = AnnotatedFrame(Frame(np.zeros((120, 160, 3), np.uint8), CAMERA), (thing,), "0")
    (covered,) = occluded(share).apply([item])
    assert covered.objects[0].symmetry is (Symmetry.AXIS_Z if may_turn else None)
    assert thing.symmetry is None


def test_a_screen_may_come_later():
    items = list(occluded(0.4, after=2).apply(sequence(4)))
    assert [item.objects[0].visible_fraction for item in items] == pytest.approx([1, 1, 0.6, 0.6])


def test_what_is_hidden_is_so_at_the_end_of_each_period_and_not_to_be_found():
    items = list(hidden(4, 1).apply(sequence(8)))
    assert [item.objects[0].visible_fraction for item in items] == [1, 1, 1, 0] * 2
    assert [item.objects[0].ignore for item in items] == [False, False, False, True] * 2
    assert not (items[3].frame.rgb[40:80, 60:100] == (255, 0, 0)).all(-1).any()


def test_blur_goes_along_the_rows():
    (item,) = blurred(9).apply(sequence(1))
    assert 0 < item.frame.rgb[60, 58, 0] < 255
    assert item.frame.rgb[38, 80, 0] == 0
    assert (item.frame.depth == sequence(1)[0].frame.depth).all()


def test_of_dropped_frames_some_are_missing_and_the_rest_is_whole():
    names = [int(item.name) for item in dropped(3).apply(sequence(60))]
    gaps = np.diff(names)
    assert names[0] == 0
    assert set(gaps) == {2, 3, 4}
    assert names == [int(item.name) for item in dropped(3).apply(sequence(60))]


def test_a_jump_moves_image_depth_and_truth_alike():
    before, after = list(jumping(4.0, 1).apply(sequence(2)))
    assert middle_px(after.frame) - middle_px(before.frame) == pytest.approx(4, abs=0.5)
    shift = CAMERA.project(after.objects[0].camera_from_object.translation)[0] - CAMERA.cx
    assert float(shift) == pytest.approx(4.0)
    worlds = [(item.world_from_camera @ item.objects[0].camera_from_object).translation for item in (before, after)]
    assert worlds[0].tolist() == pytest.approx(worlds[1].tolist())
    seen = after.frame.depth[60, 80:86]
    assert seen == pytest.approx(float(after.objects[0].camera_from_object.translation[2]), rel=0.02)
    assert [int(middle_px(item.frame)) for item in jumping(4.0, 2).apply(sequence(4))] == [79, 79, 83, 83]


def test_at_rest_only_the_noise_and_the_time_change():
    items = list(resting(3, deviation=2.0).apply(sequence(2)))
    assert [item.frame.stamp_ns for item in items] == [0, 10**8, 2 * 10**8]
    difference = items[0].frame.rgb[45:75, 65:95, 0].astype(float) - items[1].frame.rgb[45:75, 65:95, 0]
    assert 0 < difference.std() < 4


def test_one_frame_has_no_rate_to_rest_at():
    with pytest.raises(ValueError, match="frames: expected a sequence of at least 2, got 1"):
        list(resting(3).apply(sequence(1)))


def test_every_disturbance_takes_frames_with_and_without_depth():
    assert len({item.name for item in DISTURBANCES}) == len(DISTURBANCES)
    for item in DISTURBANCES:
        for with_depth in (True, False):
            frames_after = list(item.apply(sequence(4, with_depth)))
            assert all((each.frame.depth is not None) == with_depth for each in frames_after)
            assert all(each.objects[0].track_id == 1 for each in frames_after)
