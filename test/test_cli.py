"""The console command with a scripted estimator: results, files, and one-line errors."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from written_bags import write_bag

from category_pose_ros.cli import main
from category_pose_ros.data.annotations import AnnotatedFrame, GroundTruthObject
from category_pose_ros.data.bop import BopScene
from category_pose_ros.data.bop_writer import write_scene
from category_pose_ros.data.damage import DAMAGES
from category_pose_ros.data.disturbances import DISTURBANCES
from category_pose_ros.data.procedural import shapes
from category_pose_ros.geometry import SE3, Camera
from category_pose_ros.models.pose_encoder import EncoderConfig, EncoderModel, PoseEncoder, Prototype
from category_pose_ros.records import Frame, ObjectEstimate, Track, TrackState
from category_pose_ros.rendering.surface import Surface

ROOT = Path(__file__).resolve().parent.parent
CAMERA = Camera(80.0, 80.0, 31.5, 23.5, 64, 48)
POSE = SE3(torch.eye(3, dtype=torch.float64), torch.tensor([0.05, 0.0, 1.0], dtype=torch.float64))
MUG = ObjectEstimate("mug", POSE, np.array([0.12, 0.08, 0.1]), 0.9, 0.8, np.arange(36.0).reshape(6, 6))
CAMERA_OPTION = ("--camera", "80,80,31.5,23.5")


class ScriptedEstimator:
    """Sees the same mug in every frame; remembers how it was loaded and what it was shown."""

    def __init__(self):
        self.loaded_with = None
        self.frames = []
        self.places = []  # where the tracker was told that the camera was

    def load(self, categories, method, device, model, config):
        self.loaded_with = (categories, method, device, model, config)
        return self

    def estimate(self, frame):
        self.frames.append(frame)
        return [MUG]


class ScriptedTracker:
    """One track per frame from the estimator's answer."""

    def __init__(self, estimator, config):
        self.estimator, self.config = estimator, config

    def update(self, frame, world_from_camera=None):
        self.estimator.places.append(world_from_camera)
        estimates = self.estimator.estimate(frame)
        return [Track(7, TrackState.CONFIRMED, item, frame.stamp_ns) for item in estimates]


