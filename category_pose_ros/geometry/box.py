"""Rays and boxes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from category_pose_ros.geometry.camera import Camera
from category_pose_ros.geometry.mesh import box_corners
from category_pose_ros.geometry.se3 import SE3


def box_window(camera_from_object: SE3, size_m: Tensor, camera: Camera) -> tuple[int, int, int, int]:
    """The pixels of a box as it appears, within the image: first column and row, and those after the last.

    Args:
        camera_from_object: pose of the box's centre, batch shape ().
        size_m: (3,) extent of the box, all of it in front of the camera.
    """
    corners = torch.from_numpy(box_corners(size_m.numpy()))
    pixels = camera.project(camera_from_object.to(torch.float64) @ corners).numpy()
    limit = (camera.width, camera.height)
    # The border between two pixels lies half a pixel beyond the centre of the first.
    low, high = (np.clip(np.rint(edge + 0.5), 0, limit).astype(int) for edge in (pixels.min(0), pixels.max(0)))
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def enter_box(camera_from_object: SE3, size_m: Tensor, rays: Tensor) -> tuple[Tensor, Tensor]:
    """Where rays from the camera enter a box (slab test, Kay and Kajiya 1986).

    Args:
        camera_from_object: poses (...) of the box's centre.
        size_m: (..., 3) extent of the box.
        rays: (N, 3) directions in the camera frame.

    Returns:
        Points (..., N, 3) in units of the box, on its surface, each coordinate in [-0.5, 0.5]; for a ray
        that misses, the point of the box next to the ray's last entry into a slab. And whether
        the ray meets the box in front of the camera, (..., N) bool.
    """
    origin, direction, entry, leave = cross_slabs(camera_from_object, size_m, rays)
    point = (origin + entry.unsqueeze(-1) * direction).clamp(-0.5, 0.5)
    return point, (entry <= leave) & (leave > 0)


def cross_slabs(camera_from_object: SE3, size_m: Tensor, rays: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Where rays from the camera are inside all three slabs of a box.

    Args:
        camera_from_object: poses (...) of the box's centre.
        size_m: (..., 3) extent of the box.
        rays: (N, 3) directions in the camera frame.

    Returns:
        Origin (..., 1, 3) and directions (..., N, 3) of the rays in units of the box; how far along each
        the last slab is entered and the first one left, (..., N) each. A ray that misses leaves first.
    """
    object_from_camera = camera_from_object.inverse()
    origin = (object_from_camera.translation / size_m).unsqueeze(-2)
    direction = (rays @ object_from_camera.rotation.transpose(-1, -2)) / size_m.unsqueeze(-2)
    direction = torch.where(direction.abs() < 1e-9, torch.full_like(direction, 1e-9), direction)
    to_low, to_high = (-0.5 - origin) / direction, (0.5 - origin) / direction
    entry = torch.minimum(to_low, to_high).amax(-1)
    leave = torch.maximum(to_low, to_high).amin(-1)
    return origin, direction, entry, leave
