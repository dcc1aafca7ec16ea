"""The ray tracer against analytic answers: depth, owners, shadows, light."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch

from category_pose_ros.data.procedural import shapes
from category_pose_ros.data.procedural.views import look_at
from category_pose_ros.geometry import SE3, Camera
from category_pose_ros.geometry.box import enter_box
from category_pose_ros.rendering.raytracer import TEXTURE_SIZE, Lighting, Material, RayTracer, Rendering

pytest.importorskip("embreex", reason="the ray tracer needs embreex (the `train` extra)")

CAMERA = Camera(fx=120.0, fy=120.0, cx=63.5, cy=47.5, width=128, height=96)
SIZE = (0.2, 0.1, 0.3)
BLACK = np.zeros((96, 128, 3), np.uint8)


def matt(grey: int = 255) -> Material:
    return Material(np.full((TEXTURE_SIZE, TEXTURE_SIZE, 3), grey, np.uint8), gloss=0.0)


def lamp(direction: tuple[float, float, float] = (0.0, 0.0, 1.0), surroundings: float = 0.0) -> Lighting:
    """One small lamp in surroundings of one brightness."""
    panorama = np.full((64, 128, 3), surroundings, np.float32)
    towards = np.array([direction], np.float32) / np.float32(np.linalg.norm(direction))
    return Lighting.from_panorama(panorama, towards, np.full((1, 3), 0.8, np.float32), 0.0)


def test_surroundings_are_round() -> None:
    panorama = np.zeros((64, 128, 3), np.float32)
    panorama[28:36, 115:120] = 20.0  # a bright window somewhat before azimuth pi
    lighting = Lighting.from_panorama(panorama, np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32), 0.0)
    azimuth = np.pi * np.array([0.96, 0.97, 0.98, 0.99, -0.99, -0.98, -0.97, -0.96])
    directions = np.stack([np.cos(azimuth), np.sin(azimuth), 0 * azimuth], 1).astype(np.float32)
    seen = lighting.look_up(directions, len(lighting.radiance) - 1)[:, 0]  # what a matte surface receives
    assert seen.min() > 0
    steps = np.abs(np.diff(seen))
    assert steps[3] < 2 * np.median(steps) + 1e-3 * seen.max()  # across the border as on either side of it


def view(eye: tuple[float, float, float] = (0.7, -0.5, 0.6), roll: float = 0.3) -> SE3:
    return look_at(np.array(eye), np.zeros(3), roll)


def render(tracer: RayTracer, camera_from_world: SE3, lighting: Lighting, supersampling: float = 1.0) -> Rendering:
    return tracer.render(CAMERA, camera_from_world, lighting, BLACK, np.random.default_rng(0), supersampling)


def analytic_depth(camera_from_world: SE3) -> npt.NDArray[np.float32]:
    """Of a box at the world's origin; 0 where it is not seen."""
    rows, columns = torch.meshgrid(torch.arange(96), torch.arange(128), indexing="ij")
    rays = CAMERA.rays(torch.stack([columns, rows], -1).flatten(0, 1).float())
    size = torch.tensor(SIZE)
    points, hit = enter_box(camera_from_world, size, rays)
    depth = (camera_from_world @ (points * size))[:, 2] * hit
    return depth.view(96, 128).numpy()


@pytest.mark.parametrize("eye", [(0.7, -0.5, 0.6), (0.0, -0.6, 0.0), (-0.4, 0.5, -0.5), (0.0, 0.0, 0.9)])
def test_depth_and_owner_of_a_box_are_the_analytic_ones(eye: tuple[float, float, float]) -> None:
    camera_from_world = view(eye)
    rendering = render(RayTracer([(shapes.box(SIZE), matt(), 7)]), camera_from_world, lamp())
    expected = analytic_depth(camera_from_world)
    differs = (rendering.depth > 0) != (expected > 0)
    assert differs.sum() <= 2  # rays that graze an edge
    assert rendering.depth[~differs] == pytest.approx(expected[~differs], abs=1e-4)
    assert (rendering.owner == np.where(rendering.depth > 0, 7, -1)).all()
    assert (rendering.rgb[rendering.owner < 0] == 0).all()


def test_the_nearer_of_two_owns_the_pixel() -> None:
    near = shapes.box((0.1, 0.1, 0.1)).transformed(np.eye(3), np.array([0.3, 0.0, 0.0]))
    tracer = RayTracer([(shapes.box((0.1, 0.4, 0.4)), matt(), 0), (near, matt(), 1)])
    rendering = render(tracer, look_at(np.array([1.0, 0.0, 0.0]), np.zeros(3)), lamp())
    assert rendering.owner[48, 64] == 1
    assert rendering.depth[48, 64] == pytest.approx(0.65, abs=1e-4)
    assert set(np.unique(rendering.owner)) == {-1, 0, 1}


