"""Public data sets in their own layouts: tiny folders made by hand, poses computed by hand."""

from __future__ import annotations

import math
import os
import pickle
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import scipy.io
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from category_pose_ros.data.bop import BopScene
from category_pose_ros.data.datasets import LAYOUTS, open_dataset
from category_pose_ros.data.frames import FrameList
from category_pose_ros.data.kitti import KittiObjects
from category_pose_ros.data.nocs import NocsScenes
from category_pose_ros.data.pascal3d import Pascal3d
from category_pose_ros.data.photographs import EmptyPhotographs
from category_pose_ros.evaluation.evaluate import evaluate
from category_pose_ros.evaluation.overlap import projected_box
from category_pose_ros.evaluation.summary import occlusion_level
from category_pose_ros.geometry import Symmetry

RIGHT, DOWN, AHEAD = (np.eye(3)[axis] for axis in range(3))


def write_image(path: Path, width: int = 64, height: int = 48) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((height, width, 3), 90, dtype=np.uint8))


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def axes(item) -> list[np.ndarray]:
    """The object's forward, left and up in the camera."""
    return list(item.camera_from_object.rotation.numpy().T)


def position(item) -> np.ndarray:
    return item.camera_from_object.translation.numpy()


# KITTI: focal length 50 px, and the colour camera 6 cm to the left of camera 0.
CALIBRATION = "P0: 50 0 32 0 0 50 24 0 0 0 1 0\nP2: 50 0 32 3.0 0 50 24 0 0 0 1 0\nR0_rect: 1 0 0 0 1 0 0 0 1\n"
CAR = "{kind} {truncated} {occluded} 0 10 5 40 {bottom} 1.5 1.6 4.0 2.0 1.7 10.0 {yaw}\n"


def kitti(folder: Path, *labels: str) -> Path:
    write_image(folder / "training" / "image_2" / "000007.png")
    write_text(folder / "training" / "calib" / "000007.txt", CALIBRATION)
    write_text(folder / "training" / "label_2" / "000007.txt", "".join(labels))
    return folder


def car(kind="Car", truncated=0.0, occluded=0, bottom=35, yaw=0.0) -> str:
    return CAR.format(kind=kind, truncated=truncated, occluded=occluded, bottom=bottom, yaw=yaw)


def test_kitti_cars_stand_on_their_underside_and_drive_along_rotation_y(tmp_path):
    (frame,) = KittiObjects(kitti(tmp_path, car(), car(yaw=-math.pi / 2), car(kind="Pedestrian")))
    along_x, away = frame.objects
    assert (frame.name, along_x.category, along_x.ignore) == ("000007", "car", False)
    assert frame.frame.camera.matrix().tolist() == [[50, 0, 32], [0, 50, 24], [0, 0, 1]]
    assert np.allclose(position(along_x), [2.06, 0.95, 10.0])
    assert along_x.size_m.tolist() == [4.0, 1.6, 1.5]
    assert np.allclose(axes(along_x), [RIGHT, AHEAD, -DOWN])
    assert np.allclose(axes(away), [AHEAD, -RIGHT, -DOWN])


def test_kitti_ignores_vans_and_what_is_beyond_its_hardest_level(tmp_path):
    beyond = [car("Van"), car(bottom=29.9), car(occluded=3), car(truncated=0.51)]
    (frame,) = KittiObjects(kitti(tmp_path, car(bottom=30, occluded=2, truncated=0.5), *beyond))
    assert [item.ignore for item in frame.objects] == [False, True, True, True, True]


def test_kitti_regions_without_labels_are_ignored_where_they_are(tmp_path):
    (frame,) = KittiObjects(kitti(tmp_path, "DontCare -1 -1 -10 12 6 40 30 -1 -1 -1 -1000 -1000 -1000 -10\n"))
    (board,) = frame.objects
    assert board.ignore
    assert board.crowd
    assert np.allclose(
        projected_box(frame.frame.camera, board.camera_from_object, board.size_m), [12, 6, 40, 30], atol=0.01
    )


