"""Matching, summaries, tables and pages."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from category_pose_ros.data.annotations import AnnotatedFrame, GroundTruthObject
from category_pose_ros.evaluation.evaluate import Evaluation, ObjectResult, evaluate
from category_pose_ros.evaluation.examples import examples
from category_pose_ros.evaluation.matching import match, rotation_errors
from category_pose_ros.evaluation.poses_csv import COLUMNS, PosesWriter
from category_pose_ros.evaluation.report import Picture, aligned, group_rows, table_text, write_metrics, write_page
from category_pose_ros.evaluation.summary import (
    AP_ROTATION_DEG,
    AP_TRANSLATION_CM,
    occlusion_level,
    precision_curves,
    summarise,
)
from category_pose_ros.geometry import SE3, Camera, so3
from category_pose_ros.records import Frame, ObjectEstimate, Track, TrackState

CAMERA = Camera(fx=500.0, fy=500.0, cx=319.5, cy=239.5, width=640, height=480)
SIZE = np.array([0.12, 0.08, 0.1])


def pose(x=0.0, y=0.0, z=1.0, yaw_deg=0.0):
    rotation = so3.exp(torch.tensor([0.0, 0.0, math.radians(yaw_deg)], dtype=torch.float64))
    return SE3(rotation, torch.tensor([x, y, z], dtype=torch.float64))


def truth(at=(0.0, 0.0, 1.0), category="mug", **extra):
    return GroundTruthObject(category, pose(*at), SIZE, **extra)


def guess(at=(0.0, 0.0, 1.0), category="mug", score=0.9, yaw_deg=0.0):
    return ObjectEstimate(category, pose(*at, yaw_deg), SIZE, score, 1.0, np.eye(6))


def annotated(*objects, name="000000"):
    rgb = np.zeros((CAMERA.height, CAMERA.width, 3), dtype=np.uint8)
    return AnnotatedFrame(Frame(rgb, CAMERA), tuple(objects), name)


def run(estimates, *objects, categories=()):
    return evaluate(lambda frame: estimates, [annotated(*objects)], categories)


def overall(estimates, *objects):
    return summarise(run(estimates, *objects))["overall"]


LEFT, RIGHT = (-0.3, 0.0, 1.0), (0.3, 0.0, 1.0)


def test_each_estimate_goes_to_its_own_object():
    matching = match(CAMERA, [guess(RIGHT), guess(LEFT)], [truth(LEFT), truth(RIGHT)])
    assert set(matching.pairs) == {(0, 1), (1, 0)}
    assert matching.missed == ()
    assert matching.false_alarms == ()


def test_no_match_across_categories():
    matching = match(CAMERA, [guess(category="can")], [truth()])
    assert matching == type(matching)(pairs=(), missed=(0,), false_alarms=(0,))


def test_rotation_errors_are_those_of_what_counts():
    estimates = [guess(RIGHT, yaw_deg=20.0), guess(LEFT), guess(category="can")]
    errors = rotation_errors(CAMERA, estimates, [truth(LEFT, ignore=True), truth(RIGHT)])
    assert errors == {0: pytest.approx(math.radians(20.0), abs=1e-6), 2: math.inf}


def test_no_match_without_overlap_in_the_image():
    matching = match(CAMERA, [guess(LEFT)], [truth(RIGHT)])
    assert matching.missed == (0,)
    assert matching.false_alarms == (0,)


def test_a_wrong_distance_along_the_ray_is_a_match():
    """Twice as far and twice as large looks the same without depth."""
    far = ObjectEstimate("mug", pose(z=2.0), SIZE * 2, 0.9, 1.0, np.eye(6))
    assert match(CAMERA, [far], [truth()]).pairs == ((0, 0),)


def test_the_second_estimate_of_an_object_is_a_false_alarm():
    matching = match(CAMERA, [guess((0.01, 0.0, 1.0)), guess()], [truth()])
    assert matching.pairs == ((1, 0),)
    assert matching.false_alarms == (0,)


def test_estimates_on_ignored_objects_are_neither_hit_nor_false_alarm():
    matching = match(CAMERA, [guess(LEFT), guess(LEFT), guess(RIGHT)], [truth(LEFT, ignore=True), truth(RIGHT)])
    assert matching == type(matching)(pairs=((2, 1),), missed=(), false_alarms=())


def test_ignored_objects_take_nothing_from_those_that_count():
    counted, nearer = truth(), truth((0.02, 0.0, 1.0), ignore=True)
    estimate = guess((0.015, 0.0, 1.0))
    assert match(CAMERA, [estimate], [nearer]).false_alarms == ()
    matching = match(CAMERA, [estimate], [nearer, counted])
    assert (matching.pairs, matching.missed) == (((0, 1),), ())


def test_a_wide_crowd_region_forgives_what_is_mostly_inside_it():
    """Objects of 60 px on a region more than 500 px wide, whose IoU with it is small."""
    region = GroundTruthObject("mug", pose(x=0.3), np.array([1.2, 0.1, 0.001]), ignore=True, crowd=True)
    inside, mostly, hardly, outside = (guess((x, 0.0, 1.0)) for x in (0.1, -0.28, -0.3, -0.5))
    estimates = [inside, mostly, hardly, outside, guess((0.1, 0.0, 1.0), category="can")]
    assert match(CAMERA, estimates, [region]) == type(match(CAMERA, [], []))((), (), (2, 3, 4))
    whole = dataclasses.replace(region, crowd=False)
    assert match(CAMERA, [inside], [whole]).false_alarms == (0,)


def test_a_crowd_region_takes_nothing_from_objects_that_count():
    region = GroundTruthObject("mug", pose(), np.array([1.2, 0.1, 0.001]), ignore=True, crowd=True)
    matching = match(CAMERA, [guess()], [region, truth()])
    assert (matching.pairs, matching.missed) == (((0, 1),), ())


def test_a_crowd_region_does_not_count():
    with pytest.raises(ValueError, match="crowd: expected with ignore"):
        truth(crowd=True)


def test_an_ignored_object_that_is_not_found_is_not_missed():
    assert match(CAMERA, [], [truth(ignore=True)]).missed == ()


def test_empty_frames_match():
    assert match(CAMERA, [], []) == type(match(CAMERA, [], []))((), (), ())


def test_numbers_of_one_right_one_turned_one_missed_one_invented():
    numbers = overall(
        [guess(LEFT), guess(RIGHT, yaw_deg=20.0, score=0.8), guess((0.0, 0.3, 1.0), score=0.85)],
        truth(LEFT),
        truth(RIGHT),
        truth((0.0, -0.3, 1.0)),
    )
    assert (numbers["objects"], numbers["found"], numbers["false_alarms"]) == (3, 2, 1)
    assert numbers["precision"] == pytest.approx(2 / 3)
    assert numbers["acc_pi_6"] == pytest.approx(2 / 3)
    assert numbers["acc_pi_18"] == pytest.approx(1 / 3)
    assert numbers["median_rotation_error_deg"] == pytest.approx(10.0, abs=1e-4)
    assert numbers["median_translation_error_m"] == pytest.approx(0.0)
    # By score: right, invented, turned. Within 5 degrees only the first is positive.
    assert numbers["deg5_cm5"] == pytest.approx(1 / 3)
    assert numbers["map_pi3_5"] == pytest.approx((1 + 2 / 3) / 3)


def test_a_symmetric_object_may_be_turned():
    numbers = overall([guess(category="can", yaw_deg=77.0)], truth(category="can"))
    assert numbers["median_rotation_error_deg"] == pytest.approx(0.0, abs=1e-4)
    assert numbers["iou50"] == 1.0
    assert overall([guess(yaw_deg=77.0)], truth())["acc_pi_6"] == 0.0


def test_mean_average_precision_weighs_categories_alike():
    objects = [truth(LEFT, "can"), truth(RIGHT, "mug"), truth((0.0, 0.3, 1.0), "mug"), truth((0.0, -0.3, 1.0), "mug")]
    summary = summarise(run([guess(LEFT, "can")], *objects))
    assert summary["overall"]["iou50"] == pytest.approx(0.5)
    assert summary["by_category"]["mug"]["iou50"] == 0.0


def test_distance_error_is_a_fraction_of_the_true_distance():
    assert overall([guess((0.0, 0.0, 1.1))], truth())["median_distance_error"] == pytest.approx(0.1)


def test_size_error_is_a_fraction_of_the_true_extents():
    larger = ObjectEstimate("mug", pose(), SIZE * 1.2, 0.9, 1.0, np.eye(6))
    assert overall([larger], truth())["median_size_error"] == pytest.approx(0.2)


def test_curves_of_average_precision_step_up_at_the_error():
    """One object found 11.9 degrees and 2.9 cm off, one not found."""
    evaluation = run([guess((-0.3, 0.0, 1.029), yaw_deg=11.9)], truth(LEFT), truth(RIGHT))
    curves = precision_curves(evaluation.objects, evaluation.false_alarms)
    assert curves.rotation == pytest.approx(np.where(AP_ROTATION_DEG < 11.9, 0, 0.5))
    assert curves.translation == pytest.approx(np.where(AP_TRANSLATION_CM < 2.9, 0, 0.5))
    numbers = summarise(evaluation)["overall"]
    # 48.5 of 60 steps of a degree, and 48.5 of 60 of a quarter of a centimetre: half a step is the rise.
    assert numbers["ap_rotation_60"] == pytest.approx(0.5 * 48.5 / 60)
    assert numbers["ap_translation_15"] == pytest.approx(0.5 * 48.5 / 60)
    assert precision_curves([], []) is None


def test_nothing_to_measure_is_null():
    numbers = overall([])
    assert numbers["objects"] == 0
    assert all(numbers[key] is None for key in ("acc_pi_6", "precision", "median_add_m", "iou50", "map_pi3_5"))
    assert overall([], truth())["acc_pi_6"] == 0.0


def test_only_the_asked_categories_count():
    evaluation = run([guess(LEFT), guess(RIGHT, "can")], truth(LEFT), truth(RIGHT, "can"), categories=["can"])
    assert [item.category for item in evaluation.objects] == ["can"]
    assert evaluation.false_alarms == []


def test_seconds_are_taken_per_image_and_what_is_compiled_at_first_left_out():
    evaluation = evaluate(lambda frame: [], [annotated(truth(), name="a"), annotated(name="b"), annotated(name="c")])
    assert len(evaluation.seconds) == 3
    evaluation.seconds[:] = [7.0, 0.2, 0.3]
    assert summarise(evaluation)["overall"]["seconds_per_image"] == pytest.approx(0.25)
    evaluation.seconds[:] = [7.0]
    assert summarise(evaluation)["overall"]["seconds_per_image"] == 7.0


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"size_m": np.array([0.1, np.nan, 0.1])}, "size_m: expected three positive lengths"),
        ({"camera_from_object": pose(0.0, 0.0, math.nan)}, "expected a finite pose"),
        ({"camera_from_object": pose(0.0, 0.0, 0.0)}, "away from the camera's centre"),
        ({"camera_from_object": SE3(-pose().rotation, pose().translation)}, "got a mirrored one"),
        ({"visible_fraction": 1.5}, "visible_fraction: expected a share"),
    ],
)
def test_ground_truth_that_cannot_be_is_refused(change, expected):
    with pytest.raises(ValueError, match=expected):
        dataclasses.replace(truth(), **change)


@pytest.mark.parametrize(
    ("visible", "level"),
    [(1.0, "L0"), (0.81, "L0"), (0.8, "L1"), (0.61, "L1"), (0.6, "L2"), (0.4, "L3"), (0.21, "L3"), (0.2, None)],
)
def test_occlusion_levels(visible, level):
    assert occlusion_level(ObjectResult("f", "mug", visible)) == level


def test_objects_of_unknown_visibility_have_no_level():
    summary = summarise(run([guess()], truth()))
    assert all(numbers["objects"] == 0 for numbers in summary["by_occlusion"].values())
    summary = summarise(run([guess()], truth(visible_fraction=0.7)))
    assert summary["by_occlusion"]["L1"]["found"] == 1
    assert summary["by_occlusion"]["L1"]["precision"] is None


def test_false_alarms_are_counted_per_image():
    evaluation = evaluate(
        lambda frame: [guess(), guess(LEFT, "can")], [annotated(name="a"), annotated(truth(), name="b")]
    )
    summary = summarise(evaluation)
    assert summary["overall"]["false_alarms_per_image"] == pytest.approx(1.5)
    assert summary["by_category"]["mug"]["false_alarms_per_image"] == pytest.approx(0.5)
    assert summary["by_occlusion"]["L0"]["false_alarms_per_image"] is None
    assert "1.50" in table_text(summary).splitlines()[2]


def test_metrics_file_has_what_is_promised(tmp_path):
    write_metrics(tmp_path / "metrics.json", summarise(run([guess()], truth(visible_fraction=1.0))))
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert set(content) == {"overall", "by_category", "by_occlusion"}
    assert set(content["by_category"]) == {"mug"}
    assert set(content["by_occlusion"]) == {"L0", "L1", "L2", "L3"}
    promised = {
        *("objects", "found", "acc_pi_6", "acc_pi_18", "precision", "median_rotation_error_deg", "median_add_m"),
        *("median_translation_error_m", "deg5_cm5", "deg10_cm10", "iou50", "map_pi3_5", "seconds_per_image"),
    }
    assert promised <= set(content["overall"])


def test_table_has_a_row_per_group_and_aligned_columns():
    lines = table_text(summarise(run([guess()], truth(visible_fraction=0.5), truth(LEFT, "can")))).splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["overall", "can", "mug", "L2"]
    assert len({len(line) for line in lines}) == 1
    assert "acc 30°" in lines[0]
    assert "s/image" in lines[0]


def test_damage_has_rows_of_its_own_everywhere(tmp_path):
    summary = summarise(run([guess()], truth()))
    by_damage = {"as it is": summary["overall"], "50% holes": overall([], truth())}
    lines = aligned(group_rows(by_damage)).splitlines()
    assert [line.split()[:3] for line in lines[2:]] == [["as", "it", "is"], ["50%", "holes", "1"]]
    compared = {"by_damage": by_damage}
    write_metrics(tmp_path / "metrics.json", summary, compared)
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert content["by_damage"]["50% holes"]["found"] == 0
    write_page(tmp_path / "report.html", "title", summary, [], [], compared)
    assert "<td>50% holes</td>" in (tmp_path / "report.html").read_text()


def test_page_is_self_contained(tmp_path):
    summary = summarise(run([guess()], truth()))
    pictures = [Picture("a < b", b"png")]
    write_page(tmp_path / "report.html", "set: method", summary, pictures, [])
    page = (tmp_path / "report.html").read_text()
    assert "<td>mug</td>" in page
    assert "a &lt; b" in page
    assert "data:image/png;base64,cG5n" in page
    assert 'src="http' not in page
    assert "Best, median" not in page


def test_examples_are_best_median_and_worst():
    evaluation = Evaluation()
    frames = [annotated(truth(), name=name) for name in ("turned", "right", "missed")]
    answers = iter([[guess(yaw_deg=20.0)], [guess()], []])
    evaluation = evaluate(lambda frame: next(answers), frames)
    assert [example.frame_name for example in examples(evaluation)] == ["right", "turned", "missed"]
    assert "180.0°" in examples(evaluation)[2].caption
    assert examples(Evaluation()) == []


def test_poses_file(tmp_path):
    quarter_turn = Track(3, TrackState.CONFIRMED, guess((0.1, 0.2, 1.5), yaw_deg=90.0), 5)
    with PosesWriter(tmp_path / "poses.csv") as poses:
        poses.write(5, [quarter_turn])
        poses.write(6, [])
    header, row = (tmp_path / "poses.csv").read_text().splitlines()
    assert (
        header
        == ("stamp_ns,track_id,category,score,visible_fraction,x,y,z,qx,qy,qz,qw,size_x,size_y,size_z")
        == ",".join(COLUMNS)
    )
    half = math.sqrt(0.5)
    values = row.split(",")
    assert values[:3] == ["5", "3", "mug"]
    expected = [0.9, 1.0, 0.1, 0.2, 1.5, 0, 0, half, half, *SIZE]
    assert [float(value) for value in values[3:]] == pytest.approx(expected, abs=1e-6)
