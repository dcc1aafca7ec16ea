"""`category-pose synthesize`: data sets and bags of procedural scenes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import click
from tqdm import tqdm

from category_pose_ros.cli.options import about
from category_pose_ros.cli.settings import override
from category_pose_ros.data.annotations import AnnotatedFrame
from category_pose_ros.data.bag_writer import bag_writer
from category_pose_ros.data.bop_writer import write_scene
from category_pose_ros.data.procedural.scenes import DEFAULT_CATEGORIES, known_families
from category_pose_ros.data.synthesize import SynthesisConfig, synthesize_images, synthesize_sequence

_RATE_HZ = 10.0


@click.command()
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--images", "count", default=100, show_default=True, type=click.IntRange(1), help="Images to make.")
@click.option("--sequence", is_flag=True, help="One scene with a moving camera instead of one scene per image.")
@click.option(
    "--rate", show_default=f"{_RATE_HZ:g}", type=click.FloatRange(0.1, 1000), help="Images per second of a --sequence."
)
@click.option("--bag", is_flag=True, help="Also write the images as OUTPUT/bag; needs --sequence.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Same seed, same images.")
@click.option(
    "--categories", default=",".join(DEFAULT_CATEGORIES), show_default=True, metavar="A,B", help="What appears."
)
@click.option("--backgrounds", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Photographs.")
@click.option("--set", "overrides", multiple=True, metavar="NAME=VALUE", help="One setting, by dotted name.")
def synthesize(
    output: Path,
    count: int,
    sequence: bool,
    rate: float | None,
    bag: bool,
    seed: int,
    categories: str,
    backgrounds: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """Make an annotated data set in the folder OUTPUT, of instances that training never sees."""
    names = tuple(name.strip() for name in categories.split(","))
    try:
        known_families(names)
    except ValueError as error:
        raise ValueError(f"--{error}") from error
    for option, given in (("--bag", bag), ("--rate", rate is not None)):
        if given and not sequence:
            raise ValueError(f"{option}: expected together with --sequence")
    if rate is not None and math.isnan(rate):  # which is in every range
        raise click.BadParameter(f"expected a number, got {rate}", param_hint="--rate")
    config = override(SynthesisConfig(categories=names), overrides)
    if sequence:
        frames = synthesize_sequence(count, rate or _RATE_HZ, seed, config, backgrounds)
    else:
        frames = synthesize_images(count, seed, config, backgrounds)
    shown = tqdm(frames, total=count, unit="image", disable=None)
    with about("OUTPUT"):
        if not bag:
            write_scene(output, shown, image_suffix=".jpg")
            return
        with bag_writer(output / "bag") as record:

            def recorded() -> Iterator[AnnotatedFrame]:
                for item in shown:
                    record(item.frame)
                    yield item

            write_scene(output, recorded(), image_suffix=".jpg")
