"""Records: what travels between the rooms is validated when it is made."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch

from category_pose_ros import SE3, Camera, Frame, ObjectEstimate, Region, Track, TrackState

CAMERA = Camera(fx=60.0, fy=60.0, cx=31.5, cy=23.5, width=64, height=48)
RGB = np.zeros((48, 64, 3), np.uint8)
DEPTH = np.ones((48, 64), np.float32)
ESTIMATE = ObjectEstimate(
    category="mug",
    camera_from_object=SE3.identity(),
    size_m=np.array([0.12, 0.08, 0.1]),
    score=0.9,
    visible_fraction=1.0,
    covariance=np.eye(6),
)


def test_a_frame_needs_no_depth_and_no_stamp() -> None:
    frame = Frame(RGB, CAMERA)
    assert frame.depth is None
    assert frame.stamp_ns == 0


def test_depth_may_have_holes() -> None:
    depth = DEPTH.copy()
    depth[0, :2] = 0, math.nan
    assert Frame(RGB, CAMERA, depth=depth, stamp_ns=1).depth is depth


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rgb": None}, r"rgb: expected \(H, W, 3\) uint8, got NoneType"),
        ({"rgb": RGB[..., 0]}, r"rgb: expected \(H, W, 3\) uint8, got \(48, 64\) uint8"),
        ({"rgb": np.zeros((48, 64, 4), np.uint8)}, r"rgb: expected .* got \(48, 64, 4\) uint8"),
        ({"rgb": RGB.astype(np.float32)}, r"rgb: expected .* got \(48, 64, 3\) float32"),
        ({"rgb": RGB[:, :32]}, "rgb: expected the camera's size 64x48, got 32x48"),
        ({"depth": DEPTH[:24]}, r"depth: expected \(48, 64\) float32 metres, got \(24, 64\) float32"),
        ({"depth": DEPTH.astype(np.uint16)}, "depth: expected .* got .* uint16"),
        ({"depth": [[1.0]]}, "depth: expected .* got list"),
        ({"stamp_ns": -1}, "stamp_ns: expected a non-negative integer, got -1"),
        ({"stamp_ns": 1.5}, r"stamp_ns: expected a non-negative integer, got 1\.5"),
        (
            {"regions": (Region(mask=RGB[:24, :, 0] > 0),)},
            r"regions: expected masks of shape \(48, 64\), got \(24, 64\)",
        ),
    ],
)
def test_frames_refuse_by_name(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Frame(**{"rgb": RGB, "camera": CAMERA, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "region: expected a box or a mask, got neither"),
        ({"box": (9.0, 0.0, 8.0, 1.0)}, "box: expected finite left, top, right, bottom"),
        ({"box": (0.0, 2.0, 8.0, 1.0)}, "box: expected finite left, top, right, bottom"),
        ({"box": (0.0, 0.0, math.nan, 1.0)}, "box: expected finite left, top, right, bottom"),
        ({"mask": RGB[..., 0]}, r"mask: expected \(H, W\) bool, got \(48, 64\) uint8"),
        ({"mask": RGB > 0}, r"mask: expected \(H, W\) bool, got \(48, 64, 3\) bool"),
    ],
)
def test_regions_refuse_by_name(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Region(**arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"camera_from_object": SE3.identity(1)},
            r"camera_from_object: expected one pose, got a batch of shape \(1,\)",
        ),
        (
            {"camera_from_object": SE3(torch.eye(3), torch.tensor([0.0, 0.0, math.nan]))},
            "camera_from_object: expected finite",
        ),
        ({"size_m": np.array([0.1, 0.1])}, r"size_m: expected finite values of shape \(3,\)"),
        ({"size_m": np.array([0.1, math.nan, 0.1])}, "size_m: expected finite"),
        ({"size_m": np.array([0.1, 0.0, 0.1])}, "size_m: expected positive metres"),
        ({"covariance": np.eye(3)}, r"covariance: expected finite values of shape \(6, 6\)"),
        ({"score": 1.1}, r"score: expected a number in \[0, 1\], got 1\.1"),
        ({"score": math.nan}, "score: expected a number"),
        ({"visible_fraction": -0.1}, r"visible_fraction: expected a number in \[0, 1\]"),
    ],
)
def test_estimates_refuse_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(ESTIMATE, **change)


def test_track_ids_are_positive() -> None:
    assert Track(1, TrackState.CONFIRMED, ESTIMATE, stamp_ns=5).estimate is ESTIMATE
    with pytest.raises(ValueError, match="track_id: expected a positive integer, got 0"):
        Track(0, TrackState.CONFIRMED, ESTIMATE, stamp_ns=5)


def test_records_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ESTIMATE.score = 0.5  # type: ignore[misc]
