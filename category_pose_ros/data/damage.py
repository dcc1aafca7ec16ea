"""What goes wrong with the depth of real cameras, done on purpose to good depth."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from scipy.interpolate import LinearNDInterpolator

from category_pose_ros.data.annotations import AnnotatedFrame, GroundTruthObject

Depth = npt.NDArray[np.float32]
Rng = np.random.Generator
Mask = npt.NDArray[np.bool_]
Objects = Sequence[GroundTruthObject]

_PATCH_PX = 8  # side of a hole: dark and shiny surfaces swallow patches, not pixels
_EDGE_PX = 4  # beside what a depth camera cannot see it sees nothing either


@dataclass(frozen=True)
class Damage:
    """One kind of damage.

    Attributes:
        name: for a row of a table.
        apply: from depth (H, W) in metres, with 0 and NaN for holes, the objects that it shows, and a source of
            chance to damaged depth.
    """

    name: str
    apply: Callable[[Depth, Objects, Rng], Depth]


def holes(share: float) -> Damage:
    """Patches of a share of the image without readings."""

    def apply(depth: Depth, objects: Objects, rng: Rng) -> Depth:
        rows, columns = (-(-length // _PATCH_PX) for length in depth.shape)
        patches = (rng.random((rows, columns)) < share).astype(np.uint8)
        size = (columns * _PATCH_PX, rows * _PATCH_PX)
        lost = cv2.resize(patches, size, interpolation=cv2.INTER_NEAREST)[: depth.shape[0], : depth.shape[1]]
        return np.where(lost > 0, np.float32(0), depth)

    return Damage(f"{share:.0%} holes", apply)


def unseen() -> Damage:
    """No readings on any object whose mask is known, as if all shone too much."""

    def apply(depth: Depth, objects: Objects, rng: Rng) -> Depth:
        return np.where(_wider(_shown(depth, objects), _EDGE_PX), np.float32(0), depth)

    return Damage("objects unseen", apply)


def seen_through() -> Damage:
    """What is around objects whose mask is known also where they are, as if all were of clear glass.

    Inverse depth is interpolated linearly, which is exact where a plane goes on behind an object.
    """

    def apply(depth: Depth, objects: Objects, rng: Rng) -> Depth:
        lost = _wider(_shown(depth, objects), _EDGE_PX)
        edge = _wider(lost, 2) & ~lost & (depth > 0)
        if np.count_nonzero(edge) < 4:  # a triangle, and one more against what lies on a line
            return np.where(lost, np.float32(0), depth)
        behind = LinearNDInterpolator(np.argwhere(edge), 1 / depth[edge], fill_value=np.inf)
        result = depth.copy()
        result[lost] = 1 / behind(np.argwhere(lost))  # 0, a hole, where nothing around says what is there
        return result

    return Damage("objects seen through", apply)


def noise(deviation_m: float) -> Damage:
    """Gaussian noise on every reading; one that falls behind the camera is a hole."""

    def apply(depth: Depth, objects: Objects, rng: Rng) -> Depth:
        noisy = depth + rng.normal(0, deviation_m, depth.shape).astype(np.float32)
        return np.where((depth > 0) & (noisy > 0), noisy, np.float32(0))

    return Damage(f"noise {deviation_m * 100:g} cm", apply)


def rescaled(factor: float) -> Damage:
    """Every reading too long or too short by a factor, as of a wrong calibration."""
    return Damage(f"scale {factor - 1:+.0%}", lambda depth, objects, rng: depth * np.float32(factor))


def shifted(pixels: int) -> Damage:
    """Depth that many columns to the right of where it belongs, as of a wrong registration."""

    def apply(depth: Depth, objects: Objects, rng: Rng) -> Depth:
        moved = np.zeros_like(depth)
        moved[:, pixels:] = depth[:, :-pixels]
        return moved

    return Damage(f"shift {pixels} px", apply)


def _shown(depth: Depth, objects: Objects) -> Mask:
    """Pixels that show one of the objects, as far as their masks are known."""
    shown = np.zeros(depth.shape, np.bool_)
    for item in objects:
        if item.mask is not None:
            shown |= item.mask
    return shown


def _wider(mask: Mask, pixels: int) -> Mask:
    return np.asarray(cv2.dilate(mask.astype(np.uint8), np.ones((2 * pixels + 1,) * 2, np.uint8)) > 0)


DAMAGES = (
    *(holes(share) for share in (0.25, 0.5, 0.75, 0.95)),
    unseen(),
    seen_through(),
    *(noise(deviation_m) for deviation_m in (0.01, 0.02, 0.05)),
    rescaled(1.05),
    shifted(10),
)


def damaged(frames: Iterable[AnnotatedFrame], damage: Damage, seed: int = 0) -> Iterator[AnnotatedFrame]:
    """The frames with damaged depth, frame k by chance that depends on the seed and k alone."""
    for number, item in enumerate(frames):
        depth = item.frame.depth
        if depth is not None:
            depth = damage.apply(depth, item.objects, np.random.default_rng([seed, number]))
        yield dataclasses.replace(item, frame=dataclasses.replace(item.frame, depth=depth))


def without_depth(frames: Iterable[AnnotatedFrame]) -> Iterator[AnnotatedFrame]:
    """The frames as a camera without depth takes them."""
    for item in frames:
        yield dataclasses.replace(item, frame=dataclasses.replace(item.frame, depth=None))


def with_and_without_depth(frames: Iterable[AnnotatedFrame]) -> Iterator[AnnotatedFrame]:
    """Every frame as a camera without depth takes it, and, where it has depth, as it is."""
    for item in frames:
        yield from without_depth([item])
        if item.frame.depth is not None:
            yield item
