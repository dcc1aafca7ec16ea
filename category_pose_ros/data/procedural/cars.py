"""Cars: city cars, hatchbacks, saloons, estates, coupes, SUVs, vans and pickups."""

from __future__ import annotations

import string
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from category_pose_ros.data.procedural import shapes, surfaces
from category_pose_ros.data.procedural.instance import Instance, Part
from category_pose_ros.data.procedural.shells import Array, Height, Shell
from category_pose_ros.data.procedural.surfaces import Image, Rng, TextureSource
from category_pose_ros.geometry.mesh import Mesh
from category_pose_ros.rendering.raytracer import TEXTURE_SIZE, Material

Range = tuple[float, float]


@dataclass(frozen=True)
class _Style:
    """A kind of car. Lengths and heights in metres; the rest in shares of length or height.

    The four places along the roof line are shares of the length, counted from the front.
    """

    share: float  # of all cars
    length: Range
    width: Range
    height: Range
    cowl: Range  # where hood and windscreen meet
    brow: Range  # where windscreen and roof meet
    roof_end: Range
    tail: Range  # where the rear window meets the body
    nose: Range  # height of the hood's front edge
    belt: Range  # height of the windows' lower edge
    clearance: Range
    wheel: Range  # radius
    shrink: Range  # width of the roof over the width of the body


