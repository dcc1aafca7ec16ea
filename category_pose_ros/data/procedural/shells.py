"""A car body's skin: plan outlines stacked between a lower and an upper edge, closed by a crowned lid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from category_pose_ros.data.procedural import shapes
from category_pose_ros.geometry.mesh import Mesh

Array = npt.NDArray[np.float64]
Height = Callable[[Array], Array]

# Shares of the way from the middle of the front to the middle of the back.
FRONT_CORNER, REAR_CORNER = 0.25, 0.75


@dataclass(frozen=True, eq=False)
class Shell:
    """A wall around the z axis, its own mirror image in the xz plane, sampled on a grid.

    A place on the wall is (around, up). |around| runs from 0 in the middle of the front over the front
    corner (to 0.25) and the side (to 0.75) to 1 in the middle of the back, positive on the left; up runs
    from 0 at the lower to 1 at the upper edge. Metres, x forward.

    Attributes:
        levels: (K,) values of up of the grid's rows; the next five are given there, (K,) each.
        front, rear: x of the middle of front and back.
        side_front, side_rear: x where the side ends and the corners begin.
        half_width: y of the side.
        lower, upper: heights of the edges as functions of x.
        cut: height below which the wall is cut away, as a function of x: the wheel arches.
        stations: (M,) increasing values of |around| of the grid's columns, from 0 to 1.
        roundness: exponent of the corners; 2 an ellipse, more is more square.
        barrel: how much the side bends inward towards its ends, as a share of the half width.
        crown: height of the lid above the upper edge, in the middle.
    """

    levels: Array
    front: Array
    rear: Array
    side_front: Array
    side_rear: Array
    half_width: Array
    lower: Height
    upper: Height
    cut: Height
    stations: Array
    roundness: float
    barrel: float
    crown: float

    def wall(self) -> Mesh:
        """The wall, open above and below."""
        return shapes.grid(self._points)

    def lid(self, columns: int = 6) -> Mesh:
        """The crowned surface over the upper edge."""
        edge = self._points[-1, len(self.stations) - 1 :][::-1]  # left side, rear to front
        across = np.linspace(1, -1, columns + 1)
        rows = np.repeat(edge[:, None], columns + 1, axis=1)
        rows[..., 1] *= across
        rows[..., 2] += self.crown * (1 - across**2) * np.minimum(edge[:, 1:2] / self.half_width[-1], 1)
        return shapes.grid(rows)

    def place(self, around: float, up: float) -> Array:
        """One point (3,) of the wall."""
        place: Array = self._interpolate(self._points, np.array([around]), np.array([up]))[0, 0]
        return place

    def along_side(self, x: float) -> float:
        """The value of |around| at an x of the side."""
        first, last = self.side_front[0], self.side_rear[0]
        return float(FRONT_CORNER + (REAR_CORNER - FRONT_CORNER) * (first - x) / (first - last))

    def panel(self, around: tuple[float, float], up: tuple[float, float], offset: float) -> Mesh:
        """A piece of the wall, moved outward by an offset (m): a window, a lamp, a grille, a seam.

        It bends where the wall bends, so that it lies parallel to the wall's triangles.
        """
        columns, rows = _with_knots(self._loop, around), _with_knots(self.levels, up)
        normals = self._interpolate(self._normals, columns, rows)
        points = self._interpolate(self._points, columns, rows) + offset * normals
        return shapes.grid(points, normals)

    def panels(self, around: tuple[float, float], up: tuple[float, float], offset: float) -> list[Mesh]:
        """The same panel on the right and on the left, as mirror images: u runs forward on both."""
        right, left = (self.panel((side * around[0], side * around[1]), up, offset) for side in (-1, 1))
        mirrored = np.array([1, 0], np.float32) + left.uv * np.array([-1, 1], np.float32)
        return [right, Mesh(left.vertices, left.normals, mirrored, left.faces)]

    @cached_property
    def _loop(self) -> Array:
        return np.concatenate([-self.stations[::-1], self.stations[1:]])

    @cached_property
    def _points(self) -> Array:
        """The grid (K, 2M - 1, 3), columns counter-clockwise seen from above."""
        around, up = np.meshgrid(self.stations, self.levels)
        x, _ = self._plan(around, up)
        low, high = self.lower(x), self.upper(x)
        up = np.maximum(up, np.clip((self.cut(x) - low) / (high - low), 0, 1))
        x, y = self._plan(around, up)
        left = np.stack([x, y, low + up * (high - low)], -1)
        return np.concatenate([left[:, :0:-1] * [1, -1, 1], left], axis=1)

    @cached_property
    def _normals(self) -> Array:
        upwards = np.gradient(self._points, axis=0)
        normals = np.cross(np.gradient(self._points, axis=1), upwards)
        normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)
        return normals

    def _plan(self, around: Array, up: Array) -> tuple[Array, Array]:
        """Coordinates x and |y| of places with around from 0 to 1."""
        front, rear, first, last, half = (
            np.interp(up, self.levels, values)
            for values in (self.front, self.rear, self.side_front, self.side_rear, self.half_width)
        )
        ahead = np.clip(around / FRONT_CORNER, 0, 1) * (np.pi / 2)
        behind = np.clip((1 - around) / (1 - REAR_CORNER), 0, 1) * (np.pi / 2)
        along = np.clip((around - FRONT_CORNER) / (REAR_CORNER - FRONT_CORNER), 0, 1)
        power = 2 / self.roundness
        x = first + (last - first) * along
        x = x + (front - first) * np.clip(np.cos(ahead), 0, 1) ** power
        x = x - (last - rear) * np.clip(np.cos(behind), 0, 1) ** power
        narrowing = 1 - self.barrel * (2 * (x - rear) / (front - rear) - 1) ** 2
        return x, half * (np.sin(ahead) * np.sin(behind)) ** power * narrowing

    def _interpolate(self, values: Array, around: Array, up: Array) -> Array:
        """Bilinear in the grid: values (K, 2M - 1, 3) at rows (R,) and columns (C,), (R, C, 3)."""
        column, right = _cell(self._loop, around)
        row, above = _cell(self.levels, up)
        right, above = right[:, None], above[:, None, None]
        low, high = values[row], values[row + 1]
        rows = low + above * (high - low)
        result: Array = rows[:, column] + right * (rows[:, column + 1] - rows[:, column])
        return result


def _with_knots(knots: Array, span: tuple[float, float]) -> Array:
    """The ends of a span and the knots between them."""
    low, high = sorted(span)
    return np.concatenate([[low], knots[(knots > low + 1e-6) & (knots < high - 1e-6)], [high]])


def _cell(knots: Array, values: Array) -> tuple[npt.NDArray[np.int64], Array]:
    """The interval that holds each value, and the share of it below the value."""
    index = np.clip(np.searchsorted(knots, values, side="right") - 1, 0, len(knots) - 2)
    return index, (values - knots[index]) / (knots[index + 1] - knots[index])
