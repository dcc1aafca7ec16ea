"""KITTI 3D object (Geiger et al., CVPR 2012): cars on photographs of streets.

Layout: `image_2/000000.png`, `label_2/000000.txt`, `calib/000000.txt`, in the folder itself or in its
`training`. A label is type, truncated, occluded, alpha, left, top, right, bottom, height, width, length,
x, y, z, rotation_y: metres and radians in the rectified camera 0, which is x right, y down, z forward;
x, y, z is the middle of the underside, and at rotation_y = 0 the car drives along x.

What counts is what counts in KITTI's hardest level; smaller, more hidden and more truncated cars and all
vans are ignored. So are the regions marked DontCare, of which each becomes an ignored board: there is no
car known in them, and no pose.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from category_pose_ros.data.annotations import AnnotatedFrame, GroundTruthObject
from category_pose_ros.data.frames import FrameList
from category_pose_ros.data.images import read_rgb
from category_pose_ros.geometry import SE3, Camera
from category_pose_ros.records import Frame

LEAST_HEIGHT_PX, MOST_OCCLUDED, MOST_TRUNCATED = 25.0, 2, 0.5  # level "hard"

# Columns are our axes (forward, left, up) in the camera, of a car that drives along x and of a board that faces us.
_DRIVING_ALONG_X = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
_FACING = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, -1.0], [-1.0, 0.0, 0.0]])
_BOARD_DISTANCE_M, _BOARD_THICKNESS_M = 10.0, 1e-3

Array = npt.NDArray[np.float64]


class KittiObjects(FrameList):
    """The annotated images.

    Raises:
        ValueError: no labels in the folder.
    """

    def __init__(self, path: Path) -> None:
        self._folder = _training_folder(path)
        super().__init__(sorted(file.stem for file in (self._folder / "label_2").glob("*.txt")))
        if not self.names:
            raise ValueError(f"{self._folder / 'label_2'}: expected labels, found none")

    @staticmethod
    def recognises(path: Path) -> bool:
        return (_training_folder(path) / "label_2").is_dir()

    def load(self, name: str) -> AnnotatedFrame:
        rgb = read_rgb(self._folder / "image_2" / f"{name}.png")
        path = self._folder / "calib" / f"{name}.txt"
        projection = _projection(path)
        height, width = rgb.shape[:2]
        camera = Camera(projection[0, 0], projection[1, 1], projection[0, 2], projection[1, 2], width, height)
        # The colour camera stands beside camera 0; its projection matrix is K [I | t].
        camera_from_rectified = np.asarray(np.linalg.solve(projection[:, :3], projection[:, 3]), dtype=np.float64)
        path = self._folder / "label_2" / f"{name}.txt"
        objects = []
        for line in _lines(path):
            try:
                item = _object(line.split(), camera, camera_from_rectified)
            except (IndexError, ValueError) as error:
                raise ValueError(f"{path}: damaged: {error}: {line!r}") from error
            objects += [] if item is None else [item]
        return AnnotatedFrame(Frame(rgb, camera), tuple(objects), name)


def _training_folder(path: Path) -> Path:
    return path / "training" if (path / "training").is_dir() else path


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="ascii").splitlines() if line.strip()]
    except FileNotFoundError as error:
        raise ValueError(f"{path}: missing") from error
    except ValueError as error:
        raise ValueError(f"{path}: damaged: {error}") from error


def _projection(path: Path) -> Array:
    """Projection matrix (3, 4) of the left colour camera."""
    for line in _lines(path):
        if line.startswith("P2:"):
            try:
                numbers = np.array(line.split()[1:], dtype=np.float64)
            except ValueError:
                break
            if numbers.size == 12 and np.isfinite(numbers).all() and min(numbers[0], numbers[5]) > 0:
                matrix = numbers.reshape(3, 4)
                if np.linalg.matrix_rank(matrix[:, :3]) == 3:
                    return matrix
    raise ValueError(
        f"{path}: damaged: expected a line P2: with 12 numbers, focal lengths above 0 and an invertible 3 x 3 part"
    )


def _object(words: list[str], camera: Camera, camera_from_rectified: Array) -> GroundTruthObject | None:
    """What a label says of cars; None where it is of something else."""
    kind, values = words[0], [float(word) for word in words[1:15]]
    if len(values) != 14:
        raise ValueError(f"expected 15 fields, got {len(words)}")
    truncated, occluded, _, left, top, right, bottom = values[:7]
    if kind == "DontCare":
        return _board(camera, left, top, right, bottom)
    if kind not in ("Car", "Van"):
        return None
    height_m, width_m, length_m, x, y, z, yaw = values[7:]
    hard = bottom - top >= LEAST_HEIGHT_PX and occluded <= MOST_OCCLUDED and truncated <= MOST_TRUNCATED
    about_y = np.array([[np.cos(yaw), 0.0, np.sin(yaw)], [0.0, 1.0, 0.0], [-np.sin(yaw), 0.0, np.cos(yaw)]])
    centre = np.array([x, y - height_m / 2, z]) + camera_from_rectified
    return GroundTruthObject(
        "car",
        SE3(torch.from_numpy(about_y @ _DRIVING_ALONG_X), torch.from_numpy(centre)),
        np.array([length_m, width_m, height_m]),
        ignore=kind == "Van" or not hard,
    )


def _board(camera: Camera, left: float, top: float, right: float, bottom: float) -> GroundTruthObject:
    """An ignored region that covers a rectangle of the image."""
    corners = torch.tensor([[left, top], [right, bottom]], dtype=torch.float64)
    first, last = _BOARD_DISTANCE_M * camera.rays(corners)
    across, down, _ = (last - first).tolist()
    size_m = np.array([_BOARD_THICKNESS_M, max(across, _BOARD_THICKNESS_M), max(down, _BOARD_THICKNESS_M)])
    return GroundTruthObject("car", SE3(torch.from_numpy(_FACING), (first + last) / 2), size_m, ignore=True, crowd=True)
