"""Synthetic data sets: annotated rightly, of instances that training cannot reach, readable again."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.testing import assert_close

pytest.importorskip("embreex", reason="the ray tracer is not available on this platform")

from category_pose_ros.cli import main
from category_pose_ros.data.annotations import AnnotatedFrame
from category_pose_ros.data.bags import BagFrames
from category_pose_ros.data.bop import BopScene
from category_pose_ros.data.samples import SampleConfig, SceneSamples
from category_pose_ros.data.synthesize import SynthesisConfig, synthesize_images, synthesize_sequence

SMALL = SynthesisConfig(width=160, height=120, focal_px=150.0)


def test_an_image_depends_on_seed_and_number_alone() -> None:
    first, second = (list(synthesize_images(3, 5, SMALL))[2] for _ in range(2))
    assert (first.frame.rgb == second.frame.rgb).all()
    assert len(first.objects) == len(second.objects) > 0
    other = list(synthesize_images(3, 6, SMALL))[2]
    assert (first.frame.rgb != other.frame.rgb).any()


def test_no_two_streams_of_random_numbers_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even that of a training whose seed is the number that marks what is held out."""
    made, original = [], np.random.default_rng

    def recorded(seed: list[int]) -> np.random.Generator:
        made.append(seed)
        return original(seed)

    monkeypatch.setattr(np.random, "default_rng", recorded)
    list(synthesize_images(2, 7, SMALL))
    next(iter(synthesize_sequence(2, 10.0, 7, SMALL)))
    training = SceneSamples(("can",), SampleConfig(empty=1.0), seed=made[0][0])
    for index in (0, 1, 7):
        training[index]
    assert len(made) == 7
    assert len({original(seed).random() for seed in made}) == len(made)


def test_photographs_of_training_appear_only_where_asked_for(tmp_path: Path) -> None:
    for number in range(10):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((30, 30, 3), number, dtype=np.uint8))
    shown = {
        split: {int(picture.max()) for picture in SynthesisConfig(photographs=split).textures(tmp_path).photographs}
        for split in ("held_out", "training")
    }
    assert shown == {"held_out": {9}, "training": set(range(9))}


def test_too_few_photographs_for_a_tenth_are_refused(tmp_path: Path) -> None:
    for number in range(5):
        cv2.imwrite(str(tmp_path / f"{number}.jpg"), np.zeros((30, 30, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"backgrounds: expected at least 10 photographs in .*, got 5"):
        next(iter(synthesize_images(1, 0, SMALL, tmp_path)))


def test_a_photograph_cut_short_is_named(tmp_path: Path) -> None:
    path = tmp_path / "photograph.jpg"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"^backgrounds: .*photograph\.jpg: damaged: "):
        SynthesisConfig(photographs="training").textures(tmp_path)


def test_photographs_are_found_however_their_suffix_is_written(tmp_path: Path) -> None:
    for number, suffix in enumerate([".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG"]):
        _, data = cv2.imencode(suffix.lower(), np.full((30, 30, 3), number, dtype=np.uint8))
        (tmp_path / f"{number}{suffix}").write_bytes(data.tobytes())
    assert len(SynthesisConfig(photographs="training").textures(tmp_path).photographs) == 6


def test_objects_are_where_the_annotation_says() -> None:
    """The rendered depth at an object's projected box agrees with its pose."""
    checked = 0
    for item in synthesize_images(8, 0, SMALL):
        assert item.frame.depth is not None
        for target in item.objects:
            u, v = np.rint(item.frame.camera.project(target.camera_from_object.translation).numpy()).astype(int)
            if not target.ignore and target.visible_fraction > 0.8 and 0 <= u < SMALL.width and 0 <= v < SMALL.height:
                gap = float(target.camera_from_object.translation[2]) - float(item.frame.depth[v, u])
                assert abs(gap) < np.linalg.norm(target.size_m)
                checked += 1
    assert checked >= 3


def test_hidden_objects_are_ignored() -> None:
    targets = [target for item in synthesize_images(12, 1, SMALL) for target in item.objects]
    assert all(target.ignore == (target.visible_fraction < SMALL.least_visible) for target in targets)  # type: ignore[operator]
    assert len({target.category for target in targets}) == 3


def test_unknown_categories_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"categories: expected names among bottle, .*, got 'spoon'"):
        SynthesisConfig(categories=("car", "spoon"))


STREET = SynthesisConfig(categories=("car",), width=310, height=94, focal_px=180.0)


