"""Damage does what its name says, and no more."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from category_pose_ros.data.annotations import AnnotatedFrame, GroundTruthObject
from category_pose_ros.data.damage import (
    DAMAGES,
    damaged,
    holes,
    noise,
    rescaled,
    seen_through,
    shifted,
    unseen,
    without_depth,
)
from category_pose_ros.geometry import SE3, Camera
from category_pose_ros.records import Frame

CAMERA = Camera(80.0, 80.0, 79.5, 59.5, 160, 120)
DEPTH = np.linspace(0.5, 2.0, 160 * 120, dtype=np.float32).reshape(120, 160)


def apply(damage, depth=DEPTH, objects=()):
    return damage.apply(depth, objects, np.random.default_rng(0))


def frames(depth=DEPTH):
    rgb = np.zeros((120, 160, 3), np.uint8)
    return [AnnotatedFrame(Frame(rgb, CAMERA, depth), (), str(k)) for k in range(2)]


@pytest.mark.parametrize("share", [0.25, 0.95])
def test_holes_take_their_share_and_leave_the_rest(share):
    result = apply(holes(share))
    lost = result == 0
    assert lost.mean() == pytest.approx(share, abs=0.06)
    assert (result[~lost] == DEPTH[~lost]).all()


def test_of_objects_nothing_is_left_nor_a_little_beside_them():
    mask = np.zeros(DEPTH.shape, bool)
    mask[40:60, 70:90] = True
    ahead = SE3(torch.eye(3), torch.tensor([0.0, 0.0, 1.0]))
    seen, unknown = (GroundTruthObject("mug", ahead, np.ones(3), mask=each) for each in (mask, None))
    lost = apply(unseen(), objects=(seen, unknown)) == 0
    assert lost[36:64, 66:94].all()
    assert lost.sum() == 28 * 28
    assert (apply(unseen(), objects=(unknown,)) == DEPTH).all()


def test_through_an_object_shows_what_is_behind_it():
    table = (1 / np.linspace(2.0, 0.5, 120, dtype=np.float32)).reshape(120, 1) * np.ones((1, 160), np.float32)
    mask = np.zeros(table.shape, bool)
    mask[40:60, 70:90] = True
    seen = GroundTruthObject("mug", SE3(torch.eye(3), torch.tensor([0.0, 0.0, 1.0])), np.ones(3), mask=mask)
    before = np.where(mask, np.float32(0.3), table)
    assert apply(seen_through(), before, (seen,)) == pytest.approx(table, rel=1e-4)
    assert (apply(seen_through(), before) == before).all()
    assert (apply(seen_through(), np.where(mask, before, 0), (seen,)) == 0).all()


def test_noise_has_its_deviation_and_keeps_holes():
    depth = np.where(DEPTH < 0.6, np.float32(0), DEPTH)
    result = apply(noise(0.02), depth)
    assert (result[depth == 0] == 0).all()
    assert (result - depth)[depth > 0].std() == pytest.approx(0.02, rel=0.05)
    assert apply(noise(0.02), DEPTH * np.float32(0.01)).min() >= 0


def test_scale_and_shift():
    assert apply(rescaled(1.05)) == pytest.approx(DEPTH * 1.05)
    moved = apply(shifted(10))
    assert (moved[:, 10:] == DEPTH[:, :-10]).all()
    assert (moved[:, :10] == 0).all()


def test_every_frame_has_its_own_chance_which_repeats():
    first, second = (item.frame.depth for item in damaged(frames(), noise(0.02)))
    again, _ = (item.frame.depth for item in damaged(frames(), noise(0.02)))
    assert (first == again).all()
    assert (first != second).any()


def test_frames_without_depth_stay_so():
    assert all(item.frame.depth is None for item in without_depth(frames()))
    assert all(item.frame.depth is None for item in damaged(frames(None), DAMAGES[0]))


def test_damaged_depth_is_valid_depth_and_names_are_unique():
    assert len({damage.name for damage in DAMAGES}) == len(DAMAGES)
    for damage in DAMAGES:
        for item in damaged(frames(), damage):
            assert item.frame.depth is not None
            assert item.frame.depth.dtype == np.float32
