"""Overlays, labels, plots and video, looked at by pixels."""

from __future__ import annotations

import io
import math

import av
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from category_pose_ros.data.procedural import shapes
from category_pose_ros.geometry import SE3, Camera, so3
from category_pose_ros.records import ObjectEstimate, Track, TrackState
from category_pose_ros.rendering.surface import Surface
from category_pose_ros.visualization import overlay as overlay_module
from category_pose_ros.visualization import plots
from category_pose_ros.visualization.label import draw_label, place_label
from category_pose_ros.visualization.overlay import draw_box, draw_overlay
from category_pose_ros.visualization.palette import category_colour
from category_pose_ros.visualization.plots import plot_average_precision
from category_pose_ros.visualization.projection import project_segment
from category_pose_ros.visualization.scene import PlacedMesh, draw_scene
from category_pose_ros.visualization.video import write_video

CAMERA = Camera(fx=300.0, fy=300.0, cx=159.5, cy=119.5, width=320, height=240)
GREY = np.full((240, 320, 3), 90, dtype=np.uint8)
SIZE = np.array([0.2, 0.2, 0.2])

# Looked at from its front: x towards the camera, y to the right, z up in the image.
FRONTAL = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, -1.0], [-1.0, 0.0, 0.0]], dtype=torch.float64)


def guess(at=(0.0, 0.0, 1.0), category="mug", rotation=FRONTAL):
    pose = SE3(rotation, torch.tensor(at, dtype=torch.float64))
    return ObjectEstimate(category, pose, SIZE, 0.9, 1.0, np.eye(6))


def changed(image):
    """Smallest box (left, top, right, bottom) around what was drawn."""
    rows, columns = np.nonzero((image != GREY).any(-1))
    return columns.min(), rows.min(), columns.max(), rows.max()


def test_nothing_to_draw_leaves_the_image_and_the_input_alone():
    original = GREY.copy()
    overlay = draw_overlay(original, CAMERA, [])
    assert (overlay == GREY).all()
    assert overlay is not original
    draw_overlay(original, CAMERA, [guess()])
    assert (original == GREY).all()


def test_the_box_stands_where_the_pinhole_puts_it():
    canvas = GREY.copy()
    draw_box(canvas, CAMERA, guess().camera_from_object, SIZE, (255, 255, 255))
    # The near face is at 0.9 m: +-0.1 m are +-33.3 pixels around the principal point.
    left, top, right, bottom = changed(canvas)
    assert ((left + right) / 2, (top + bottom) / 2) == (159.5, 119.5)
    assert np.allclose([right - left, bottom - top], 2 * 33.3, atol=7)  # a line with its halo is some pixels wide


def test_axes_are_red_green_blue_along_x_y_z():
    overlay = draw_overlay(GREY, CAMERA, [guess()]).astype(int)
    green, blue = overlay[120, 180], overlay[100, 160]  # right of the centre is y, above it is z
    assert green.argmax() == 1
    assert green[1] - green[0] > 80
    assert blue.argmax() == 2
    assert blue[2] - blue[0] > 80
    turned = guess(rotation=FRONTAL @ so3.exp(torch.tensor([0.0, 0.0, -math.pi / 2], dtype=torch.float64)))
    red = draw_overlay(GREY, CAMERA, [turned]).astype(int)[120, 140]  # now x points to the left
    assert red.argmax() == 0
    assert red[0] - red[2] > 80


def test_only_the_front_face_is_tinted():
    inside = (slice(140, 145), slice(175, 180))  # in the near face, away from axes and edges
    front = draw_overlay(GREY, CAMERA, [guess()])
    assert (front[inside] != GREY[inside]).any()
    half_turn = so3.exp(torch.tensor([0.0, 0.0, math.pi], dtype=torch.float64))
    canvas = GREY.copy()
    far_face_only = (slice(149, 150), slice(158, 162))  # in the near face, outside the far one
    draw_box(canvas, CAMERA, SE3(FRONTAL @ half_turn, guess().camera_from_object.translation), SIZE, (255, 0, 0))
    assert (canvas[far_face_only] == GREY[far_face_only]).all()


def test_near_objects_are_drawn_over_far_ones():
    near, far = guess((0.0, 0.0, 0.8), "can"), guess((0.0, -0.28, 2.0), "mug")
    for objects in ([near, far], [far, near]):
        crossing = draw_overlay(GREY, CAMERA, objects)[77, 144]  # an upper edge of the near, a left edge of the far one
        to_near, to_far = (np.abs(crossing.astype(int) - category_colour(name)).sum() for name in ("can", "mug"))
        assert to_near < 0.6 * to_far


@pytest.mark.parametrize(
    "at", [(0.0, 0.0, -1.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.05), (0.09, 0.0, 0.1), (50.0, 0.0, 0.01), (0.0, 9.0, 1.0)]
)
@pytest.mark.parametrize("distortion", [(), (-0.3, 0.1, 0.0, 0.0, 0.0)])
def test_objects_beside_and_behind_the_camera_do_no_harm(at, distortion):
    camera = Camera(300.0, 300.0, 159.5, 119.5, 320, 240, distortion=distortion)
    overlay = draw_overlay(GREY, camera, [guess(at)])
    assert overlay.shape == GREY.shape
    if at[2] < 0:
        assert (overlay == GREY).all()