@pytest.mark.parametrize(
    ("file", "text", "named"),
    [
        ("label_2", "Car 0 0 0 1 2\n", "label_2/000007.txt: damaged"),
        ("label_2", car().replace("4.0", "long"), "label_2/000007.txt: damaged"),
        ("calib", "P2: 1 2 3\n", "calib/000007.txt: damaged"),
        ("calib", "P2: 50 0 32 3.0 0 50 24 0 0 0 0 0\n", "calib/000007.txt: damaged: expected a line P2:"),
        ("calib", "P2: a b c\n", "calib/000007.txt: damaged"),
        ("calib", f"P2: {'0 ' * 12}\n", "calib/000007.txt: damaged"),
        ("calib", None, "calib/000007.txt: missing"),
    ],
)
def test_kitti_names_a_damaged_file(tmp_path, file, text, named):
    path = kitti(tmp_path, car()) / "training" / file / "000007.txt"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(ValueError, match=named):
        KittiObjects(tmp_path)[0]


# NOCS: a model that stands upright half a metre ahead and shows its front. Theirs is y up.
UNIT_ROTATION = np.stack([-AHEAD, -DOWN, -RIGHT], axis=1)
EXTENT = "2 3 6\n"  # of length 7, along their x, y, z


def unit_pose(diagonal_m=0.7) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = diagonal_m * UNIT_ROTATION, [0.1, 0.0, 0.5]
    return matrix


def write_pickle(path: Path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=2))


def nocs(root: Path, handles=(1.0, 0.0), poses=2) -> Path:
    """Instance 1 is a distractor, 2 a camera, 3 a can that is not seen, 4 a mug."""
    scene = root / "real" / "test" / "scene_2"
    write_image(scene / "0003_color.png", 640, 480)
    mask = np.full((480, 640), 255, dtype=np.uint8)
    mask[:10], mask[10:20], mask[20:30] = 1, 2, 4
    cv2.imwrite(str(scene / "0003_mask.png"), mask)
    cv2.imwrite(str(scene / "0003_depth.png"), np.full((480, 640), 750, dtype=np.uint16))
    write_text(scene / "0003_meta.txt", "1 0 thing\n2 3 camera_x\n3 4 can_x\n4 6 mug_x\n")
    for model in ("camera_x", "can_x", "mug_x"):
        write_text(root / "obj_models" / "real_test" / f"{model}.txt", EXTENT)
    truth = {"gt_RTs": np.stack([unit_pose()] * poses), "handle_visibility": np.array(handles)}
    write_pickle(root / "gts" / "real_test" / "results_real_test_scene_2_0003.pkl", truth)
    return root / "real" / "test"


def test_nocs_real_poses_are_turned_from_y_up_to_z_up(tmp_path):
    (frame,) = NocsScenes(nocs(tmp_path))
    camera, mug = frame.objects
    assert (frame.name, camera.category, mug.category) == ("scene_2/0003", "camera", "mug")
    assert frame.frame.camera.fx == 591.0125
    assert np.allclose(frame.frame.depth, 0.75)
    assert np.allclose(axes(camera), [-AHEAD, RIGHT, -DOWN])
    assert np.allclose(position(camera), [0.1, 0.0, 0.5])
    assert np.allclose(camera.size_m, [0.2, 0.6, 0.3])
    assert camera.seen_symmetry is Symmetry.NONE
    assert mug.seen_symmetry is Symmetry.AXIS_Z  # its handle is hidden


def test_nocs_objects_whose_fit_failed_are_left_out(tmp_path):
    folder = nocs(tmp_path)
    truth = {"gt_RTs": np.stack([np.eye(4), unit_pose()]), "handle_visibility": np.ones(2)}
    write_pickle(tmp_path / "gts" / "real_test" / "results_real_test_scene_2_0003.pkl", truth)
    assert [item.category for item in NocsScenes(folder)[0].objects] == ["mug"]


