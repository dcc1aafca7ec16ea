"""Scene folders: written, read, damaged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
import torch

from category_pose_ros.data.annotations import AnnotatedFrame, GroundTruthObject
from category_pose_ros.data.bop import BopScene
from category_pose_ros.data.bop_writer import write_scene
from category_pose_ros.data.images import read_depth, read_rgb
from category_pose_ros.geometry import SE3, Camera, so3
from category_pose_ros.records import Frame

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
CAMERA = Camera(fx=50.5, fy=51.5, cx=15.25, cy=11.75, width=32, height=24)


def annotated(seed, with_depth=True):
    rng = np.random.default_rng(seed)
    depth = (rng.integers(0, 2000, (24, 32)) / 1000).astype(np.float32) if with_depth else None
    pose = SE3(so3.exp(torch.from_numpy(rng.normal(size=3))), torch.from_numpy(rng.normal(size=3)))
    objects = (
        GroundTruthObject("mug", pose, np.array([0.12, 0.08, 0.1]), False, 0.75, mask=rng.random((24, 32)) > 0.5),
        GroundTruthObject("can", pose, np.array([0.06, 0.06, 0.12]), ignore=True),
    )
    rgb = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
    there = pose.inverse() if with_depth else None
    return AnnotatedFrame(Frame(rgb, CAMERA, depth, stamp_ns=seed * 10**8), objects, "any name", there)


@pytest.fixture
def scene(tmp_path):
    assert write_scene(tmp_path, [annotated(1), annotated(2, with_depth=False)]) == 2
    return tmp_path


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_what_is_written_is_read(scene):
    read = list(BopScene(scene))
    assert [item.name for item in read] == ["000000", "000001"]
    for item, original in zip(read, (annotated(1), annotated(2, with_depth=False)), strict=True):
        assert (item.frame.rgb == original.frame.rgb).all()
        assert item.frame.camera == original.frame.camera
        assert item.frame.stamp_ns == original.frame.stamp_ns
        for mine, other in zip(item.objects, original.objects, strict=True):
            assert (mine.category, mine.ignore, mine.visible_fraction) == (
                other.category,
                other.ignore,
                other.visible_fraction,
            )
            assert (mine.mask is None) == (other.mask is None)
            assert mine.mask is None or (mine.mask == other.mask).all()
            assert torch.allclose(mine.camera_from_object.matrix(), other.camera_from_object.matrix())
            assert np.allclose(mine.size_m, other.size_m)
    assert np.allclose(read[0].frame.depth, annotated(1).frame.depth, atol=1e-6)
    assert read[1].frame.depth is None
    assert torch.allclose(read[0].world_from_camera.matrix(), annotated(1).world_from_camera.matrix())
    assert read[1].world_from_camera is None


def test_the_boxes_of_the_masks_are_written(tmp_path):
    mask = np.zeros((24, 32), dtype=np.bool_)
    mask[5:9, 10:31] = True
    frame = annotated(1)
    mug, can = frame.objects
    hidden = replace(mug, mask=np.zeros_like(mask))
    write_scene(tmp_path, [replace(frame, objects=(replace(mug, mask=mask), can, hidden))])
    (entries,) = json.loads((tmp_path / "scene_gt_info.json").read_text()).values()
    assert [entry.get("bbox_visib") for entry in entries] == [[10, 5, 21, 4], None, None]


def test_a_scene_is_a_sequence(scene):
    frames = BopScene(scene)
    assert len(frames) == 2
    assert frames[-1].name == "000001"
    assert [item.name for item in frames[:1]] == ["000000"]


def test_jpeg_is_read_too(tmp_path):
    write_scene(tmp_path, [annotated(1)], image_suffix=".jpg")
    assert (tmp_path / "rgb" / "000000.jpg").exists()
    assert BopScene(tmp_path)[0].frame.rgb.shape == (24, 32, 3)


def test_depth_scale_turns_units_into_millimetres(scene):
    edit(scene / "scene_camera.json", lambda cameras: cameras["0"].update(depth_scale=0.1))
    assert np.allclose(BopScene(scene)[0].frame.depth, annotated(1).frame.depth / 10, atol=1e-6)


def test_holes_in_depth_are_written_as_zero(tmp_path):
    original = annotated(1)
    depth = np.full((24, 32), np.nan, dtype=np.float32)
    depth[0, 0] = 1.5
    write_scene(tmp_path, [AnnotatedFrame(Frame(original.frame.rgb, CAMERA, depth), (), "x")])
    read = BopScene(tmp_path)[0].frame.depth
    assert read[0, 0] == pytest.approx(1.5)
    assert read[1:].max() == 0


def test_a_scene_without_info_knows_no_visibility(scene):
    (scene / "scene_gt_info.json").unlink()
    assert all(item.visible_fraction is None for item in BopScene(scene)[0].objects)


def test_images_are_read_in_numeric_order(tmp_path):
    write_scene(tmp_path, [annotated(k, with_depth=False) for k in range(11)])
    assert [item.frame.stamp_ns for item in BopScene(tmp_path)] == [k * 10**8 for k in range(11)]


def test_lens_distortion_cannot_be_written(tmp_path):
    camera = Camera(50.0, 50.0, 16.0, 12.0, 32, 24, distortion=(0.1, 0.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="distortion in bent"):
        write_scene(tmp_path, [AnnotatedFrame(Frame(np.zeros((24, 32, 3), np.uint8), camera), (), "bent")])


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere: expected a BOP-style scene folder"):
        BopScene(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["scene_camera.json", "scene_gt.json"])
def test_a_missing_file_is_named(scene, name):
    (scene / name).unlink()
    with pytest.raises(ValueError, match=f"{name}: missing"):
        BopScene(scene)


@pytest.mark.parametrize("text", ["{", "[]", '{"0": 3}'])
def test_a_damaged_file_is_named(scene, text):
    (scene / "scene_gt.json").write_text(text)
    with pytest.raises(ValueError, match=r"scene_gt\.json: damaged"):
        BopScene(scene)


def test_numbers_of_images_may_be_padded_as_in_their_names(scene):
    before = BopScene(scene)[0].objects
    for name in ("scene_camera", "scene_gt", "scene_gt_info"):
        edit(scene / f"{name}.json", lambda c: c.update({key.zfill(6): c.pop(key) for key in list(c)}))
    assert [item.category for item in BopScene(scene)[0].objects] == [item.category for item in before]


def test_a_number_in_two_forms_is_refused(scene):
    edit(scene / "scene_gt.json", lambda c: c.update({"000000": c["0"]}))
    with pytest.raises(ValueError, match=r"scene_gt\.json: expected each image number once"):
        BopScene(scene)


def test_a_scene_without_images_is_refused(scene):
    (scene / "scene_gt.json").write_text("{}")
    with pytest.raises(ValueError, match=r"scene_gt\.json: expected images, found none"):
        BopScene(scene)


def test_keys_that_are_no_numbers_are_refused(scene):
    (scene / "scene_gt.json").write_text('{"first": []}')
    with pytest.raises(ValueError, match=r"scene_gt\.json: expected image numbers"):
        BopScene(scene)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("scene_camera", lambda c: c.pop("0"), "scene_camera.json: no entry for image 0"),
        ("scene_camera", lambda c: c["0"].pop("cam_K"), "scene_camera.json: image 0: missing 'cam_K'"),
        ("scene_camera", lambda c: c["0"].pop("depth_scale"), "image 0: missing 'depth_scale'"),
        ("scene_camera", lambda c: c["0"].update(cam_K=[0.0] * 9), "image 0: fx: expected a positive"),
        ("scene_camera", lambda c: c["0"].update(cam_K=[float("nan")] * 9), "cam_K: expected 9 finite numbers"),
        ("scene_camera", lambda c: c["0"].update(cam_K=[1.0]), "cam_K: expected 9 finite numbers"),
        ("scene_gt", lambda c: c["0"][0].pop("category"), "scene_gt.json: image 0: missing 'category'"),
        ("scene_gt", lambda c: c["0"][0].update(size_m=[0.1, 0.1]), "size_m: expected 3 finite numbers"),
        ("scene_gt", lambda c: c["0"][0].update(size_m=[0.1, 0.1, 0.0]), "size_m: expected three positive lengths"),
        ("scene_gt", lambda c: c["0"][0].update(cam_R_m2c=[1] * 9), "cam_R_m2c: expected a rotation matrix"),
        ("scene_gt", lambda c: c["0"][0].update(cam_R_m2c=[-1, 0, 0, 0, 1, 0, 0, 0, 1]), "expected a rotation matrix"),
        ("scene_gt", lambda c: c.update({"0": ["mug", "can"]}), "scene_gt.json: image 0"),
        ("scene_camera", lambda c: c["0"].update(cam_K=[1.0, 0.5, 1, 0, 1, 1, 0, 0, 1]), "cam_K: expected no skew"),
        ("scene_camera", lambda c: c["0"].update(depth_scale=float("nan")), "depth_scale: expected a positive number"),
        ("scene_camera", lambda c: c["0"].update(stamp_ns=float("inf")), "scene_camera.json: image 0: "),
        ("scene_gt", lambda c: c["0"][0].update(ignore="false"), "ignore: expected true or false, got 'false'"),
        ("scene_gt_info", lambda c: c["0"][0].update(visib_fract=7), "visible_fraction: expected a share from 0 to 1"),
        ("scene_gt_info", lambda c: c["0"].pop(), "scene_gt_info.json: image 0: expected 2 entries, got 1"),
    ],
)
def test_wrong_entries_are_named(scene, name, change, message):
    edit(scene / f"{name}.json", change)
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        BopScene(scene)[0]


def test_a_missing_image_is_named(scene):
    (scene / "rgb" / "000000.png").unlink()
    with pytest.raises(ValueError, match=r"000000\.png: missing"):
        BopScene(scene)[0]


@pytest.mark.parametrize("folder", ["rgb", "depth"])
def test_a_damaged_image_is_named(scene, folder):
    path = scene / folder / "000000.png"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=rf"{folder}/000000\.png: damaged"):
        BopScene(scene)[0]


def test_a_depth_image_of_the_wrong_kind_is_refused(scene):
    cv2.imwrite(str(scene / "depth" / "000000.png"), np.zeros((24, 32, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"000000\.png: expected a 16-bit depth image"):
        BopScene(scene)[0]


@pytest.mark.parametrize(
    ("folder", "images", "counted"),
    [
        ("kitti_cars", 16, 28),
        ("kitti_drive_sequence", 60, 90),
        ("mug_sequence", 79, 79),
        ("nocs_frame", 1, 5),
        ("tabletop_pathtraced", 40, 100),
    ],
)
def test_shared_scenes_load(folder, images, counted):
    if not (SHARED_DATA / folder).is_dir():
        pytest.skip("the shared data sets are not here")
    scene = BopScene(SHARED_DATA / folder)
    frames = list(scene[::10])  # every tenth image decodes fast enough
    assert len(scene) == images
    objects = [item for image_id in scene.image_ids for item in scene.objects(image_id)]
    assert sum(not item.ignore for item in objects) == counted
    assert all(
        item.frame.depth is None or 0.2 < np.median(item.frame.depth[item.frame.depth > 0]) < 60 for item in frames
    )
    assert all(0.05 < float(item.camera_from_object.translation[2]) < 120 for frame in frames for item in frame.objects)


@pytest.mark.parametrize("name", ["grey.png", "grey.tif"])
def test_grey_of_sixteen_bits_is_scaled_and_not_cut_off(tmp_path, name):
    grey = np.linspace(0, 65535, 12).round().astype(np.uint16).reshape(3, 4)
    PIL.Image.fromarray(grey).save(tmp_path / name)
    pixels = read_rgb(tmp_path / name)
    assert pixels.shape == (3, 4, 3)
    assert np.abs(pixels - (grey / 257.0)[..., None]).max() <= 0.5


def test_annotations_speak_of_images_as_they_are_stored(tmp_path):
    pixels = np.zeros((3, 4, 3), np.uint8)
    pixels[0, 0] = 255
    exif = PIL.Image.Exif()
    exif[0x0112] = 3  # to be turned by 180 degrees
    PIL.Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    assert (read_rgb(tmp_path / "turned.png") == pixels).all()
    assert (read_rgb(tmp_path / "turned.png", upright=True) == pixels[::-1, ::-1]).all()


def test_a_scene_is_not_written_over_another(tmp_path):
    write_scene(tmp_path, [annotated(1), annotated(2)])
    with pytest.raises(ValueError, match="there is a scene already"):
        write_scene(tmp_path, [annotated(3)])


def test_depth_beyond_sixteen_bits_is_refused(tmp_path):
    PIL.Image.fromarray(np.full((3, 4), 70000, np.int32)).save(tmp_path / "depth.tif")
    with pytest.raises(ValueError, match=r"depth\.tif: expected a 16-bit depth image, got values from 70000"):
        read_depth(tmp_path / "depth.tif")
