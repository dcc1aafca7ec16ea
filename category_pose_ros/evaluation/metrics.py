"""The metrics, one function each, with their exact definitions and sources.

Conventions: a pose is `camera_from_object` of the centre of the tight box, sizes are metres along
the object's axes. The symmetry of a category is that of its shape: bottles, bowls and cans may be
turned about z by any angle. A mug may where its handle is hidden, as in the NOCS evaluation; but only
our own synthetic sets say when it is, so in all others the numbers for mugs are stricter.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from category_pose_ros.evaluation.overlap import box_iou_3d
from category_pose_ros.geometry import SE3, Symmetry
from category_pose_ros.geometry.symmetry import rotation_distance

Array = npt.NDArray[np.float64]

_YAW_STEPS = 36  # over half a turn; a box looks the same after the other half


def rotation_error(estimate: SE3, truth: SE3, symmetry: Symmetry) -> float:
    """Angle in radians between two orientations, up to symmetry.

    Without symmetry it is the geodesic distance of Ma et al. (ECCV 2022) and its kin,
    ||log(R_estimate^T R_truth)||_F / sqrt(2); with AXIS_Z the angle between the z axes, as in the
    NOCS evaluation (Wang et al., CVPR 2019).
    """
    return float(rotation_distance(_float64(estimate).rotation, _float64(truth).rotation, symmetry))


def translation_error(estimate: SE3, truth: SE3) -> float:
    """Distance in metres between the centres of the boxes (NOCS, Wang et al. 2019)."""
    return float((_float64(estimate).translation - _float64(truth).translation).norm())


def size_error(estimate_size_m: Array, truth_size_m: Array) -> float:
    """Mean over the three axes of |estimate / truth - 1|.

    Our definition. The scale error of nuScenes (Caesar et al., CVPR 2020), one minus the IoU of the
    aligned boxes, is the nearest in the literature; by volume, a small error counts there thrice.
    """
    return float(np.abs(np.asarray(estimate_size_m) / np.asarray(truth_size_m) - 1).mean())


def box_points(size_m: Array) -> Array:
    """The points (98, 3) with which ADD is measured: corners and a surface grid of the box.

    They are those points of the 5x5x5 grid that spans the box which lie on its surface.
    """
    steps = np.linspace(-0.5, 0.5, 5)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    return np.asarray(grid[(np.abs(grid) == 0.5).any(-1)] * size_m)


def average_distance(estimate: SE3, truth: SE3, size_m: Array, symmetry: Symmetry) -> float:
    """ADD in metres: mean distance between the object's points under the two poses.

    Hinterstoisser et al. (ACCV 2012); Ma et al. (2022) take it over the vertices of the CAD model,
    we over `box_points` of the ground-truth box, which every data set has. The estimated size plays
    no part. With AXIS_Z the estimate is first turned about its z axis by the angle that minimizes
    the mean squared distance (`_best_yaw`); that keeps correspondences, so unlike ADD-S a bottle
    that stands on its head is wrong.
    """
    estimate, truth = _float64(estimate), _float64(truth)
    if symmetry is Symmetry.AXIS_Z:
        estimate = _turned(estimate, _best_yaw(estimate, truth, size_m))
    points = torch.from_numpy(box_points(size_m))
    return float(((estimate @ points) - (truth @ points)).norm(dim=-1).mean())


def intersection_over_union(
    estimate: SE3, estimate_size_m: Array, truth: SE3, truth_size_m: Array, symmetry: Symmetry
) -> float:
    """3D IoU of the two oriented boxes, exact (`box_iou_3d`).

    With AXIS_Z it is the maximum over rotations of the estimate about z, as in NOCS (Wang et al.
    2019, who try 20 angles): 36 angles in steps of 5 degrees, counted from the best-aligned one.
    """
    estimate, truth = _float64(estimate), _float64(truth)
    reach = np.linalg.norm(estimate_size_m) / 2 + np.linalg.norm(truth_size_m) / 2
    if translation_error(estimate, truth) >= reach:
        return 0.0
    if symmetry is Symmetry.NONE:
        return box_iou_3d(estimate, estimate_size_m, truth, truth_size_m)
    first = _best_yaw(estimate, truth, truth_size_m)
    yaws = first + np.arange(_YAW_STEPS) * np.pi / _YAW_STEPS
    return max(box_iou_3d(_turned(estimate, yaw), estimate_size_m, truth, truth_size_m) for yaw in yaws)


def average_precision(scores: Array, positive: npt.NDArray[np.bool_], objects: int) -> float:
    """Area under the precision-recall curve, each precision raised to the best at a higher recall.

    The all-points rule of PASCAL VOC since 2010, which the NOCS evaluation uses as well. Predictions
    of equal score are taken together, so that their order does not matter.

    Args:
        scores: (P,) of all predictions.
        positive: (P,) whether a prediction is right; at most one per object.
        objects: how many there are to find.

    Returns:
        In [0, 1]; NaN without objects.
    """
    if objects == 0:
        return float("nan")
    order = np.argsort(-scores)
    last = np.append(np.diff(scores[order]) != 0, True)[: len(order)]  # of each group of equal scores
    hits, predicted = np.cumsum(positive[order])[last], np.flatnonzero(last) + 1
    envelope = np.maximum.accumulate((hits / predicted)[::-1])[::-1]
    return float((envelope * np.diff(hits, prepend=0)).sum() / objects)


def area_under_curve(values: Array) -> float:
    """Mean height of a curve given at equal steps, by the trapezoidal rule."""
    return float(((values[1:] + values[:-1]) / 2).mean())


def _float64(pose: SE3) -> SE3:
    return pose.to("cpu").to(torch.float64)


def _turned(pose: SE3, yaw: float) -> SE3:
    """The pose after a rotation about the object's own z axis."""
    cosine, sine = float(np.cos(yaw)), float(np.sin(yaw))
    turn = pose.rotation.new_tensor([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
    return SE3(pose.rotation @ turn, pose.translation)


def _best_yaw(estimate: SE3, truth: SE3, size_m: Array) -> float:
    """The angle about z by which to turn the estimate so that box points agree best.

    Minimizes sum_i ||R_e Rz x_i - R_t x_i||^2. With Q = R_e^T R_t and points whose second moments
    are diag(c), that maximizes cos (Q_xx c_x + Q_yy c_y) + sin (Q_yx c_x - Q_xy c_y); the
    translations drop out because the points are centred.
    """
    relative = (estimate.rotation.transpose(-1, -2) @ truth.rotation).numpy()
    moment_x, moment_y, _ = (box_points(size_m) ** 2).sum(0)
    cosine = relative[0, 0] * moment_x + relative[1, 1] * moment_y
    sine = relative[1, 0] * moment_x - relative[0, 1] * moment_y
    return float(np.arctan2(sine, cosine))
