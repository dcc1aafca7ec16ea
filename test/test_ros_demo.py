"""The demo against the scripted estimator, on a bag made here."""

from __future__ import annotations

import csv
import json
import os
import re
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner, Result

pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")

import ros_support
from ros_support import FIRST_TRACK_ID, make_track
from written_bags import write_bag

from category_pose_ros import Camera, Frame
from category_pose_ros.data.bags import EXAMPLE_BAG
from category_pose_ros.estimation.estimator import DEFAULT_MODEL
from category_pose_ros.ros import demo

FRAMES = 8


def write_example(folder: Path, objects: int) -> Path:
    """A bag in which the scripted estimator sees so many objects, with exactly these as ground truth."""
    camera = Camera(fx=60.0, fy=60.0, cx=31.5, cy=23.5, width=64, height=48)
    rgb = np.zeros((48, 64, 3), np.uint8)
    rgb[:] = (objects, 0, 0)
    frames = [Frame(rgb, camera, stamp_ns=10_000_000_000 + i * 200_000_000) for i in range(FRAMES)]
    write_bag(folder / "demo", frames, jpeg_quality=100)
    estimates = [make_track(i).estimate for i in range(1, objects + 1)]
    truth = [
        {
            "cam_R_m2c": estimate.camera_from_object.rotation.ravel().tolist(),
            "cam_t_m2c": (1000 * estimate.camera_from_object.translation).tolist(),
            "category": estimate.category,
            "size_m": estimate.size_m.tolist(),
        }
        for estimate in estimates
    ]
    cameras = {"cam_K": camera.matrix().ravel().tolist(), "depth_scale": 1.0}
    (folder / "scene_gt.json").write_text(json.dumps(dict.fromkeys(map(str, range(FRAMES)), truth)))
    (folder / "scene_camera.json").write_text(json.dumps(dict.fromkeys(map(str, range(FRAMES)), cameras)))
    return folder / "demo"


@pytest.fixture
def _domain_of_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo takes a domain by chance; that of the tests is reserved."""
    monkeypatch.setattr(demo, "_isolate", lambda: None)


@pytest.fixture
def scripted_node(_domain_of_the_tests: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_NODE", (sys.executable, ros_support.__file__))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))


def run_demo(*arguments: object) -> Result:
    return CliRunner().invoke(demo.main, [str(argument) for argument in arguments])


def row(result: Result, name: str) -> str:
    """A value of the table."""
    found = re.search(rf"{name} {{2,}}(.+)", result.output)
    assert found is not None, result.output
    return found[1]


@pytest.mark.usefixtures("scripted_node")
def test_the_demo_reports_and_leaves_its_files(tmp_path: Path) -> None:
    bag = write_example(tmp_path, objects=2)
    result = run_demo("--bag", bag, "--output", tmp_path / "out", "--categories", "mug")
    assert result.exit_code == 0, result.output
    assert row(result, "frames published") == str(FRAMES)
    answered = int(row(result, "frames answered"))
    assert 0 < answered <= FRAMES
    assert row(result, "objects found") == f"{2 * answered} of {2 * answered} (100%)"
    assert row(result, "rotation error, median") == "0.0 degrees"
    assert row(result, "translation error, median") == "0 mm"
    with (tmp_path / "out" / "poses.csv").open() as file:
        poses = list(csv.DictReader(file))
    assert len(poses) == 2 * answered
    assert {row["track_id"] for row in poses} == {str(FIRST_TRACK_ID), str(FIRST_TRACK_ID + 1)}
    with av.open(str(tmp_path / "out" / "overlay.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == answered
    assert (tmp_path / "out" / "overlay.png").stat().st_size > 0


@pytest.mark.usefixtures("scripted_node")
def test_the_demo_fails_where_no_poses_come(tmp_path: Path) -> None:
    result = run_demo("--bag", write_example(tmp_path, objects=0), "--output", tmp_path / "out", "--rate", 4)
    assert result.exit_code == 1
    assert f"the node published no poses for {FRAMES} frames" in result.output


@pytest.mark.usefixtures("scripted_node")
def test_the_demo_fails_where_the_node_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_NODE", (sys.executable, "-m", "category_pose_ros.ros.node"))
    bag = write_example(tmp_path, objects=1)
    result = run_demo("--bag", bag, "--output", tmp_path / "out", "--model", tmp_path / "missing.safetensors")
    assert result.exit_code == 1
    assert "the estimator node ended with exit status 1" in result.output


def test_the_demo_leaves_the_domain_of_the_robot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", "0")
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    demo._isolate()
    assert os.environ["ROS_DOMAIN_ID"] in map(str, range(1, 102))
    assert os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"


def test_a_missing_bag_is_refused_in_one_line(tmp_path: Path) -> None:
    result = run_demo("--bag", tmp_path / "nothing")
    assert result.exit_code == 2
    assert "--bag" in result.output
    assert "no such bag" in result.output


@pytest.mark.usefixtures("_domain_of_the_tests")
@pytest.mark.skipif(not DEFAULT_MODEL.exists(), reason="needs the model that comes with the package")
@pytest.mark.skipif(not EXAMPLE_BAG.exists(), reason="needs the bundled example")
def test_the_real_node_finds_the_objects_of_the_bundled_example(tmp_path: Path) -> None:
    result = run_demo("--output", tmp_path)
    assert result.exit_code == 0, result.output
    found, objects = re.findall(r"\d+", row(result, "objects found"))[:2]
    assert int(found) > 0.5 * int(objects)
    assert float(row(result, "rotation error, median").split()[0]) < 30
