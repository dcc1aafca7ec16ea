"""Optical flow on images whose motion is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from textured import picture

from category_pose_ros import SE3, Camera, ObjectEstimate
from category_pose_ros.estimation.belief import Belief
from category_pose_ros.geometry import so3
from category_pose_ros.geometry.solids import Solids, depth_along, solid_of
from category_pose_ros.tracking.flow import Flow, FlowConfig, Points, View
from category_pose_ros.tracking.motion import Motion, MotionConfig, Velocity, expect

CAMERA = Camera(400.0, 400.0, 159.5, 119.5, 320, 240)
SIZES = {"can": (0.07, 0.07, 0.12), "mug": (0.13, 0.09, 0.1), "laptop": (0.3, 0.3, 0.2), "camera": (0.1, 0.14, 0.1)}
STILL = MotionConfig()


def thing(category: str, turn: float = 0.0, shift: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> ObjectEstimate:
    """Three diagonals away, seen from above, turned about its own axis."""
    upright = so3.exp(torch.tensor([1.2, 0.0, 0.0])) @ so3.exp(torch.tensor([torch.pi, 0.0, 0.0]))
    distance = 3 * float(np.linalg.norm(SIZES[category]))
    position = torch.tensor([0.02, -0.01, distance]) + torch.tensor(shift) * distance
    pose = SE3(upright @ so3.exp(torch.tensor([0.0, 0.0, 0.4 + turn])), position)
    return ObjectEstimate(category, pose, np.array(SIZES[category]), 0.9, 1.0, np.eye(6))


def view(*things: ObjectEstimate, printed: bool = True) -> View:
    return View(picture(CAMERA, things, printed=printed)[..., 0].copy(), CAMERA)


def at_rest(item: ObjectEstimate) -> Motion:
    (motion,) = expect([Belief.about(item)], [Velocity.zero()], 0.1, STILL)
    return motion


def seeded(item: ObjectEstimate, config: FlowConfig = FlowConfig()) -> Points:
    points = Flow(config).seed(view(item), Belief.about(item))
    assert points is not None
    return points


@pytest.mark.parametrize("category", SIZES)
def test_points_lie_on_the_object_alone(category: str) -> None:
    points = seeded(thing(category))
    assert len(points.pixels) == points.seeded > 10
    assert np.abs(points.on_box).max() <= 0.5 + 1e-5
    pose, size_m = thing(category).camera_from_object, thing(category).size_m
    places = pose @ torch.from_numpy(points.on_box * size_m).float()
    assert CAMERA.project(places).numpy() == pytest.approx(points.pixels, abs=0.01)
    solids = Solids.of([solid_of(category)])
    rays = CAMERA.rays(torch.from_numpy(points.pixels))
    surface = depth_along(
        solids, torch.from_numpy(size_m).float()[None], SE3(pose.rotation[None], pose.translation[None]), rays[None]
    )
    off = (places[:, 2] - surface[0]).abs() / np.linalg.norm(size_m)
    assert float(off.median()) < 0.002
    assert float(off.max()) < 0.1  # across an edge


@pytest.mark.parametrize("category", SIZES)
def test_an_object_is_carried_to_where_it_has_moved(category: str) -> None:
    before, now = thing(category), thing(category, turn=0.08, shift=(0.03, -0.02, 0.02))
    (carried,) = Flow(FlowConfig()).carry(
        view(before), view(now), [Belief.about(before)], [seeded(before)], [at_rest(before)]
    )
    assert carried is not None
    found, true = carried.motion.camera_from_object, now.camera_from_object.to(torch.float64)
    assert float(so3.angle_between(found.rotation, true.rotation)) < 0.04  # half of the turn: a solid is no mug
    missed = found.translation - true.translation
    assert float(missed[:2].norm()) < 0.003 * float(true.translation[2])
    assert abs(float(missed[2])) < 0.01 * float(true.translation[2])
    # What is published as unknown of the way is less than was before flow told, and more than nothing.
    expected = at_rest(before).covariance.diagonal()[:6]
    assert (carried.covariance.diagonal()[:6] < expected).all()
    looser = carried.motion.covariance - carried.covariance
    assert torch.linalg.eigvalsh(looser)[0] > -1e-9
    # The solid is not the object, which shows along the line of sight.
    ray, config = found.translation / found.translation.norm(), FlowConfig()
    expected_m = np.hypot(config.sight, config.unrest) * np.linalg.norm(before.size_m)
    assert float(ray @ looser[:3, :3] @ ray) == pytest.approx(expected_m**2, rel=1e-3)


def test_each_of_several_objects_goes_its_own_way() -> None:
    before = [thing("can", shift=(-0.15, 0.0, 0.0)), thing("mug", shift=(0.15, 0.0, 0.0))]
    now = [thing("can", shift=(-0.17, 0.0, 0.0)), thing("mug", shift=(0.15, 0.02, 0.0))]
    beliefs, flow = [Belief.about(item) for item in before], Flow(FlowConfig())
    points = [flow.seed(view(*before), belief) for belief in beliefs]
    carried = flow.carry(
        view(*before), view(*now), [*beliefs, beliefs[0]], [*points, None], [at_rest(before[k]) for k in (0, 1, 0)]
    )
    assert carried[2] is None
    for item, there in zip(now, carried, strict=False):
        assert there is not None
        missed = there.motion.camera_from_object.translation - item.camera_from_object.translation
        assert float(missed[:2].norm()) < 0.002


def test_what_comes_before_an_object_takes_its_points_and_not_the_object() -> None:
    before, now = thing("can"), thing("can", shift=(0.02, 0.0, 0.0))
    first, second = view(before), view(now)
    left, right = np.quantile(seeded(before).pixels[:, 0], [0.0, 0.4]).astype(int)
    second.grey[:, left - 20 : right] = np.random.default_rng(0).integers(0, 255, (240, right - left + 20))
    (carried,) = Flow(FlowConfig()).carry(first, second, [Belief.about(before)], [seeded(before)], [at_rest(before)])
    assert carried is not None
    assert len(carried.points.pixels) < 0.9 * carried.points.seeded
    missed = carried.motion.camera_from_object.translation - now.camera_from_object.translation
    assert float(missed[:2].norm()) < 0.003


def test_what_is_hidden_is_not_carried() -> None:
    before = thing("can")
    hidden = View(np.random.default_rng(0).integers(0, 255, (240, 320)).astype(np.uint8), CAMERA)
    carried = Flow(FlowConfig()).carry(
        view(before), hidden, [Belief.about(before)], [seeded(before)], [at_rest(before)]
    )
    assert carried == [None]


def test_a_plain_object_and_one_out_of_the_image_have_no_points() -> None:
    can = thing("can")
    assert Flow(FlowConfig()).seed(view(can, printed=False), Belief.about(can)) is None
    outside = thing("can", shift=(2.0, 0.0, 0.0))
    assert Flow(FlowConfig()).seed(view(can), Belief.about(outside)) is None
    around = dataclasses.replace(can, camera_from_object=SE3(can.camera_from_object.rotation, torch.zeros(3)))
    assert Flow(FlowConfig()).seed(view(can), Belief.about(around)) is None


def test_a_motion_that_is_known_to_be_none_is_none() -> None:
    can = thing("can")
    config = MotionConfig(acceleration=0.0, angular_acceleration=0.0, unrest=0.0, resize=0.0)
    motions = expect([Belief.about(can)], [Velocity.zero()], 0.1, config)
    moved = view(thing("can", shift=(0.004, 0.0, 0.0)))
    (carried,) = Flow(FlowConfig()).carry(view(can), moved, [Belief.about(can)], [seeded(can)], motions)
    assert carried is not None
    shift = carried.motion.camera_from_object.translation - can.camera_from_object.translation
    assert float(shift.norm()) < 1e-4


def test_no_points_are_no_work() -> None:
    can = thing("can")
    assert Flow(FlowConfig()).carry(view(can), view(can), [Belief.about(can)], [None], [at_rest(can)]) == [None]
    assert Flow(FlowConfig()).carry(view(can), view(can), [], [], []) == []