@pytest.mark.parametrize("config", [SMALL, STREET])
def test_most_objects_inside_a_small_image_are_seen_whole(config: SynthesisConfig) -> None:
    """However few pixels they cover."""
    targets = [target for item in synthesize_images(12, 3, config) for target in item.objects]
    border = np.pad(np.zeros((config.height - 2, config.width - 2), bool), 1, constant_values=True)
    inside = [target.visible_fraction for target in targets if not (target.mask & border).any()]
    assert np.median(inside) > 0.97


def test_streets_are_seen_from_a_vehicle() -> None:
    """Upright cars on the ground below the camera, at the distances of a street."""
    found = 0
    for item in synthesize_images(4, 2, STREET):
        assert item.frame.depth is not None
        assert item.frame.depth.max() < 65.6
        for target in item.objects:
            assert target.category == "car"
            assert target.ignore == (target.visible_fraction < STREET.least_visible)  # type: ignore[operator]
            up = target.camera_from_object.rotation[:, 2]
            assert float(up[1]) < -0.95
            across, down, ahead = target.camera_from_object.translation.tolist()
            assert down > -0.15 * max(abs(across), ahead)  # a camera is above it, less the pitch
            found += not target.ignore
    assert found >= 4


def test_a_drive_comes_nearer() -> None:
    first, second = itertools.islice(synthesize_sequence(12, 10.0, 1, STREET), 2)
    ahead = [[float(target.camera_from_object.translation[2]) for target in item.objects] for item in (first, second)]
    assert max(ahead[0]) > max(ahead[1]) + 1


def test_a_drive_goes_through_no_car() -> None:
    tiny, inside = SynthesisConfig(categories=("car",), width=64, height=64, focal_px=40.0), 0
    for seed in (5, 10, 15):  # a car stood in the way
        for item in synthesize_sequence(40, 10.0, seed, tiny):
            assert item.world_from_camera is not None
            for target in item.objects:
                eye = -(target.camera_from_object.rotation.T @ target.camera_from_object.translation).numpy()
                inside += int((np.abs(eye[:2]) < target.size_m[:2] / 2).all())
    assert inside == 0


def test_a_sequence_keeps_its_objects_and_its_rhythm() -> None:
    items = list(itertools.islice(synthesize_sequence(100, 10.0, 2, SMALL), 3))
    assert [item.frame.stamp_ns for item in items] == [0, 100_000_000, 200_000_000]
    seen = [{target.category for target in item.objects} for item in items]
    assert seen[0] & seen[1] & seen[2]
    first, second = (item.objects[0].camera_from_object.translation for item in items[:2])
    assert 0 < (first - second).norm() < 0.1


def test_a_sequence_says_where_its_camera_was() -> None:
    """Its objects are at rest."""
    places = {}
    for item in itertools.islice(synthesize_sequence(10, 10.0, 2, SMALL), 3):
        assert item.world_from_camera is not None
        for target in item.objects:
            place = (item.world_from_camera @ target.camera_from_object.to(torch.float64)).translation
            assert_close(place, places.setdefault(target.track_id, place), atol=1e-5, rtol=0)


def test_the_command_holds_one_frame_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a scene and a bag are written, each frame is in both before the next is made."""
    frames = itertools.islice(synthesize_sequence(9, 10.0, 0, SMALL), 1)
    item = next(iter(frames))
    seen = []

    def slow(*_: object) -> Iterator[AnnotatedFrame]:
        for number in range(3):
            seen.append(len(list((tmp_path / "set").glob("rgb/*"))))
            yield dataclasses.replace(item, frame=dataclasses.replace(item.frame, stamp_ns=number))

    monkeypatch.setattr("category_pose_ros.cli.synthesize.synthesize_sequence", slow)
    with pytest.raises(SystemExit) as ended:
        main(["synthesize", str(tmp_path / "set"), "--sequence", "--bag", "--images", "3"])
    assert ended.value.code == 0
    assert seen == [0, 1, 2]
    assert len(BopScene(tmp_path / "set")) == len(list(BagFrames(tmp_path / "set" / "bag"))) == 3


def test_the_command_writes_a_scene_and_a_bag(tmp_path: Path) -> None:
    arguments = [str(tmp_path / "set"), "--sequence", "--bag", "--images", "2", "--rate", "5"]
    with pytest.raises(SystemExit) as ended:
        main(["synthesize", *arguments])
    assert ended.value.code == 0
    assert len(BopScene(tmp_path / "set")) == 2
    assert [frame.stamp_ns for frame in BagFrames(tmp_path / "set" / "bag")] == [0, 200_000_000]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--categories", "mug,spoon"], "--categories: expected names among"), (["--bag"], "--bag: expected together")],
)
def test_wrong_arguments_are_one_line(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["synthesize", str(tmp_path), *arguments])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
