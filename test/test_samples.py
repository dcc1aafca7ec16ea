"""Training samples: reproducible, finite, and with targets that agree with pose and camera."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from category_pose_ros.data.procedural.placement import PlacedObject, Surroundings
from category_pose_ros.data.procedural.scenes import FAMILIES, Scene, canonical_box, make_scene
from category_pose_ros.data.procedural.surfaces import TextureSource
from category_pose_ros.data.procedural.tabletop import room_light
from category_pose_ros.data.procedural.views import cut_off
from category_pose_ros.data.samples import BACKGROUND, UNKNOWN, SampleConfig, Samples, SceneSamples
from category_pose_ros.geometry import SE3, Camera, so3
from category_pose_ros.geometry.box import enter_box
from category_pose_ros.records import OUTSIDE, STRIDE_PX
from category_pose_ros.rendering.raytracer import RayTracer

pytest.importorskip("embreex", reason="training samples are ray traced with embreex (the `train` extra)")

CATEGORIES = ("bottle", "can", "mug")
CONFIG = SampleConfig()
CELLS = CONFIG.size_px // STRIDE_PX


@pytest.fixture(scope="module")
def samples() -> Samples:
    dataset = SceneSamples(CATEGORIES, CONFIG, seed=5)
    return Samples.cat([dataset[index] for index in range(40)])


def same(first: Samples, second: Samples) -> bool:
    names = [field.name for field in dataclasses.fields(Samples)]
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in names)


def test_a_scene_gives_its_views_and_their_mirror_images(samples: Samples) -> None:
    count = 40 * 2 * CONFIG.views_per_scene
    assert samples.image.shape == (count, 3, CONFIG.size_px, CONFIG.size_px)
    assert samples.image.dtype == torch.uint8
    assert samples.category.shape == samples.log_diagonal.shape == (count, CELLS, CELLS)
    assert samples.box_point.shape == (count, CELLS, CELLS, 3)
    assert samples.centre.shape == (count, CELLS, CELLS, 2)


def test_targets_are_finite_and_in_range(samples: Samples) -> None:
    for values in (samples.box_point, samples.centre, samples.log_diagonal):
        assert values.isfinite().all()
    assert set(samples.category.unique().tolist()) == {-1, 0, 1, 2}
    on_object = samples.category >= 0
    assert (samples.box_point.abs() <= 0.5).all()
    surface = samples.box_point[on_object].abs().amax(-1)
    assert (surface > 0.4999).float().mean() > 0.99  # the rest grazes the box of a canonical yaw
    assert (samples.box_point[~on_object] == 0).all()
    diagonal = samples.log_diagonal[on_object].exp() * STRIDE_PX
    assert diagonal.min() > 5
    assert diagonal.max() < 2000


def test_most_crops_show_their_object_and_some_background(samples: Samples) -> None:
    share = (samples.category >= 0).flatten(1).float().mean(1)
    assert (share > 0.02).float().mean() > 0.9
    assert 0.1 < share.mean() < 0.6


def test_images_have_contrast(samples: Samples) -> None:
    assert samples.image.float().flatten(1).std(1).median() > 20


def test_a_sample_depends_on_seed_and_index_alone() -> None:
    first, second = SceneSamples(CATEGORIES, CONFIG, 1), SceneSamples(CATEGORIES, CONFIG, 1)
    late = second[7]
    assert same(first[3], second[3])
    assert same(first[7], late)
    assert not torch.equal(first[3].image, first[4].image)
    assert not torch.equal(first[3].image, SceneSamples(CATEGORIES, CONFIG, 2)[3].image)


def test_only_the_wanted_categories_are_targets() -> None:
    dataset = SceneSamples(("mug",), CONFIG, 1)
    found = Samples.cat([dataset[index] for index in range(4)])
    assert set(found.category.unique().tolist()) == {-1, 0}


def test_mirrored_twice_is_the_same(samples: Samples) -> None:
    assert same(samples.mirrored().mirrored(), samples)
    assert not same(samples.mirrored(), samples)


def test_cells_of_one_object_vote_for_one_centre(samples: Samples) -> None:
    """And all its cells name one size; where two objects of a category share a crop there are two."""
    rows, columns = torch.meshgrid(torch.arange(CELLS), torch.arange(CELLS), indexing="ij")
    cell = torch.stack([columns, rows], -1).float()
    for number in range(0, len(samples.category), 3):
        mask = samples.category[number] >= 0
        voted = (cell + samples.centre[number])[mask]
        sizes = samples.log_diagonal[number][mask]
        rounded = {(round(float(u), 2), round(float(v), 2)) for u, v in voted}
        assert len(rounded) <= 2 * len({round(float(size), 3) for size in sizes})
        assert len(rounded) <= 6


@pytest.mark.parametrize("category", sorted(set(FAMILIES) - set(CATEGORIES)))
def test_every_family_fills_crops(category: str) -> None:
    dataset = SceneSamples((category,), dataclasses.replace(CONFIG, emphasis=(), empty=0.0), seed=2)
    found = Samples.cat([dataset[index] for index in range(8)])
    assert found.image.float().flatten(1).std(1).median() > 20
    on_object = found.category >= 0
    share = on_object.flatten(1).float().mean(1)
    assert (share > 0.02).float().mean() > 0.8
    assert share.mean() < 0.6
    for values in (found.box_point, found.centre, found.log_diagonal, found.axes, found.log_shape):
        assert values.isfinite().all()
    diagonal = found.log_diagonal[on_object].exp() * STRIDE_PX
    assert 30 < diagonal.median() < 200


def test_of_an_object_that_fills_the_camera_nothing_is_asked() -> None:
    scene = make_scene(np.random.default_rng(0), TextureSource(), ("mug",), object_count=1)
    item = scene.objects[0]
    away = torch.tensor([0.0, 0.0, 0.2 * float(np.linalg.norm(item.instance.size_m))])
    view = SE3(torch.eye(3), away - item.world_from_object.translation)
    camera = Camera(100.0, 100.0, 63.5, 63.5, CONFIG.size_px, CONFIG.size_px)
    image, owner = np.zeros((camera.height, camera.width, 3), np.uint8), np.full((camera.height, camera.width), -1)
    owner[:, : camera.width // 2] = 0
    found = SceneSamples(("mug",), CONFIG, 0)._targets(image, owner.astype(np.int32), camera, view, scene)
    assert (found.category[0, :, : CELLS // 2] == UNKNOWN).all()
    assert (found.category[0, :, CELLS // 2 :] == BACKGROUND).all()


def test_cars_are_seen_across_a_street_and_small_things_across_a_table() -> None:
    """Distances follow from the apparent diagonal and the focal length of the crop's camera."""
    for category, nearest, farthest in [("car", 3.5, 50.0), ("mug", 0.2, 1.9)]:
        rng = np.random.default_rng(0)
        scene = make_scene(rng, TextureSource(), (category,), object_count=1)
        item = scene.objects[0]
        dataset = _OneView((category,), CONFIG, 0)
        for _ in range(20):
            _, view = dataset._aim(rng, scene, item)
            distance = float((view @ item.world_from_object).translation.norm())
            assert nearest < distance < farthest
            if category == "car":
                assert float(view.inverse().translation[2]) > 1.0


