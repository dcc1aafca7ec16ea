"""Meshes of several objects in one picture, from where the camera was and from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from category_pose_ros.geometry import SE3, Camera, so3
from category_pose_ros.rendering.rasterizer import NEAR_M, homogeneous_pixels
from category_pose_ros.rendering.surface import Surface
from category_pose_ros.rendering.visibility import visible_faces
from category_pose_ros.visualization.palette import Colour

Image = npt.NDArray[np.uint8]

_BACKGROUND = (236, 238, 242)
_LIGHT = (-0.4, -0.75, -0.53)  # towards the light, in the frame of whichever camera looks
_ASIDE_DEG, _ABOVE_DEG = 55.0, 50.0  # how far the new viewpoints go round the objects, and up
_HALF_SHARE = 0.45  # of the picture's width and height, from its middle, that objects may fill there
_VEIL = 0.35  # share of the photograph that shows through the meshes


@dataclass(frozen=True, eq=False)
class PlacedMesh:
    """A mesh in a scene.

    Attributes:
        surface: in the object frame, metres.
        camera_from_object: where it is, batch shape ().
        colour: of its category.
    """

    surface: Surface
    camera_from_object: SE3
    colour: Colour


def draw_scene(rgb: Image, camera: Camera, meshes: Sequence[PlacedMesh]) -> Image:
    """Four pictures (2 H, 2 W, 3): the image, the meshes rendered together into it, and these from aside and above.

    Args:
        rgb: (H, W, 3) without lens distortion.
        camera: of the image.
    """
    here, shown = _render(meshes, camera)
    veiled = np.where(shown[..., None], _VEIL * rgb + (1 - _VEIL) * here, rgb).astype(np.uint8)
    centred = replace(camera, cx=(camera.width - 1) / 2, cy=(camera.height - 1) / 2)
    aside, above = (
        _render([_seen_from(item, view) for item in meshes], centred)[0] for view in _new_views(meshes, centred)
    )
    return np.concatenate([np.concatenate([rgb, veiled], 1), np.concatenate([aside, above], 1)], 0)


def _new_views(meshes: Sequence[PlacedMesh], camera: Camera) -> list[SE3]:
    """From the camera to one that went aside around the middle of the objects, and to one that went up.

    Both look at the middle, from as far as the camera was or, where objects would be cut off, from farther.
    The camera's principal point is the middle of its image.
    """
    if not meshes:
        return [SE3(torch.eye(3), torch.zeros(3))] * 2
    points = torch.cat([_triangles(item).flatten(0, 1) for item in meshes])
    middle = torch.stack([item.camera_from_object.translation.float() for item in meshes]).mean(0)
    views = []
    for turn in ([0.0, math.radians(_ASIDE_DEG), 0.0], [math.radians(_ABOVE_DEG), 0.0, 0.0]):
        rotation = so3.exp(torch.tensor(turn))
        x, y, z = ((points - middle) @ rotation.T).unbind(-1)
        slope = torch.maximum(x.abs() * camera.fx / camera.width, y.abs() * camera.fy / camera.height)
        distance = torch.maximum((slope / _HALF_SHARE - z).max(), middle.norm())
        views.append(SE3(rotation, distance * torch.tensor([0.0, 0.0, 1.0]) - rotation @ middle))
    return views


def _seen_from(item: PlacedMesh, view: SE3) -> PlacedMesh:
    return PlacedMesh(item.surface, view @ item.camera_from_object.to(torch.float32), item.colour)


def _render(meshes: Sequence[PlacedMesh], camera: Camera) -> tuple[Image, npt.NDArray[np.bool_]]:
    """All meshes with one depth test, lit by how their triangles are turned; and which pixels show any."""
    image = np.empty((camera.height, camera.width, 3), dtype=np.uint8)
    image[:] = _BACKGROUND
    if not meshes:
        return image, np.zeros(image.shape[:2], dtype=bool)
    triangles = torch.cat([_triangles(item) for item in meshes])  # (F, 3, 3) in the camera frame
    face = visible_faces(homogeneous_pixels(triangles, camera)[None], camera.width, camera.height, NEAR_M)[0]
    colours = torch.cat([torch.tensor(item.colour).float().expand(len(item.surface.faces), 3) for item in meshes])
    lit = (colours * _brightness(triangles).unsqueeze(-1)).clamp(0, 255).to(torch.uint8).numpy()
    shown = (face >= 0).numpy()
    image[shown] = lit[face.numpy()[shown]]
    return image, shown


def _triangles(item: PlacedMesh) -> Tensor:
    points = item.camera_from_object.to(torch.float32) @ item.surface.vertices
    return points[item.surface.faces]


def _brightness(triangles: Tensor) -> Tensor:
    """Of triangles (F, 3, 3) from the camera's side, whatever their winding, (F,)."""
    normal = torch.linalg.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0], dim=-1)
    normal = torch.nn.functional.normalize(normal, dim=-1)
    facing = (normal * triangles.mean(1)).sum(-1, keepdim=True)
    normal = torch.where(facing > 0, -normal, normal)
    return 0.35 + 0.65 * (normal @ normal.new_tensor(_LIGHT)).clamp_min(0)
