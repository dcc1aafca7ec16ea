"""Every data set that can be evaluated on, in its own layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from category_pose_ros.data.annotations import AnnotatedFrame
from category_pose_ros.data.bop import BopScene
from category_pose_ros.data.kitti import KittiObjects
from category_pose_ros.data.nocs import NocsScenes
from category_pose_ros.data.pascal3d import Pascal3d
from category_pose_ros.data.photographs import EmptyPhotographs


@dataclass(frozen=True)
class Layout:
    """How a data set lies in its folder: how to read it and what it is recognised by."""

    read: Callable[[Path], Sequence[AnnotatedFrame]]
    recognises: Callable[[Path], bool]


LAYOUTS: Mapping[str, Layout] = {
    "bop": Layout(BopScene, lambda path: (path / "scene_gt.json").exists()),
    "kitti": Layout(KittiObjects, KittiObjects.recognises),
    "nocs": Layout(NocsScenes, NocsScenes.recognises),
    "pascal3d": Layout(Pascal3d, Pascal3d.recognises),
    "empty": Layout(EmptyPhotographs, EmptyPhotographs.recognises),
}


def open_dataset(path: Path, layout: str | None = None) -> Sequence[AnnotatedFrame]:
    """The frames of a data set, each read when it is asked for.

    Args:
        path: its folder.
        layout: one of LAYOUTS; None: what the folder looks like.

    Raises:
        ValueError: no such folder or layout, or a folder that looks like none of them.
    """
    if not path.is_dir():
        raise ValueError(f"{path}: expected a folder, found none")
    if layout is not None and layout not in LAYOUTS:
        raise ValueError(f"layout: expected one of {', '.join(LAYOUTS)}, got {layout!r}")
    name = layout or next((name for name, item in LAYOUTS.items() if item.recognises(path)), None)
    if name is None:
        raise ValueError(f"{path}: expected the layout of one of {', '.join(LAYOUTS)}, found none")
    return LAYOUTS[name].read(path)
