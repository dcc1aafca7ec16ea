"""Procedural families: plausible sizes, the conventions of the object frame, reproducible."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from category_pose_ros.data.procedural.distractors import make_distractor, make_fingers
from category_pose_ros.data.procedural.instance import Instance
from category_pose_ros.data.procedural.scenes import FAMILIES, SYMMETRIES
from category_pose_ros.data.procedural.surfaces import TextureSource
from category_pose_ros.geometry import Symmetry
from category_pose_ros.rendering.raytracer import TEXTURE_SIZE

SEEDS = range(60)
SOURCE = TextureSource()
MAKERS: dict[str, Callable[[np.random.Generator, TextureSource], Instance]] = {
    **FAMILIES,
    "distractor": make_distractor,
    "fingers": make_fingers,
}


def make(name: str, seed: int) -> Instance:
    return MAKERS[name](np.random.default_rng(seed), SOURCE)


def vertices(instance: Instance) -> npt.NDArray[np.float32]:
    return np.concatenate([mesh.vertices for mesh, _ in instance.parts])


@pytest.mark.parametrize("name", MAKERS)
def test_every_part_is_finite_and_textured(name: str) -> None:
    for seed in SEEDS:
        for mesh, material in make(name, seed).parts:
            assert np.isfinite(mesh.vertices).all()
            assert np.isfinite(mesh.normals).all()
            assert mesh.faces.max() < len(mesh.vertices)
            assert material.texture.shape == (TEXTURE_SIZE, TEXTURE_SIZE, 3)
            assert material.texture.dtype == np.uint8
            assert 0 <= material.gloss <= 1
            assert 0 <= material.roughness <= 1
            assert 0 < material.opacity <= 1


@pytest.mark.parametrize("name", MAKERS)
def test_the_origin_is_the_centre_of_the_tight_box(name: str) -> None:
    for seed in SEEDS:
        instance = make(name, seed)
        points = vertices(instance)
        assert points.max(0) == pytest.approx(instance.size_m / 2, abs=1e-6)
        assert points.min(0) == pytest.approx(-instance.size_m / 2, abs=1e-6)
        assert instance.extent(np.eye(3)) == pytest.approx(instance.size_m, abs=1e-6)


@pytest.mark.parametrize("name", MAKERS)
def test_a_seed_makes_one_instance(name: str) -> None:
    first, again, other = make(name, 3), make(name, 3), make(name, 4)
    assert first.size_m.tolist() == again.size_m.tolist()
    for (mesh, material), (same_mesh, same_material) in zip(first.parts, again.parts, strict=True):
        assert (mesh.vertices == same_mesh.vertices).all()
        assert (material.texture == same_material.texture).all()
    assert first.size_m.tolist() != other.size_m.tolist()


@pytest.mark.parametrize(
    ("name", "shortest", "tallest", "widest"),
    [("mug", 0.045, 0.15, 0.33), ("bottle", 0.10, 0.40, 0.16), ("can", 0.025, 0.20, 0.13)],
)
def test_sizes_are_those_of_real_things(name: str, shortest: float, tallest: float, widest: float) -> None:
    sizes = np.array([make(name, seed).size_m for seed in range(200)])
    assert shortest < sizes[:, 2].min()
    assert sizes[:, 2].max() < tallest
    assert sizes[:, :2].min() > 0.02
    assert sizes[:, :2].max() < widest
    assert (sizes.std(0) / sizes.mean(0)).min() > 0.1  # and they vary


def test_bottles_are_tall_and_cans_round() -> None:
    for seed in SEEDS:
        bottle, can = make("bottle", seed).size_m, make("can", seed).size_m
        assert bottle[2] > 1.5 * bottle[:2].max()
        assert can[0] == pytest.approx(can[1], rel=0.01)


def test_categories_name_themselves() -> None:
    assert {make(name, 0).category for name in FAMILIES} == set(FAMILIES)
    assert {name for name, symmetry in SYMMETRIES.items() if symmetry is Symmetry.AXIS_Z} == {"bottle", "can"}


def test_the_handle_of_a_mug_is_at_positive_x() -> None:
    """It alone reaches beyond the vessel, which is round: so the box is longer along x, on that side."""
    for seed in SEEDS:
        mug = make("mug", seed)
        vessel, handle = mug.parts[0][0].vertices, mug.parts[2][0].vertices
        assert handle[:, 0].max() == pytest.approx(mug.size_m[0] / 2, abs=1e-6)
        assert handle[:, 0].max() - vessel[:, 0].max() > 0.005
        assert vessel[:, 0].min() == pytest.approx(-mug.size_m[0] / 2, abs=1e-6)
        assert np.abs(handle[:, 1]).max() < 0.02


def test_a_mug_is_open_above() -> None:
    """Looking down the axis, the first surface is well below the rim; from below it is the foot."""
    for seed in SEEDS:
        mug = make("mug", seed)
        axis = mug.parts[0][0].vertices[:, :2].mean(0)
        points = vertices(mug)
        near_axis = points[np.linalg.norm(points[:, :2] - axis, axis=1) < 0.006]
        assert near_axis[:, 2].max() < mug.size_m[2] / 2 - 0.04 * mug.size_m[2]
        assert near_axis[:, 2].min() == pytest.approx(-mug.size_m[2] / 2, abs=0.1 * mug.size_m[2])


def test_mugs_without_contents_are_hollow() -> None:
    empty = [mug for mug in (make("mug", seed) for seed in SEEDS) if len(mug.parts) == 3]
    assert empty
    for mug in empty:
        inside = mug.parts[1][0].vertices
        floor = inside[:, 2].min()
        assert floor < -mug.size_m[2] / 2 + 0.15 * mug.size_m[2]


def test_bottles_are_closed_above_and_narrow_there() -> None:
    for seed in SEEDS:
        bottle = make("bottle", seed)
        points = vertices(bottle)
        top = points[points[:, 2] > 0.48 * bottle.size_m[2]]
        low = points[points[:, 2] < 0]
        assert np.ptp(top[:, 0]) <= np.ptp(low[:, 0]) * 1.3
        assert np.linalg.norm(top[:, :2], axis=1).min() < 0.005


def test_extent_turns_with_the_frame() -> None:
    mug = make("mug", 1)
    quarter = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    assert mug.extent(quarter) == pytest.approx(mug.size_m[[1, 0, 2]], abs=1e-6)