def test_nocs_rendered_scenes_have_another_camera_and_models_by_synset(tmp_path):
    scene = tmp_path / "camera" / "val" / "00012"
    write_image(scene / "0004_color.png", 640, 480)
    mask = np.zeros((480, 640, 4), dtype=np.uint8)
    mask[..., 2] = 255  # red; the file has four channels
    mask[:10, :, 2] = 1
    cv2.imwrite(str(scene / "0004_mask.png"), mask)
    write_text(scene / "0004_meta.txt", "1 6 03797390 abc\n")
    write_text(tmp_path / "obj_models" / "val" / "03797390" / "abc" / "bbox.txt", "1 1.5 3\n-1 -1.5 -3\n")
    write_pickle(tmp_path / "gts" / "val" / "results_val_00012_0004.pkl", {"gt_RTs": unit_pose()[None]})
    dataset = NocsScenes(tmp_path / "camera" / "val")
    (mug,) = dataset[0].objects
    assert np.allclose(mug.size_m, [0.2, 0.6, 0.3])
    assert mug.seen_symmetry is Symmetry.NONE
    assert dataset[0].frame.camera.fx == 577.5
    assert dataset[0].frame.depth is None
    composed = tmp_path / "camera_full_depths" / "val" / "00012" / "0004_composed.png"
    composed.parent.mkdir(parents=True)
    cv2.imwrite(str(composed), np.full((480, 640), 1200, dtype=np.uint16))
    assert np.allclose(dataset[0].frame.depth, 1.2)


def test_nocs_annotations_that_do_not_match_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"results_real_test_scene_2_0003\.pkl: .*does not match scene_2/0003"):
        NocsScenes(nocs(tmp_path, handles=(1.0,), poses=1))[0]


def test_nocs_lines_that_are_too_short_are_no_end_of_the_data(tmp_path):
    folder = nocs(tmp_path)
    path = folder / "scene_2" / "0003_meta.txt"
    path.write_text("\n".join(line.rsplit(" ", 2)[0] for line in path.read_text().splitlines()))
    with pytest.raises(ValueError, match=r"results_real_test_scene_2_0003\.pkl: damaged, or it does not match"):
        list(NocsScenes(folder))


def test_a_pickle_cannot_run_a_program(tmp_path):
    folder = nocs(tmp_path)

    class Program:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    write_pickle(tmp_path / "gts" / "real_test" / "results_real_test_scene_2_0003.pkl", {"gt_RTs": Program()})
    with pytest.raises(ValueError, match="expected arrays and plain values"):
        NocsScenes(folder)[0]
    assert not (tmp_path / "made").exists()


# PASCAL3D+: a car one unit long, its front along -y, its box centred 0.1 above the origin of the model.
VERTICES = [[x, y, z] for x in (-0.2, 0.2) for y in (-0.5, 0.5) for z in (-0.05, 0.25)]
METRES = 4.5


def viewpoint(azimuth=0.0, elevation=0.0, theta=0.0, distance=5.0, px=32.5, py=24.5):
    """By default in the middle of an image of 64x48: MATLAB counts pixels from 1."""
    angles = {"azimuth": azimuth, "elevation": elevation, "theta": theta}
    return {**angles, "distance": distance, "px": px, "py": py, "focal": 1.0, "viewport": 3000.0}


def pascal3d(folder: Path, *viewpoints, **extra) -> Path:
    objects = np.empty(len(viewpoints), dtype=object)
    for k, view in enumerate(viewpoints):
        objects[k] = {"class": "car", "cad_index": 3, "difficult": 0, "viewpoint": view, **extra}
    write_image(folder / "Images" / "car_imagenet" / "n01_2.JPEG")
    write_text(folder / "Image_sets" / "car_imagenet_val.txt", "n01_2\n")
    lines = ["OFF", f"{len(VERTICES)} 0 0", *(" ".join(map(str, vertex)) for vertex in VERTICES)]
    write_text(folder / "CAD" / "car" / "03.off", "\n".join(lines) + "\n")
    path = folder / "Annotations" / "car_imagenet" / "n01_2.mat"
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, {"record": {"objects": objects}})
    return folder


