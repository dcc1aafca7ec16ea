"""What the solver moves: pose and size of a batch of hypotheses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from category_pose_ros.geometry import SE3, Camera, so3

DIMENSION = 9  # translation (3), rotation (3), log size (3)


@dataclass(frozen=True, eq=False)
class State:
    """B hypotheses.

    Attributes:
        camera_from_object: batch (B,).
        log_size: (B, 3) log of the extents in metres.
    """

    camera_from_object: SE3
    log_size: Tensor

    @property
    def size_m(self) -> Tensor:
        return self.log_size.exp()

    def moved(self, step: Tensor) -> State:
        """Apply a step (B, 9) of translation, rotation and log size.

        Translation and rotation vector are in the camera frame, the rotation about the object's
        centre, as in geometry_msgs/PoseWithCovariance.
        """
        pose = self.camera_from_object
        rotation = so3.exp(step[:, 3:6]) @ pose.rotation
        return State(SE3(rotation, pose.translation + step[:, :3]), self.log_size + step[:, 6:])

    def where(self, mask: Tensor, other: State) -> State:
        """This state where mask (B,) holds, the other one elsewhere."""
        mine, theirs = self.camera_from_object, other.camera_from_object
        rotation = torch.where(mask[:, None, None], mine.rotation, theirs.rotation)
        translation = torch.where(mask[:, None], mine.translation, theirs.translation)
        return State(SE3(rotation, translation), torch.where(mask[:, None], self.log_size, other.log_size))

    def scaled(self, factor: Tensor) -> State:
        """Moved and grown along the lines of sight by a factor (B,) each: the image stays the same."""
        pose, factor = self.camera_from_object, factor.unsqueeze(-1)
        return State(SE3(pose.rotation, pose.translation * factor), self.log_size + factor.log())

    def __getitem__(self, index: Tensor) -> State:
        return State(self.camera_from_object[index], self.log_size[index])

    def points_camera(self, points_box: Tensor) -> Tensor:
        """Points (B, N, 3) in units of the box, to the camera frame."""
        return self.camera_from_object @ (points_box * self.size_m.unsqueeze(-2))

    @staticmethod
    def cat(states: list[State]) -> State:
        rotation = torch.cat([state.camera_from_object.rotation for state in states])
        translation = torch.cat([state.camera_from_object.translation for state in states])
        return State(SE3(rotation, translation), torch.cat([state.log_size for state in states]))


@dataclass(frozen=True, eq=False)
class Intrinsics:
    """Pinhole intrinsics of a batch of crops, each (B,), in cells of the crop's feature map."""

    focal: Tensor  # (B, 2)
    centre: Tensor  # (B, 2)

    @staticmethod
    def of(cameras: Sequence[Camera], device: torch.device | None = None) -> Intrinsics:
        rows = [[camera.fx, camera.fy, camera.cx, camera.cy] for camera in cameras]
        numbers = torch.tensor(rows, dtype=torch.float32, device=device)
        return Intrinsics(numbers[:, :2], numbers[:, 2:])

    @staticmethod
    def cat(parts: Sequence[Intrinsics]) -> Intrinsics:
        return Intrinsics(torch.cat([part.focal for part in parts]), torch.cat([part.centre for part in parts]))

    def __getitem__(self, index: Tensor) -> Intrinsics:
        return Intrinsics(self.focal[index], self.centre[index])

    def project(self, points_camera: Tensor) -> Tensor:
        """Points (B, N, 3) with z > 0 to cells (B, N, 2)."""
        z = points_camera[..., 2:].clamp_min(1e-3)
        return points_camera[..., :2] / z * self.focal.unsqueeze(1) + self.centre.unsqueeze(1)


def projection_jacobian(state: State, intrinsics: Intrinsics, points_box: Tensor) -> tuple[Tensor, Tensor]:
    """Projections of box points and their derivatives by a step of the state.

    Args:
        points_box: (B, N, 3) in units of the box.

    Returns:
        Cells (B, N, 2) and Jacobian (B, N, 2, 9).
    """
    pose = state.camera_from_object
    scaled = points_box * state.size_m.unsqueeze(-2)  # (B, N, 3) metres, object frame
    turned = scaled @ pose.rotation.transpose(-1, -2)  # (B, N, 3) about the object's centre
    points = turned + pose.translation.unsqueeze(-2)
    nearness = 1 / points[..., 2:].clamp_min(1e-3)
    normalised = points[..., :2] * nearness
    cells = normalised * intrinsics.focal.unsqueeze(1) + intrinsics.centre.unsqueeze(1)
    ratio = intrinsics.focal.unsqueeze(1) * nearness  # (B, N, 2)
    by_point = torch.cat([torch.diag_embed(ratio), (-ratio * normalised).unsqueeze(-1)], dim=-1)  # (B, N, 2, 3)
    by_turn = torch.linalg.cross(turned.unsqueeze(-2), by_point)
    by_log_size = (by_point @ pose.rotation.unsqueeze(1)) * scaled.unsqueeze(-2)
    return cells, torch.cat([by_point, by_turn, by_log_size], dim=-1)
