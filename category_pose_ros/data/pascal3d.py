"""PASCAL3D+ (Xiang et al., WACV 2014) and Occluded PASCAL3D+ (Wang et al., CVPR 2020), validation images of ImageNet.

DATASET is `PASCAL3D+_release1.1` with `Annotations`, `Images`, `Image_sets` and `CAD`; or the folder of the
occluded images with `images/carFGL1_BGL1` and `annotations/carFGL1_BGL1`, beside `PASCAL3D+_release1.1`,
which has the poses. Of the twelve categories those are read that we know.

A viewpoint turns a CAD model, z up and its front along -y, by azimuth about z, shows it from an elevation and
a distance, turns the image by theta, and puts it at (px, py): each object has its own principal point and all
have a focal length of 3000 pixels. We have one camera per image, with that focal length and its principal
point in the middle, and move the object sideways to appear at its place, as Ma et al. (ECCV 2022) do for ADD.

Neither scale nor focal length of these photographs is known. CAD models are scaled to a typical length, so
errors of position mean something only relative to the object's size or distance.
"""

from __future__ import annotations

import functools
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.io
import torch

from category_pose_ros.data.annotations import AnnotatedFrame, GroundTruthObject
from category_pose_ros.data.frames import FrameList
from category_pose_ros.data.images import read_rgb
from category_pose_ros.geometry import SE3, Camera, so3
from category_pose_ros.records import Frame

TYPICAL_LENGTH_M = {"bottle": 0.25, "car": 4.5}  # longest side of the box, per category that we know
FOCAL_PX = 3000.0
_LEVELS = (1, 2, 3)  # FGL1_BGL1 and so on: those of the papers' tables
_MASKED = 10  # grey value above which a pixel of the object's mask is the object's
# Columns are our axes (forward, left, up) in those of the CAD models.
_CAD_FROM_OBJECT = torch.tensor([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
# The camera in which the viewpoints are defined is x right, y up, z backward.
_OURS_FROM_THEIRS = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))

Array = npt.NDArray[np.float64]

_log = logging.getLogger(__name__)


