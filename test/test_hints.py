"""Regions of a frame: which pixels and cells they allow, and that the search keeps to them."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle import SIZE_M, coordinate_frame, oracle_model

from category_pose_ros import SE3, Camera, Frame, Region
from category_pose_ros.estimation import images
from category_pose_ros.estimation.belief import finished
from category_pose_ros.estimation.crops import CropConfig
from category_pose_ros.estimation.hints import allowed_cells, allowed_pixels
from category_pose_ros.estimation.neural_mesh import NeuralMeshConfig, NeuralMeshMethod

CAMERA = Camera(fx=600.0, fy=600.0, cx=319.5, cy=239.5, width=640, height=480)
DISTORTED = dataclasses.replace(CAMERA, distortion=(-0.25, 0.1, 0.001, -0.001, 0.0))
LEFT = SE3(torch.eye(3), torch.tensor([-0.18, 0.0, 0.8]))
RIGHT = SE3(torch.eye(3), torch.tensor([0.18, 0.0, 0.8]))


def frame(regions: tuple[Region, ...] | None, camera: Camera = CAMERA) -> Frame:
    return Frame(np.zeros((camera.height, camera.width, 3), np.uint8), camera, regions=regions)


def pixels(*regions: Region, categories: tuple[str, ...] = ("mug",), camera: Camera = CAMERA) -> npt.NDArray[np.bool_]:
    allowed = allowed_pixels(frame(regions, camera), categories)
    assert allowed is not None
    return allowed


def box_around(pose: SE3, camera: Camera = CAMERA, side: float = 160.0) -> tuple[float, float, float, float]:
    u, v = camera.project(pose.translation).tolist()
    return (u - side / 2, v - side / 2, u + side / 2, v + side / 2)


def test_without_a_hint_everything_is_allowed_and_with_an_empty_one_nothing() -> None:
    assert allowed_pixels(frame(None), ("mug",)) is None
    assert not pixels().any()


def test_a_box_allows_the_pixels_that_it_touches_and_its_mask_those_in_both() -> None:
    inside = pixels(Region(box=(10.4, 20.6, 12.6, 20.7)))[0]
    assert list(zip(*np.nonzero(inside), strict=True)) == [(21, 10), (21, 11), (21, 12), (21, 13)]
    mask = np.zeros((480, 640), bool)
    mask[:, 12:] = True
    inside = pixels(Region(box=(10.4, 20.6, 12.6, 20.7), mask=mask))[0]
    assert list(zip(*np.nonzero(inside), strict=True)) == [(21, 12), (21, 13)]
    assert (pixels(Region(mask=mask))[0] == mask).all()


@pytest.mark.parametrize(
    ("box", "count"),
    [
        ((-1e9, -5.0, 0.0, 0.0), 1),
        ((639.0, 479.0, 1e9, 700.0), 1),
        ((-9.0, -9.0, -2.0, 500.0), 0),
        ((640, 0, 700, 9), 0),
    ],
)
def test_a_box_may_reach_beyond_the_image(box: tuple[float, float, float, float], count: int) -> None:
    assert pixels(Region(box=box)).sum() == count


def test_a_region_speaks_of_its_category_alone() -> None:
    of_mug, of_any = Region(box=(0, 0, 9, 9), category="mug"), Region(box=(20, 0, 29, 9))
    of_person = Region(box=(40, 0, 49, 9), category="person")
    can, mug = pixels(of_mug, of_any, of_person, categories=("can", "mug"))
    assert [bool(can[5, column]) for column in (5, 25, 45)] == [False, True, False]
    assert [bool(mug[5, column]) for column in (5, 25, 45)] == [True, True, False]


@given(st.integers(40, 700), st.integers(40, 700), st.integers(32, 700), st.data())
def test_a_cell_is_allowed_where_it_sees_an_allowed_pixel(
    width: int, height: int, side: int, data: st.DataObject
) -> None:
    camera = Camera(fx=500.0, fy=480.0, cx=width / 2, cy=height / 3, width=width, height=height)
    u, v = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    allowed = pixels(Region(box=(u, v, u, v)), camera=camera)
    _, fitted = images.fit(frame(None, camera).rgb, camera, side)
    cells = allowed_cells(allowed, camera, images.cell_camera(fitted))[0]
    assert cells.shape == (fitted.height // 8, fitted.width // 8)
    ((row, column),) = torch.nonzero(cells).tolist()
    # One pixel is in one cell: the one whose middle is nearest to where both cameras see the same ray.
    ray = camera.rays(torch.tensor([float(u), float(v)], dtype=torch.float64))
    seen_u, seen_v = images.cell_camera(fitted).project(ray).tolist()
    assert abs(column - seen_u) <= 0.5 + 1e-6
    assert abs(row - seen_v) <= 0.5 + 1e-6


@pytest.mark.parametrize("x", [-0.4, 0.0, 0.35])
def test_a_region_of_a_distorted_image_is_where_the_rectified_image_has_it(x: float) -> None:
    pose = SE3(torch.eye(3), torch.tensor([x, 0.2, 1.0]))
    inside = pixels(Region(box=box_around(pose, DISTORTED, side=6.0)), camera=DISTORTED)[0]
    rows, columns = np.nonzero(inside)
    expected = DISTORTED.undistorted().project(pose.translation).tolist()
    assert [columns.mean(), rows.mean()] == pytest.approx(expected, abs=0.75)
    assert 30 < len(rows) < 100


@pytest.fixture(scope="module")
def method() -> NeuralMeshMethod:
    config = NeuralMeshConfig(precision="float32", runtime="pytorch", crops=CropConfig(mirror=False))
    return NeuralMeshMethod(oracle_model(), ("mug",), torch.device("cpu"), config)


@pytest.fixture(scope="module")
def two_mugs() -> Frame:
    return coordinate_frame(CAMERA, [LEFT, RIGHT], [SIZE_M, SIZE_M])


@pytest.mark.parametrize(
    ("regions", "expected"),
    [
        (None, {"left", "right"}),
        ((), set()),
        ((Region(box=box_around(LEFT)),), {"left"}),
        ((Region(box=box_around(RIGHT), category="mug"),), {"right"}),
        ((Region(box=box_around(RIGHT), category="can"), Region(box=box_around(LEFT))), {"left"}),
        ((Region(box=box_around(LEFT)), Region(box=box_around(RIGHT))), {"left", "right"}),
    ],
)
def test_the_search_finds_what_is_in_the_regions(
    method: NeuralMeshMethod, two_mugs: Frame, regions: tuple[Region, ...] | None, expected: set[str]
) -> None:
    found = finished(method.search(dataclasses.replace(two_mugs, regions=regions)))
    assert {"left" if item.camera_from_object.translation[0] < 0 else "right" for item in found} == expected
