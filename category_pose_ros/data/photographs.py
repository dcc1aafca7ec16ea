"""Plain images in which there is no object of any category: whatever is found is a false alarm."""

from __future__ import annotations

import math
from pathlib import Path

from category_pose_ros.data.annotations import AnnotatedFrame
from category_pose_ros.data.frames import FrameList
from category_pose_ros.data.images import read_rgb
from category_pose_ros.geometry import Camera
from category_pose_ros.records import Frame

FIELD_OF_VIEW_DEG = 60.0  # across the longer side; what is found depends little on it
SUFFIXES = (".jpg", ".jpeg", ".png")


class EmptyPhotographs(FrameList):
    """The images of a folder, as frames without objects.

    Raises:
        ValueError: there are none.
    """

    def __init__(self, path: Path) -> None:
        self._folder = path
        super().__init__(image_names(path))
        if not self.names:
            raise ValueError(f"{path}: expected images ({', '.join(SUFFIXES)}), found none")

    @staticmethod
    def recognises(path: Path) -> bool:
        return bool(image_names(path))

    def load(self, name: str) -> AnnotatedFrame:
        rgb = read_rgb(self._folder / name, upright=True)
        height, width = rgb.shape[:2]
        focal = max(height, width) / (2 * math.tan(math.radians(FIELD_OF_VIEW_DEG / 2)))
        camera = Camera(focal, focal, (width - 1) / 2, (height - 1) / 2, width, height)
        return AnnotatedFrame(Frame(rgb, camera), (), name)


def image_names(path: Path) -> list[str]:
    """The names of the image files of a folder, sorted; none where it is no folder."""
    return sorted(file.name for file in path.iterdir() if file.suffix.lower() in SUFFIXES) if path.is_dir() else []
