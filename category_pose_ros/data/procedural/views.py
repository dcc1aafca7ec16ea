"""Cameras for scenes, and what the sensor does to the picture."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import torch

from category_pose_ros.data.procedural import streets, surfaces
from category_pose_ros.data.procedural.placement import Surroundings, random_rotation
from category_pose_ros.data.procedural.scenes import Scene
from category_pose_ros.data.procedural.surfaces import Rng, TextureSource
from category_pose_ros.geometry import SE3
from category_pose_ros.records import OUTSIDE

Vector = npt.NDArray[np.floating]


def look_at(eye: Vector, target: Vector, roll: float = 0.0) -> SE3:
    """`camera_from_world` of a camera at eye whose optical axis meets the target.

    Args:
        eye, target: (3,) metres in the world frame, z up.
        roll: radians about the optical axis; 0 keeps the horizon level.
    """
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    if np.linalg.norm(right) < 1e-6:  # straight down or up: any horizon will do
        right = np.array([1.0, 0.0, 0.0])
    right = right / np.linalg.norm(right)
    down = np.cross(forward, right)
    c, s = np.cos(roll), np.sin(roll)
    rotation = np.stack([c * right + s * down, -s * right + c * down, forward])
    rotation_tensor = torch.from_numpy(rotation).float()
    return SE3(rotation_tensor, -rotation_tensor @ torch.from_numpy(np.asarray(eye)).float())


def random_distance(rng: Rng, scene: Scene, diagonal: float) -> float:
    """Metres between a camera and an object of a diagonal (m): within a room, or along a street."""
    nearest, farthest, least = (4.0, 50.0, 0.9) if scene.surroundings is Surroundings.STREET else (0.25, 1.8, 1.8)
    return float(max(np.exp(rng.uniform(np.log(nearest), np.log(farthest))), least * diagonal))


def random_view(rng: Rng, scene: Scene, target: Vector, direction: Vector, distance: float) -> SE3:
    """A camera that sees the target in a given direction.

    On a table it looks down, most of the time with a level horizon; on a street it is carried by a
    car, a robot or a mast; in the air it is anywhere.

    Args:
        target: (3,) world point.
        direction: (3,) where the target shall lie in the camera frame, z = 1.
        distance: metres between camera and target.
    """
    if scene.surroundings is Surroundings.STREET:
        roll = rng.normal(0, 0.03)
        rotation = look_at(_street_eye(rng, scene, target, distance), target, roll).rotation.numpy().astype(np.float64)
    elif scene.surroundings is Surroundings.TABLE:
        elevation = np.radians(rng.triangular(2, 30, 85))
        away = outward(elevation, rng.uniform(-np.pi, np.pi))
        roll = rng.normal(0, 0.12) if rng.random() < 0.85 else rng.uniform(-np.pi, np.pi)
        rotation = look_at(target + distance * away, target, roll).rotation.numpy().astype(np.float64)
    else:
        rotation = random_rotation(rng)
    rotation = _turn_axis_to(direction) @ rotation
    placed = distance * direction / np.linalg.norm(direction)
    return SE3(torch.from_numpy(rotation).float(), torch.from_numpy(placed - rotation @ target).float())


def backdrop(rng: Rng, source: TextureSource, scene: Scene, width: int, height: int) -> surfaces.Image:
    """What is seen where nothing stands, (height, width, 3)."""
    if scene.surroundings is Surroundings.STREET:
        return streets.sky(rng, source, width, height)
    return source.patch(rng, width, height)


def outward(elevation: float, azimuth: float) -> Vector:
    """The unit vector (3,) towards a camera at an elevation and azimuth (radians), z up."""
    across = np.cos(elevation)
    return np.array([across * np.cos(azimuth), across * np.sin(azimuth), np.sin(elevation)])


def _street_eye(rng: Rng, scene: Scene, target: Vector, distance: float) -> Vector:
    """A point (3,) at a distance from the target, with as little as possible in between.

    Most cameras are 1.2 to 2.5 m above the road, some look down from windows, masts and drones.
    """
    if rng.random() < 0.8:
        elevation = np.arcsin(min((rng.uniform(1.2, 2.5) - target[2]) / distance, 0.6))
    else:
        elevation = np.radians(rng.triangular(3, 12, 60))
    for _ in range(8):
        eye = target + distance * outward(float(elevation), rng.uniform(-np.pi, np.pi))
        if streets.sees(scene.objects, eye, target):
            break
    return eye


def degrade(rng: Rng, image: surfaces.Image) -> surfaces.Image:
    """Exposure, white balance, blur, motion blur, noise, compression, loss of resolution."""
    result = image.astype(np.float32) / 255
    gamma, gain = np.exp(rng.normal(0, 0.25)), np.exp(rng.normal(0, 0.2))
    result = gain * np.power(result + 1e-4, gamma) * np.exp(rng.normal(0, 0.07, 3)).astype(np.float32)
    if rng.random() < 0.3:
        grey = result.mean(2, keepdims=True)
        result = grey + (result - grey) * rng.uniform(0.0, 1.6)
    if rng.random() < 0.15:  # veiling glare and low contrast
        result = result * rng.uniform(0.5, 0.9) + rng.uniform(0, 0.25)
    height, width = image.shape[:2]
    blur = rng.random()
    if blur < 0.2:
        scale = rng.uniform(0.4, 0.9)
        small = cv2.resize(result, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        result = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    elif blur < 0.5:
        result = cv2.GaussianBlur(result, (0, 0), rng.uniform(0.3, 1.3))
    elif blur < 0.58:
        result = cv2.filter2D(result, -1, _motion_kernel(rng))
    noise = rng.standard_normal((height, width, 3), dtype=np.float32)
    result = result + noise * (rng.exponential(0.008) + 0.002)
    output = (np.clip(result, 0, 1) * 255).astype(np.uint8)
    if rng.random() < 0.4:
        _, coded = cv2.imencode(".jpg", output, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 95))])
        output = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    return output


def cut_off(rng: Rng, image: surfaces.Image, owner: npt.NDArray[np.int32]) -> None:
    """Let the image end somewhere in the crop, in place: nothing but grey on one side."""
    side, depth = int(rng.integers(4)), int(rng.uniform(0.1, 0.5) * image.shape[0])
    for values, nothing in ((image, OUTSIDE), (owner, -1)):
        turned = np.rot90(values, side)  # a view
        turned[:depth] = nothing


def _turn_axis_to(direction: Vector) -> npt.NDArray[np.float64]:
    """The smallest rotation that takes the optical axis to a direction."""
    unit = np.asarray(direction, dtype=np.float64) / np.linalg.norm(direction)
    axis = np.cross([0.0, 0.0, 1.0], unit)
    rotation, _ = cv2.Rodrigues(axis * (np.arccos(unit[2]) / max(float(np.linalg.norm(axis)), 1e-9)))
    return np.asarray(rotation, dtype=np.float64)


def _motion_kernel(rng: Rng) -> npt.NDArray[np.float32]:
    length = int(rng.integers(3, 12))
    kernel = np.zeros((length, length), np.float32)
    angle, middle = rng.uniform(0, np.pi), (length - 1) / 2
    for offset in np.linspace(-middle, middle, 3 * length):
        kernel[round(middle + offset * np.sin(angle)), round(middle + offset * np.cos(angle))] += 1
    return kernel / kernel.sum()
