"""`category-pose medoids`: which meshes of a folder stand for the others."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from category_pose_ros.cli.options import FOLDER, about, make_folder
from category_pose_ros.data.medoids import cluster, descriptor
from category_pose_ros.data.mesh_files import read_obj, write_obj


@click.command()
@click.argument("folder", type=FOLDER)
@click.option("--clusters", type=click.IntRange(1), default=3, show_default=True, help="How many kinds there are.")
@click.option("--output", type=FOLDER, help="Write the medoids into this folder, as cluster_0.obj and so on.")
def medoids(folder: Path, clusters: int, output: Path | None) -> None:
    """Cluster the .obj meshes in FOLDER by how they look, and name the one in the middle of each cluster.

    Meshes are in the object frame: x forward, y left, z up. They may be of any size.
    """
    if output:
        make_folder(output)
    paths = sorted(folder.glob("*.obj"))
    with about("FOLDER"):
        if not paths:
            raise ValueError(f"expected .obj files in {folder}, found none")
        meshes = [read_obj(path) for path in tqdm(paths, unit="mesh", disable=None)]
        groups = cluster([_described(path, *mesh) for path, mesh in zip(paths, meshes, strict=True)], clusters)
    for number, index in enumerate(groups.medoid):
        members = [path.name for path, label in zip(paths, groups.label, strict=True) if label == number]
        click.echo(f"cluster {number}: {len(members)} of {len(paths)}, medoid {paths[index].name}")
        click.echo(f"  {' '.join(members)}")
    if output:
        for number, index in enumerate(groups.medoid):
            write_obj(output / f"cluster_{number}.obj", *meshes[index])
        click.echo(f"wrote {len(groups.medoid)} meshes to {output}")


def _described(path: Path, vertices: npt.NDArray[np.float64], faces: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    try:
        return descriptor(vertices, faces)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