_STYLES = {
    "city": _Style(
        0.16, (3.4, 3.9), (1.47, 1.67), (1.42, 1.58), (0.2, 0.27), (0.36, 0.43), (0.84, 0.9), (0.95, 0.985),
        (0.46, 0.53), (0.6, 0.66), (0.14, 0.2), (0.27, 0.31), (0.74, 0.84),
    ),
    "hatchback": _Style(
        0.28, (3.75, 4.45), (1.6, 1.82), (1.38, 1.54), (0.25, 0.31), (0.39, 0.46), (0.8, 0.88), (0.93, 0.98),
        (0.44, 0.52), (0.6, 0.67), (0.13, 0.2), (0.28, 0.33), (0.7, 0.8),
    ),
    "saloon": _Style(
        0.18, (4.2, 5.1), (1.63, 1.9), (1.34, 1.52), (0.26, 0.32), (0.39, 0.46), (0.66, 0.75), (0.8, 0.9),
        (0.44, 0.53), (0.61, 0.68), (0.13, 0.19), (0.29, 0.35), (0.68, 0.78),
    ),
    "estate": _Style(
        0.15, (4.2, 4.95), (1.64, 1.88), (1.4, 1.55), (0.26, 0.32), (0.39, 0.45), (0.86, 0.93), (0.94, 0.985),
        (0.44, 0.52), (0.6, 0.67), (0.13, 0.2), (0.29, 0.34), (0.7, 0.8),
    ),
    "coupe": _Style(
        0.04, (3.9, 4.8), (1.66, 1.9), (1.22, 1.4), (0.29, 0.36), (0.43, 0.5), (0.6, 0.7), (0.83, 0.94),
        (0.44, 0.52), (0.62, 0.7), (0.11, 0.16), (0.29, 0.35), (0.64, 0.74),
    ),
    "suv": _Style(
        0.11, (4.05, 5.0), (1.7, 1.97), (1.55, 1.9), (0.24, 0.31), (0.36, 0.43), (0.84, 0.92), (0.94, 0.985),
        (0.5, 0.6), (0.6, 0.67), (0.19, 0.28), (0.33, 0.4), (0.74, 0.86),
    ),
    "van": _Style(
        0.06, (4.1, 5.2), (1.7, 1.98), (1.65, 2.08), (0.12, 0.2), (0.27, 0.35), (0.91, 0.96), (0.96, 0.99),
        (0.42, 0.5), (0.5, 0.58), (0.15, 0.22), (0.29, 0.35), (0.8, 0.92),
    ),
    "pickup": _Style(
        0.02, (4.9, 5.35), (1.78, 2.0), (1.68, 1.9), (0.25, 0.31), (0.34, 0.39), (0.5, 0.62), (0.55, 0.65),
        (0.52, 0.6), (0.59, 0.65), (0.22, 0.3), (0.35, 0.41), (0.76, 0.86),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class _Plan:
    """One car's measures, metres. x is 0 in the middle, z is 0 on the ground."""

    style: str
    length: float
    width: float
    height: float
    cowl: float  # the next four are x
    brow: float
    roof_end: float
    tail: float
    nose: float
    belt: float
    deck: float  # height of the body's upper edge at the back
    clearance: float
    wheel: float
    axles: tuple[float, float]  # x of front and rear axle
    shrink: float


def make_car(rng: Rng, source: TextureSource) -> Instance:
    """Any of the styles, any paint, with lamps, glass, wheels, plates, mirrors and trim."""
    plan = _plan(rng)
    body, cabin = _body(rng, plan), _cabin(rng, plan)
    paint = _paint(rng)
    dark = surfaces.finish(rng, surfaces.flat(rng.uniform(8, 45)), gloss=0.04)
    bright = surfaces.metal(rng) if rng.random() < 0.5 else dark
    trim = [_underbody(plan), *_trim(rng, body, plan)]
    painted = [body.wall(), body.lid(), cabin.wall(), cabin.lid()]
    if plan.style == "pickup":
        trim.append(_bed(plan))
    parts: list[Part] = [
        (shapes.merge(painted), paint),
        (shapes.merge(trim), dark),
        (_glazing(rng, cabin, plan), _glass(rng)),
        (_pillars(rng, cabin, plan), paint if rng.random() < 0.3 else dark),
        *_wheels(rng, plan, dark),
        *_lamps(rng, body, plan),
        *_face(rng, body, dark, bright),
        *_plates(rng, body),
    ]
    if rng.random() < 0.3:
        parts.append((_roof_rails(cabin), bright))
    # The boxes of KITTI and of most data sheets leave the mirrors out.
    return Instance.centred("car", parts, attached=[(_mirrors(rng, plan), dark)])


def repainted(rng: Rng, car: Instance) -> Instance:
    """The same model in another paint."""
    (body, _), *rest = car.parts
    return replace(car, parts=((body, _paint(rng)), *rest))


def _plan(rng: Rng) -> _Plan:
    names = list(_STYLES)
    name = str(rng.choice(names, p=[_STYLES[name].share for name in names]))
    style = _STYLES[name]

    def draw(span: Range) -> float:
        return float(rng.uniform(*span))

    size = draw((0, 1))  # long cars are wide ones, more or less
    length = style.length[0] + size * (style.length[1] - style.length[0])
    width = style.width[0] + np.clip(size + rng.normal(0, 0.25), 0, 1) * (style.width[1] - style.width[0])
    height = draw(style.height)
    cowl, brow, roof_end, tail = (
        (0.5 - draw(span)) * length for span in (style.cowl, style.brow, style.roof_end, style.tail)
    )
    belt = draw(style.belt) * height
    wheel = draw(style.wheel)
    front_axle = length / 2 - wheel - draw((0.38, 0.6))
    rear_axle = -length / 2 + wheel + draw((0.3, 0.5 if name in ("city", "hatchback", "van") else 0.75))
    return _Plan(
        style=name,
        length=length,
        width=float(width),
        height=height,
        cowl=cowl,
        brow=brow,
        roof_end=roof_end,
        tail=min(tail, roof_end - 0.03),
        nose=draw(style.nose) * height,
        belt=belt,
        deck=belt + draw((0.0, 0.07)),
        clearance=draw(style.clearance),
        wheel=wheel,
        axles=(front_axle, rear_axle),
        shrink=draw(style.shrink),
    )


def _body(rng: Rng, plan: _Plan) -> Shell:
    """From the sills to hood, belt line and boot lid."""
    levels = np.array([0.0, 0.1, 0.3, 0.5, 0.72, 0.9, 1.0])
    half = plan.width / 2
    tuck, shoulder = rng.uniform(0.02, 0.08), rng.uniform(0.03, 0.09)
    nose, back = rng.uniform(0.04, 0.3), rng.uniform(0.02, 0.12)
    chin = rng.uniform(0.03, 0.12)
    front = plan.length / 2 - np.array([chin, 0.4 * chin, 0.0, 0.1 * nose, 0.3 * nose, 0.7 * nose, nose])
    rear = -plan.length / 2 + np.array([chin, 0.4 * chin, 0.0, 0.1 * back, 0.3 * back, 0.7 * back, back])
    corner = rng.uniform(0.4, 0.65)
    along = np.full(len(levels), plan.length / 2 - corner)
    crease = rng.uniform(0.0, 0.02)  # a line along the doors
    inward = np.array([tuck, 0.4 * tuck, 0.0, crease, 0.0, 0.35 * shoulder, shoulder])
    return Shell(
        levels=levels,
        front=front,
        rear=rear,
        side_front=np.minimum(along, front - 0.1),
        side_rear=np.maximum(-along, rear + 0.1),
        half_width=half - inward,
        lower=_sill(plan),
        upper=_upper_edge(rng, plan, nose),
        cut=_arches(plan, rng.uniform(0.03, 0.07)),
        stations=_stations(plan, corner),
        roundness=rng.uniform(2.4, 3.6),
        barrel=rng.uniform(0.02, 0.07),
        crown=rng.uniform(0.02, 0.06),
    )


def _sill(plan: _Plan) -> Height:
    """The lower edge: level between the axles, a little higher at the bumpers."""

    def height(x: Array) -> Array:
        overhang = np.clip((np.abs(x) - 0.3 * plan.length) / (0.2 * plan.length), 0, 1)
        return plan.clearance + 0.05 * overhang

    return height


def _upper_edge(rng: Rng, plan: _Plan, nose: float) -> Height:
    """Hood, belt line and boot lid seen from the side."""
    front = plan.length / 2
    hood = front - nose - plan.cowl
    rise = rng.uniform(0.55, 0.85)
    cowl_height = plan.belt - rng.uniform(0.0, 0.05)
    drop = rng.uniform(0.0, 0.06)
    from_front = np.array(
        [
            [0.0, plan.nose - 0.02],
            [nose, plan.nose],
            [nose + 0.45 * hood, plan.nose + rise * (cowl_height - plan.nose)],
            [front - plan.cowl, cowl_height],
            [front - 0.5 * (plan.cowl + plan.tail), plan.belt],
            [front - plan.tail, plan.deck],
            [plan.length, plan.deck - drop],
        ]
    )
    curve = shapes.smooth_profile(from_front, 4)
    return lambda x: np.interp(front - x, curve[:, 0], curve[:, 1])


def _arches(plan: _Plan, gap: float) -> Height:
    """Circles around the axles, a gap larger than the wheels; 0 elsewhere."""

    def height(x: Array) -> Array:
        inside = [(plan.wheel + gap) ** 2 - (x - axle) ** 2 for axle in plan.axles]
        return np.max([np.where(square >= 0, plan.wheel + np.sqrt(np.maximum(square, 0)), 0) for square in inside], 0)

    return height


def _stations(plan: _Plan, corner: float) -> Array:
    """Where the body's wall is sampled: evenly, and closely around the wheel arches.

    Args:
        corner: length of the corners in metres; the side lies between them.
    """
    side = plan.length / 2 - corner
    reach = plan.wheel + 0.06
    arch = np.concatenate([np.linspace(-reach, reach, 13), [-reach - 0.02, reach + 0.02]])
    x = np.concatenate([axle + arch for axle in plan.axles])
    on_side = 0.25 + 0.5 * (side - x[np.abs(x) < side]) / (2 * side)
    even = np.concatenate([np.linspace(0, 0.25, 9), np.linspace(0.25, 0.75, 7), np.linspace(0.75, 1, 9)])
    return np.unique(np.concatenate([even, on_side]))


def _cabin(rng: Rng, plan: _Plan) -> Shell:
    """From the belt line to the roof."""
    levels = np.array([0.0, 0.45, 0.86, 0.96, 1.0])
    bulge = np.array([0.0, 0.015, 0.01, -0.012, -0.045])
    half = plan.width / 2 - 0.05
    crown = rng.uniform(0.02, 0.06)
    droop = rng.uniform(0.0, 0.12 if plan.style in ("saloon", "coupe", "hatchback", "suv") else 0.05)
    belt = _belt_line(plan)

    def roof(x: Array) -> Array:
        middle = 0.4 * plan.roof_end + 0.6 * plan.brow
        share = np.where(x > middle, (x - middle) / (plan.brow - middle), (middle - x) / (middle - plan.roof_end))
        return plan.height - crown - np.where(x > middle, 0.03, droop) * np.minimum(share, 1.2) ** 2

    front = plan.cowl + levels * (plan.brow - plan.cowl) + bulge
    rear = plan.tail + levels * (plan.roof_end - plan.tail) - bulge
    bow = rng.uniform(0.22, 0.4)
    # The screens are bowed less at the roof, and never meet.
    depth = np.minimum(bow * (1 - 0.35 * levels), 0.3 * (front - rear))
    return Shell(
        levels=levels,
        front=front,
        rear=rear,
        side_front=front - depth,
        side_rear=rear + 0.6 * depth,
        half_width=half * (1 + levels * (plan.shrink - 1)) + bulge,
        lower=lambda x: belt(x) - 0.03,
        upper=roof,
        cut=np.zeros_like,
        stations=np.concatenate([np.linspace(0, 0.25, 8), np.linspace(0.25, 0.75, 7)[1:], np.linspace(0.75, 1, 8)[1:]]),
        roundness=rng.uniform(2.6, 3.4),
        barrel=rng.uniform(0.03, 0.1),
        crown=crown,
    )


def _belt_line(plan: _Plan) -> Height:
    def height(x: Array) -> Array:
        return np.interp(x, [plan.tail, plan.cowl], [plan.deck, plan.belt - 0.03])

    return height


def _paint(rng: Rng) -> Material:
    """White, silver, grey and black as on the road, and colours; plain, metallic or matt."""
    kind = rng.random()
    if kind < 0.22:
        colour = rng.uniform(215, 250) + rng.normal(0, 3, 3)
    elif kind < 0.48:
        colour = rng.uniform(70, 200) + rng.normal(0, 7, 3)
    elif kind < 0.65:
        colour = rng.uniform(5, 40) + rng.normal(0, 4, 3)
    else:
        hue = rng.choice([0, 2, 105, 112, 118, 60, 20, 95]) + rng.normal(0, 5)
        hsv = np.array([[[hue % 180, rng.uniform(90, 255), rng.uniform(40, 240)]]]).astype(np.uint8)
        colour = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].astype(np.float64)
    texture = surfaces.flat(colour)
    if rng.random() < 0.08:
        return Material(texture, gloss=0.03, roughness=float(rng.uniform(0.5, 1)))
    flakes = float(rng.uniform(0.1, 0.45)) if rng.random() < 0.5 else 0.0
    return Material(texture, gloss=0.06 + 0.4 * flakes, roughness=float(rng.uniform(0, 0.3)), metallic=flakes)


def _glass(rng: Rng) -> Material:
    """Dark, with a mirror image of the surroundings; seats and the far windows glimmer through."""
    base = np.full((TEXTURE_SIZE, TEXTURE_SIZE, 3), rng.uniform(4, 45), np.float32)
    base[TEXTURE_SIZE // 2 :] += rng.uniform(0, 45)  # above the seats one sees through
    for _ in range(rng.integers(0, 4)):  # head rests
        centre = (int(rng.integers(10, 118)), int(rng.integers(30, 75)))
        cv2.ellipse(base, centre, (int(rng.integers(4, 9)), 14), 0, 0, 360, (12, 12, 14), -1)
    tint = np.array([0.95, 1.0, 1.0]) * rng.uniform(0.85, 1.0, 3)
    texture = np.clip(cv2.GaussianBlur(base, (0, 0), 3) * tint, 0, 255).astype(np.uint8)
    opacity = float(rng.choice([1.0, 1.0, rng.uniform(0.75, 1.0)]))
    return Material(texture, gloss=float(rng.uniform(0.08, 0.22)), roughness=0.0, opacity=opacity)


def _glazing(rng: Rng, cabin: Shell, plan: _Plan) -> Mesh:
    """Windscreen, rear window and a band of side windows, a hair outside the cabin."""
    low, high = rng.uniform(0.09, 0.16), rng.uniform(0.84, 0.9)
    reach = rng.uniform(0.185, 0.21)
    panes = [cabin.panel((-reach, reach), (0.06, 0.92), 0.006)]
    blind = plan.style == "van" and rng.random() < 0.3  # a delivery van
    if not (blind and rng.random() < 0.6):
        behind = rng.uniform(0.8, 0.84)
        panes += cabin.panels((behind, 1.0), (rng.uniform(0.1, 0.25), 0.9), 0.006)
    end = rng.uniform(0.42, 0.48) if blind or plan.style == "pickup" else rng.uniform(0.68, 0.765)
    panes += cabin.panels((0.255, end), (low, high), 0.006)
    return shapes.merge(panes)


def _pillars(rng: Rng, cabin: Shell, plan: _Plan) -> Mesh:
    """Strips between the side windows."""
    middle = rng.uniform(0.46, 0.52)
    places = [middle] if plan.style in ("coupe", "city") else [middle, rng.uniform(0.66, 0.69)]
    width = rng.uniform(0.007, 0.014)
    strips = [cabin.panels((place - width, place + width), (0.08, 0.9), 0.01) for place in places]
    return shapes.merge([strip for pair in strips for strip in pair])


def _underbody(plan: _Plan) -> Mesh:
    """What closes the body below and is seen behind the wheels."""
    top = min(2 * plan.wheel + 0.05, plan.nose - 0.06)
    bottom = plan.clearance + 0.02
    core = shapes.box([plan.length - 0.5, plan.width - 0.5, top - bottom])
    return shapes.moved(core, z=(top + bottom) / 2)


def _trim(rng: Rng, body: Shell, plan: _Plan) -> list[Mesh]:
    """Seams and handles of the doors, mouldings on bumpers and doors."""
    first, last = (axle - sign * (plan.wheel + 0.12) for sign, axle in zip((1, -1), plan.axles, strict=True))
    middle = 0.5 * (first + last) + rng.normal(0, 0.08)
    doors = [first, middle] if plan.style in ("coupe", "city", "pickup") else [first, middle, last]
    pieces: list[Mesh] = []
    for number, door in enumerate(body.along_side(x) for x in doors):
        pieces += body.panels((door - 0.0012, door + 0.0012), (0.12, 0.98), 0.002)
        if number > 0:  # the handle of the door in front of this seam
            pieces += body.panels((door - 0.045, door - 0.012), (0.78, 0.82), 0.02)
    if rng.random() < 0.5:  # bare plastic around the foot
        height = rng.uniform(0.08, 0.24)
        pieces.append(body.panel((-0.17, 0.17), (0.0, height), 0.004))
        pieces += body.panels((0.84, 1.0), (0.0, height), 0.004)
        pieces += body.panels((body.along_side(first), body.along_side(last)), (0.0, height), 0.004)
    if rng.random() < 0.3:  # a moulding along the doors
        level = rng.uniform(0.42, 0.6)
        pieces += body.panels((body.along_side(first), body.along_side(last)), (level, level + 0.06), 0.012)
    return pieces


def _mirrors(rng: Rng, plan: _Plan) -> Mesh:
    """Two housings at the foot of the windscreen's pillars."""
    size = np.array([rng.uniform(0.05, 0.09), rng.uniform(0.08, 0.11), rng.uniform(0.055, 0.09)])
    x = plan.cowl - rng.uniform(0.3, 0.5)
    y, z = plan.width / 2 + 0.5 * size[1] - 0.02, plan.belt + size[2] + 0.01
    housing = shapes.ellipsoid(size, sectors=12)
    return shapes.merge([shapes.moved(housing, x, side * y, z) for side in (-1, 1)])


def _bed(plan: _Plan) -> Mesh:
    """The open bed of a pickup reads as a dark field between its walls."""
    first, last = plan.tail - 0.12, -plan.length / 2 + 0.2
    field = shapes.panel(first - last, plan.width - 0.36)
    return shapes.moved(field, (first + last) / 2, 0.0, plan.deck + 0.075)


def _roof_rails(cabin: Shell) -> Mesh:
    return shapes.merge(cabin.panels((0.3, 0.72), (0.975, 1.0), 0.03))


def _wheels(rng: Rng, plan: _Plan, dark: Material) -> list[Part]:
    """Four tyres with rims of spokes, holes or a plain cover."""
    radius, half = plan.wheel, rng.uniform(0.085, 0.125)
    rim = radius * rng.uniform(0.6, 0.76)
    tyre = np.array(
        [
            [rim, half - 0.03],
            [rim, half],
            [0.5 * (rim + radius), half + 0.008],
            [radius * 0.96, half * 0.9],
            [radius, half * 0.6],
            [radius, -half],
            [rim, -half],
        ]
    )[::-1]
    dish = np.array([[rim, half - 0.01], [0.5 * rim, half - rng.uniform(0.0, 0.05)], [0.0, half - 0.01]])
    rubber = surfaces.finish(rng, surfaces.flat(rng.uniform(15, 45)), gloss=0.02, roughness=0.9)
    offset = plan.width / 2 - half - rng.uniform(0.015, 0.05)
    placed: dict[str, list[Mesh]] = {"tyre": [], "rim": []}
    for name, profile in (("tyre", tyre), ("rim", dish)):
        lathed = shapes.revolve(profile, sectors=20)
        for axle in plan.axles:
            for side in (-1, 1):
                outward = shapes.about(0, -side * np.pi / 2)
                placed[name].append(lathed.transformed(outward, np.array([axle, side * offset, radius])))
    return [(shapes.merge(placed["tyre"]), rubber), (shapes.merge(placed["rim"]), _rim(rng, dark))]


def _rim(rng: Rng, dark: Material) -> Material:
    """Around the wheel with u, from the edge to the hub with v: spokes are stripes."""
    tone = rng.uniform(110, 220) if rng.random() < 0.8 else rng.uniform(15, 60)
    texture = surfaces.flat(tone)
    if rng.random() < 0.85:
        phase = np.arange(TEXTURE_SIZE) / TEXTURE_SIZE * int(rng.integers(4, 13)) % 1
        first, last = int(rng.uniform(0.06, 0.2) * TEXTURE_SIZE), int(rng.uniform(0.55, 0.8) * TEXTURE_SIZE)
        texture[first:last, phase < rng.uniform(0.3, 0.65)] = dark.texture[0, 0]
    return Material(texture, gloss=0.25, roughness=float(rng.uniform(0.2, 0.7)), metallic=0.4)


def _lamps(rng: Rng, body: Shell, plan: _Plan) -> list[Part]:
    """Head lamps around the front corners, tail lamps around the rear ones, indicators, fog lamps."""
    level, size = rng.uniform(0.58, 0.75), rng.uniform(0.15, 0.33)
    inner, outer = rng.uniform(0.08, 0.14), rng.uniform(0.19, 0.26)
    head = shapes.merge(body.panels((inner, outer), (level, min(level + size, 0.97)), 0.006))
    high_tail = plan.style in ("hatchback", "city", "estate", "suv", "van")
    low, high = (rng.uniform(0.45, 0.7), rng.uniform(0.93, 0.99)) if high_tail else (0.62, rng.uniform(0.85, 0.95))
    tail_inner = rng.uniform(0.85, 0.89) if high_tail else rng.uniform(0.87, 0.92)
    tail = shapes.merge(body.panels((rng.uniform(0.76, 0.82), tail_inner), (low, high), 0.006))
    fog = shapes.merge(body.panels((0.13, 0.17), (0.2, 0.3), 0.006))
    parts: list[Part] = [
        (head, Material(_head_lamp(rng), gloss=0.2, roughness=0.0)),
        (tail, Material(_tail_lamp(rng), gloss=0.12, roughness=0.05)),
    ]
    if rng.random() < 0.5:
        parts.append((fog, Material(surfaces.flat(rng.uniform(120, 240, 3)), gloss=0.2, roughness=0.1)))
    return parts


def _head_lamp(rng: Rng) -> Image:
    """A bright reflector or dark housing with round lenses behind clear glass."""
    texture = surfaces.flat(rng.choice([rng.uniform(30, 80), rng.uniform(140, 215)]))
    for centre in rng.choice([24, 64, 104], int(rng.integers(1, 3)), replace=False):
        radius = int(rng.integers(14, 30))
        cv2.ellipse(texture, (int(centre), 64), (radius // 2, radius), 0, 0, 360, (245, 245, 240), -1)
        cv2.ellipse(texture, (int(centre), 64), (radius // 2, radius), 0, 0, 360, (60, 60, 60), 2)
    if rng.random() < 0.5:  # the indicator at one end
        texture[:, : int(rng.integers(12, 34))] = (225, 120, 25)
    return texture


def _tail_lamp(rng: Rng) -> Image:
    """Red with clear and amber fields."""
    texture = surfaces.flat([rng.uniform(110, 220), rng.uniform(0, 35), rng.uniform(0, 35)])
    for colour, chance in [((235, 225, 220), 0.6), ((225, 120, 25), 0.35)]:
        if rng.random() < chance:
            low = int(rng.integers(0, 96))
            rows, columns = slice(low, low + int(rng.integers(12, 40))), slice(0, TEXTURE_SIZE)
            texture[(rows, columns) if rng.random() < 0.6 else (columns, rows)] = colour
    return texture


def _face(rng: Rng, body: Shell, dark: Material, bright: Material) -> list[Part]:
    """Grille, air intake, badge; the rear bumper's lower part."""
    width = rng.uniform(0.05, 0.12)
    low, high = rng.uniform(0.5, 0.66), rng.uniform(0.72, 0.9)
    parts: list[Part] = []
    if rng.random() < 0.85:
        texture = surfaces.flat(rng.uniform(10, 40))
        bars = np.arange(TEXTURE_SIZE) // int(rng.integers(4, 14)) % 2 == 0
        shine = rng.uniform(20, 70) if rng.random() < 0.6 else rng.uniform(120, 210)
        if rng.random() < 0.7:
            texture[bars] = shine
        else:
            texture[:, bars] = shine
        frame = body.panel((-width - 0.006, width + 0.006), (low - 0.02, high + 0.02), 0.005)
        parts.append((frame, bright))
        parts.append((body.panel((-width, width), (low, high), 0.009), surfaces.finish(rng, texture)))
    intake = rng.uniform(0.08, 0.16)
    mouth = body.panel((-intake, intake), (rng.uniform(0.08, 0.14), rng.uniform(0.24, 0.36)), 0.005)
    parts.append((mouth, dark))
    if rng.random() < 0.7:
        parts.append((body.panel((-0.012, 0.012), (0.8, 0.88), 0.016), surfaces.metal(rng)))
    if rng.random() < 0.4:
        parts.append((shapes.merge(body.panels((0.85, 1.0), (0.02, 0.18), 0.006)), dark))
    return parts


def _plates(rng: Rng, body: Shell) -> list[Part]:
    """Licence plates, long or short ones, front and back; some are missing."""
    size = [0.02, 0.52, 0.112] if rng.random() < 0.7 else [0.02, 0.31, 0.155]
    ground = rng.choice([[240, 240, 235], [235, 200, 60], [225, 230, 240]])
    plate = shapes.box(size)
    placed = [plate.transformed(shapes.about(2, np.pi), body.place(1.0, rng.uniform(0.3, 0.75)))]
    if rng.random() < 0.85:
        placed.append(plate.transformed(np.eye(3), body.place(0.0, rng.uniform(0.3, 0.45))))
    mesh = shapes.merge(placed)
    return [(mesh, surfaces.finish(rng, _characters(rng, ground)))]


def _characters(rng: Rng, ground: npt.ArrayLike) -> Image:
    """Dark characters over the whole width; texture rows run upwards."""
    texture = surfaces.flat(ground)
    text = "".join(rng.choice(list(string.ascii_uppercase + string.digits), 6))
    flipped = np.ascontiguousarray(texture[::-1])
    font, thickness = cv2.FONT_HERSHEY_SIMPLEX, 3
    scale = 108 / cv2.getTextSize(text, font, 1.0, thickness)[0][0]
    cv2.putText(flipped, text, (10, 64 + int(12 * scale)), font, scale, (25, 25, 35), thickness, cv2.LINE_AA)
    # Stretched upwards, since the plate is flat and the texture square.
    stretched = cv2.resize(flipped[44:84], (TEXTURE_SIZE, TEXTURE_SIZE), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(stretched[::-1])