def test_the_label_of_a_track_shows_its_id():
    track = Track(12, TrackState.CONFIRMED, guess(), 0)
    as_track, as_estimate = (draw_overlay(GREY, CAMERA, [item]) for item in (track, guess()))
    differing = np.nonzero((as_track != as_estimate).any(-1))[0]
    assert len(differing) > 0
    assert differing.max() < 119 - 33


@pytest.mark.parametrize("anchor", [(-50.0, -50.0), (400.0, 400.0), (160.0, 120.0)])
def test_labels_stay_inside_the_image(anchor):
    canvas = GREY.copy()
    left, top, right, bottom = place = place_label(320, 240, "laptop #3 0.87", anchor)
    inside = place_label(320, 240, "laptop #3 0.87", (160.0, 120.0))
    draw_label(canvas, "laptop #3 0.87", place, (255, 255, 0))
    assert (right - left, bottom - top) == (inside[2] - inside[0], inside[3] - inside[1])
    assert changed(canvas) == (left, top, right - 1, bottom - 1)


def test_a_label_wider_than_the_image_is_cut():
    canvas = GREY[:30, :40].copy()
    place = place_label(40, 30, "a very long category name", (20.0, 20.0))
    draw_label(canvas, "a very long category name", place, (255, 255, 0))
    assert (canvas[8, [0, 39]] != 90).any(-1).all()


def test_labels_make_room_for_each_other():
    plates = []
    for number in range(12):  # more than fit above
        plates.append(place_label(320, 240, f"mug #{number}", (160.0, 118.0), plates))
    shown = np.zeros(GREY.shape[:2], dtype=int)
    for left, top, right, bottom in plates:
        shown[top:bottom, left:right] += 1
    assert shown.max() == 1
    assert plates[0] == place_label(320, 240, "mug #0", (160.0, 118.0))


def test_the_label_of_the_nearest_is_drawn_last_where_there_may_be_no_room(monkeypatch):
    drawn = []
    monkeypatch.setattr(overlay_module, "draw_label", lambda _, text, plate, colour: drawn.append((text, plate)))
    objects = [guess((0.0, 0.0, 0.7 + 0.1 * k), name) for k, name in enumerate(("can", "mug", "bowl", "bottle"))]
    for ordered in (objects, objects[::-1]):
        drawn.clear()
        draw_overlay(GREY[:64, :96], Camera(60.0, 60.0, 47.5, 31.5, 96, 64), ordered)
        assert [text.split()[0] for text, _ in drawn] == ["bottle", "bowl", "mug", "can"]


@pytest.mark.parametrize("at", [(2.0, 0.0, 1.0), (0.0, -1.5, 1.0)])
def test_what_is_beside_the_image_has_no_label(at):
    assert (draw_overlay(GREY, CAMERA, [guess(at)]) == GREY).all()


def test_categories_have_lasting_and_different_colours():
    names = ["bottle", "bowl", "camera", "can", "car", "laptop", "mug", "teapot"]
    assert len({category_colour(name) for name in names}) == len(names)
    assert category_colour("teapot") == category_colour("teapot")


def test_a_segment_is_cut_at_the_camera():
    points = project_segment(CAMERA, np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, -1.0]))
    assert np.allclose(points[0], [159.5, 119.5])
    assert points[-1, 1] > 240
    assert project_segment(CAMERA, np.array([0.0, 0.0, -1.0]), np.array([0.0, 1.0, -2.0])).shape == (0, 2)


