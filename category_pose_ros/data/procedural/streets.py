"""Streets: cars in lanes, crossing and parked, the ground under them, what stands beside, daylight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from category_pose_ros.data.procedural import shapes, surfaces
from category_pose_ros.data.procedural.distractors import make_street_distractor
from category_pose_ros.data.procedural.instance import Instance
from category_pose_ros.data.procedural.placement import BACKDROP, Part, PlacedObject
from category_pose_ros.data.procedural.surfaces import Image, Rng, TextureSource
from category_pose_ros.geometry.mesh import Mesh
from category_pose_ros.rendering.raytracer import TEXTURE_SIZE, Lighting, Material

Vector = npt.NDArray[np.floating]

_HORIZON_M = 300.0  # the ground ends there, below a pixel under the true horizon
_LANE_M = 3.3
_SHOULDER_M = 0.3  # asphalt beside the outer lanes
_KERB_M, _VERGE_M, _PAINT_M = 0.09, -0.03, 0.005  # heights of pavements, of what is beyond, and of markings


@dataclass(frozen=True, eq=False)
class Street:
    """What stands on a street, the first car over the origin, and the ground; the asphalt is at z = 0."""

    objects: tuple[PlacedObject, ...]
    ground: list[Part]


@dataclass(frozen=True)
class _Site:
    """What a street is like from side to side; it runs along x.

    Attributes:
        kind: "road", "crossing" or "car park"; the last two are asphalt all over.
        lanes: y of the outer edges of the lanes, the middle of one of which is y = 0.
        pavement: width of the raised pavements along a road; 0 where there are none.
    """

    kind: str
    lanes: tuple[float, float]
    pavement: float

    @staticmethod
    def random(rng: Rng) -> _Site:
        kind = str(rng.choice(["road", "crossing", "car park"], p=[0.6, 0.2, 0.2]))
        count = int(rng.integers(2, 5))
        right = -_LANE_M * (int(rng.integers(0, min(count, 3))) + 0.5)
        pavement = rng.uniform(1.0, 3.0) if rng.random() < 0.7 else 0.0
        return _Site(kind, (right, right + count * _LANE_M), pavement)

    def stood(self, thing: Instance, x: float, y: float, yaw: float) -> PlacedObject | None:
        """Upright on the ground at a place (m) with a heading; None where it would stand on two surfaces."""
        rotation = shapes.about(2, yaw)
        reach = 0.5 * float(np.abs(rotation[1]) @ thing.size_m)
        (surface, height), (other, _) = (self._surface(y + side * reach) for side in (-1, 1))
        if surface != other:
            return None
        return PlacedObject.at(thing, rotation, np.array([x, y, height + thing.size_m[2] / 2]))

    def _surface(self, y: float) -> tuple[int, float]:
        """Which surface there is, counted from the right, and its height (m)."""
        if self.kind != "road":
            return 0, 0.0
        right, left = self.lanes[0] - _SHOULDER_M, self.lanes[1] + _SHOULDER_M
        surface = int(np.searchsorted([right - self.pavement, right, left, left + self.pavement], y))
        return surface, (_VERGE_M, _KERB_M, 0.0, _KERB_M, _VERGE_M)[surface]


def make_street(rng: Rng, source: TextureSource, cars: Sequence[Instance], way: Vector | None = None) -> Street:
    """A road along x with lanes, a crossing, or a car park; without overlaps, so that a car may be left out.

    Args:
        way: (N, 2) points that stay free.
    """
    site, free = _Site.random(rng), np.zeros((0, 2)) if way is None else way
    placed: list[PlacedObject] = []
    for car in cars:
        _place(rng, placed, car, site, free)
    for _ in range(rng.integers(0, 9)):
        _place_beside(rng, placed, make_street_distractor(rng, source), site, free)
    return Street(tuple(placed), _ground(rng, source, site))


def daylight(rng: Rng, source: TextureSource) -> Lighting:
    """Sun and blue sky, or clouds that light from all sides; houses and trees around the horizon."""
    sunny = rng.random() < 0.6
    sky = np.array([0.55, 0.75, 1.0]) if sunny else np.array([0.9, 0.95, 1.0])
    strength = rng.uniform(0.35, 0.8) if sunny else rng.uniform(0.5, 1.0)
    panorama = np.zeros((64, 128, 3), np.float32)
    panorama[:32] = sky * strength * np.linspace(0.7, 1.2, 32)[:, None, None]
    clouds = surfaces.fractal_noise(rng, 128, 32).mean(2, keepdims=True) / 255
    panorama[:32] *= 1 + rng.uniform(0, 0.8) * (clouds - 0.5)
    panorama[32:] = strength * rng.uniform(0.1, 0.4)
    skyline = source.patch(rng, 128, int(rng.integers(4, 14))).astype(np.float32) / 255
    panorama[34 - len(skyline) : 34] = skyline**2 * rng.uniform(0.4, 1.0)
    if sunny:
        elevation, azimuth = np.radians(rng.uniform(12, 70)), rng.uniform(-np.pi, np.pi)
        sun = np.cos(elevation) * np.array([np.cos(azimuth), np.sin(azimuth), np.tan(elevation)])
        warmth = np.array([1.0, rng.uniform(0.85, 1.0), rng.uniform(0.7, 0.95)])
        colour, softness = rng.uniform(0.5, 1.3) * warmth, 0.012
    else:  # a lamp as large as the sky, for the shadow under each car
        sun, colour, softness = np.array([0.0, 0.0, 1.0]), np.full(3, rng.uniform(0.25, 0.6)), 0.5
    return Lighting.from_panorama(
        panorama, sun[None].astype(np.float32), colour[None].astype(np.float32), float(softness)
    )


def sky(rng: Rng, source: TextureSource, width: int, height: int) -> Image:
    """What is behind a street: a photograph, or a sky brighter towards the horizon."""
    if rng.random() < 0.65:
        return source.patch(rng, width, height)
    zenith = np.array([90, 140, 215]) if rng.random() < 0.5 else np.full(3, rng.uniform(150, 250))
    haze = np.clip(zenith + rng.uniform(20, 110), 0, 255)
    share = np.linspace(0, 1, height)[:, None, None]
    return np.broadcast_to(zenith * (1 - share) + haze * share, (height, width, 3)).astype(np.uint8, order="C")


def footprint(item: PlacedObject) -> tuple[Vector, Vector]:
    """Discs that cover an object seen from above: centres (K, 2) and radii (K,), metres."""
    size = item.instance.size_m
    long_axis = int(size[1] > size[0])
    count = int(np.clip(np.ceil(size[long_axis] / size[1 - long_axis]), 1, 12))
    offsets = np.zeros((count, 3))
    offsets[:, long_axis] = ((np.arange(count) + 0.5) / count - 0.5) * size[long_axis]
    pose = item.world_from_object
    centres = offsets @ pose.rotation.numpy().T + pose.translation.numpy()
    radius = 0.5 * float(np.hypot(size[1 - long_axis], size[long_axis] / count))
    return centres[:, :2], np.full(count, radius)


def covered(item: PlacedObject, points: Vector) -> npt.NDArray[np.bool_]:
    """Which points (N, 2) of the map are under an object, or less than 0.1 m beside it."""
    pose = item.world_from_object
    along = (points - pose.translation.numpy()[:2]) @ pose.rotation.numpy()[:2, :2]
    inside: npt.NDArray[np.bool_] = (np.abs(along) < item.instance.size_m[:2] / 2 + 0.1).all(1)
    return inside


def sees(objects: Sequence[PlacedObject], eye: Vector, target: Vector) -> bool:
    """Whether no object stands in the way to a target (3,), or around the eye (3,): judged on the map.

    An object whose centre the target is does not stand in its own way.
    """
    way = target[:2] - eye[:2]
    for item in objects:
        centres, radii = footprint(item)
        if (np.linalg.norm(centres - eye[:2], axis=1) < radii + 0.3).any():
            return False
        share = np.clip((centres - eye[:2]) @ way / max(float(way @ way), 1e-9), 0, 1)
        beside = np.linalg.norm(eye[:2] + share[:, None] * way - centres, axis=1)
        is_target = np.linalg.norm(item.world_from_object.translation.numpy()[:2] - target[:2]) < 0.01
        if not is_target and (beside < 0.6 * radii).any():
            return False
    return True


def _place(rng: Rng, placed: list[PlacedObject], car: Instance, site: _Site, way: Vector) -> None:
    """The first at the origin, the others around it; after some attempts in vain it stays away."""
    for attempt in range(20):
        x, y, yaw = _stand(rng, site.kind, 1 + 0.1 * attempt)
        item = site.stood(car, x, y, yaw) if placed else site.stood(car, 0.0, 0.0, yaw)
        if item is not None and _is_free(item, placed, 0.25, way):
            placed.append(item)
            return


def _stand(rng: Rng, kind: str, spread: float) -> tuple[float, float, float]:
    """Place (m) and heading of a car."""
    if kind == "crossing":
        x, y = rng.normal(0, 9 * spread, 2)
        return float(x), float(y), float(rng.uniform(-np.pi, np.pi))
    if kind == "car park":
        x = 2.7 * round(rng.normal(0, 2 * spread)) + rng.normal(0, 0.15)
        y = float(rng.choice([-11.5, -5.5, 0.0, 0.0, 6.0])) + rng.normal(0, 0.2)
        return float(x), y, float(rng.choice([-np.pi / 2, np.pi / 2]) + rng.normal(0, 0.04))
    y = float(rng.choice([-2, -1, 0, 1, 2])) * _LANE_M + rng.normal(0, 0.25)
    heading = 0.0 if rng.random() < 0.5 else np.pi
    return float(rng.normal(0, 10 * spread)), y, float(heading + rng.normal(0, 0.05))


def _place_beside(rng: Rng, placed: list[PlacedObject], thing: Instance, site: _Site, way: Vector) -> None:
    """Left or right of the road, along it; what is large a little farther away."""
    for _ in range(5):
        side = int(rng.integers(2))
        beyond = rng.uniform(1.0, 8.0) + 0.5 * thing.size_m[1] * rng.uniform(1.0, 1.5)
        y = site.lanes[side] + (beyond if side else -beyond)
        item = site.stood(thing, rng.normal(0, 15), y, rng.choice([0.0, np.pi]) + rng.normal(0, 0.05))
        if item is not None and _is_free(item, placed, 0.4, way):
            placed.append(item)
            return


def _is_free(item: PlacedObject, placed: list[PlacedObject], gap: float, way: Vector) -> bool:
    if covered(item, way).any():
        return False
    centres, radii = footprint(item)
    for other in placed:
        other_centres, other_radii = footprint(other)
        apart = np.linalg.norm(centres[:, None] - other_centres, axis=-1)
        # The discs reach beyond what they cover, so they may overlap a little.
        if (apart < 0.85 * (radii[:, None] + other_radii) + gap).any():
            return False
    return True


def _ground(rng: Rng, source: TextureSource, site: _Site) -> list[Part]:
    """Asphalt with markings up to the kerbs, something else beyond."""
    wide = 2 * _HORIZON_M
    asphalt = surfaces.finish(rng, _asphalt(rng), gloss=0.02, roughness=0.9)
    if site.kind != "road":
        parts = [_field(wide, wide, 0.0, 0.0, asphalt, rng.uniform(2, 8))]
        return parts + (_bays(rng) if site.kind == "car park" else [])
    middle, width = sum(site.lanes) / 2, site.lanes[1] - site.lanes[0]
    verge = _verge(rng, source)
    parts = [
        _field(wide, wide, 0.0, _VERGE_M, surfaces.finish(rng, verge, gloss=0.0), rng.uniform(1, 8)),
        _field(wide, width + 2 * _SHOULDER_M, middle, 0.0, asphalt, rng.uniform(2, 8)),
    ]
    if site.pavement > 0:
        stone = surfaces.finish(rng, surfaces.flat(rng.uniform(90, 190) + rng.normal(0, 6, 3)), gloss=0.0)
        slab = shapes.moved(shapes.box([wide, site.pavement, 0.2]), z=_KERB_M - 0.1)
        for side, edge in zip((-1, 1), site.lanes, strict=True):
            kerb = shapes.moved(slab, y=edge + side * (_SHOULDER_M + site.pavement / 2))
            parts.append((kerb, stone, BACKDROP))
    return parts + _markings(rng, site.lanes)


def _field(length: float, width: float, y: float, z: float, material: Material, period: float) -> Part:
    """A level rectangle along x whose texture repeats each period (m)."""
    mesh = shapes.panel(length, width)
    uv = mesh.uv * np.array([length / period, width / period], np.float32)
    return shapes.moved(Mesh(mesh.vertices, mesh.normals, uv, mesh.faces), 0.0, y, z), material, BACKDROP


def _markings(rng: Rng, lanes: tuple[float, float]) -> list[Part]:
    """Lines between the lanes, dashed or not, and along the edges; some roads have none."""
    if rng.random() < 0.25:
        return []
    dash = shapes.panel(rng.uniform(2, 5), rng.uniform(0.1, 0.2))
    period = rng.uniform(6, 12)
    strips = []
    for y in np.arange(lanes[0] + _LANE_M, lanes[1] - 0.1, _LANE_M):
        strips += [shapes.moved(dash, float(x), float(y), _PAINT_M) for x in np.arange(-60, 60, period)]
    if rng.random() < 0.5:
        edge = shapes.panel(2 * _HORIZON_M, 0.15)
        strips += [shapes.moved(edge, 0.0, y, _PAINT_M) for y in (lanes[0] + 0.15, lanes[1] - 0.15)]
    return [(shapes.merge(strips), _line_paint(rng), BACKDROP)] if strips else []


def _bays(rng: Rng) -> list[Part]:
    """The lines between the bays of a car park."""
    line = shapes.panel(0.12, 5.0)
    bays = [shapes.moved(line, 2.7 * (k + 0.5), y, _PAINT_M) for k in range(-10, 10) for y in (-11.5, -5.5, 0.0, 6.0)]
    return [(shapes.merge(bays), _line_paint(rng), BACKDROP)] if rng.random() < 0.7 else []


def _line_paint(rng: Rng) -> Material:
    """White or yellow, worn."""
    colour = [235, 235, 230] if rng.random() < 0.8 else [225, 180, 60]
    return surfaces.finish(rng, surfaces.flat(np.array(colour) * rng.uniform(0.55, 1.0)), gloss=0.0)


def _asphalt(rng: Rng) -> Image:
    """Grey with grit, patches and now and then a crack."""
    grey = rng.uniform(45, 165)
    patches = cv2.resize(rng.normal(0, rng.uniform(0, 10), (6, 6)), (TEXTURE_SIZE, TEXTURE_SIZE))
    grit = rng.normal(0, rng.uniform(2, 14), (TEXTURE_SIZE, TEXTURE_SIZE))
    image = np.clip((grey + patches + grit)[..., None] + rng.normal(0, 4, 3), 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        track = np.cumsum(rng.normal(0, 6, (9, 2)), 0) + 64
        cv2.polylines(image, [track.astype(np.int32)], False, (grey * np.full(3, 0.5)).tolist(), 1)
    return image


def _verge(rng: Rng, source: TextureSource) -> Image:
    """Grass, earth or gravel; now and then paving or a photograph."""
    kind = rng.random()
    if kind < 0.15:
        return surfaces.patterned(rng, source)
    if kind < 0.35:
        return source.patch(rng, TEXTURE_SIZE, TEXTURE_SIZE)
    base = rng.choice([[85, 100, 45], [120, 100, 75], [130, 128, 122]]) * rng.uniform(0.4, 1.4) + rng.normal(0, 10, 3)
    blades = rng.normal(0, 18, (TEXTURE_SIZE, TEXTURE_SIZE, 1))
    return np.clip(base + blades, 0, 255).astype(np.uint8)
