"""Rays into boxes, against a search along the ray and against the camera."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from strategies import rotation_vectors
from torch import Tensor
from torch.testing import assert_close

from category_pose_ros.geometry import SE3, Camera, so3
from category_pose_ros.geometry.box import box_window, enter_box

CAMERA = Camera(fx=60.0, fy=60.0, cx=31.5, cy=31.5, width=64, height=64)
SIZE = torch.tensor([0.2, 0.3, 0.4], dtype=torch.float64)


def pixels() -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    return torch.stack([columns, rows], -1).flatten(0, 1).double()


def pose(rotation_vector: Tensor, z: float = 0.8) -> SE3:
    return SE3(so3.exp(rotation_vector), torch.tensor([0.05, -0.03, z], dtype=torch.float64))


def test_the_window_of_a_box_holds_the_pixels_that_see_it() -> None:
    generator = torch.Generator().manual_seed(0)
    off = []
    for _ in range(60):
        turn = torch.randn(3, generator=generator, dtype=torch.float64)
        camera_from_object = SE3(so3.exp(turn), torch.tensor([0.0, 0.0, 1.6], dtype=torch.float64))
        _, hit = enter_box(camera_from_object, SIZE, CAMERA.rays(pixels()))
        columns, rows = pixels()[hit].T
        tight = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        off.append(torch.tensor(box_window(camera_from_object, SIZE, CAMERA)) - tight)
    found = torch.stack(off)
    # A corner that reaches into a pixel, but not over its middle, counts for the window alone.
    assert (found.mean(0) * torch.tensor([-1, -1, 1, 1])).min() > -0.1
    assert found.abs().max() <= 2
    assert found.mean(0).abs().max() < 0.4


@settings(max_examples=40)
@given(rotation_vectors())
def test_the_entry_point_is_on_the_surface_and_on_the_ray(rotation_vector: Tensor) -> None:
    camera_from_object = pose(rotation_vector)
    points, hit = enter_box(camera_from_object, SIZE, CAMERA.rays(pixels()))
    assert hit.any()
    assert (~hit).any()
    assert_close(points[hit].abs().amax(-1), torch.full((int(hit.sum()),), 0.5, dtype=torch.float64))
    assert_close(CAMERA.project(camera_from_object @ (points[hit] * SIZE)), pixels()[hit], atol=1e-6, rtol=0)


@settings(max_examples=15)
@given(rotation_vectors())
def test_the_entry_point_is_the_first_one_inside(rotation_vector: Tensor) -> None:
    camera_from_object = pose(rotation_vector)
    rays = CAMERA.rays(pixels())[::37]
    points, hit = enter_box(camera_from_object, SIZE, rays)
    depth = torch.linspace(0.3, 1.5, 1500, dtype=torch.float64)
    along = camera_from_object.inverse() @ (rays.unsqueeze(1) * depth.unsqueeze(-1))  # (N, depths, 3)
    inside = (along.abs() <= SIZE / 2).all(-1)
    step = float(depth[1] - depth[0])
    met = inside.any(-1)
    assert not (met & ~hit).any()  # the search may step over a corner, but finds nothing that is not there
    first = depth[inside.float().argmax(-1)]
    entry = (camera_from_object @ (points * SIZE))[:, 2]
    assert ((first - entry)[met] >= -1e-9).all()
    assert ((first - entry)[met] <= step + 1e-9).all()


def test_a_box_seen_straight_on() -> None:
    ahead = SE3(torch.eye(3), torch.tensor([0.0, 0, 2]))
    points, hit = enter_box(ahead, torch.full((3,), 0.5), torch.tensor([[0.0, 0, 1]]))
    assert hit.tolist() == [True]
    assert_close(points, torch.tensor([[0.0, 0.0, -0.5]]))


def test_a_ray_that_misses_gets_a_point_of_the_box_nearby() -> None:
    points, hit = enter_box(SE3(torch.eye(3), torch.tensor([0.0, 0, 2])), torch.ones(3), torch.tensor([[3.0, 0, 1]]))
    assert hit.tolist() == [False]
    assert (points.abs() <= 0.5).all()
    assert points[0, 0] == 0.5


def test_a_box_behind_the_camera_is_not_met() -> None:
    rays = CAMERA.rays(pixels())
    points, hit = enter_box(pose(torch.zeros(3, dtype=torch.float64), z=-2.0), SIZE, rays)
    assert not hit.any()
    assert points.isfinite().all()


@pytest.mark.parametrize("angle", [0.0, math.pi / 2, math.pi])
def test_rays_along_the_faces_stay_finite(angle: float) -> None:
    rotation = so3.exp(torch.tensor([0.0, angle, 0.0]))
    rays = torch.tensor([[0.0, 0.0, 1.0], [0.05, 0.0, 1.0], [0.0, 0.05, 1.0]])
    points, _ = enter_box(SE3(rotation, torch.tensor([0.0, 0.0, 2.0])), torch.full((3,), 0.2), rays)
    assert points.isfinite().all()


def test_several_boxes_are_entered_as_each_alone() -> None:
    rotation = so3.exp(torch.tensor([[0.3, -0.2, 0.5], [1.5, 0.1, -0.4]], dtype=torch.float64))
    poses = SE3(rotation, torch.tensor([[0.05, -0.03, 0.8], [-0.02, 0.0, 1.1]], dtype=torch.float64))
    sizes, rays = torch.stack([SIZE, 2 * SIZE]), CAMERA.rays(pixels())
    points, hit = enter_box(poses, sizes, rays)
    for k in range(2):
        alone, alone_hit = enter_box(poses[k], sizes[k], rays)
        assert_close(points[k], alone)
        assert (hit[k] == alone_hit).all()
