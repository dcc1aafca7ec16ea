"""Annotated frames to a BOP-style scene folder, which `data.bop` reads."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from category_pose_ros.data.annotations import AnnotatedFrame, GroundTruthObject
from category_pose_ros.geometry import SE3


def write_scene(path: Path, frames: Iterable[AnnotatedFrame], image_suffix: str = ".png") -> int:
    """Write frames as a scene folder, numbered from 0 in their order.

    Args:
        path: folder, made where it does not exist.
        frames: consumed one by one; names are not kept. Depth is rounded to whole millimetres.
        image_suffix: ".png" or ".jpg" (quality 95).

    Returns:
        How many frames were written.

    Raises:
        ValueError: there is a scene already; a frame has lens distortion, which the format cannot hold.
    """
    if (path / "scene_gt.json").exists():
        raise ValueError(f"{path}: there is a scene already")
    cameras: dict[str, Any] = {}
    ground_truth: dict[str, Any] = {}
    info: dict[str, Any] = {}
    for image_id, annotated in enumerate(frames):
        key, stem, frame = str(image_id), f"{image_id:06d}", annotated.frame
        there = annotated.world_from_camera
        if frame.camera.is_distorted:
            raise ValueError(f"frames: expected undistorted images, got distortion in {annotated.name}")
        _write_image(path / "rgb" / f"{stem}{image_suffix}", cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2BGR))
        if frame.depth is not None:
            millimetres = np.nan_to_num(frame.depth * 1000.0, nan=0.0, posinf=0.0, neginf=0.0)
            _write_image(path / "depth" / f"{stem}.png", np.rint(millimetres).clip(0, 65535).astype(np.uint16))
        for number, item in enumerate(annotated.objects):
            if item.mask is not None:
                _write_image(path / "mask_visib" / f"{stem}_{number:06d}.png", item.mask.astype(np.uint8) * 255)
        cameras[key] = {
            "cam_K": frame.camera.matrix().ravel().tolist(),
            "depth_scale": 1.0,
            "stamp_ns": frame.stamp_ns,
            **({} if there is None else _pose_entry(there.inverse(), "w2c")),
        }
        ground_truth[key] = [_gt_entry(item) for item in annotated.objects]
        info[key] = [_info_entry(item) for item in annotated.objects]
    for name, content in (("scene_camera", cameras), ("scene_gt", ground_truth), ("scene_gt_info", info)):
        path.mkdir(parents=True, exist_ok=True)
        (path / f"{name}.json").write_text(json.dumps(content) + "\n", encoding="utf-8")
    return len(cameras)


def _write_image(path: Path, image: npt.NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), image):
        raise OSError(f"{path}: cannot be written")


def _gt_entry(item: GroundTruthObject) -> dict[str, Any]:
    identity = {} if item.track_id is None else {"track_id": item.track_id}
    symmetry = {} if item.symmetry is None else {"symmetry": item.symmetry.value}
    return {
        **identity,
        **symmetry,
        "category": item.category,
        **_pose_entry(item.camera_from_object, "m2c"),
        "size_m": item.size_m.tolist(),
        "ignore": item.ignore,
    }


def _pose_entry(pose: SE3, name: str) -> dict[str, list[float]]:
    return {
        f"cam_R_{name}": pose.rotation.double().flatten().tolist(),
        f"cam_t_{name}": (pose.translation.double() * 1000.0).tolist(),
    }


def _info_entry(item: GroundTruthObject) -> dict[str, Any]:
    entry: dict[str, Any] = {} if item.visible_fraction is None else {"visib_fract": item.visible_fraction}
    if item.mask is not None and item.mask.any():
        entry["bbox_visib"] = list(cv2.boundingRect(item.mask.astype(np.uint8)))  # x, y, width, height in pixels
    return entry
