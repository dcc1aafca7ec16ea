"""Damage does what its name says, and no more."""

from __future__ import annotations

import numpy as np
import pytest

from category_pose_ros.data.annotations import AnnotatedFrame
from category_pose_ros.data.damage import DAMAGES, damaged, holes, noise, rescaled, shifted, without_depth
from category_pose_ros.geometry import Camera
from category_pose_ros.records import Frame

CAMERA = Camera(80.0, 80.0, 79.5, 59.5, 160, 120)
DEPTH = np.linspace(0.5, 2.0, 160 * 120, dtype=np.float32).reshape(120, 160)


def apply(damage, depth=DEPTH):
    return damage.apply(depth, np.random.default_rng(0))


def frames(depth=DEPTH):
    rgb = np.zeros((120, 160, 3), np.uint8)
    return [AnnotatedFrame(Frame(rgb, CAMERA, depth), (), str(k)) for k in range(2)]


@pytest.mark.parametrize("share", [0.25, 0.95])
def test_holes_take_their_share_and_leave_the_rest(share):
    result = apply(holes(share))
    lost = result == 0
    assert lost.mean() == pytest.approx(share, abs=0.06)
    assert (result[~lost] == DEPTH[~lost]).all()


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
