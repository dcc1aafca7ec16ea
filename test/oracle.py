"""A network that is always right: images whose colours are the box coordinates, and a reader of them."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from category_pose_ros.geometry import SE3, Camera, Symmetry
from category_pose_ros.geometry.box import enter_box
from category_pose_ros.models.backbone import BackboneConfig, FeatureMap
from category_pose_ros.models.checkpoint import NeuralMeshModel
from category_pose_ros.models.neural_mesh import CategoryInfo, NeuralMeshes
from category_pose_ros.records import STRIDE_PX, Frame

SIZE_M = torch.tensor([0.12, 0.08, 0.1])


def category(symmetry: Symmetry = Symmetry.NONE) -> CategoryInfo:
    return CategoryInfo("mug", symmetry, SIZE_M.log(), 0.04 * torch.eye(3))


def coordinate_frame(camera: Camera, poses: list[SE3], sizes_m: list[Tensor]) -> Frame:
    """An image of boxes: red, green, blue are x, y, z on the box from 1 to 255; black is background."""
    rows, columns = torch.meshgrid(torch.arange(camera.height), torch.arange(camera.width), indexing="ij")
    rays = camera.rays(torch.stack([columns, rows], -1).float()).flatten(0, 1)
    image = torch.zeros(len(rays), 3)
    for pose, size_m in zip(poses, sizes_m, strict=True):
        point, hit = enter_box(pose, size_m, rays)
        image[hit] = 1 + 254 * (point[hit] + 0.5)
    pixels = image.round().byte().view(camera.height, camera.width, 3).numpy()
    return Frame(np.ascontiguousarray(pixels), camera)


class OracleBackbone(nn.Module):
    """Reads box coordinates from the colours; votes for the middle of each connected blob."""

    def __init__(self, meshes: NeuralMeshes) -> None:
        super().__init__()
        self._meshes = meshes

    def forward(self, image: Tensor) -> FeatureMap:
        middle = image[:, :, STRIDE_PX // 2 :: STRIDE_PX, STRIDE_PX // 2 :: STRIDE_PX].float()
        on_object = middle.min(1).values > 0  # (B, h, w)
        points = ((middle - 1) / 254 - 0.5).permute(0, 2, 3, 1)
        size = SIZE_M / SIZE_M.norm()
        squared = torch.cdist(points.flatten(0, 2) * size, self._meshes.points * size).square()
        weights = (-squared / (2 * 0.05**2)).softmax(-1)
        feature = functional.normalize(weights @ self._meshes.vertex_features(), dim=-1).view(*points.shape[:3], -1)
        feature = torch.where(on_object.unsqueeze(-1), feature, self._meshes.clutter_features()[0])
        centre, log_diagonal = zip(*(_blob_votes(mask) for mask in on_object), strict=True)
        # It knows places on the box alone: the votes for axes are of length zero, which says nothing.
        axes = torch.zeros(len(image), 2, 3, *on_object.shape[1:])
        shape = (SIZE_M / SIZE_M.norm()).log()[None, :, None, None].expand(len(image), 3, *on_object.shape[1:])
        return FeatureMap(feature.permute(0, 3, 1, 2), torch.stack(centre), torch.stack(log_diagonal), axes, shape)


def _blob_votes(mask: Tensor) -> tuple[Tensor, Tensor]:
    import cv2

    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.byte().numpy())
    rows, columns = np.mgrid[: mask.shape[0], : mask.shape[1]]
    centre = np.zeros((2, *mask.shape), np.float32)
    log_diagonal = np.zeros(mask.shape, np.float32)
    for label in range(1, count):
        left, top, width, height = stats[label, :4]
        blob = labels == label
        centre[0][blob] = left + (width - 1) / 2 - columns[blob]
        centre[1][blob] = top + (height - 1) / 2 - rows[blob]
        log_diagonal[blob] = math.log(1.1 * math.hypot(width, height))
    return torch.from_numpy(centre), torch.from_numpy(log_diagonal)


def oracle_model(symmetry: Symmetry = Symmetry.NONE) -> NeuralMeshModel:
    torch.manual_seed(0)
    meshes = NeuralMeshes((category(symmetry),), feature=48)
    meshes.memory.data = functional.normalize(torch.randn_like(meshes.memory), dim=-1)
    return NeuralMeshModel(OracleBackbone(meshes), meshes, BackboneConfig(), {})  # type: ignore[arg-type]
