"""Procedural families: plausible sizes, the conventions of the object frame, reproducible."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pytest

from category_pose_ros.data.procedural import shapes, shells, tabletop
from category_pose_ros.data.procedural.cars import repainted
from category_pose_ros.data.procedural.distractors import make_distractor, make_fingers, make_street_distractor
from category_pose_ros.data.procedural.instance import Instance
from category_pose_ros.data.procedural.scenes import DEFAULT_CATEGORIES, FAMILIES, SYMMETRIES
from category_pose_ros.data.procedural.surfaces import TextureSource
from category_pose_ros.geometry import Symmetry
from category_pose_ros.rendering.raytracer import TEXTURE_SIZE

SEEDS = range(30)
SOURCE = TextureSource()
MAKERS: dict[str, Callable[[np.random.Generator, TextureSource], Instance]] = {
    **FAMILIES,
    "distractor": make_distractor,
    "fingers": make_fingers,
    "street distractor": make_street_distractor,
}
MOST_FACES = {"car": 6000, "camera": 4500}  # all others less than 2500


@lru_cache(maxsize=600)
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
def test_the_faces_are_few_and_normals_are_unit_vectors(name: str) -> None:
    for seed in range(10):
        parts = make(name, seed).parts
        assert sum(len(mesh.faces) for mesh, _ in parts) < MOST_FACES.get(name, 2500)
        for mesh, _ in parts:
            assert np.linalg.norm(mesh.normals, axis=1) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("name", ["bowl", "camera", "car", "laptop"])
def test_normals_agree_with_the_winding_of_the_faces(name: str) -> None:
    for seed in range(10):
        for mesh, _ in make(name, seed).parts:
            corners = mesh.vertices[mesh.faces].astype(np.float64)
            area = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
            agreement = np.einsum("fc,fkc->fk", area, mesh.normals[mesh.faces]).min(1)
            # Less the few triangles that are so narrow or crumpled, as at a wheel arch, that they have no direction.
            assert (agreement >= -1e-3 * np.linalg.norm(area, axis=1)).mean() > 0.97


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
    first, again, other = make(name, 3), MAKERS[name](np.random.default_rng(3), SOURCE), make(name, 4)
    assert first.size_m.tolist() == again.size_m.tolist()
    for (mesh, material), (same_mesh, same_material) in zip(first.parts, again.parts, strict=True):
        assert (mesh.vertices == same_mesh.vertices).all()
        assert (material.texture == same_material.texture).all()
    assert first.size_m.tolist() != other.size_m.tolist()


@pytest.mark.parametrize(
    ("name", "shortest", "tallest", "widest"),
    [
        ("mug", 0.045, 0.15, 0.33),
        ("bottle", 0.10, 0.40, 0.16),
        ("can", 0.025, 0.20, 0.13),
        ("bowl", 0.01, 0.22, 0.36),
        ("camera", 0.045, 0.15, 0.25),
        ("laptop", 0.01, 0.32, 0.6),
        ("car", 1.15, 2.15, 5.45),
    ],
)
def test_sizes_are_those_of_real_things(name: str, shortest: float, tallest: float, widest: float) -> None:
    sizes = np.array([make(name, seed).size_m for seed in range(100)])
    assert shortest < sizes[:, 2].min()
    assert sizes[:, 2].max() < tallest
    assert sizes[:, :2].min() > 0.02
    assert sizes[:, :2].max() < widest
    assert (sizes.std(0) / sizes.mean(0)).min() > (0.05 if name == "car" else 0.1)  # and they vary


def test_bottles_are_tall_and_cans_round() -> None:
    for seed in SEEDS:
        bottle, can = make("bottle", seed).size_m, make("can", seed).size_m
        assert bottle[2] > 1.5 * bottle[:2].max()
        assert can[0] == pytest.approx(can[1], rel=0.01)


def test_categories_name_themselves() -> None:
    assert {make(name, 0).category for name in FAMILIES} == set(FAMILIES)
    assert {name for name, symmetry in SYMMETRIES.items() if symmetry is Symmetry.AXIS_Z} == {"bottle", "bowl", "can"}
    assert DEFAULT_CATEGORIES == ("bottle", "can", "mug")


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


def test_no_handle_reaches_into_its_mug() -> None:
    for seed in range(200):
        mug = make("mug", seed)
        outside, inside, handle = (mug.parts[k][0].vertices for k in range(3))
        axis = (outside[:, :2].min(0) + outside[:, :2].max(0)) / 2
        radius, z = np.hypot(*(inside[:, :2] - axis).T), inside[:, 2]
        order = np.lexsort([radius, z])
        order = order[radius[order] > 1e-4]  # less the middle of the floor
        among = (handle[:, 2] > z.min() + 0.001) & (handle[:, 2] < outside[:, 2].max() - 5e-4)
        cavity = np.interp(handle[among, 2], z[order], radius[order])
        depth = cavity - np.hypot(*(handle[among, :2] - axis).T)
        assert depth.max(initial=-1) < 1e-3, seed


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


def box_of(instance: Instance, part: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Lowest and highest corner of one part."""
    points = instance.parts[part][0].vertices
    return points.min(0), points.max(0)


