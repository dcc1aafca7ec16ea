"""Street scenes: cars on the ground, beside each other, in daylight."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
import torch

pytest.importorskip("embreex", reason="scenes are ray traced with embreex (the `train` extra)")

from category_pose_ros.data.procedural import shapes, streets
from category_pose_ros.data.procedural.cars import make_car
from category_pose_ros.data.procedural.instance import Instance
from category_pose_ros.data.procedural.placement import PlacedObject, Surroundings
from category_pose_ros.data.procedural.scenes import Scene, make_scene
from category_pose_ros.data.procedural.surfaces import TextureSource
from category_pose_ros.data.procedural.views import look_at
from category_pose_ros.geometry import Camera

SOURCE = TextureSource()


def street(seed: int, cars: int = 4) -> Scene:
    return make_scene(np.random.default_rng(seed), SOURCE, ("car",), cars)


def corners(item: PlacedObject) -> npt.NDArray[np.float32]:
    points = np.concatenate([mesh.vertices for mesh, _ in item.instance.parts])
    return (item.world_from_object @ torch.from_numpy(points)).numpy()


@pytest.mark.parametrize("seed", range(6))
def test_everything_stands_on_the_ground(seed: int) -> None:
    scene = street(seed)
    assert scene.surroundings is Surroundings.STREET
    for item in scene.objects:
        assert abs(corners(item)[:, 2].min()) < 0.1
        assert item.world_from_object.rotation[2, 2] == pytest.approx(1)


@pytest.fixture(scope="module")
def many_streets() -> list[streets.Street]:
    cars = [make_car(np.random.default_rng(seed), SOURCE) for seed in range(4)]
    found = []
    for seed in range(150):
        rng = np.random.default_rng([9, seed])
        found.append(streets.make_street(rng, SOURCE, [cars[k] for k in rng.integers(0, 4, rng.integers(1, 7))]))
    return found


def test_nothing_stands_in_a_kerb_or_over_the_ground(many_streets: list[streets.Street]) -> None:
    heights = set()
    for place in many_streets:
        # Across a street: the right and left edge and the height of each surface; all are as long as the street.
        surfaces = [
            (*np.percentile(mesh.vertices[:, 1], [0, 100]), mesh.vertices[:, 2].max())
            for mesh, _, _ in place.ground
            if np.ptp(mesh.vertices[:, 0]) > 300
        ]
        for item in place.objects:
            points = corners(item)
            lowest, right, left = points[:, 2].min(), points[:, 1].min(), points[:, 1].max()
            assert max(top for first, last, top in surfaces if left > first and right < last) < lowest + 0.02
            middle = points[:, 1].mean()
            below = max(top for first, last, top in surfaces if first < middle < last)
            assert lowest == pytest.approx(below, abs=0.006)  # markings have a thickness
            if item.instance.category == "car":
                heights.add(round(float(lowest), 2))
    assert heights == {-0.03, 0.0, 0.09}  # on verges, roads and pavements


def test_the_first_car_is_on_the_asphalt(many_streets: list[streets.Street]) -> None:
    for place in many_streets:
        assert place.objects[0].world_from_object.translation[:2].tolist() == [0, 0]
        assert corners(place.objects[0])[:, 2].min() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_the_first_is_a_car_in_the_middle_and_no_two_stand_in_one_place(seed: int) -> None:
    objects = street(seed).objects
    assert objects[0].instance.category == "car"
    assert objects[0].world_from_object.translation[:2].tolist() == [0, 0]
    assert {item.instance.category for item in objects} <= {"car", "distractor"}
    for first, second in itertools.combinations(objects, 2):
        gap = (first.world_from_object.translation - second.world_from_object.translation)[:2].norm()
        assert gap > 0.5 * (min(first.instance.size_m[:2]) + min(second.instance.size_m[:2])) * 0.8


def test_the_number_of_cars_is_the_wanted_one_where_there_is_room() -> None:
    found = [sum(item.instance.category == "car" for item in street(seed, 5).objects) for seed in range(8)]
    assert max(found) == 5
    assert min(found) >= 3


def test_the_ground_reaches_the_horizon() -> None:
    camera = Camera(100.0, 100.0, 49.5, 49.5, 100, 100)
    scene = street(0)
    view = look_at(np.array([-30.0, 0.0, 2.0]), np.array([0.0, 0.0, 2.0]))
    rendering = scene.render(camera, view, np.zeros((100, 100, 3), np.uint8), np.random.default_rng(0))
    assert (rendering.depth[52:] > 0).all()
    assert (rendering.depth[:15] == 0).mean() > 0.5


def test_a_footprint_covers_its_object() -> None:
    box = Instance.centred("distractor", [(shapes.box([4.0, 1.0, 1.0]), None)])  # type: ignore[list-item]
    item = PlacedObject.at(box, shapes.about(2, 0.7), np.array([3.0, -2.0, 0.5]))
    centres, radii = streets.footprint(item)
    distance = np.linalg.norm(corners(item)[:, None, :2] - centres, axis=-1)
    assert (distance.min(1) <= radii[0] + 1e-5).all()
    assert np.abs(centres.mean(0) - [3.0, -2.0]).max() < 1e-5


def test_what_is_covered_is_under_the_object() -> None:
    box = Instance.centred("distractor", [(shapes.box([4.0, 1.0, 1.0]), None)])  # type: ignore[list-item]
    item = PlacedObject.at(box, shapes.about(2, np.pi / 2), np.array([3.0, -2.0, 0.5]))
    points = np.array([[3.0, -2.0], [3.4, -0.1], [3.7, -2.0], [4.5, -2.0], [3.0, 0.3]])
    assert streets.covered(item, points).tolist() == [True, True, False, False, False]


def test_a_way_stays_free() -> None:
    way = np.stack([np.linspace(-40, -6, 200), np.full(200, -1.65)], 1)
    in_the_way = 0
    for seed in range(12):
        free = make_scene(np.random.default_rng(seed), SOURCE, ("car",), 5, way=way).objects
        in_the_way += sum(streets.covered(item, way).any() for item in street(seed, 5).objects)
        assert not any(streets.covered(item, way).any() for item in free)
        assert sum(item.instance.category == "car" for item in free) == 5  # elsewhere, and not left out
    assert in_the_way > 0


def test_a_car_in_between_hides_what_is_behind() -> None:
    box = Instance.centred("distractor", [(shapes.box([2.0, 2.0, 1.0]), None)])  # type: ignore[list-item]
    between = PlacedObject.at(box, np.eye(3), np.array([5.0, 0.0, 0.5]))
    eye, target = np.array([0.0, 0.0, 1.5]), np.array([10.0, 0.0, 0.5])
    assert not streets.sees([between], eye, target)
    assert streets.sees([between], np.array([0.0, 12.0, 1.5]), target)
    assert not streets.sees([between], np.array([5.5, 0.5, 1.5]), target)  # inside it
    assert streets.sees([between], eye, np.array([5.0, 0.0, 0.5]))  # it is the target


def test_daylight_comes_from_above() -> None:
    for seed in range(20):
        lighting = streets.daylight(np.random.default_rng(seed), SOURCE)
        assert lighting.lamp_directions[0, 2] > 0.15
        assert np.linalg.norm(lighting.lamp_directions[0]) == pytest.approx(1, abs=1e-5)
        up, down = (lighting.look_up(np.array([[0.0, 0.0, z]], np.float32), -1).mean() for z in (1, -1))
        assert up > down
