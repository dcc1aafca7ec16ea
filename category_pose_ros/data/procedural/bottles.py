"""Bottles: lathed or oval bodies with shoulder, neck and cap; glass, plastic, squeeze, flask."""

from __future__ import annotations

import numpy as np

from category_pose_ros.data.procedural import shapes, surfaces
from category_pose_ros.data.procedural.instance import Instance, Part
from category_pose_ros.data.procedural.surfaces import Image, Rng, TextureSource
from category_pose_ros.rendering.raytracer import Material


def make_bottle(rng: Rng, source: TextureSource) -> Instance:
    """Wine, beer, soda, water, milk, sauce and shampoo bottles, drinking flasks."""
    kind = rng.choice(["slender", "soda", "squeeze", "flask"], p=[0.3, 0.25, 0.25, 0.2])
    height = {"slender": (0.19, 0.34), "soda": (0.15, 0.33), "squeeze": (0.11, 0.26), "flask": (0.14, 0.29)}[kind]
    total = rng.uniform(*height)
    slimness = {"slender": (0.10, 0.16), "soda": (0.12, 0.19), "squeeze": (0.14, 0.26), "flask": (0.13, 0.21)}[kind]
    radius = total * rng.uniform(*slimness)
    oval = rng.uniform(0.5, 1.0) if kind == "squeeze" and rng.random() < 0.7 else 1.0
    squareness = rng.uniform(2.0, 4.5) if rng.random() < (0.35 if kind == "squeeze" else 0.08) else 2.0
    body, neck_radius, neck_top = _body(rng, str(kind), total, radius)
    skin = _skin(rng, source, str(kind))
    base = skin.texture
    parts: list[Part] = [(shapes.revolve(body, squareness=squareness, flatness=oval), skin)]
    if rng.random() < 0.7 and kind != "flask":
        parts.append(_label(rng, source, body, base, squareness, oval))
    parts.extend(_cap(rng, str(kind), neck_radius, neck_top, total))
    return Instance.centred("bottle", parts)


def _body(rng: Rng, kind: str, total: float, radius: float) -> tuple[shapes.Curve, float, float]:
    """Profile from the foot to the top of the neck, with the neck's radius and height."""
    if kind == "slender":
        shoulder, start, neck = rng.uniform(0.45, 0.68), rng.uniform(0.62, 0.8), rng.uniform(0.28, 0.45)
        top = rng.uniform(0.93, 1.0)
    elif kind == "soda":
        shoulder, start, neck = rng.uniform(0.55, 0.75), rng.uniform(0.82, 0.9), rng.uniform(0.3, 0.5)
        top = rng.uniform(0.9, 0.95)
    elif kind == "squeeze":
        shoulder, start, neck = rng.uniform(0.5, 0.78), rng.uniform(0.8, 0.88), rng.uniform(0.25, 0.7)
        top = rng.uniform(0.82, 0.92)
    else:
        shoulder, start, neck = rng.uniform(0.7, 0.85), rng.uniform(0.84, 0.9), rng.uniform(0.6, 0.98)
        top = rng.uniform(0.86, 0.93)
    start = max(start, shoulder + 0.04)
    top = max(top, start + 0.01)
    waist = 1 - (rng.uniform(0, 0.18) if rng.random() < 0.35 else 0)
    foot = rng.uniform(0.85, 1.0)
    fillet = rng.uniform(0.01, 0.04)
    ease = rng.uniform(0.35, 0.65)
    points = [
        [radius * foot * 0.93, 0.0],
        [radius * foot, fillet * total],
        [radius * (foot + 1) / 2 * (waist + 1) / 2, shoulder * 0.3 * total],
        [radius * waist, shoulder * 0.55 * total],
        [radius, shoulder * total],
        [radius * (ease + (1 - ease) * neck), (shoulder + (start - shoulder) * ease) * total],
        [radius * neck, start * total],
        [radius * neck * rng.uniform(0.85, 1.0), top * total],
    ]
    profile = shapes.smooth_profile(np.array(points), 3)
    if kind in ("soda", "flask") and rng.random() < 0.35:  # ribs
        wave = np.sin(profile[:, 1] / total * 2 * np.pi * rng.integers(6, 16))
        profile[:, 0] *= 1 - 0.02 * (wave > 0) * (profile[:, 1] < shoulder * total)
    closed = np.concatenate([[[0.0, 0.0]], profile, [[0.0, top * total]]])
    return closed, points[-1][0], top * total


def _skin(rng: Rng, source: TextureSource, kind: str) -> Material:
    if kind == "flask" and rng.random() < 0.4:
        return surfaces.metal(rng)
    if kind in ("slender", "soda") and rng.random() < 0.55:  # glass or clear plastic, empty or full
        colours = [[30, 60, 25], [60, 30, 10], [10, 40, 20], [200, 210, 205], [110, 20, 20], [180, 120, 30]]
        tint = np.clip(rng.choice(colours) + rng.normal(0, 15, 3), 0, 255)
        opacity = float(rng.uniform(0.35, 1.0))
        return Material(surfaces.plain(rng, tint), gloss=0.1, roughness=float(rng.uniform(0, 0.3)), opacity=opacity)
    texture = surfaces.plain(rng) if rng.random() < 0.7 else surfaces.patterned(rng, source)
    if kind in ("squeeze", "flask") and rng.random() < 0.5:
        texture = surfaces.label(rng, source, texture)
    return surfaces.finish(rng, texture)


def _label(rng: Rng, source: TextureSource, body: shapes.Curve, base: Image, squareness: float, oval: float) -> Part:
    """A sleeve a little outside the body, between foot and shoulder."""
    widest = body[:, 0].argmax()
    shoulder = max(float(body[widest, 1]), 0.4 * float(body[-1, 1]))
    low, high = np.sort(rng.uniform(0.08, 1.0, 2)) * shoulder
    heights = np.linspace(low, max(high, low + 0.15 * shoulder), 6)
    outline = body[1:-1]
    radii = np.interp(heights, outline[:, 1], outline[:, 0]) * 1.012
    texture = surfaces.label(rng, source, surfaces.plain(rng) if rng.random() < 0.6 else base)
    sleeve = shapes.revolve(np.stack([radii, heights], 1), squareness=squareness, flatness=oval)
    return sleeve, surfaces.finish(rng, texture)


def _cap(rng: Rng, kind: str, neck_radius: float, neck_top: float, total: float) -> list[Part]:
    """Screw cap, crown cap, foil, cone, flip top; or none."""
    if rng.random() < 0.12:
        return []
    height = max(total - neck_top, 0.008)
    overlap = rng.uniform(0.2, 1.2) * height if kind == "slender" and rng.random() < 0.5 else 0.15 * height
    wide = neck_radius * rng.uniform(1.05, 1.25)
    if kind == "squeeze" and rng.random() < 0.6:
        wide = neck_radius * rng.uniform(1.05, 1.8)
    tip = wide * (rng.uniform(0.15, 0.6) if kind == "squeeze" and rng.random() < 0.4 else rng.uniform(0.9, 1.0))
    low, high = neck_top - overlap, neck_top + height
    profile = np.array([[0.0, low], [wide, low], [wide, low + 0.15 * (high - low)], [tip, high], [0.0, high]])
    material = surfaces.metal(rng) if rng.random() < 0.2 else surfaces.finish(rng, surfaces.plain(rng))
    return [(shapes.revolve(profile), material)]