def test_cars_and_small_things_do_not_share_a_scene() -> None:
    kinds = set()
    for seed in range(12):
        scene = make_scene(np.random.default_rng(seed), TextureSource(), ("car", "mug"))
        found = {item.instance.category for item in scene.objects} - {"distractor"}
        assert found == ({"car"} if scene.surroundings is Surroundings.STREET else {"mug"})
        kinds.add(scene.surroundings)
    assert Surroundings.STREET in kinds
    assert Surroundings.TABLE in kinds


def placed(category: str, seed: int) -> PlacedObject:
    rng = np.random.default_rng(seed)
    scene = make_scene(rng, TextureSource(), (category,), object_count=1)
    return scene.objects[0]


@pytest.mark.parametrize("category", FAMILIES)
@pytest.mark.parametrize("seed", range(5))
def test_the_canonical_box_holds_the_object(category: str, seed: int) -> None:
    item = placed(category, seed)
    view = SE3(so3.exp(torch.tensor([0.5, -0.4, 0.2])), torch.tensor([0.1, 0.0, 1.0]))
    pose, extent = canonical_box(view @ item.world_from_object, item.instance)
    size = torch.from_numpy(extent).float()
    points = np.concatenate([mesh.vertices for mesh, _ in item.instance.parts])
    seen = view @ (item.world_from_object @ torch.from_numpy(points))
    in_box = (pose.inverse() @ seen) / size
    assert in_box.abs().max() < 0.51
    assert (in_box.amax(0) - in_box.amin(0)).tolist() == pytest.approx([1, 1, 1], abs=1e-3)


def rotation_to(ray: torch.Tensor) -> torch.Tensor:
    """Rotation vector from the optical axis to a ray."""
    x, y, z = (ray / ray.norm()).tolist()
    across = float(np.hypot(x, y))
    return torch.tensor([-y, x, 0.0]) / across * float(np.arctan2(across, z))


class _OneView(SceneSamples):
    """Samples of a scene and a camera that the test knows."""

    def targets(self, scene: Scene, camera: Camera, view: SE3) -> Samples:
        rendering = scene.render(camera, view, np.zeros((128, 128, 3), np.uint8), np.random.default_rng(0), 1.0)
        return self._targets(rendering.rgb, rendering.owner, camera, view, scene)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("category", CATEGORIES)