@pytest.fixture
def estimator(monkeypatch):
    scripted = ScriptedEstimator()
    monkeypatch.setattr("category_pose_ros.cli.options.PoseEstimator", scripted)
    for command in ("replay", "evaluate_sequence"):
        monkeypatch.setattr(f"category_pose_ros.cli.{command}.Tracker", ScriptedTracker)
    return scripted


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(np.full((48, 64, 3), 90, dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def scene(tmp_path):
    rgb, depth = np.full((48, 64, 3), 90, dtype=np.uint8), np.ones((48, 64), dtype=np.float32)
    objects = tuple(GroundTruthObject(name, POSE, MUG.size_m, visible_fraction=1.0) for name in ("mug", "can"))
    write_scene(tmp_path / "scene", [AnnotatedFrame(Frame(rgb, CAMERA, depth), objects, "")] * 2)
    return tmp_path / "scene"


@pytest.fixture
def bag(tmp_path):
    rgb = np.full((48, 64, 3), 90, dtype=np.uint8)
    write_bag(tmp_path / "bag", [Frame(rgb, CAMERA, stamp_ns=k * 10**8) for k in range(1, 4)])
    return tmp_path / "bag"


@pytest.fixture
def run(capsys):
    """Run the command; returns exit status, standard output and standard error."""

    def call(*arguments):
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return stopped.value.code, captured.out, captured.err

    return call


def test_estimate_prints_what_it_found(run, estimator, image):
    status, out, err = run("estimate", image, *CAMERA_OPTION)
    assert (status, err) == (0, "")
    assert out.splitlines()[0].split()[:3] == ["mug", "score", "0.90"]
    assert "1 objects" in out
    assert estimator.frames[0].camera == CAMERA
    assert estimator.loaded_with[:4] == ((), "neural_mesh", "auto", None)


def test_estimate_writes_json_as_promised(run, estimator, image, tmp_path):
    assert run("estimate", image, *CAMERA_OPTION, "--json", tmp_path / "out.json")[0] == 0
    (item,) = json.loads((tmp_path / "out.json").read_text())["objects"]
    assert set(item) == {"category", "score", "camera_from_object", "size_m", "visible_fraction", "covariance"}
    assert np.allclose(item["camera_from_object"], POSE.matrix())
    assert item["covariance"] == list(range(36))
    assert (item["score"], item["visible_fraction"], item["size_m"]) == (0.9, 0.8, [0.12, 0.08, 0.1])


def test_estimate_writes_the_overlay(run, estimator, image, tmp_path):
    assert run("estimate", image, *CAMERA_OPTION, "--overlay", tmp_path / "overlay.png")[0] == 0
    with Image.open(tmp_path / "overlay.png") as overlay:
        assert overlay.size == (64, 48)
        assert np.ptp(np.array(overlay)) > 0


def test_estimate_renders_the_objects_together_and_from_elsewhere(run, estimator, image, tmp_path, monkeypatch):
    mesh = shapes.box((1.0, 1.0, 1.0))
    prototype = Prototype("mug", Surface.from_triangles(mesh.vertices, mesh.faces), torch.ones(3), torch.eye(3))
    model = EncoderModel(PoseEncoder(EncoderConfig(width=4), 1), (prototype,), EncoderConfig(), {})
    monkeypatch.setattr("category_pose_ros.cli.estimate.load_encoder", lambda path: model)
    assert run("estimate", image, *CAMERA_OPTION, "--rendering", tmp_path / "scene.png")[0] == 0
    with Image.open(tmp_path / "scene.png") as picture:
        values = np.array(picture)
    assert values.shape == (96, 128, 3)
    assert (values[:48, :64] == 90).all()
    changed = (values[:48, 64:] != 90).any(-1)
    rows, columns = np.nonzero(changed)
    # The box of MUG around its centre at (35.5, 23.5), nearer face 0.95 m away.
    assert (columns.min(), columns.max()) == pytest.approx((31, 41), abs=1)
    assert (rows.min(), rows.max()) == pytest.approx((20, 27), abs=1)
    for elsewhere in (values[48:, :64], values[48:, 64:]):
        assert 20 < (elsewhere != elsewhere[0, 0]).any(-1).sum() < 400


def test_estimate_reads_depth_and_mask(run, estimator, image, tmp_path):
    values = np.zeros((48, 64), dtype=np.uint8)
    values[10:20, 30:50] = 7
    Image.fromarray(values).save(tmp_path / "mask.png")
    Image.fromarray(np.full((48, 64), 4000, dtype=np.uint16)).save(tmp_path / "depth.png")
    files = ("--mask", tmp_path / "mask.png", "--depth", tmp_path / "depth.png", "--depth-scale", "0.00025")
    assert run("estimate", image, *CAMERA_OPTION, *files)[0] == 0
    (frame,) = estimator.frames
    (region,) = frame.regions
    assert (region.mask == (values > 0)).all()
    assert np.allclose(frame.depth, 1.0)
    assert run("estimate", image, *CAMERA_OPTION)[0] == 0
    assert (estimator.frames[1].depth, estimator.frames[1].regions) == (None, None)


def test_options_reach_the_estimator(run, estimator, image, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "params.yaml").write_text("tracker:\n  confirm_after: 5\n")
    arguments = ("--categories", "mug, can", "--method", "m", "--device", "cpu")
    files = ("--model", tmp_path / "model.safetensors", "--params", tmp_path / "params.yaml")
    assert run("estimate", image, *CAMERA_OPTION, *arguments, *files)[0] == 0
    assert estimator.loaded_with[:4] == (("mug", "can"), "m", "cpu", tmp_path / "model.safetensors")


def test_the_parameter_file_of_the_node_serves_commands_too(run, estimator, image, tmp_path):
    shipped = (Path(__file__).parents[1] / "config" / "estimator.yaml").read_text()
    mine = tmp_path / "mine.yaml"
    mine.write_text(shipped.replace("score_threshold: 0.15", "score_threshold: 0.75"))
    assert run("estimate", image, *CAMERA_OPTION, "--params", mine)[0] == 0
    assert estimator.loaded_with[-1].score_threshold == 0.75
    mine.write_text(
        "left:\n  estimator:\n    ros__parameters:\n      estimator.score_threshold: 0.25\n      device: cpu\n"
    )
    assert run("estimate", image, *CAMERA_OPTION, "--params", mine)[0] == 0
    assert estimator.loaded_with[-1].score_threshold == 0.25
    mine.write_text(shipped.replace("score_threshold: 0.15", "score_treshold: 0.75"))
    status, _, err = run("estimate", image, *CAMERA_OPTION, "--params", mine)
    assert status == 2
    assert f"{mine}: estimator.score_treshold: unknown setting" in err


def test_replay_writes_poses_and_video(run, estimator, bag, tmp_path):
    status, out, err = run("replay", bag, "--output", tmp_path / "out", "--set", "tracker.confirm_after=3")
    assert (status, err) == (0, "")
    assert out.startswith("3 frames")
    with (tmp_path / "out" / "poses.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["stamp_ns"] for row in rows] == ["100000000", "200000000", "300000000"]
    assert {row["track_id"] for row in rows} == {"7"}
    assert (tmp_path / "out" / "overlay.mp4").stat().st_size > 500


@pytest.mark.parametrize(("end", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_replay_that_is_ended_leaves_what_it_had(run, estimator, bag, tmp_path, monkeypatch, end, status):
    """Ended at the third of three frames; what the first two gave is in both files."""
    update = ScriptedTracker.update

    def ends(tracker, frame, world_from_camera=None):
        if frame.stamp_ns == 3 * 10**8:
            assert len((tmp_path / "out" / "poses.csv").read_text().splitlines()) == 3  # and were there at once
            os.kill(os.getpid(), end)
        return update(tracker, frame, world_from_camera)

    monkeypatch.setattr(ScriptedTracker, "update", ends)
    before = signal.getsignal(signal.SIGTERM)
    at_interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)  # which tests behind a shell ignore
    try:
        assert run("replay", bag, "--output", tmp_path / "out")[0] == status
    finally:
        signal.signal(signal.SIGINT, at_interrupt)
    assert signal.getsignal(signal.SIGTERM) is before
    with (tmp_path / "out" / "poses.csv").open() as file:
        assert [row["stamp_ns"] for row in csv.DictReader(file)] == ["100000000", "200000000"]
    with av.open(str(tmp_path / "out" / "overlay.mp4")) as video:
        assert len(list(video.decode(video=0))) == 2


def test_evaluate_prints_the_table_and_writes_the_files(run, estimator, scene, tmp_path):
    status, out, err = run("evaluate", scene, "--output", tmp_path / "out")
    assert (status, err) == (0, "")
    assert [line.split()[:3] for line in out.splitlines()[2:5]] == [
        ["overall", "4", "2"],
        ["can", "2", "0"],
        ["mug", "2", "2"],
    ]
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["overall"]["acc_pi_18"] == 0.5
    assert (tmp_path / "out" / "report.html").read_text().count("data:image/png") == 4  # two plots, two frames
    assert all(frame.depth is not None for frame in estimator.frames)


def test_evaluate_sequence_tells_what_the_tracks_hold(run, estimator, tmp_path):
    rgb, depth = np.full((48, 64, 3), 90, dtype=np.uint8), np.ones((48, 64), dtype=np.float32)
    mug = GroundTruthObject("mug", POSE, MUG.size_m, visible_fraction=1.0, track_id=3)
    write_scene(tmp_path / "sequence", [AnnotatedFrame(Frame(rgb, CAMERA, depth, k), (mug,), "") for k in range(4)])
    arguments = ("evaluate-sequence", tmp_path / "sequence", "--every", "2", "--no-depth")
    status, out, err = run(*arguments, "--output", tmp_path / "out")
    assert (status, err) == (0, "")
    assert "100.0%" in out
    assert json.loads((tmp_path / "out" / "sequence.json").read_text())["frames"] == 2
    assert (tmp_path / "out" / "overlay.mp4").stat().st_size > 0
    assert [frame.depth for frame in estimator.frames] == [None, None]


def test_evaluate_sequence_tells_the_tracker_where_the_camera_was_if_wished(run, estimator, tmp_path):
    mug = GroundTruthObject("mug", POSE, MUG.size_m, visible_fraction=1.0, track_id=3)
    frame = Frame(np.full((48, 64, 3), 90, dtype=np.uint8), CAMERA)
    there = SE3(torch.eye(3).double(), torch.tensor([0.1, 0.2, 0.3]).double())
    write_scene(
        tmp_path / "sequence", [AnnotatedFrame(replace(frame, stamp_ns=k), (mug,), "", there) for k in range(2)]
    )
    assert run("evaluate-sequence", tmp_path / "sequence")[0] == 0
    assert estimator.places == [None, None]
    assert run("evaluate-sequence", tmp_path / "sequence", "--camera-motion")[0] == 0
    assert all(place.translation.tolist() == pytest.approx([0.1, 0.2, 0.3]) for place in estimator.places[2:])
    write_scene(tmp_path / "unknown", [AnnotatedFrame(frame, (mug,), "")] * 2)
    status, _, err = run("evaluate-sequence", tmp_path / "unknown", "--camera-motion")
    assert status != 0
    assert "cam_R_w2c" in err


def test_evaluate_sequence_shows_what_happens_to_sequences(run, estimator, tmp_path):
    mug = GroundTruthObject("mug", POSE, MUG.size_m, visible_fraction=1.0, track_id=3)
    rgb = np.full((48, 64, 3), 90, dtype=np.uint8)
    frames = [AnnotatedFrame(Frame(rgb, CAMERA, stamp_ns=k * 10**8), (mug,), "") for k in range(4)]
    write_scene(tmp_path / "sequence", frames)
    status, out, err = run("evaluate-sequence", tmp_path / "sequence", "--damage", "--output", tmp_path / "out")
    assert (status, err) == (0, "")
    names = [item.name for item in DISTURBANCES]
    assert list(json.loads((tmp_path / "out" / "sequence.json").read_text())["by_damage"]) == names
    assert [name for name in names if any(line.startswith(name + " ") for line in out.splitlines())] == names
    assert any(line.startswith("line of sight ") for line in out.splitlines())


def test_what_happens_to_sequences_needs_a_sequence(run, estimator, tmp_path):
    mug = GroundTruthObject("mug", POSE, MUG.size_m, visible_fraction=1.0, track_id=3)
    frame = Frame(np.full((48, 64, 3), 90, dtype=np.uint8), CAMERA)
    frames = [AnnotatedFrame(replace(frame, stamp_ns=k), (mug,), "") for k in range(2)]
    write_scene(tmp_path / "sequence", frames)
    status, _, err = run("evaluate-sequence", tmp_path / "sequence", "--damage", "--every", "2")
    assert (status, estimator.frames) == (2, [])
    assert "DATASET: expected a sequence of at least 2 images for --damage, got 1" in err


def test_what_cannot_be_written_is_refused_before_the_work(run, estimator, tmp_path, image):
    (tmp_path / "text").touch()
    for arguments in (
        ("--json", tmp_path / "text" / "out.json"),
        ("--overlay", "out.picture"),
        ("--overlay", "out.psd"),
    ):
        assert run("estimate", image, *CAMERA_OPTION, *arguments)[0] == 2
    assert estimator.frames == []


def test_damage_to_depth_needs_depth(run, estimator, scene):
    for path in (scene / "depth").iterdir():
        path.unlink()
    status, _, err = run("evaluate", scene, "--damage")
    assert status == 2
    assert "expected depth for --damage, found none" in err


def test_a_damaged_file_is_not_the_end_of_the_data(run, estimator, scene, monkeypatch):
    def stumble(self, name):
        raise IndexError("out of range")

    monkeypatch.setattr(BopScene, "load", stumble)
    with pytest.raises(IndexError):
        main(["evaluate", str(scene)])


def test_evaluate_can_leave_out_categories_and_depth(run, estimator, scene):
    status, out, _ = run("evaluate", scene, "--categories", "mug", "--no-depth")
    assert status == 0
    assert "can" not in out.splitlines()[3].split()
    assert out.splitlines()[2].split()[:3] == ["overall", "2", "2"]
    assert estimator.loaded_with[0] == ("mug",)
    assert all(frame.depth is None for frame in estimator.frames)


def test_evaluate_can_show_the_annotated_masks(run, estimator, scene, tmp_path):
    mask = np.zeros((48, 64), bool)
    mask[20:30, 30:40] = True
    mug = GroundTruthObject("mug", POSE, MUG.size_m, visible_fraction=1.0, mask=mask)
    rgb = np.full((48, 64, 3), 90, dtype=np.uint8)
    write_scene(tmp_path / "masked", [AnnotatedFrame(Frame(rgb, CAMERA), (mug,), "")])
    assert run("evaluate", tmp_path / "masked", "--masks")[0] == 0
    (region,) = estimator.frames[0].regions
    assert region.category == "mug"
    assert (region.mask == mask).all()
    status, _, err = run("evaluate", scene, "--masks")
    assert (status, "expected masks of all objects" in err) == (2, True)


def test_evaluate_shows_damaged_depth_beside_the_whole(run, estimator, tmp_path):
    rgb, depth, mask = np.full((48, 64, 3), 90, np.uint8), np.ones((48, 64), np.float32), np.zeros((48, 64), bool)
    depth[16:32, 24:40], mask[16:32, 24:40] = 0.5, True
    mug = GroundTruthObject("mug", POSE, MUG.size_m, visible_fraction=1.0, mask=mask)
    write_scene(tmp_path / "masked", [AnnotatedFrame(Frame(rgb, CAMERA, depth), (mug,), "")] * 2)
    status, out, err = run("evaluate", tmp_path / "masked", "--damage", "--output", tmp_path / "out")
    assert (status, err) == (0, "")
    names = ["as it is", "without depth", *(damage.name for damage in DAMAGES)]
    assert list(json.loads((tmp_path / "out" / "metrics.json").read_text())["by_damage"]) == names
    assert [name for name in names if any(line.startswith(name + " ") for line in out.splitlines())] == names
    shown = [frame.depth for frame in estimator.frames[::2]]
    assert shown[0].max() == 1
    assert shown[1] is None
    assert all(depth is not None for depth in shown[2:])
    assert all((depth != shown[0]).any() for depth in shown[2:])


def test_evaluate_compares_values_of_a_setting(run, estimator, scene, tmp_path):
    options = ("--vary", "estimator.score_threshold=0.2,0.9", "--vary", "estimator.schedule=paper")
    status, out, err = run("evaluate", scene, *options, "--output", tmp_path / "out")
    assert (status, err) == (0, "")
    labels = ["as it is", "estimator.score_threshold=0.2", "estimator.score_threshold=0.9", "estimator.schedule=paper"]
    assert list(json.loads((tmp_path / "out" / "metrics.json").read_text())["by_setting"]) == labels
    assert [label for label in labels if any(line.startswith(label + " ") for line in out.splitlines())] == labels
    assert estimator.loaded_with[4].schedule == "paper"
    assert len(estimator.frames) == 4 * 2
    assert "Accuracy against time" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("text", ["estimator.score_threshold", "estimator.nothing=1", "estimator.score_threshold=1,"])
def test_evaluate_refuses_what_cannot_be_varied(run, estimator, scene, text):
    status, _, err = run("evaluate", scene, "--vary", text)
    assert status == 2
    assert "--vary" in err
    assert not estimator.frames


def test_evaluate_on_images_without_objects_counts_false_alarms(run, estimator, image, tmp_path):
    Image.fromarray(np.full((48, 64, 3), 90, dtype=np.uint8)).save(tmp_path / "another.png")
    status, out, err = run("evaluate", image.parent, "--output", tmp_path / "out")
    assert (status, err) == (0, "")
    overall = json.loads((tmp_path / "out" / "metrics.json").read_text())["overall"]
    assert (overall["objects"], overall["false_alarms"], overall["false_alarms_per_image"]) == (0, 2, 1.0)
    assert "1.00" in out.splitlines()[2].split()
    assert (tmp_path / "out" / "report.html").exists()


def test_evaluate_can_use_each_nth_image_and_the_schedule_of_the_paper(run, estimator, scene, tmp_path):
    options = ("--every", "2", "--schedule", "paper", "--format", "bop", "--output", tmp_path / "out")
    assert run("evaluate", scene, *options)[0] == 0
    assert len(estimator.frames) == 1
    assert estimator.loaded_with[4].schedule == "paper"
    assert "schedule of the paper" in (tmp_path / "out" / "report.html").read_text()


def test_evaluate_can_leave_out_images_without_depth(run, estimator, scene):
    (scene / "depth" / "000000.png").unlink()
    assert run("evaluate", scene)[0] == 0
    assert [frame.depth is None for frame in estimator.frames] == [True, False]
    estimator.frames.clear()
    assert run("evaluate", scene, "--with-depth")[0] == 0
    assert [frame.depth is None for frame in estimator.frames] == [False]


ESTIMATE = ("estimate", "{image}", *CAMERA_OPTION)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), "command"),
        (("dance",), "dance"),
        (("estimate",), "IMAGE"),
        (("estimate", "nowhere.png", *CAMERA_OPTION), "IMAGE"),
        (("estimate", "{text}", *CAMERA_OPTION), "IMAGE"),
        (("estimate", "{image}"), "--camera"),
        (("estimate", "{image}", "--camera", "1,2,3"), "--camera"),
        (("estimate", "{image}", "--camera", "1,2,3,x"), "--camera"),
        (("estimate", "{image}", "--camera", "nan,2,3,4"), "--camera"),
        (("estimate", "{image}", "--camera", "0,2,3,4"), "--camera"),
        (("estimate", "{image}", "--camera", "1,2,inf,4"), "--camera"),
        ((*ESTIMATE, "--depth", "{image}"), "--depth"),
        ((*ESTIMATE, "--depth", "nowhere.png"), "--depth"),
        ((*ESTIMATE, "--depth-scale", "0"), "--depth-scale"),
        ((*ESTIMATE, "--depth-scale", "nan"), "--depth-scale"),
        (("estimate", "{float_image}", *CAMERA_OPTION), "IMAGE"),
        ((*ESTIMATE, "--mask", "{image}"), "--mask"),
        ((*ESTIMATE, "--mask", "{text}"), "--mask"),
        ((*ESTIMATE, "--mask", "{small_mask}"), "--mask"),
        ((*ESTIMATE, "--colour", "red"), "--colour"),
        ((*ESTIMATE, "--categories", "mug,,can"), "--categories"),
        ((*ESTIMATE, "--model", "nowhere.safetensors"), "--model"),
        ((*ESTIMATE, "--params", "nowhere.yaml"), "--params"),
        ((*ESTIMATE, "--params", "{broken_yaml}"), "--params"),
        ((*ESTIMATE, "--params", "{text}"), "--params"),
        ((*ESTIMATE, "--set", "tracker.confirm_after"), "--set"),
        ((*ESTIMATE, "--set", "tracker.nothing=3"), "tracker.nothing"),
        ((*ESTIMATE, "--set", "tracker.confirm_after.deeper=3"), "tracker.confirm_after.deeper"),
        ((*ESTIMATE, "--set", "tracker=3"), "tracker"),
        ((*ESTIMATE, "--set", "tracker.confirm_after=often"), "tracker.confirm_after"),
        ((*ESTIMATE, "--set", "tracker.confirm_after=0"), "tracker.confirm_after"),
        ((*ESTIMATE, "--set", "tracker.confirm_score=0.3"), "tracker.withdraw_score"),
        ((*ESTIMATE, "--set", "estimator.neural_mesh.crops.mirror=["), "crops.mirror"),
        (("benchmark", "--sizes", "0x0"), "--sizes"),
        (("benchmark", "--rasterizer", "--cpu-time"), "--rasterizer"),
        (("synthesize", "{folder}", "--set", "least_objects=9"), "least_objects"),
        (("synthesize", "{folder}", "--categories", "dog"), "--categories"),
        (("synthesize", "{folder}", "--sequence", "--rate", "nan"), "--rate"),
        (("synthesize", "{folder}", "--sequence", "--rate", "1e9"), "--rate"),
        (("synthesize", "{folder}", "--rate", "10"), "--rate: expected together with --sequence"),
        (("synthesize", "{folder}", "--set", "focal_px=1e9"), "focal_px"),
        (("synthesize", "{folder}", "--set", "farthest_m=1e4"), "farthest_m"),
        (("synthesize", "{folder}", "--set", "farthest_car_m=1e5"), "farthest_car_m"),
        (("train", "{folder}", "--set", "categories=dog"), "categories"),
        (("train-encoder", "{folder}/e.safetensors", "--set", "categories=dog"), "categories"),
        ((*ESTIMATE, "--json", "{folder}"), "--json"),
        ((*ESTIMATE, "--json", "{text}/out.json"), "--json"),
        ((*ESTIMATE, "--overlay", "{text}/out.png"), "--overlay"),
        ((*ESTIMATE, "--rendering", "{text}/out.png"), "--rendering"),
        (("benchmark", "--output", "{text}/out.json"), "--output"),
        ((*ESTIMATE, "--overlay", "out.picture"), "--overlay"),
        (("replay", "{bag}"), "--output"),
        (("replay", "nowhere", "--output", "{folder}"), "BAG"),
        (("replay", "{folder}", "--output", "{folder}"), "BAG"),
        (("replay", "{bag}", "--output", "{text}"), "--output"),
        (("replay", "{bag}", "--output", "{folder}", "--image-topic", "/x"), "/x"),
        (("evaluate", "nowhere"), "DATASET"),
        (("evaluate", "{folder}"), "DATASET"),
        (("evaluate", "{scene}", "--damage", "--no-depth"), "--damage"),
        (("evaluate", "{scene}", "--format", "coco"), "--format"),
        (("evaluate", "{scene}", "--format", "kitti"), "DATASET"),
        (("evaluate", "{scene}", "--schedule", "fast"), "--schedule"),
        (("evaluate", "{scene}", "--every", "0"), "--every"),
        (("evaluate", "{scene}", "--output", "{text}"), "--output"),
        (("evaluate-sequence", "nowhere"), "DATASET"),
        (("evaluate-sequence", "{scene}"), "track_id"),
        (("evaluate-sequence", "{scene}", "--every", "0"), "--every"),
    ],
)
def test_wrong_input_is_one_line_that_names_it(run, estimator, tmp_path, image, bag, scene, arguments, named):
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("no image")
    (tmp_path / "broken.yaml").write_text("tracker: [\n  1,\n")
    paths = {"image": image, "bag": bag, "scene": scene, "folder": tmp_path / "folder", "text": tmp_path / "text"}
    paths["broken_yaml"] = tmp_path / "broken.yaml"
    paths["small_mask"] = tmp_path / "small_mask.png"
    Image.fromarray(np.ones((2, 2), dtype=np.uint8)).save(paths["small_mask"])
    paths["float_image"] = tmp_path / "float.tif"
    Image.fromarray(np.ones((2, 2), dtype=np.float32)).save(paths["float_image"])
    status, _, err = run(*(argument.format(**paths) for argument in arguments))
    assert status == 2
    assert err.startswith("category-pose: error: ")
    assert err.count("\n") == 1
    assert named.lower() in err.lower()


