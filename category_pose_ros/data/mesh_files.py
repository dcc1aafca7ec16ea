"""Wavefront OBJ files: vertices and polygons, nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

Vertices = npt.NDArray[np.float64]
Faces = npt.NDArray[np.int64]


def read_obj(path: Path) -> tuple[Vertices, Faces]:
    """Vertices (V, 3) and triangles (F, 3) of a file; polygons are cut into fans.

    Raises:
        ValueError: the file has no triangle, or a line of it is damaged.
    """
    vertices: list[list[float]] = []
    faces: list[tuple[int, int, int]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        kind, *values = line.split() or [""]
        try:
            if kind == "v":
                x, y, z, *_ = map(float, values)
                vertices.append([x, y, z])
            elif kind == "f":
                corners = [_index(value, len(vertices)) for value in values]
                faces.extend((corners[0], corners[k], corners[k + 1]) for k in range(1, len(corners) - 1))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: expected a vertex or a polygon, got {line!r}") from error
    if not faces:
        raise ValueError(f"{path}: expected at least one polygon, found none")
    return np.array(vertices), np.array(faces)


def write_obj(path: Path, vertices: npt.NDArray[np.floating], faces: npt.NDArray[np.integer]) -> None:
    """Write vertices (V, 3) and triangles (F, 3)."""
    lines = [f"v {x:.6g} {y:.6g} {z:.6g}" for x, y, z in vertices]
    lines += [f"f {a} {b} {c}" for a, b, c in faces + 1]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _index(text: str, vertices: int) -> int:
    """`12/3/4` is the twelfth vertex, `-1` the last one so far."""
    number = int(text.partition("/")[0])
    index = number - 1 if number > 0 else vertices + number
    if not 0 <= index < vertices:
        raise ValueError(f"no vertex {text}")
    return index