def test_a_shadow_falls_where_it_must() -> None:
    """A plate above a table, the lamp straight above: the table is dark under the plate alone."""
    plate = shapes.box((0.2, 0.2, 0.01)).transformed(np.eye(3), np.array([0.0, 0.0, 0.2]))
    table = shapes.box((2.0, 2.0, 0.02)).transformed(np.eye(3), np.array([0.0, 0.0, -0.01]))
    tracer = RayTracer([(table, matt(), 0), (plate, matt(), 1)])
    camera_from_world = view((0.6, 0.0, 0.35), roll=0.0)
    rendering = render(tracer, camera_from_world, lamp())
    rays = CAMERA.rays(torch.from_numpy(np.argwhere(rendering.owner == 0)[:, ::-1].astype(np.float32)))
    depth = torch.from_numpy(rendering.depth[rendering.owner == 0])
    places = (camera_from_world.inverse() @ (rays * depth.unsqueeze(-1))).numpy()
    brightness = rendering.rgb[rendering.owner == 0].mean(1)
    reach = np.abs(places[:, :2]).max(1)
    assert np.abs(places[:, 2]).max() < 1e-4
    assert (reach < 0.095).sum() > 50
    assert brightness[reach < 0.095].max() == 0
    assert brightness[reach > 0.105].min() > 200


def test_a_soft_lamp_makes_a_soft_shadow() -> None:
    plate = shapes.box((0.2, 0.2, 0.01)).transformed(np.eye(3), np.array([0.0, 0.0, 0.2]))
    table = shapes.box((2.0, 2.0, 0.02)).transformed(np.eye(3), np.array([0.0, 0.0, -0.01]))
    tracer = RayTracer([(table, matt(), 0), (plate, matt(), 1)])
    hard, soft = lamp(), dataclasses.replace(lamp(), lamp_softness=0.2)
    dark = [render(tracer, view((0.6, 0.0, 0.35), 0.0), light).rgb[..., 0] == 0 for light in (hard, soft)]
    assert dark[1].sum() != dark[0].sum()
    assert cv2.connectedComponents(dark[1].astype(np.uint8))[0] > cv2.connectedComponents(dark[0].astype(np.uint8))[0]


def test_brightness_follows_the_cosine_of_the_lamp() -> None:
    for degrees in (0, 30, 60):
        angle = np.radians(degrees)
        tracer = RayTracer([(shapes.box((1.0, 1.0, 0.1)), matt(), 0)])
        rendering = render(tracer, view((0.0, 0.3, 1.0)), lamp((np.sin(angle), 0.0, np.cos(angle))))
        linear = (rendering.rgb[48, 64, 0] / 255) ** 2
        assert linear == pytest.approx(0.8 * np.cos(angle), abs=0.01)


def test_surroundings_light_what_no_lamp_reaches() -> None:
    tracer = RayTracer([(shapes.box((1.0, 1.0, 0.1)), matt(), 0)])
    rendering = render(tracer, view((0.0, 0.3, -1.0)), lamp(surroundings=0.25))
    assert rendering.rgb[48, 64].tolist() == pytest.approx([127, 127, 127], abs=2)


@pytest.mark.parametrize("supersampling", [1.1, 2.0, 3.0])
def test_supersampling_smooths_the_image_and_keeps_labels(supersampling: float) -> None:
    far = shapes.box((0.3, 0.3, 0.1)).transformed(np.eye(3), np.array([-0.6, 0.6, 0.0]))
    tracer = RayTracer([(shapes.box(SIZE), matt(), 5), (far, matt(90), 2)])
    once, dense = (render(tracer, view(), lamp(), rays) for rays in (1.0, supersampling))
    assert set(np.unique(dense.owner)) == {-1, 2, 5}
    inside = np.ones((3, 3), np.uint8)
    for owner in (-1, 2, 5):  # equal but for the outlines
        core = cv2.erode((once.owner == owner).astype(np.uint8), inside).astype(bool)
        assert (dense.owner[core] == owner).all()
    assert ((dense.owner >= 0) == (dense.depth > 0)).all()
    both = (dense.owner == once.owner) & (once.owner == 5)
    assert dense.depth[both] == pytest.approx(once.depth[both], abs=0.02)
    assert dense.depth[dense.owner == 5].max() < dense.depth[dense.owner == 2].min()  # none in between


def test_the_texture_stands_upright() -> None:
    """Row 0 is v = 0, the lower end; u runs around."""
    texture = np.zeros((TEXTURE_SIZE, TEXTURE_SIZE, 3), np.uint8)
    texture[: TEXTURE_SIZE // 2] = 255
    wall = shapes.revolve(np.array([[0.1, -0.15], [0.1, 0.15]]))
    tracer = RayTracer([(wall, Material(texture, gloss=0.0), 0)])
    rendering = render(tracer, look_at(np.array([1.0, 0.0, 0.0]), np.zeros(3)), lamp((1.0, 0.0, 0.0)))
    assert rendering.rgb[60, 64, 0] > 200
    assert rendering.rgb[36, 64, 0] == 0


def test_equal_random_numbers_make_equal_images() -> None:
    tracer = RayTracer([(shapes.ellipsoid((0.1, 0.2, 0.1)), Material(matt().texture, opacity=0.5), 0)])
    light = dataclasses.replace(lamp(surroundings=0.3), lamp_softness=0.2)
    first, second = (render(tracer, view(), light, 1.1) for _ in range(2))
    assert (first.rgb == second.rgb).all()


def test_nothing_to_render_is_refused() -> None:
    with pytest.raises(ValueError, match="parts: expected at least one mesh"):
        RayTracer([])