class Pascal3d(FrameList):
    """The annotated images, category by category, unoccluded or of all levels of occlusion.

    A category of which there are no images is left out with a warning.

    Raises:
        ValueError: there is no list or folder of images of any category that we know.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.resolve()
        self._is_occluded = (path / "images").is_dir()
        self._root = _release(self._path) if self._is_occluded else self._path
        super().__init__(self._occluded_names() if self._is_occluded else self._plain_names())
        if not self.names:
            raise ValueError(f"{path}: expected images of {' or '.join(TYPICAL_LENGTH_M)}, found none")
        for category in TYPICAL_LENGTH_M:
            if not any(name.startswith(category) for name in self.names):
                _log.warning("%s: no images of %s, which does not count", path, category)

    @staticmethod
    def recognises(path: Path) -> bool:
        return (path / "Annotations").is_dir() or any((path / "images").glob("*FGL?_BGL?"))

    def _plain_names(self) -> list[str]:
        names = []
        for category in TYPICAL_LENGTH_M:
            path = self._root / "Image_sets" / f"{category}_imagenet_val.txt"
            if path.exists():
                names += [f"{category}/{name}" for name in path.read_text(encoding="ascii").split()]
        return names

    def _occluded_names(self) -> list[str]:
        folders = [f"{category}FGL{level}_BGL{level}" for category in TYPICAL_LENGTH_M for level in _LEVELS]
        return [
            f"{folder}/{file.stem}"
            for folder in folders
            for file in sorted((self._path / "images" / folder).glob("*.JPEG"))
        ]

    def load(self, name: str) -> AnnotatedFrame:
        folder, _, stem = name.partition("/")
        category, _, level = folder.partition("FGL")
        if level:
            rgb = read_rgb(self._path / "images" / f"{name}.JPEG")
            visible = _visible_fraction(self._path / "annotations" / f"{name}.npz", int(level[0]))
        else:
            rgb, visible = read_rgb(self._root / "Images" / f"{category}_imagenet" / f"{stem}.JPEG"), None
        height, width = rgb.shape[:2]
        camera = Camera(FOCAL_PX, FOCAL_PX, (width - 1) / 2, (height - 1) / 2, width, height)
        path = self._root / "Annotations" / f"{category}_imagenet" / f"{stem}.mat"
        record = _record(path)
        try:
            items = [item for item in np.atleast_1d(record.objects) if getattr(item, "class") == category]
            objects = [self._object(item, category, camera, visible) for item in items if _has_pose(item)]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error
        return AnnotatedFrame(Frame(rgb, camera), tuple(objects), name)

    def _object(self, item: Any, category: str, camera: Camera, visible: float | None) -> GroundTruthObject:
        if visible is None and not np.any(getattr(item, "occluded", 0)):  # where it is, nobody says by how much
            visible = 1.0
        low, high = _bounds(self._root / "CAD" / category / f"{int(item.cad_index):02d}.off")
        metres = TYPICAL_LENGTH_M[category] / float((high - low).max())
        camera_from_cad = _camera_from_cad(item.viewpoint, camera)
        (centre,) = camera_from_cad @ torch.from_numpy((low + high) / 2).unsqueeze(0)
        return GroundTruthObject(
            category,
            SE3(camera_from_cad.rotation @ _CAD_FROM_OBJECT, centre * metres),
            np.abs(_CAD_FROM_OBJECT.numpy().T @ (high - low)) * metres,
            ignore=bool(np.any(getattr(item, "difficult", 0))),
            visible_fraction=visible,
        )


def _release(path: Path) -> Path:
    """The folder of PASCAL3D+ beside or above a folder."""
    for parent in path.parents:
        found = sorted(folder for folder in parent.glob("PASCAL3D+*") if (folder / "Annotations").is_dir())
        if found:
            return found[-1]
    raise ValueError(f"{path}: expected PASCAL3D+_release1.1 beside it, which has the poses; found none")


def _record(path: Path) -> Any:
    """What an annotation file of MATLAB holds."""
    try:
        return scipy.io.loadmat(path, squeeze_me=True, struct_as_record=False)["record"]
    except FileNotFoundError as error:
        raise ValueError(f"{path}: missing") from error
    except Exception as error:  # SciPy has errors of its own that are nothing more than exceptions
        raise ValueError(f"{path}: damaged: {error}") from error


def _visible_fraction(path: Path, level: int) -> float:
    """Share of the object's pixels that no occluder covers, within what its level says: 20 to 40 %, and so on."""
    try:
        with np.load(path, allow_pickle=False) as file:
            mask, occluders = file["mask"] > _MASKED, file["occluder_mask"] > 0
        occluded = float((mask & occluders).sum() / mask.sum())
        return 1 - min(max(occluded, 0.2 * level), 0.2 * level + 0.19)
    except FileNotFoundError as error:
        raise ValueError(f"{path}: missing") from error
    except Exception as error:  # a damaged archive raises anything
        raise ValueError(f"{path}: damaged: {error}") from error


def _has_pose(item: Any) -> bool:
    """Objects that could not be aligned have no viewpoint, or one without distance or of distance 0."""
    return bool(np.any(getattr(item.viewpoint, "distance", 0)))


def _camera_from_cad(viewpoint: Any, camera: Camera) -> SE3:
    azimuth, elevation, theta = (math.radians(getattr(viewpoint, name)) for name in ("azimuth", "elevation", "theta"))
    distance, focal_px = float(viewpoint.distance), float(viewpoint.focal) * float(viewpoint.viewport)
    if not focal_px > 0:
        raise ValueError(f"viewpoint: expected a positive focal length, got {focal_px}")
    turned = _turn(2, theta) @ _turn(0, elevation - math.pi / 2) @ _turn(2, -azimuth)
    # Pixels in MATLAB begin at 1.
    aside = torch.tensor([viewpoint.px - 1 - camera.cx, viewpoint.py - 1 - camera.cy, FOCAL_PX], dtype=torch.float64)
    return SE3(_OURS_FROM_THEIRS @ turned, aside * (distance / focal_px))


def _turn(axis: int, angle: float) -> torch.Tensor:
    vector = torch.zeros(3, dtype=torch.float64)
    vector[axis] = angle
    return so3.exp(vector)


@functools.lru_cache
def _bounds(path: Path) -> tuple[Array, Array]:
    """Corners (3,) of the box around the vertices of an OFF file, in its own units."""
    try:
        words = path.read_text(encoding="ascii").split()
        if words[0] != "OFF":
            raise ValueError("expected OFF in the first line")
        count = int(words[1])
        vertices = np.array(words[4 : 4 + 3 * count], dtype=np.float64).reshape(count, 3)
        return vertices.min(0), vertices.max(0)
    except FileNotFoundError as error:
        raise ValueError(f"{path}: missing") from error
    except (IndexError, ValueError) as error:
        raise ValueError(f"{path}: damaged: {error}") from error
