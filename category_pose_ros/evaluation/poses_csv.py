"""poses.csv: one row per track and frame."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

import torch

from category_pose_ros.geometry import so3
from category_pose_ros.records import Track

COLUMNS = (
    "stamp_ns",
    "track_id",
    "category",
    "score",
    "visible_fraction",
    *("x", "y", "z"),
    *("qx", "qy", "qz", "qw"),
    *("size_x", "size_y", "size_z"),
)


class PosesWriter:
    """Writes poses.csv row by row, so that an interrupted run leaves what it had."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", buffering=1, newline="", encoding="utf-8")  # by lines
        self._rows = csv.writer(self._file, lineterminator="\n")
        self._rows.writerow(COLUMNS)

    def write(self, stamp_ns: int, tracks: Iterable[Track]) -> None:
        """Add the tracks of one frame; position and size in metres, the quaternion as xyzw."""
        for track in tracks:
            self._rows.writerow(_row(stamp_ns, track))

    def __enter__(self) -> PosesWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _row(stamp_ns: int, track: Track) -> list[str]:
    estimate = track.estimate
    pose = estimate.camera_from_object.to("cpu").to(torch.float64)
    qw, qx, qy, qz = so3.to_quaternion_wxyz(pose.rotation).tolist()
    numbers = [
        estimate.score,
        estimate.visible_fraction,
        *pose.translation.tolist(),
        *(qx, qy, qz, qw),
        *estimate.size_m.tolist(),
    ]
    return [str(stamp_ns), str(track.track_id), estimate.category, *(f"{number:.6f}" for number in numbers)]
