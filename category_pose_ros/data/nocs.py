"""NOCS REAL275 and CAMERA25 (Wang et al., CVPR 2019): table-top scenes with depth.

DATASET is the folder of the split, `real/test` with its `scene_1` or `camera/val` with its `00000`, as they
come; above it lie `gts`, `obj_models` and for the depth of CAMERA25 `camera_full_depths`. Per image
`0000_color.png`, `0000_mask.png` (instance numbers), `0000_meta.txt` (instance, class, model); per image in
`gts` a pickle with `gt_RTs`, one row per visible instance of a class, by number, and the visibility of handles.

A gt_RT takes normalised object coordinates to metres in the camera frame, which is ours: a rotation times
the length of the diagonal of the object's box, whose centre is the origin. There y is up and x is where we
have it: to the handle, out of the lens, to the laptop's front. Models state the proportions of the box.
A mug whose handle is hidden may be turned, as in the evaluation of the benchmark.
"""

from __future__ import annotations

import codecs
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from category_pose_ros.data.annotations import AnnotatedFrame, GroundTruthObject
from category_pose_ros.data.frames import FrameList
from category_pose_ros.data.images import read_depth, read_rgb
from category_pose_ros.geometry import SE3, Camera, Symmetry
from category_pose_ros.records import Frame

CATEGORIES = {1: "bottle", 2: "bowl", 3: "camera", 4: "can", 5: "laptop", 6: "mug"}
_REAL = Camera(591.0125, 590.16775, 322.525, 244.11084, 640, 480)
_RENDERED = Camera(577.5, 577.5, 319.5, 239.5, 640, 480)
_BACKGROUND = 255
# Columns are our axes (forward, left, up) in theirs.
_THEIRS_FROM_OURS = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])

Array = npt.NDArray[np.float64]


class NocsScenes(FrameList):
    """The annotated images of all scenes of a split.

    Raises:
        ValueError: no images, or no annotations above them.
    """

    def __init__(self, path: Path) -> None:
        self._folder = path.resolve()
        suffix = "_color.png"
        files = sorted(self._folder.glob(f"*/*{suffix}"))
        super().__init__([f"{file.parent.name}/{file.name.removesuffix(suffix)}" for file in files])
        roots = [parent for parent in self._folder.parents if (parent / "gts").is_dir()]
        if not files or not roots:
            raise ValueError(f"{path}: expected SCENE/0000{suffix} here and a folder gts above, found none")
        self._root = roots[0]
        self._is_real = files[0].parent.name.startswith("scene_")

    @staticmethod
    def recognises(path: Path) -> bool:
        return any(path.glob("*/*_color.png"))

    def load(self, name: str) -> AnnotatedFrame:
        camera, split = (_REAL, "real_test") if self._is_real else (_RENDERED, "val")
        rgb = read_rgb(self._folder / f"{name}_color.png")
        path = self._root / "gts" / split / f"results_{split}_{name.replace('/', '_')}.pkl"
        truth = _read_arrays(path)
        try:
            models = self._models(name, split)
            poses = np.asarray(truth["gt_RTs"], dtype=np.float64).reshape(-1, 4, 4)
            handles = truth.get("handle_visibility", truth.get("gt_handle_visibility", np.ones(len(poses))))
            rows = zip(poses, models, handles, strict=True)
            objects = [_object(*row) for row in rows if row[0][2, 3] > 0]  # where the fit failed it is the identity
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: damaged, or it does not match {name}: {error}") from error
        return AnnotatedFrame(Frame(rgb, camera, self._depth(name)), tuple(objects), name)

    def _depth(self, name: str) -> npt.NDArray[np.float32] | None:
        """In metres; CAMERA25 has it of the whole scene in a folder of its own, which may be absent."""
        path = self._folder / f"{name}_depth.png"
        if not self._is_real:
            path = self._root / "camera_full_depths" / self._folder.name / f"{name}_composed.png"
        return read_depth(path) * np.float32(0.001) if self._is_real or path.exists() else None

    def _models(self, name: str, split: str) -> list[tuple[str, Array]]:
        """Category and extent of the model, in units of any length, of each instance that is seen, by number."""
        seen = set(np.unique(read_rgb(self._folder / f"{name}_mask.png")[..., 0]).tolist()) - {_BACKGROUND}
        lines = (self._folder / f"{name}_meta.txt").read_text(encoding="ascii").splitlines()
        found = {}
        for words in (line.split() for line in lines if line.strip()):
            number, label = int(words[0]), int(words[1])
            if number not in seen or label not in CATEGORIES:
                continue
            file = Path(*words[2:]) / "bbox.txt" if len(words) == 4 else Path(f"{words[2]}.txt")
            numbers = np.loadtxt(self._root / "obj_models" / split / file).reshape(-1, 3)  # extents, or two corners
            found[number] = CATEGORIES[label], np.abs(numbers[0] - numbers[1]) if len(numbers) > 1 else numbers[0]
        return [found[number] for number in sorted(found)]


def _object(camera_from_unit: Array, model: tuple[str, Array], handle: Any) -> GroundTruthObject:
    category, extent = model
    diagonal_m = float(np.cbrt(np.linalg.det(camera_from_unit[:3, :3])))
    rotation = camera_from_unit[:3, :3] / diagonal_m
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-2):
        raise ValueError(f"gt_RTs: expected rotations times a length, got {camera_from_unit.tolist()}")
    return GroundTruthObject(
        category,
        SE3(torch.from_numpy(rotation @ _THEIRS_FROM_OURS), torch.from_numpy(camera_from_unit[:3, 3])),
        np.abs(_THEIRS_FROM_OURS.T @ extent) * (diagonal_m / np.linalg.norm(extent)),
        symmetry=Symmetry.AXIS_Z if category == "mug" and not handle else None,
    )


_ALLOWED: dict[str, Any] = {
    "ndarray": np.ndarray,
    "dtype": np.dtype,
    "_reconstruct": np.zeros(1).__reduce__()[0],
    "scalar": np.float64(0).__reduce__()[0],
    "_frombuffer": np.zeros(1).__reduce_ex__(5)[0],
    "encode": codecs.encode,
}


class _ArraysOnly(pickle.Unpickler):
    """Reads arrays and plain values; a pickle may otherwise run any program."""

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] in ("numpy", "_codecs") and name in _ALLOWED:
            return _ALLOWED[name]
        raise pickle.UnpicklingError(f"expected arrays and plain values, got {module}.{name}")


def _read_arrays(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = _ArraysOnly(file, encoding="latin1").load()
    except FileNotFoundError as error:
        raise ValueError(f"{path}: missing") from error
    except Exception as error:  # a damaged pickle raises anything
        raise ValueError(f"{path}: damaged: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: damaged: expected a dictionary, got {type(content).__name__}")
    return content
