"""Where a frame's regions allow the search to look: hints of a 2D detector or of a segmentation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from category_pose_ros.estimation import images
from category_pose_ros.geometry import Camera
from category_pose_ros.records import Frame, Region

Mask = npt.NDArray[np.bool_]


def allowed_pixels(frame: Frame, categories: Sequence[str]) -> Mask | None:
    """(categories, H, W) pixels of the rectified image where an object of a category is said to be.

    A region of another category says nothing about these; one of no category allows all of them.

    Returns:
        None where the frame has no hint: then everything is allowed.
    """
    if frame.regions is None:
        return None
    allowed = np.zeros((len(categories), *frame.rgb.shape[:2]), dtype=bool)
    for region in frame.regions:
        inside = _pixels(region, frame.rgb.shape[:2])
        for index, category in enumerate(categories):
            if region.category in (None, category):
                allowed[index] |= inside
    return np.stack([images.rectify_mask(one, frame.camera) for one in allowed])


def allowed_cells(pixels: Mask, camera: Camera, cells: Camera) -> Tensor:
    """(categories, h, w) cells of a feature map that see any allowed pixel.

    Args:
        pixels: (categories, H, W), of the image of `camera`.
        cells: camera of the feature map; no cell is smaller than a pixel.
    """
    rows = _cell_of(camera.height, camera.fy, camera.cy, cells.fy, cells.cy, cells.height)
    columns = _cell_of(camera.width, camera.fx, camera.cx, cells.fx, cells.cx, cells.width)
    narrow = torch.zeros(*pixels.shape[:2], cells.width).index_add_(2, columns, torch.from_numpy(pixels).float())
    return torch.zeros(len(pixels), cells.height, cells.width).index_add_(1, rows, narrow) > 0


def _pixels(region: Region, shape: tuple[int, int]) -> Mask:
    """The pixels that a region touches."""
    inside = np.ones(shape, dtype=bool) if region.mask is None else region.mask
    if region.box is None:
        return inside
    # Beyond the border a box may be of any size.
    limits = np.array([shape[1], shape[0], shape[1], shape[0]])
    left, top, right, bottom = np.clip(np.round(region.box), -1, limits).astype(int)
    boxed = np.zeros(shape, dtype=bool)
    boxed[max(top, 0) : bottom + 1, max(left, 0) : right + 1] = True
    return inside & boxed


def _cell_of(length: int, focal: float, centre: float, cell_focal: float, cell_centre: float, cells: int) -> Tensor:
    """Row or column of the cell that each row or column of pixels falls into."""
    pixels = torch.arange(length, dtype=torch.float64)
    return ((pixels - centre) * (cell_focal / focal) + cell_centre).round().long().clamp(0, cells - 1)
