"""Clusters and medoids, mesh files and the command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from category_pose_ros.cli import main
from category_pose_ros.data.medoids import cluster, descriptor
from category_pose_ros.data.mesh_files import read_obj, write_obj
from category_pose_ros.data.procedural import shapes
from category_pose_ros.geometry.mesh import Mesh


def family(kind: str, seed: int) -> Mesh:
    rng = np.random.default_rng(seed)
    sizes = {"long": (1.0, 0.3, 0.2), "tall": (0.3, 0.3, 1.0), "flat": (1.0, 1.0, 0.1)}
    return shapes.box(np.array(sizes[kind]) * rng.uniform(0.95, 1.05, 3))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5), st.integers(0, 1000))
def test_a_medoid_is_the_member_nearest_to_the_others_of_its_cluster(count: int, seed: int) -> None:
    points = np.random.default_rng(seed).normal(size=(12, 3))
    groups = cluster(list(points), count)
    assert sorted(set(groups.label)) == list(range(count))
    distance = np.linalg.norm(points[:, None] - points, axis=-1)
    for number, index in enumerate(groups.medoid):
        own = np.flatnonzero(groups.label == number)
        assert groups.label[index] == number
        assert distance[np.ix_(own, own)].sum(1).min() == pytest.approx(distance[index, own].sum())
    assert (distance[:, groups.medoid].argmin(1) == groups.label).all()
    sizes = np.bincount(groups.label)
    assert (np.diff(sizes) <= 0).all()


def test_looks_do_not_depend_on_size_and_place_and_tell_shapes_apart() -> None:
    long, tall = family("long", 0), family("tall", 0)
    here = descriptor(long.vertices, long.faces)
    # Not exactly: a border that lies on pixels' centres is rounded one way or the other.
    assert np.linalg.norm(descriptor(3 * long.vertices + 5, long.faces) - here) < 0.2
    other = descriptor(family("long", 1).vertices, long.faces)
    assert np.linalg.norm(here - other) < 0.7 * np.linalg.norm(here - descriptor(tall.vertices, tall.faces))


def test_more_clusters_than_instances_are_refused() -> None:
    with pytest.raises(ValueError, match="clusters: expected between 1 and 2"):
        cluster([np.zeros(3), np.ones(3)], 3)


def test_meshes_survive_their_file(tmp_path: Path) -> None:
    mesh = family("long", 0)
    write_obj(tmp_path / "a.obj", mesh.vertices, mesh.faces)
    vertices, faces = read_obj(tmp_path / "a.obj")
    np.testing.assert_allclose(vertices, mesh.vertices, rtol=1e-5)
    np.testing.assert_array_equal(faces, mesh.faces)


def test_polygons_and_indices_of_every_kind_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.obj"
    path.write_text("# square\nv 0 0 0\nv 1 0 0\nvt 0 0\nv 1 1 0 1.0\nv 0 1 0\nvn 0 0 1\nf 1/1/1 2//1 -2 4\n")
    _, faces = read_obj(path)
    np.testing.assert_array_equal(faces, [[0, 1, 2], [0, 2, 3]])


@pytest.mark.parametrize(
    ("text", "message"),
    [("v 0 0 0\n", "expected at least one polygon"), ("v 0 0\n", "line 1"), ("v 0 0 0\nf 1 2 3\n", "line 2")],
)
def test_damaged_files_are_refused_with_the_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.obj"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_obj(path)


@pytest.mark.parametrize("vertex", ["v 1 1 1\n", "v nan 0 0\n"])
def test_a_mesh_without_extent_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], vertex: str) -> None:
    whole = family("long", 0)
    write_obj(tmp_path / "a.obj", whole.vertices, whole.faces)
    (tmp_path / "b.obj").write_text(3 * vertex + "f 1 2 3\n")
    with pytest.raises(SystemExit) as end:
        main(["medoids", str(tmp_path), "--clusters", "1"])
    assert end.value.code == 2
    assert "b.obj: vertices: expected finite ones at more than one place" in capsys.readouterr().err


def test_the_command_names_and_writes_a_medoid_per_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("long", "tall", "flat"):
        for seed in range(3):
            mesh = family(kind, seed)
            write_obj(tmp_path / f"{kind}{seed}.obj", mesh.vertices, mesh.faces)
    with pytest.raises(SystemExit) as end:
        main(["medoids", str(tmp_path), "--output", str(tmp_path / "out")])
    assert end.value.code == 0
    members = [set(line.split()) for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert sorted(members, key=sorted) == sorted(
        ({f"{kind}{seed}.obj" for seed in range(3)} for kind in ("long", "tall", "flat")), key=sorted
    )
    assert len(list((tmp_path / "out").glob("cluster_*.obj"))) == 3
    with pytest.raises(SystemExit) as end:
        main(["medoids", str(tmp_path / "nothing")])
    assert end.value.code == 2
    assert "expected .obj files" in capsys.readouterr().err