@pytest.mark.parametrize(
    ("angles", "front", "up"),
    [
        ({}, -AHEAD, -DOWN),
        ({"azimuth": 90.0}, -RIGHT, -DOWN),  # its left side is seen, so it drives to the left
        ({"elevation": 90.0}, DOWN, -AHEAD),  # from above
        ({"theta": 90.0}, -AHEAD, -RIGHT),  # the image turned counterclockwise
    ],
)
def test_pascal3d_angles(tmp_path, angles, front, up):
    (frame,) = Pascal3d(pascal3d(tmp_path, viewpoint(**angles)))
    (item,) = frame.objects
    assert frame.name == "car/n01_2"
    assert np.allclose(axes(item)[0], front)
    assert np.allclose(axes(item)[2], up)
    assert np.allclose(item.size_m, np.array([1.0, 0.4, 0.3]) * METRES)


def test_pascal3d_positions_follow_from_the_principal_point(tmp_path):
    (frame,) = Pascal3d(pascal3d(tmp_path, viewpoint(px=62.5, py=18.5)))
    (item,) = frame.objects
    # 30 px to the right and 6 px up at 5 units and a focal length of 3000 px; the box is centred 0.1 higher.
    assert np.allclose(position(item), np.array([0.05, -0.01 - 0.1, 5.0]) * METRES)


def published_projection(points, view):
    """Pixels, counted from 1, as the toolbox of the data set computes them."""
    a, e, theta = (math.radians(view[name]) for name in ("azimuth", "elevation", "theta"))
    d = view["distance"]
    centre = d * np.array([math.cos(e) * math.sin(a), -math.cos(e) * math.cos(a), math.sin(e)])
    a, e = -a, -(math.pi / 2 - e)
    about_z = np.array([[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, math.cos(e), -math.sin(e)], [0, math.sin(e), math.cos(e)]])
    x, y, z = about_x @ about_z @ (points - centre).T
    flat = view["focal"] * view["viewport"] * np.stack([x, y]) / -z
    turned = np.array([[math.cos(theta), -math.sin(theta)], [math.sin(theta), math.cos(theta)]]) @ flat
    return (turned * [[1], [-1]]).T + np.array([view["px"], view["py"]])


@settings(max_examples=20)
@given(st.floats(0, 360), st.floats(-80, 80), st.floats(-180, 180), st.floats(2, 20))
def test_pascal3d_models_appear_where_the_toolbox_draws_them(azimuth, elevation, theta, distance):
    """In the middle of the image exactly; elsewhere up to the perspective that one principal point per object lacks."""
    from category_pose_ros.data.pascal3d import _camera_from_cad
    from category_pose_ros.geometry import Camera

    view = viewpoint(azimuth, elevation, theta, distance)
    camera = Camera(3000.0, 3000.0, 31.5, 23.5, 64, 48)
    points = torch.tensor(VERTICES, dtype=torch.float64)
    mine = camera.project(_camera_from_cad(SimpleNamespace(**view), camera) @ points)
    assert np.allclose(mine + 1, published_projection(points.numpy(), view), atol=1e-6)


def test_pascal3d_says_which_category_is_not_there(tmp_path, caplog):
    folder = pascal3d(tmp_path, viewpoint())
    assert len(Pascal3d(folder)) == 1
    assert caplog.messages == [f"{folder}: no images of bottle, which does not count"]


def test_pascal3d_objects_without_a_pose_are_left_out_and_difficult_ones_ignored(tmp_path):
    coarse = {"azimuth_coarse": 90.0, "distance": []}
    folder = pascal3d(tmp_path, viewpoint(distance=0.0), [], coarse, viewpoint(), difficult=1)
    assert [item.ignore for item in Pascal3d(folder)[0].objects] == [True]


@pytest.mark.parametrize("content", [b"", b"garbage", b"half"])
def test_pascal3d_names_a_damaged_annotation(tmp_path, content):
    folder = pascal3d(tmp_path, viewpoint())
    path = folder / "Annotations" / "car_imagenet" / "n01_2.mat"
    path.write_bytes(path.read_bytes()[:200] if content == b"half" else content)
    with pytest.raises(ValueError, match=r"n01_2\.mat: damaged"):
        list(Pascal3d(folder))


