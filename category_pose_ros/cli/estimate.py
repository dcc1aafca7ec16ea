"""`category-pose estimate`: one image."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from PIL import Image

from category_pose_ros import Camera, Frame, ObjectEstimate, Region
from category_pose_ros.cli.options import (
    EXISTING_FILE,
    NEW_FILE,
    about,
    estimator_choice,
    estimator_options,
    make_folder,
)
from category_pose_ros.data.images import read_depth, read_mask, read_rgb
from category_pose_ros.estimation.estimator import DEFAULT_ENCODER
from category_pose_ros.models.pose_encoder import load_encoder, nearest_prototype
from category_pose_ros.visualization.overlay import draw_overlay
from category_pose_ros.visualization.palette import category_colour
from category_pose_ros.visualization.scene import PlacedMesh, draw_scene


def _four_numbers(context: click.Context, parameter: click.Parameter, text: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(number) for number in text.split(","))
    except ValueError as error:
        raise click.BadParameter(f"expected four numbers FX,FY,CX,CY, got {text!r}") from error
    if len(numbers) != 4:
        raise click.BadParameter(f"expected four numbers FX,FY,CX,CY, got {len(numbers)}")
    return numbers


@click.command()
@click.argument("image", type=EXISTING_FILE)
@click.option("--camera", callback=_four_numbers, required=True, metavar="FX,FY,CX,CY", help="Intrinsics in pixels.")
@click.option("--depth", type=EXISTING_FILE, help="16-bit PNG of depth, registered to IMAGE.")
@click.option(
    "--depth-scale",
    type=click.FloatRange(min=0, min_open=True),
    default=0.001,
    show_default=True,
    help="Its unit in metres.",
)
@click.option("--mask", type=EXISTING_FILE, help="8-bit grey PNG of the size of IMAGE: search only where it is not 0.")
@estimator_options
@click.option("--json", "json_path", type=NEW_FILE, help="Write the objects to this file.")
@click.option("--overlay", type=NEW_FILE, help="Write the image with boxes and axes to this file.")
@click.option("--rendering", type=NEW_FILE, help="Write the objects as meshes, also from new viewpoints, to this file.")
def estimate(
    image: Path,
    camera: tuple[float, ...],
    depth: Path | None,
    depth_scale: float,
    mask: Path | None,
    json_path: Path | None,
    overlay: Path | None,
    rendering: Path | None,
    **choice: Any,
) -> None:
    """Estimate the objects in IMAGE and print them."""
    for argument, path in (("--json", json_path), ("--overlay", overlay), ("--rendering", rendering)):
        if path:
            make_folder(path.parent, argument)
            kind = Image.registered_extensions().get(path.suffix.lower())
            if argument != "--json" and kind not in Image.SAVE:
                raise click.BadParameter(f"expected the name of an image file, got {path}", param_hint=argument)
    frame = _read_frame(image, camera, upright=not depth and not mask)
    if not math.isfinite(depth_scale):
        raise click.BadParameter(f"expected a finite number, got {depth_scale}", param_hint="--depth-scale")
    if depth:
        with about("--depth"):
            frame = replace(frame, depth=read_depth(depth) * np.float32(depth_scale))
    if mask:
        with about("--mask"):
            frame = replace(frame, regions=(Region(mask=read_mask(mask)),))
    objects = estimator_choice(**choice).load().estimate(frame)
    for item in objects:
        click.echo(_line(item))
    click.echo(f"{len(objects)} objects")
    if json_path:
        with about("--json"):
            json_path.write_text(json.dumps(as_json(objects), indent=2) + "\n", encoding="utf-8")
    if overlay:
        with about("--overlay"):
            Image.fromarray(draw_overlay(frame.rgb, frame.camera, objects)).save(overlay)
    if rendering:
        with about("--rendering"):
            Image.fromarray(draw_scene(frame.rgb, frame.camera, _meshes(objects))).save(rendering)


def as_json(objects: Sequence[ObjectEstimate]) -> dict[str, Any]:
    """The content of --json."""
    return {
        "objects": [
            {
                "category": item.category,
                "score": float(item.score),
                "camera_from_object": item.camera_from_object.matrix().tolist(),
                "size_m": item.size_m.tolist(),
                "visible_fraction": float(item.visible_fraction),
                "covariance": item.covariance.ravel().tolist(),
            }
            for item in objects
        ]
    }


def _read_frame(image: Path, intrinsics: tuple[float, ...], upright: bool) -> Frame:
    with about("IMAGE"):
        rgb = read_rgb(image, upright)
    height, width = rgb.shape[:2]
    fx, fy, cx, cy = intrinsics
    with about("--camera"):
        return Frame(rgb, Camera(fx, fy, cx, cy, width, height))


def _meshes(objects: Sequence[ObjectEstimate]) -> list[PlacedMesh]:
    """Each object as the representative of its category that is nearest in size, stretched to the size it has."""
    prototypes = load_encoder(DEFAULT_ENCODER).prototypes
    meshes = []
    for item in objects:
        size_m = torch.from_numpy(item.size_m).float()
        surface = nearest_prototype(prototypes, item.category, size_m).surface.scaled(size_m)
        meshes.append(PlacedMesh(surface, item.camera_from_object, category_colour(item.category)))
    return meshes


def _line(item: ObjectEstimate) -> str:
    x, y, z = item.camera_from_object.translation.tolist()
    size = " x ".join(f"{extent:.3f}" for extent in item.size_m)
    return f"{item.category:10} score {item.score:.2f}  at ({x:+.3f}, {y:+.3f}, {z:.3f}) m  size {size} m"