def test_a_lens_bends_a_segment():
    lens = Camera(300.0, 300.0, 159.5, 119.5, 320, 240, distortion=(-0.3, 0.0, 0.0, 0.0))
    points = project_segment(lens, np.array([-0.4, 0.3, 1.0]), np.array([0.4, 0.3, 1.0]))
    assert len(points) > 10
    assert points[len(points) // 2, 1] > points[0, 1] + 2  # barrel: the middle bulges outwards


@pytest.mark.parametrize(
    ("model", "distortion"),
    [
        ("plumb_bob", (-0.3, 0.0, 0.0, 0.0, 0.0)),
        ("plumb_bob", (-0.3728755, 0.2037299, 0.002219027, 0.001383707, -0.07233722)),  # KITTI, before rectification
        ("rational_polynomial", (-0.3, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)),
    ],
)
def test_a_lens_does_not_fold_what_is_beside_the_image_into_it(model, distortion):
    lens = Camera(300.0, 300.0, 159.5, 119.5, 320, 240, model, distortion)
    for direction in ((1.0, 0.0), (0.0, 1.0), (-0.7, 0.7)):
        x, y = np.array(direction) * 2.0
        points = project_segment(lens, np.array([x, y, 1.0]), np.array([0.6 * x, 0.6 * y, 1.0]))
        outside = (points < 0).any(-1) | (points > (320, 240)).any(-1)
        assert outside.all()
    middle = project_segment(lens, np.array([-0.3, 0.1, 1.0]), np.array([0.3, 0.1, 1.0]))
    assert len(middle) == 17  # none of it is left out


def test_of_a_long_line_all_that_a_lens_shows_is_drawn():
    lens = Camera(400.0, 400.0, 319.5, 239.5, 640, 480, distortion=(-0.3, 0.0, 0.0, 0.0, 0.0))
    start, end = np.array([0.5, 0.2, 1.0]), np.array([60.0, 0.2, 1.0])  # a hundredth of it is in view
    points = project_segment(lens, start, end)
    assert len(points) == 17
    assert points[-1, 0] > 580  # where the lens turns back
    assert np.abs(np.diff(points, axis=0)).max() < 60


@pytest.mark.parametrize("distortion", [(1.5, 2.0, 0.0, 0.0, 3.0), (0.2, 0.5, 0.0, 0.0, 5.0)])
def test_a_lens_that_spreads_without_end_draws_nothing_far_outside(distortion):
    lens = Camera(500.0, 500.0, 159.5, 119.5, 320, 240, distortion=distortion)
    points = project_segment(lens, np.array([0.1, 0.1, 1.0]), np.array([3.0, 0.4, 1.0]))
    assert len(points) > 1
    assert np.abs(points).max() < 4 * np.hypot(320, 240)


def test_meshes_are_seen_from_aside_and_above_wherever_the_principal_point_is():
    box = shapes.box([0.2, 0.2, 0.2])
    surface = Surface.from_triangles(box.vertices, box.faces)
    camera = Camera(300.0, 300.0, -100.0, 119.5, 320, 240)  # the right part of a wider image
    pose = SE3(FRONTAL, torch.tensor([0.9, 0.0, 1.0], dtype=torch.float64))
    picture = draw_scene(GREY, camera, [PlacedMesh(surface, pose, (255, 0, 0))])
    for new in (picture[240:, :320], picture[240:, 320:]):
        red = (new[..., 2] < 100).nonzero()
        assert len(red[0]) > 200
        assert all(rows.min() > 0 and rows.max() < side - 1 for rows, side in zip(red, new.shape[:2], strict=True))


def test_names_of_runs_do_not_cover_each_other(monkeypatch):
    figures = []
    monkeypatch.setattr(plots, "_png", lambda figure: figures.append(figure) or b"")
    runs = {f"starts={k}": {"seconds_per_image": 0.1 + 0.001 * k, "acc_pi_6": 0.7, "acc_pi_18": 0.4} for k in range(6)}
    plots.plot_trade_off(runs)
    (figure,) = figures
    FigureCanvasAgg(figure).draw()
    names = figure.axes[0].get_legend().get_texts()
    assert [name.get_text() for name in names] == [*runs, "within 30°", "within 10°"]
    middles = sorted((name.get_window_extent().y0 + name.get_window_extent().y1) / 2 for name in names)
    assert np.diff(middles).min() > 10


def test_plots_are_png_files():
    thresholds = np.linspace(0, 60, 7)
    curves = {"overall": np.linspace(0, 1, 7), "mug": np.zeros(7)}
    png = plot_average_precision("rotation", "degrees", thresholds, curves)
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        assert image.width > 400
    plot_average_precision("nothing", "degrees", thresholds, {})


def test_video_is_h264_and_shows_the_frames(tmp_path):
    frames = [np.full((49, 65, 3), (20 * k, 60, 200), dtype=np.uint8) for k in range(8)]
    assert write_video(tmp_path / "v.mp4", iter(frames), fps=12.5) == 8
    with av.open(str(tmp_path / "v.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert float(stream.average_rate) == pytest.approx(12.5)
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(pictures) == 8
    assert pictures[0].shape == (48, 64, 3)
    for picture, frame in zip(pictures, frames, strict=True):
        assert np.abs(picture.mean((0, 1)) - frame.mean((0, 1))).max() < 8


def test_a_video_of_nothing_is_not_made(tmp_path):
    assert write_video(tmp_path / "v.mp4", [], fps=10) == 0
    assert not (tmp_path / "v.mp4").exists()


@pytest.mark.parametrize("fps", [0, -1.0, 0.0004, float("nan")])
def test_video_refuses_a_wrong_rate(tmp_path, fps):
    with pytest.raises(ValueError, match="fps: expected"):
        write_video(tmp_path / "v.mp4", [GREY], fps)


@pytest.mark.parametrize("shape", [(1, 64, 3), (48, 1, 3)])
def test_video_refuses_frames_of_one_row_or_column(tmp_path, shape):
    with pytest.raises(ValueError, match=f"expected at least 2 x 2 pixels, got {shape[0]} x {shape[1]}"):
        write_video(tmp_path / "v.mp4", [np.zeros(shape, np.uint8)], 10.0)


def test_video_refuses_frames_of_different_size(tmp_path):
    with pytest.raises(ValueError, match="frames: expected all of shape"):
        write_video(tmp_path / "v.mp4", [GREY, GREY[:100]], 10.0)