def test_pascal3d_needs_a_focal_length(tmp_path):
    folder = pascal3d(tmp_path, {**viewpoint(), "focal": 0.0})
    with pytest.raises(ValueError, match=r"n01_2\.mat: viewpoint: expected a positive focal length, got 0\.0"):
        list(Pascal3d(folder))


def test_pascal3d_does_not_say_how_much_of_an_occluded_object_is_seen(tmp_path):
    (frame,) = Pascal3d(pascal3d(tmp_path, viewpoint(), occluded=1))
    assert frame.objects[0].visible_fraction is None


def test_occluded_pascal3d_takes_poses_from_beside_and_visibility_from_masks(tmp_path):
    pascal3d(tmp_path / "PASCAL3D+_release1.1", viewpoint())
    folder = tmp_path / "OccludedPASCAL3D"
    write_image(folder / "images" / "carFGL2_BGL2" / "n01_2.JPEG")
    mask, occluders = np.zeros((48, 64), dtype=np.uint8), np.zeros((48, 64), dtype=bool)
    mask[10:20], occluders[15:40] = 255, True
    path = folder / "annotations" / "carFGL2_BGL2" / "n01_2.npz"
    path.parent.mkdir(parents=True)
    np.savez(path, mask=mask, occluder_mask=occluders)
    (frame,) = open_dataset(folder)
    assert (frame.name, len(frame.objects)) == ("carFGL2_BGL2/n01_2", 1)
    assert frame.objects[0].visible_fraction == pytest.approx(0.5)
    np.savez(path, mask=mask, occluder_mask=occluders & False)
    assert occlusion_level(evaluate(lambda _: [], open_dataset(folder)).objects[0]) == "L2"  # as the folder says
    assert Pascal3d(tmp_path / "PASCAL3D+_release1.1")[0].objects[0].visible_fraction == 1.0


def test_an_index_error_is_not_the_end_of_the_frames():
    class Stumbling(FrameList):
        def load(self, name):
            raise IndexError("out of range")

    with pytest.raises(IndexError):
        list(Stumbling(["a", "b"]))


def test_images_alone_are_frames_without_objects(tmp_path):
    write_image(tmp_path / "b.png", 64, 48)
    write_image(tmp_path / "a.JPG", 48, 64)
    (tmp_path / "notes.txt").write_text("no image")
    frames = list(EmptyPhotographs(tmp_path))
    assert [(frame.name, frame.objects) for frame in frames] == [("a.JPG", ()), ("b.png", ())]
    assert frames[1].frame.camera.fx == frames[0].frame.camera.fx == pytest.approx(32 * math.sqrt(3))  # 60 degrees


def test_the_layout_is_recognised(tmp_path):
    kitti(tmp_path / "kitti", car())
    pascal3d(tmp_path / "pascal3d", viewpoint())
    write_image(tmp_path / "empty" / "a.png")
    for name, entry in (("scene_gt", "[]"), ("scene_camera", "{}")):
        write_text(tmp_path / "bop" / f"{name}.json", f'{{"0": {entry}}}')
    folders = {name: tmp_path / name for name in ("bop", "kitti", "pascal3d", "empty")} | {"nocs": nocs(tmp_path)}
    kinds = {name: type(open_dataset(path)) for name, path in folders.items()}
    readers = {"bop": BopScene, "kitti": KittiObjects, "nocs": NocsScenes, "pascal3d": Pascal3d}
    assert kinds == {**readers, "empty": EmptyPhotographs}
    assert set(kinds) == set(LAYOUTS)
    with pytest.raises(ValueError, match="label_2: expected labels"):
        open_dataset(tmp_path / "empty", "kitti")


def test_a_folder_of_no_layout_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected the layout of one of bop, kitti, nocs, pascal3d, empty"):
        open_dataset(tmp_path)
    with pytest.raises(ValueError, match="expected a folder"):
        open_dataset(tmp_path / "nowhere")
