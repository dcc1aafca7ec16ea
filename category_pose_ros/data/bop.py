"""BOP-style scene folders as annotated frames.

Layout: `rgb/000000.(png|jpg)`, `depth/000000.png` where there is depth, `mask_visib/000000_000000.png`
(image and object) where there are masks of what is visible, `scene_camera.json`, `scene_gt.json`,
`scene_gt_info.json`. Where the camera was, if it is known, are `cam_R_w2c` and `cam_t_w2c` of the camera.
Beyond BOP (Hodan et al., ECCV 2018) every object carries its `category` and `size_m`, in sequences its
`track_id`, and its `symmetry` where it is not the category's (a mug whose handle is hidden); an object with
`"ignore": true` is neither a hit nor a miss. Files hold millimetres, records hold metres.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from category_pose_ros.data.annotations import AnnotatedFrame, GroundTruthObject
from category_pose_ros.data.frames import FrameList
from category_pose_ros.data.images import read_depth, read_mask, read_rgb
from category_pose_ros.geometry import SE3, Camera, Symmetry
from category_pose_ros.records import Frame

_ROTATION_TOLERANCE = 1e-2  # files round their matrices to four digits and more


class BopScene(FrameList):
    """The annotated frames of a scene folder, ordered by image number; images are read on demand.

    Raises:
        ValueError: a file is missing or damaged; the message names it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_dir():
            raise ValueError(f"{path}: expected a BOP-style scene folder, found none")
        self._cameras = _read_json(path / "scene_camera.json", dict)
        self._ground_truth = _read_json(path / "scene_gt.json", list)
        info_path = path / "scene_gt_info.json"
        self._info = _read_json(info_path, list) if info_path.exists() else {}
        self.image_ids = sorted(self._ground_truth)
        if not self.image_ids:
            raise ValueError(f"{path / 'scene_gt.json'}: expected images, found none")
        super().__init__([f"{image_id:06d}" for image_id in self.image_ids])

    def load(self, name: str) -> AnnotatedFrame:
        image_id = int(name)
        camera_path = self.path / "scene_camera.json"
        if image_id not in self._cameras:
            raise ValueError(f"{camera_path}: no entry for image {image_id}")
        entry = self._cameras[image_id]
        rgb = _read_rgb(self.path / "rgb", image_id)
        depth_units = _read_depth(self.path / "depth", image_id)
        try:
            depth = None if depth_units is None else depth_units * np.float32(_depth_scale(entry) / 1000.0)
            frame = Frame(rgb, _camera(entry, rgb.shape[1], rgb.shape[0]), depth, int(entry.get("stamp_ns", 0)))
            world_from_camera = _pose(entry, "w2c").inverse() if "cam_R_w2c" in entry else None
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{camera_path}: image {image_id}: {_describe(error)}") from error
        return AnnotatedFrame(frame, tuple(self._with_masks(image_id)), name, world_from_camera)

    def _with_masks(self, image_id: int) -> Iterator[GroundTruthObject]:
        for number, item in enumerate(self.objects(image_id)):
            path = self.path / "mask_visib" / f"{image_id:06d}_{number:06d}.png"
            yield dataclasses.replace(item, mask=read_mask(path)) if path.exists() else item

    def objects(self, image_id: int) -> tuple[GroundTruthObject, ...]:
        """The ground truth of an image; needs no image file.

        Raises:
            ValueError: the annotation is damaged or contradicts itself.
        """
        entries = self._ground_truth[image_id]
        infos = self._info.get(image_id) or [{}] * len(entries)
        if len(infos) != len(entries):
            where = f"{self.path / 'scene_gt_info.json'}: image {image_id}"
            raise ValueError(f"{where}: expected {len(entries)} entries, got {len(infos)}")
        try:
            return tuple(_ground_truth_object(entry, info) for entry, info in zip(entries, infos, strict=True))
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{self.path / 'scene_gt.json'}: image {image_id}: {_describe(error)}") from error


def _describe(error: Exception) -> str:
    return f"missing {error}" if isinstance(error, KeyError) else str(error)


def _read_json(path: Path, entry_type: type) -> dict[int, Any]:
    """A JSON object with one entry of the given type per image number."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"{path}: missing") from error
    except ValueError as error:
        raise ValueError(f"{path}: damaged: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(entry, entry_type) for entry in content.values()):
        raise ValueError(f"{path}: damaged: expected one {entry_type.__name__} per image number")
    try:
        by_number = {int(key): entry for key, entry in content.items()}  # BOP pads these numbers in file names alone
    except ValueError as error:
        raise ValueError(f"{path}: expected image numbers as keys: {error}") from error
    if len(by_number) < len(content):
        raise ValueError(f"{path}: expected each image number once, got one in two forms")
    return by_number


def _read_rgb(folder: Path, image_id: int) -> npt.NDArray[np.uint8]:
    candidates = [folder / f"{image_id:06d}{suffix}" for suffix in (".png", ".jpg")]
    path = next((candidate for candidate in candidates if candidate.exists()), None)
    if path is None:
        raise ValueError(f"{candidates[0]}: missing, and so is the .jpg")
    return read_rgb(path)


def _read_depth(folder: Path, image_id: int) -> npt.NDArray[np.uint16] | None:
    path = folder / f"{image_id:06d}.png"
    return read_depth(path) if path.exists() else None


def _camera(entry: Mapping[str, Any], width: int, height: int) -> Camera:
    matrix = _array(entry, "cam_K", (3, 3))
    if matrix[0, 1]:
        raise ValueError(f"cam_K: expected no skew, got {matrix[0, 1]}")
    return Camera(matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2], width, height)


def _depth_scale(entry: Mapping[str, Any]) -> float:
    scale = float(entry["depth_scale"])
    if not 0 < scale < math.inf:
        raise ValueError(f"depth_scale: expected a positive number, got {entry['depth_scale']}")
    return scale


def _array(entry: Mapping[str, Any], name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    value = np.asarray(entry[name], dtype=np.float64)
    if value.size != np.prod(shape) or not np.isfinite(value).all():
        raise ValueError(f"{name}: expected {int(np.prod(shape))} finite numbers, got {entry[name]}")
    return value.reshape(shape)


def _pose(entry: Mapping[str, Any], name: str) -> SE3:
    """`m2c`, of a model in the camera, or `w2c`, of the world."""
    rotation = _array(entry, f"cam_R_{name}", (3, 3))
    is_rotation = np.abs(rotation @ rotation.T - np.eye(3)).max() < _ROTATION_TOLERANCE
    if not is_rotation or np.linalg.det(rotation) < 0:
        raise ValueError(f"cam_R_{name}: expected a rotation matrix, got {entry[f'cam_R_{name}']}")
    return SE3(torch.from_numpy(rotation), torch.from_numpy(_array(entry, f"cam_t_{name}", (3,)) / 1000.0))


def _ground_truth_object(entry: Mapping[str, Any], info: Mapping[str, Any]) -> GroundTruthObject:
    visible, track_id = info.get("visib_fract"), entry.get("track_id")
    if not isinstance(entry.get("ignore", False), bool):
        raise ValueError(f"ignore: expected true or false, got {entry['ignore']!r}")
    symmetry = entry.get("symmetry")
    return GroundTruthObject(
        category=str(entry["category"]),
        camera_from_object=_pose(entry, "m2c"),
        size_m=_array(entry, "size_m", (3,)),
        ignore=entry.get("ignore", False),
        visible_fraction=None if visible is None else float(visible),
        track_id=None if track_id is None else int(track_id),
        symmetry=None if symmetry is None else Symmetry(symmetry),
    )
