"""Images of solids with print all over them, before a background with another print."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from category_pose_ros import SE3, Camera, Frame, ObjectEstimate
from category_pose_ros.geometry.solids import Solids, depth_along, solid_of

_WAVES = 24
WALL_M = 3.0
Image = npt.NDArray[np.uint8]


def picture(camera: Camera, things: Sequence[ObjectEstimate], *, printed: bool = True) -> Image:
    """(H, W, 3) of things, the nearest in front; not printed: plain, before a plain wall."""
    grey, _ = _seen(camera, things, printed=printed)
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=-1)


def depth_of(camera: Camera, things: Sequence[ObjectEstimate]) -> npt.NDArray[np.float32]:
    """(H, W) metres of the same."""
    _, depth = _seen(camera, things, printed=False)
    return np.where(np.isfinite(depth), depth, WALL_M).astype(np.float32)


def _seen(
    camera: Camera, things: Sequence[ObjectEstimate], *, printed: bool
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Grey levels and depth (H, W), infinite where there is nothing."""
    rows, columns = np.mgrid[: camera.height, : camera.width]
    pixels = torch.from_numpy(np.stack([columns, rows], -1).reshape(-1, 2)).double()
    rays = camera.rays(pixels)
    shade = _print(3 * rays, seed=1) if printed else np.full(len(rays), 90.0)
    nearest = np.full(len(rays), np.inf)
    for number, thing in enumerate(things):
        pose, size_m = thing.camera_from_object.to(torch.float64), torch.from_numpy(thing.size_m)
        solids = Solids.of([solid_of(thing.category)], dtype=torch.float64)
        batch = SE3(pose.rotation[None], pose.translation[None])
        z = depth_along(solids, size_m[None], batch, rays[None])[0]
        points = pose.inverse() @ (rays * z.unsqueeze(-1))
        seen = z.isfinite().numpy() & (z.numpy() < nearest)
        own = _print(points / size_m.norm(), seed=2 + number) if printed else np.full(len(rays), 160.0)
        shade[seen], nearest[seen] = own[seen], z.numpy()[seen]
    size = (camera.height, camera.width)
    return shade.reshape(size), nearest.reshape(size)


def textured_frame(
    camera: Camera, things: Sequence[ObjectEstimate], stamp_ns: int = 0, *, printed: bool = True
) -> Frame:
    return Frame(picture(camera, things, printed=printed), camera, stamp_ns=stamp_ns)


def _print(places: torch.Tensor, seed: int) -> npt.NDArray[np.float64]:
    """Grey levels (N,) at places (N, 3): waves of all lengths, the longer the stronger, as in photographs."""
    rng = np.random.default_rng(seed)
    frequency = np.geomspace(1, 8, _WAVES)
    directions = rng.normal(size=(_WAVES, 3))
    waves = 2 * np.pi * frequency[:, None] * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    phases = rng.uniform(0, 2 * np.pi, _WAVES)
    total = (np.sin(places.numpy() @ waves.T + phases) / frequency**0.5).sum(-1)
    return np.asarray(np.clip(128 + 45 * total, 0, 255))