def test_what_the_estimator_refuses_is_one_line(run, monkeypatch, image):
    def refuse(*arguments):
        raise ValueError("method: expected one of neural_mesh,\n  got 'magic'")

    monkeypatch.setattr("category_pose_ros.cli.options.PoseEstimator.load", refuse)
    status, _, err = run("estimate", image, *CAMERA_OPTION)
    assert (status, err) == (2, "category-pose: error: method: expected one of neural_mesh, got 'magic'\n")


@pytest.mark.parametrize("categories", [(), ("--categories", "can")])
def test_a_size_of_what_is_not_there_is_refused_before_the_first_run(run, scene, categories):
    status, out, err = run("evaluate", scene, "--vary", "estimator.neural_mesh.sizes=dog=0.1x0.1x0.1", *categories)
    assert (status, out) == (2, "")
    assert "--vary" in err
    assert "dog" in err


SCHEDULE = "estimator.schedule=paper"


@pytest.mark.parametrize("option", [("--schedule", "paper"), ("--set", SCHEDULE), ("--vary", SCHEDULE)])
def test_silhouettes_have_no_schedule_of_the_paper(run, scene, option):
    status, out, err = run("evaluate", scene, "--method", "silhouette", *option)
    assert (status, out) == (2, "")
    assert "schedule: expected ours with method silhouette, got paper" in err


def test_a_bug_shows_its_traceback(monkeypatch, image):
    def stumble(*arguments):
        raise RuntimeError("a bug")

    monkeypatch.setattr("category_pose_ros.cli.options.PoseEstimator.load", stumble)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["estimate", str(image), *CAMERA_OPTION])


def test_an_interrupt_ends_quietly(run, monkeypatch, image):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("category_pose_ros.cli.options.PoseEstimator.load", interrupt)
    assert run("estimate", image, *CAMERA_OPTION)[0] == 130


def test_the_module_is_the_command():
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "category_pose_ros", "estimate", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    for option in ("--camera", "--categories", "--method", "--device", "--model", "--json", "--overlay", "--set"):
        assert option in result.stdout