def test_bowls_are_round_open_above_and_wider_than_high() -> None:
    for seed in SEEDS:
        bowl = make("bowl", seed)
        assert bowl.size_m[0] == pytest.approx(bowl.size_m[1], rel=0.02)
        assert 0.12 < bowl.size_m[2] / bowl.size_m[0] < 0.8
        inside = bowl.parts[1][0].vertices
        middle = inside[np.linalg.norm(inside[:, :2], axis=1) < 1e-6]
        assert middle[:, 2].max() < 0.5 * bowl.size_m[2] - 0.5 * np.ptp(inside[:, 2])
        assert -0.5 * bowl.size_m[2] <= middle[:, 2].min()


def _rings(mesh_points: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Radius (along x, where a square bowl is as wide as its profile) and height of turned points, (N, 2)."""
    ahead = mesh_points[np.abs(mesh_points[:, 1]) < 1e-6]
    ahead = ahead[ahead[:, 0] > -1e-6]
    return np.unique(ahead[:, [0, 2]].astype(np.float64), axis=0)


def test_what_lies_in_a_bowl_does_not_pierce_it() -> None:
    per_ball, filled = len(shapes.ellipsoid([1, 1, 1], sectors=12).vertices), 0
    for seed in range(400):
        parts = make("bowl", seed).parts
        balls = parts[-1][0].vertices
        if len(parts) < 4 or len(balls) % per_ball:
            continue
        filled += 1
        outer = _rings(parts[0][0].vertices)
        floor = parts[1][0].vertices[:, 2].min()
        wall = outer[outer[:, 1] > outer[:, 1].min() + 1e-6]
        wall = wall[np.argsort(wall[:, 1])]
        below_rim = balls[balls[:, 2] < wall[-1, 1]]
        assert balls[:, 2].min() > floor - 1e-4
        assert (np.hypot(*below_rim[:, :2].T) < np.interp(below_rim[:, 2], wall[:, 1], wall[:, 0])).all(), seed
    assert filled > 15


def test_rim_and_contents_of_a_square_bowl_are_square() -> None:
    """Each of its turned parts reaches farther along its diagonals than along its axes."""
    found = 0
    for seed in range(400):
        parts = make("bowl", seed).parts
        across, diagonal = _reaches(parts[0][0].vertices)
        if diagonal > 1.03 * across and len(parts) > 2:
            found += 1
            across, diagonal = _reaches(parts[2][0].vertices)
            assert diagonal > 1.03 * across
    assert found > 3


def _reaches(points: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Greatest distance from z (m), along x and along a diagonal."""
    return float(points[:, 0].max()), float((points[:, :2] @ [1, 1]).max() / np.sqrt(2))


def test_the_lens_of_a_camera_looks_along_x() -> None:
    """The body, wider than high, carries a round barrel in front; what is farthest ahead belongs to it."""
    for seed in SEEDS:
        camera = make("camera", seed)
        body = np.concatenate([mesh.vertices for mesh, _ in camera.parts[:3]])
        barrel = camera.parts[3][0].vertices
        assert np.ptp(body[:, 1]) > np.ptp(body[:, 2])
        assert np.ptp(barrel[:, 1]) == pytest.approx(np.ptp(barrel[:, 2]), rel=0.02)
        assert barrel[:, 0].max() > np.sort(body[:, 0])[int(0.6 * len(body))]
        grip = body[body[:, 1] < np.median(body[:, 1])]
        assert grip[:, 0].max() >= body[:, 0].max() - 1e-6  # the grip is at -y, where there is one


def test_the_lenses_of_cameras_are_short_and_long() -> None:
    share = np.array([size[0] / size[1] for size in (make("camera", seed).size_m for seed in range(100))])
    assert share.min() < 0.45
    assert share.max() > 1.1


def test_the_front_edge_of_a_laptop_is_at_positive_x() -> None:
    """The base reaches from the hinge to the front edge, flat on the ground; the lid rises at the hinge."""
    upright = 0
    for seed in SEEDS:
        laptop = make("laptop", seed)
        low, high = box_of(laptop, 0)
        assert low[2] == pytest.approx(-laptop.size_m[2] / 2, abs=2e-3)
        assert high[0] == pytest.approx(laptop.size_m[0] / 2, abs=0.13)
        assert np.ptp(vertices(laptop)[:, 1]) > high[0] - low[0]  # wider than deep
        points = vertices(laptop)
        lid = points[points[:, 2] > high[2] + 0.05]
        if laptop.size_m[2] > 0.85 * (high[0] - low[0]):
            upright += 1
            assert lid[:, 0].mean() < low[0] + 0.6 * (high[0] - low[0])
    assert upright > 0.5 * len(SEEDS)


def test_laptops_are_open_half_open_and_closed() -> None:
    rise = np.array([size[2] / size[1] for size in (make("laptop", seed).size_m for seed in range(150))])
    assert (rise < 0.12).mean() > 0.03  # closed, or opened flat
    assert ((rise > 0.12) & (rise < 0.5)).mean() > 0.05
    assert (rise > 0.5).mean() > 0.5


def test_cars_drive_along_x_on_four_wheels() -> None:
    for seed in SEEDS:
        car = make("car", seed)
        assert 3.3 < car.size_m[0] < 5.45
        assert 1.5 < car.size_m[1] < 2.35
        assert car.size_m[0] > 1.5 * car.size_m[1]
        tyres = next(mesh for mesh, _ in car.parts if mesh.vertices[:, 2].min() < 1e-3 - car.size_m[2] / 2)
        ground = tyres.vertices[tyres.vertices[:, 2] < 0.005 - car.size_m[2] / 2]
        for along in (-1, 1):
            for across in (-1, 1):
                assert ((along * ground[:, 0] > 0.8) & (across * ground[:, 1] > 0.4)).any()


def test_the_windscreen_of_a_car_slopes_towards_the_front() -> None:
    """The hood is in front: the body's highest points lie behind the middle of its front half."""
    for seed in SEEDS:
        points = make("car", seed).parts[0][0].vertices
        front, height = points[:, 0].max(), points[:, 2]
        hood = points[points[:, 0] > 0.8 * front]
        assert hood[:, 2].max() < 0.62 * height.max() + 0.38 * height.min()


def test_cars_are_mirror_images_of_themselves_but_for_print() -> None:
    body = make("car", 0).parts[0][0].vertices
    left, right = (
        {tuple(point) for point in np.rint(body * [1, side, 1] * 500).astype(int).tolist()} for side in (-1, 1)
    )
    assert len(left & right) > 0.9 * len(left)  # the others are rounded differently


def test_cars_have_many_shapes_and_colours() -> None:
    cars = [make("car", seed) for seed in range(60)]
    shapes_ = np.array([car.size_m[2] / car.size_m[0] for car in cars])
    assert shapes_.max() > 1.5 * shapes_.min()
    paint = np.array([car.parts[0][1].texture[0, 0] for car in cars], float)
    assert paint.mean(1).std() > 40
    assert np.ptp(paint, axis=1).max() > 80


def test_a_repainted_car_is_the_same_model() -> None:
    car = make("car", 5)
    other = repainted(np.random.default_rng(1), car)
    assert other.size_m is car.size_m
    assert other.parts[1:] == car.parts[1:]
    assert other.parts[0][0] is car.parts[0][0]
    assert (other.parts[0][1].texture != car.parts[0][1].texture).any()


@pytest.mark.parametrize(("category", "fewer"), [("bowl", 1), ("laptop", 1), ("mug", 0)])
def test_distractors_are_none_of_the_wanted_categories(category: str, fewer: int) -> None:
    """Bowls and folded boards are distractors only where bowls and laptops are not looked for."""
    free = [make_distractor(np.random.default_rng(seed), SOURCE).size_m.tolist() for seed in range(30)]
    kept = [make_distractor(np.random.default_rng(seed), SOURCE, (category,)).size_m.tolist() for seed in range(30)]
    assert (free == kept) == (fewer == 0)


def test_prints_on_the_left_and_the_right_of_a_car_are_mirror_images() -> None:
    shell = shells.Shell(
        levels=np.array([0.0, 1.0]),
        front=np.full(2, 2.0),
        rear=np.full(2, -2.0),
        side_front=np.full(2, 1.5),
        side_rear=np.full(2, -1.5),
        half_width=np.full(2, 0.9),
        lower=np.zeros_like,
        upper=np.ones_like,
        cut=np.zeros_like,
        stations=np.linspace(0, 1, 21),
        roundness=2.5,
        barrel=0.05,
        crown=0.05,
    )
    right, left = shell.panels((0.1, 0.22), (0.3, 0.7), 0.006)
    for point, uv in zip(right.vertices * [1, -1, 1], right.uv, strict=True):
        distance = np.linalg.norm(left.vertices - point, axis=1)
        assert distance.min() < 1e-6
        assert left.uv[distance.argmin()] == pytest.approx(uv, abs=1e-6)


@pytest.mark.parametrize("name", [name for name in MAKERS if name not in ("car", "street distractor")])
def test_what_lies_on_a_table_touches_it(name: str) -> None:
    for seed in range(200):
        (item,) = tabletop.place_on_table(np.random.default_rng([3, seed]), [make(name, seed % 20)])
        points = vertices(item.instance) @ item.world_from_object.rotation.numpy().T
        assert points[:, 2].min() + float(item.world_from_object.translation[2]) == pytest.approx(0, abs=1e-5)


def test_what_is_in_the_air_keeps_apart() -> None:
    names = [name for name in MAKERS if name not in ("car", "street distractor")]
    wanted, found = 0, 0
    for seed in range(100):
        rng = np.random.default_rng([5, seed])
        instances = [make(str(rng.choice(names)), int(rng.integers(20))) for _ in range(rng.integers(1, 7))]
        placed = tabletop.place_in_air(rng, instances)
        wanted, found = wanted + len(instances), found + len(placed)
        for k, item in enumerate(placed):
            for other in placed[:k]:
                apart = (item.world_from_object.translation - other.world_from_object.translation).norm()
                reach = sum(float(np.linalg.norm(one.instance.size_m)) / 2 for one in (item, other))
                assert apart >= 0.7 * reach - 1e-6
    assert found > 0.95 * wanted