def test_box_points_project_to_their_cells(category: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    item = PlacedObject(FAMILIES[category](rng, TextureSource()), SE3.identity())
    tracer = RayTracer([(mesh, material, 0) for mesh, material in item.instance.parts])
    scene = Scene((item,), room_light(rng, TextureSource()), tracer, Surroundings.AIR)
    diagonal = float(np.linalg.norm(item.instance.size_m))
    camera = Camera(90 * 0.8 / diagonal, 90 * 0.8 / diagonal, 60.0, 66.0, 128, 128)
    turn = so3.exp(torch.from_numpy(rng.normal(0, 1, 3)).float())
    view = SE3(turn, torch.tensor([0.01, 0.0, 0.8]))
    found = _OneView(CATEGORIES, CONFIG, 0).targets(scene, camera, view)

    pose, extent = canonical_box(view @ item.world_from_object, item.instance)
    size = torch.from_numpy(extent).float()
    cells = camera.resized(CELLS, CELLS)
    rows, columns = torch.meshgrid(torch.arange(CELLS), torch.arange(CELLS), indexing="ij")
    cell = torch.stack([columns, rows], -1).float()
    expected, hit = enter_box(pose, size, cells.rays(cell).flatten(0, 1))
    mask = (found.category[0] == CATEGORIES.index(category)) & hit.view(CELLS, CELLS)
    assert mask.sum() >= 8
    centre = cells.project(pose.translation)
    assert torch.allclose((cell + found.centre[0])[mask], centre.expand(int(mask.sum()), 2), atol=1e-4)
    points = found.box_point[0][mask]
    assert torch.allclose(points, expected.view(CELLS, CELLS, 3)[mask], atol=1e-5)
    assert torch.allclose(cells.project(pose @ (points * size)), cell[mask], atol=1e-3)
    seen = so3.exp(rotation_to(pose.translation)).T @ pose.rotation
    assert torch.allclose(found.axes[0][mask], seen[:, [0, 2]].T.expand(int(mask.sum()), 2, 3), atol=1e-5)
    assert torch.allclose(found.log_shape[0][mask].exp() * size.norm(), size.expand(int(mask.sum()), 3), atol=1e-5)
    apparent = cells.fx * float(size.norm()) / float(pose.translation[2])
    assert found.log_diagonal[0][mask].exp().tolist() == pytest.approx([apparent] * int(mask.sum()), rel=1e-4)


def test_mirrored_targets_are_those_of_the_mirrored_world() -> None:
    """A mirrored box: x of the camera and y of the object change their signs."""
    dataset = SceneSamples(CATEGORIES, CONFIG, seed=9)
    sample = dataset[0]
    mirrored = sample.mirrored()
    assert torch.equal(mirrored.category, sample.category.flip(2))
    rows, columns = torch.meshgrid(torch.arange(CELLS), torch.arange(CELLS), indexing="ij")
    cell = torch.stack([columns, rows], -1).float()
    on_object = (sample.category >= 0).unsqueeze(-1)
    voted = (cell + sample.centre) * on_object
    voted_mirrored = (cell + mirrored.centre) * on_object.flip(2)
    assert torch.allclose(voted_mirrored.flip(2)[..., 0], ((CELLS - 1) - voted[..., 0]) * on_object[..., 0], atol=1e-4)
    assert torch.allclose(voted_mirrored.flip(2)[..., 1], voted[..., 1], atol=1e-4)
    assert torch.equal(mirrored.box_point.flip(2)[..., 1], -sample.box_point[..., 1])
    assert torch.equal(mirrored.axes.flip(2)[..., 0], -sample.axes[..., 0])
    assert torch.equal(mirrored.axes.flip(2)[..., 1:], sample.axes[..., 1:])
    assert torch.equal(mirrored.log_shape.flip(2), sample.log_shape)


def test_some_scenes_are_photographs_without_any_object() -> None:
    config = dataclasses.replace(CONFIG, empty=1.0)
    empty = SceneSamples(CATEGORIES, config, 1)[0]
    assert empty.image.shape[0] == 2 * config.views_per_scene
    assert (empty.category == -1).all()
    assert empty.image.float().flatten(1).std(1).min() > 1
    share = [bool((SceneSamples(CATEGORIES, CONFIG, 1)[k].category == -1).all()) for k in range(40)]
    assert 0 < sum(share) < 20


def test_a_crop_that_reaches_beyond_its_image_shows_nothing_there() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        image, owner = np.full((64, 64, 3), 7, np.uint8), np.zeros((64, 64), np.int32)
        cut_off(rng, image, owner)
        outside = (image == OUTSIDE).all(-1)
        assert 0.09 < outside.mean() < 0.51
        assert ((owner == -1) == outside).all()
        assert outside.all(0).any() or outside.all(1).any()  # a whole side
