"""The silhouette method on rendered masks, with an encoder that knows nothing or everything."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from torch import Tensor, nn

from category_pose_ros import EstimatorConfig, PoseEstimator
from category_pose_ros.data.bags import EXAMPLE_BAG, BagFrames
from category_pose_ros.data.bop import BopScene
from category_pose_ros.data.procedural import shapes
from category_pose_ros.data.silhouettes import render_masks
from category_pose_ros.estimation import silhouette
from category_pose_ros.estimation.belief import Belief, finished
from category_pose_ros.estimation.estimator import DEFAULT_MODEL
from category_pose_ros.estimation.neural_mesh import NeuralMeshConfig
from category_pose_ros.estimation.silhouette import Fit, SilhouetteConfig, SilhouetteMethod, View, fit_masks, view_of
from category_pose_ros.evaluation.matching import match
from category_pose_ros.geometry import SE3, Camera, so3
from category_pose_ros.models.pose_encoder import (
    CROP_PX,
    WHOLE,
    EncoderConfig,
    EncoderModel,
    Encoding,
    PoseEncoder,
    Prototype,
    crop_around,
    is_behind,
    sight,
    twin,
)
from category_pose_ros.records import Frame, Region
from category_pose_ros.rendering.surface import Surface

CAMERA = Camera(150.0, 150.0, 79.5, 59.5, 160, 120)
SIZE = torch.tensor([4.4, 1.8, 1.5])
UPRIGHT = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
QUICK = SilhouetteConfig(steps=14, resolution_px=48)


def car() -> Prototype:
    body = shapes.moved(shapes.box((4.4, 1.8, 0.8)), z=-0.35)
    mesh = shapes.merge([body, shapes.moved(shapes.box((2.0, 1.6, 0.7)), x=-0.6, z=0.4)])
    surface = Surface.from_triangles(mesh.vertices / SIZE.numpy(), mesh.faces)
    return Prototype("car", surface, SIZE, 4e-4 * torch.eye(3))


def pose_at(yaw: float, x: float = 0.0, ahead: float = 9.0) -> SE3:
    rotation = UPRIGHT @ so3.exp(torch.tensor([0.0, 0.0, yaw]))
    return SE3(rotation[None], torch.tensor([[x, 0.75, ahead]]))


def mask_of(pose: SE3) -> Tensor:
    prototype = car()
    return render_masks(prototype.surface.scaled(prototype.size_m), pose, [CAMERA])[0]


class Scripted(nn.Module):
    """Says a rotation and the true place, whatever it is shown."""

    def __init__(self, pose: SE3, mask: Tensor, behind: float | None = None, camera: Camera | None = None) -> None:
        super().__init__()
        camera = camera or crop_around(mask.float(), CAMERA, CROP_PX)[1]
        rotation = sight(camera).T @ pose.rotation
        turned = is_behind(rotation)
        self.rotation = torch.where(turned[:, None, None], twin(rotation), rotation)
        self.behind = torch.tensor([behind]) if behind is not None else 8.0 * turned.float() - 4.0
        self.centre = (camera.project(pose.translation) + 0.5) / camera.width - 0.5
        self.log_distance = (pose.translation[:, 2] * camera.width / (camera.fx * SIZE.norm())).log()

    def forward(self, mask: Tensor) -> Encoding:
        return Encoding(torch.zeros(1, 1), self.rotation, self.behind, self.centre, self.log_distance)


def model_of(encoder: nn.Module) -> EncoderModel:
    return EncoderModel(encoder, (car(),), EncoderConfig(), {})  # type: ignore[arg-type]


def fit_mask(model: EncoderModel, view: View, config: SilhouetteConfig) -> Fit:
    (fit,) = fit_masks(model, [view], config, [None])
    return fit


def view(mask: Tensor, side_px: int, encoder: EncoderConfig = EncoderConfig()) -> View:
    return view_of(mask.float(), CAMERA, side_px, encoder)


def degrees(first: Tensor, second: Tensor) -> float:
    return math.degrees(float(so3.angle_between(first, second)))


def test_an_encoding_becomes_the_pose_that_it_means() -> None:
    for yaw in (0.6, -2.2):
        truth = pose_at(yaw, 0.8)
        model = model_of(Scripted(truth, mask_of(truth)))
        seen = view(mask_of(truth), 64)
        fit = fit_mask(model, seen, SilhouetteConfig(refine="none"))
        torch.testing.assert_close(fit.state.camera_from_object.rotation, truth.rotation, atol=1e-3, rtol=0)
        torch.testing.assert_close(fit.state.camera_from_object.translation, truth.translation, atol=0.02, rtol=0)
        assert fit.overlap > 0.95
        assert fit.visible > 0.95


def test_steps_of_the_pose_mend_what_the_encoder_got_wrong() -> None:
    truth, said = pose_at(0.6, 0.8), pose_at(0.35, 1.0, 10.0)
    seen = view(mask_of(truth), QUICK.resolution_px)
    model = model_of(Scripted(said, mask_of(truth)))
    before = fit_mask(model, seen, dataclasses.replace(QUICK, refine="none"))
    after = fit_mask(model, seen, QUICK)
    assert after.overlap > max(0.9, before.overlap + 0.1)
    found = after.state.camera_from_object
    assert degrees(found.rotation[0], truth.rotation[0]) < 0.5 * degrees(said.rotation[0], truth.rotation[0])
    assert (found.translation - truth.translation).norm() < 0.5 * (said.translation - truth.translation).norm()


def test_the_other_side_is_taken_where_its_silhouette_fits_better_and_the_encoder_was_unsure() -> None:
    truth = pose_at(0.9, 0.0, 6.0)
    seen = view(mask_of(truth), QUICK.resolution_px)
    seen_from_behind = bool(is_behind(sight(seen.camera).T @ truth.rotation)[0])
    wrong = 0.05 * (-1 if seen_from_behind else 1)
    model = model_of(Scripted(truth, mask_of(truth), wrong))
    assert degrees(fit_mask(model, seen, QUICK).state.camera_from_object.rotation[0], truth.rotation[0]) < 15
    alone = fit_mask(model, seen, dataclasses.replace(QUICK, twin=False))
    assert degrees(alone.state.camera_from_object.rotation[0], truth.rotation[0]) > 60


def test_a_mask_says_as_much_in_a_coarse_crop_as_in_a_fine_one() -> None:
    truth, said = pose_at(0.6, 0.8), pose_at(0.35, 1.0, 10.0)
    model = model_of(Scripted(said, mask_of(truth)))
    fits = [fit_mask(model, view(mask_of(truth), side), SilhouetteConfig(refine="none")) for side in (32, 128)]
    coarse, fine = (fit.curvature for fit in fits)
    assert 0.8 < float(coarse.cost / fine.cost) < 1.25
    ratios = (coarse.hessian / fine.hessian).diagonal(dim1=-2, dim2=-1)[0, :6]
    assert ((ratios > 0.5) & (ratios < 2)).all()


def test_masks_that_are_fitted_together_are_fitted_as_each_alone() -> None:
    torch.manual_seed(0)
    box = shapes.box((1.0, 1.0, 1.0))
    van = Prototype("van", Surface.from_triangles(box.vertices, box.faces), SIZE, 4e-4 * torch.eye(3))
    model = EncoderModel(PoseEncoder(EncoderConfig(width=4), 2).eval(), (car(), van), EncoderConfig(), {})
    seen = [view(mask_of(pose), 32) for pose in (pose_at(0.6, 0.8), pose_at(-2.2, 0.2, 12.0), pose_at(1.0))]
    names = ["car", "van", "car"]
    together = fit_masks(model, seen, QUICK, names)
    assert [fit.prototype.category for fit in together] == names
    for fit, one, name in zip(together, seen, names, strict=True):
        (alone,) = fit_masks(model, [one], QUICK, [name])
        found, expected = fit.state.camera_from_object, alone.state.camera_from_object
        torch.testing.assert_close(found.rotation, expected.rotation, atol=1e-2, rtol=0)
        torch.testing.assert_close(found.translation, expected.translation, atol=1e-2, rtol=1e-2)
        assert fit.overlap == pytest.approx(alone.overlap, abs=0.02)


def test_an_encoder_of_whole_images_sees_one_fixed_camera_and_tells_the_place_in_it() -> None:
    config = EncoderConfig(sees="image")
    truth = pose_at(0.6, 1.5, 11.0)
    model = dataclasses.replace(model_of(Scripted(truth, mask_of(truth), camera=WHOLE)), config=config)
    seen = view(mask_of(truth), 32, config)
    whole = render_masks(car().surface.scaled(SIZE), truth, [WHOLE])[0]
    assert ((seen.seen > 0.5) & whole).sum() / ((seen.seen > 0.5) | whole).sum() > 0.75
    fit = fit_mask(model, seen, SilhouetteConfig(refine="none"))
    torch.testing.assert_close(fit.state.camera_from_object.rotation, truth.rotation, atol=1e-3, rtol=0)
    torch.testing.assert_close(fit.state.camera_from_object.translation, truth.translation, atol=0.02, rtol=0)
    assert fit.overlap > 0.95


@pytest.mark.parametrize("membership", ["distance", "paper"])
def test_steps_of_the_encoder_move_its_weights_and_leave_the_model_alone(membership: str) -> None:
    torch.manual_seed(0)
    truth = pose_at(0.6)
    model = model_of(PoseEncoder(EncoderConfig(width=4), 1).eval())
    before = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    seen = view(mask_of(truth), 32)
    config = SilhouetteConfig(refine="none")
    tuned = dataclasses.replace(config, refine="encoder", membership=membership, steps=6, encoder_rate=1e-3)
    first, second = fit_mask(model, seen, config), fit_mask(model, seen, tuned)
    moved = (first.state.camera_from_object.translation - second.state.camera_from_object.translation).norm()
    assert moved > 1e-3
    for name, value in model.encoder.state_dict().items():
        assert torch.equal(value, before[name])
    if membership == "distance":
        assert second.overlap > first.overlap


def test_the_instance_that_the_encoder_is_tuned_to_is_the_one_that_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    encoder = PoseEncoder(EncoderConfig(width=4), 2).eval()
    model = EncoderModel(encoder, (car(), car()), EncoderConfig(), {})
    truth = mask_of(pose_at(0.6))
    config = SilhouetteConfig(refine="encoder", steps=3, encoder_rate=1e-3)
    before = fit_mask(model, view(truth, 32), SilhouetteConfig(refine="none")).prototype

    def changed(model: EncoderModel, *_: Any) -> nn.Module:
        other = copy.deepcopy(model.encoder)
        other.class_branch[2].bias.data[0 if before is model.prototypes[0] else 1] = -100.0
        return other

    monkeypatch.setattr(silhouette, "_tuned", changed)
    assert fit_mask(model, view(truth, 32), config).prototype is before


def frame(masks: list[Tensor], category: str | None = None) -> Frame:
    regions = tuple(Region(mask=mask.numpy(), category=category) for mask in masks)
    return Frame(np.zeros((120, 160, 3), np.uint8), CAMERA, regions=regions)


def test_each_mask_of_a_frame_becomes_an_object_and_what_covers_another_is_not_held_against_it() -> None:
    truth, in_front = pose_at(0.6), torch.zeros(120, 160, dtype=torch.bool)
    in_front[:, 95:] = True
    whole = mask_of(truth)
    seen = whole & ~in_front
    assert seen.sum() < 0.9 * whole.sum()
    method = SilhouetteMethod(model_of(Scripted(pose_at(0.6, 0.1), seen)), ("car",), QUICK)
    alone, beside = (finished(method.search(frame(masks)))[0] for masks in ([seen], [seen, in_front & ~seen]))
    off = [float((item.camera_from_object.translation - truth.translation[0]).norm()) for item in (alone, beside)]
    assert len(finished(method.search(frame([seen, in_front])))) == 2
    assert off[1] < off[0]
    assert beside.score > 0.8


def test_frames_without_masks_are_refused_and_masks_of_other_categories_left_alone() -> None:
    truth = pose_at(0.6)
    method = SilhouetteMethod(model_of(Scripted(truth, mask_of(truth))), ("car",), QUICK)
    with pytest.raises(ValueError, match="regions: the silhouette method expected a mask"):
        finished(method.search(Frame(np.zeros((120, 160, 3), np.uint8), CAMERA)))
    boxes = (Region(box=(0.0, 0.0, 5.0, 5.0)),)
    with pytest.raises(ValueError, match="regions: the silhouette method expected a mask"):
        finished(method.search(Frame(np.zeros((120, 160, 3), np.uint8), CAMERA, regions=boxes)))
    assert finished(method.search(frame([mask_of(truth)], "mug"))) == []
    assert finished(method.search(frame([]))) == []


def test_a_belief_follows_its_mask_and_a_belief_without_one_is_not_seen() -> None:
    truth = pose_at(0.6, 0.3)
    method = SilhouetteMethod(model_of(Scripted(truth, mask_of(truth))), ("car",), QUICK)
    before = pose_at(0.55, 0.0)
    believed = Belief("car", before[0], SIZE.log(), 10.0 * torch.eye(9, dtype=torch.float64))
    away = SE3(before.rotation[0], torch.tensor([-30.0, 0.7, 9.0]))
    elsewhere = dataclasses.replace(believed, camera_from_object=away)
    followed, lost = method.follow(frame([mask_of(truth)]), [believed, elsewhere], [0.25, 0.25])
    off = followed.estimate.camera_from_object.translation - truth.translation[0]
    assert off.norm() < 0.15
    assert followed.estimate.score > 0.8
    assert lost.estimate.visible_fraction == 0
    assert torch.equal(lost.belief.camera_from_object.translation, elsewhere.camera_from_object.translation)


def test_the_shipped_encoder_finds_the_objects_of_the_bundled_example_without_any_mask() -> None:
    frame = next(iter(BagFrames(EXAMPLE_BAG)))
    truth = BopScene(EXAMPLE_BAG.parent).objects(0)
    # The mask of one bottle lies between two fits: by the rounding of PyTorch it takes the right one.
    config = EstimatorConfig(neural_mesh=NeuralMeshConfig(runtime="pytorch"))
    estimator = PoseEstimator.load(method="silhouette", categories=("bottle", "can", "mug"), config=config)
    found = estimator.estimate(dataclasses.replace(frame, depth=None))
    pairs = match(frame.camera, found, truth).pairs
    assert len(pairs) >= 2
    ratios = []
    for row, column in pairs:
        mine, true = found[row].camera_from_object.translation, truth[column].camera_from_object.translation
        assert found[row].category == truth[column].category
        assert (mine[:2] / mine[2] - true[:2] / true[2]).norm() < 0.03
        ratios.append(float(mine[2] / true[2]))
        error_m = mine.double().numpy() - true.double().numpy()  # large, but no larger than the covariance says
        assert error_m @ np.linalg.solve(found[row].covariance[:3, :3], error_m) < chi2.ppf(0.95, 3)
    # A tall object that leans away has the silhouette of a small one nearby, and some are taken for that.
    assert sum(0.7 < ratio < 1.4 for ratio in ratios) >= len(ratios) / 2


def test_unknown_categories_are_refused_and_models_of_the_other_method_too() -> None:
    with pytest.raises(ValueError, match=r"categories: expected names among bottle, .*, got 'plane'"):
        PoseEstimator.load(("plane",), "silhouette")
    with pytest.raises(ValueError, match="is not an encoder of this package"):
        PoseEstimator.load(method="silhouette", model=DEFAULT_MODEL)
