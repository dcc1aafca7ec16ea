"""Differentiable rasterization: mesh, pose and camera to what every pixel sees.

In three steps, a file each: which triangle a pixel sees (`visibility`, exact, no derivative), how far
it is from the outline (`outline`) and how much it therefore belongs to the silhouette (`membership`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from category_pose_ros.geometry import SE3, Camera
from category_pose_ros.rendering.membership import distance_membership, paper_membership
from category_pose_ros.rendering.outline import nearest_outline, signed_distance
from category_pose_ros.rendering.surface import Surface
from category_pose_ros.rendering.visibility import determinant, edge_normals, visible_faces

MEMBERSHIPS = ("distance", "paper")
NEAR_M = 1e-2  # nothing nearer to the camera is seen


@dataclass(frozen=True, eq=False)
class Raster:
    """What each pixel of B images sees.

    Attributes:
        occupancy: (B, H, W) how much the pixel belongs to the silhouette; differentiable.
        covered: (B, H, W) bool, whether the mesh covers the pixel's centre.
        depth: (B, H, W) metres along the optical axis, 0 where nothing is seen; differentiable.
        face: (B, H, W) index of the triangle seen, -1 where there is none.
        corners: (B, H, W, 3) the triangle's vertices; 0 where there is none.
        weights: (B, H, W, 3) barycentric coordinates in space, 0 where nothing is seen; differentiable.
    """

    occupancy: Tensor
    covered: Tensor
    depth: Tensor
    face: Tensor
    corners: Tensor
    weights: Tensor

    def interpolate(self, values: Tensor) -> Tensor:
        """Values (V, C) at the vertices, to what each pixel sees (B, H, W, C); 0 where it sees nothing."""
        return (values[self.corners] * self.weights.unsqueeze(-1)).sum(-2)


def rasterize(
    surface: Surface,
    camera_from_object: SE3,
    camera: Camera,
    membership: str = "distance",
    softness_px: float = 1.0,
) -> Raster:
    """Rasterize one mesh at B poses, differentiably by pose and vertices.

    A mesh that is partly behind the camera is cut off at NEAR_M; the cut itself is no outline, so
    that its place has no derivative.

    Args:
        surface: vertices (V, 3), or (B, V, 3) for a shape per pose.
        camera_from_object: (B,) poses.
        camera: without distortion.
        membership: one of MEMBERSHIPS.
        softness_px: width of the occupancy's edge for `distance`.

    Raises:
        ValueError: a camera with distortion, an unknown membership, or a softness that is not positive.
    """
    if membership not in MEMBERSHIPS:
        raise ValueError(f"membership: expected one of {', '.join(MEMBERSHIPS)}, got {membership!r}")
    if not softness_px > 0:
        raise ValueError(f"softness_px: expected a positive number of pixels, got {softness_px}")
    homogeneous = homogeneous_pixels(camera_from_object @ surface.vertices, camera)
    corners = homogeneous[:, surface.faces]  # (B, F, 3, 3)
    face = visible_faces(corners, camera.width, camera.height, NEAR_M)
    covered = face >= 0
    if membership == "paper":
        occupancy = paper_membership(corners, camera.width, camera.height)
    else:
        nearest = nearest_outline(homogeneous, surface, covered, NEAR_M)
        occupancy = distance_membership(signed_distance(homogeneous, nearest), softness_px)
    vertices = surface.faces[face.clamp_min(0)] * covered.unsqueeze(-1)
    weights, depth = _meet(homogeneous, vertices, covered)
    return Raster(occupancy, covered, depth, face, vertices, weights)


def cover(surface: Surface, camera_from_object: SE3, camera: Camera) -> Tensor:
    """Which pixels (B, H, W) a mesh covers at B poses; bool, so without derivative and in a part of the time."""
    homogeneous = homogeneous_pixels(camera_from_object @ surface.vertices, camera)
    return visible_faces(homogeneous[:, surface.faces], camera.width, camera.height, NEAR_M) >= 0


def homogeneous_pixels(points_camera: Tensor, camera: Camera) -> Tensor:
    """Points (..., 3) in the camera frame as (u z, v z, z), on either side of the camera.

    Raises:
        ValueError: a camera with distortion.
    """
    if camera.is_distorted:
        raise ValueError("camera: expected no distortion, undistort the image first")
    matrix = torch.as_tensor(camera.matrix(), dtype=points_camera.dtype, device=points_camera.device)
    return points_camera @ matrix.T


def _meet(homogeneous: Tensor, vertices: Tensor, covered: Tensor) -> tuple[Tensor, Tensor]:
    """Where each pixel's ray meets its triangle: barycentric coordinates (B, H, W, 3) and depth (B, H, W)."""
    batch, row, column = torch.nonzero(covered, as_tuple=True)
    corners = homogeneous[batch.unsqueeze(-1), vertices[batch, row, column]]  # (N, 3, 3)
    ray = torch.stack([column, row, torch.ones_like(row)], -1).to(corners.dtype)
    products = (edge_normals(corners) @ ray.unsqueeze(-1)).squeeze(-1)
    total = products.sum(-1, keepdim=True)
    weights = corners.new_zeros(*covered.shape, 3)
    depth = corners.new_zeros(covered.shape)
    place = (batch, row, column)
    return weights.index_put(place, products / total), depth.index_put(place, determinant(corners) / total.squeeze(-1))
