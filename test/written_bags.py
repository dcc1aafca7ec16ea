"""Bags for the tests that read or play them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from category_pose_ros.data.bag_writer import bag_writer
from category_pose_ros.records import Frame


def write_bag(path: Path, frames: Iterable[Frame], **options: Any) -> int:
    """Write frames as a bag, with the options of `bag_writer`; returns how many there were."""
    count = 0
    with bag_writer(path, **options) as write:
        for frame in frames:
            write(frame)
            count += 1
    return count
