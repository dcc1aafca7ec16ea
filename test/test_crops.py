"""Looking at candidates: what is seen already is not looked at again."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from oracle import SIZE_M, coordinate_frame, oracle_model
from torch.testing import assert_close

from category_pose_ros.estimation import images
from category_pose_ros.estimation.crops import CropConfig, CropReader
from category_pose_ros.estimation.detection import Candidate
from category_pose_ros.estimation.evidence import CorrespondenceConfig, Evidence
from category_pose_ros.geometry import SE3, Camera, so3
from category_pose_ros.models.backbone import FeatureMap
from category_pose_ros.models.posterior import Posterior

CAMERA = Camera(600.0, 600.0, 319.5, 239.5, 640, 480)
MODEL = oracle_model()
POSES = [SE3(so3.exp(torch.tensor([0.4, x, 0.2])), torch.tensor([x, 0.0, 0.7])) for x in (-0.12, 0.14)]
FRAME = coordinate_frame(CAMERA, POSES, [SIZE_M, SIZE_M])


class Reader:
    """A reader, and how many pictures its network has seen."""

    def __init__(self, **settings: object) -> None:
        self.pictures = 0
        posterior = Posterior(MODEL, ("mug",), torch.device("cpu"))
        self.reader = CropReader(
            self._network,
            posterior,
            dataclasses.replace(CropConfig(), **settings),  # type: ignore[arg-type]
            CorrespondenceConfig(),
        )

    @torch.no_grad()
    def _network(self, pictures: list[npt.NDArray[np.uint8]]) -> FeatureMap:
        self.pictures += len(pictures)
        features: FeatureMap = MODEL.backbone(images.to_tensor(pictures, torch.device("cpu")))
        return features


def candidate(pose: SE3, aside_px: float = 0.0, larger: float = 1.0) -> Candidate:
    u, v = CAMERA.project(pose.translation).tolist()
    diagonal = CAMERA.fx * float(SIZE_M.norm() / pose.translation[2])
    return Candidate(0, u + aside_px, v, larger * diagonal, 10.0)


def alike(found: Evidence, expected: Evidence) -> None:
    for name in ("presence", "centre", "diagonal", "points_box", "cells", "weight", "axes"):
        assert_close(getattr(found, name), getattr(expected, name))
    assert found.intrinsics.centre.tolist() == expected.intrinsics.centre.tolist()


@pytest.mark.parametrize(("aside_px", "larger"), [(40.0, 1.0), (0.0, 1.4), (-30.0, 0.7)])
def test_a_candidate_is_aimed_at_where_its_cells_see_it(aside_px: float, larger: float) -> None:
    ((aimed, look),) = Reader(stays=0.05).reader.aim(FRAME.rgb, CAMERA, [candidate(POSES[0], aside_px, larger)]).items()
    true = candidate(
        POSES[0]
    )  # the oracle votes for the middle of what is seen, which is not quite the projected centre
    assert abs(aimed.u - true.u) < 0.1 * true.diagonal_px
    assert abs(math.log(aimed.diagonal_px / true.diagonal_px)) < max(abs(math.log(larger)), 0.2)
    assert aimed.votes > 30
    assert look is None


def test_a_crop_that_is_right_already_is_read_without_another_look() -> None:
    reader = Reader(stays=0.3, mirror=True)
    aimed = reader.reader.aim(FRAME.rgb, CAMERA, [candidate(POSES[0]), candidate(POSES[1], aside_px=60.0)])
    assert [look is None for look in aimed.values()] == [False, True]
    assert next(iter(aimed)).u == candidate(POSES[0]).u
    assert reader.pictures == 2
    first, second = reader.reader.read(FRAME.rgb, CAMERA, list(aimed), twice=True, taken=aimed)
    assert reader.pictures == 2 + 1 + 2  # the one that moved, and both mirrored
    again = reader.reader.read(FRAME.rgb, CAMERA, list(aimed), twice=True)
    assert reader.pictures == 5 + 2 + 2
    alike(first, again[0])
    alike(second, again[1])


def test_without_mirror_what_is_seen_costs_nothing() -> None:
    reader = Reader(stays=0.3, mirror=False)
    aimed = reader.reader.aim(FRAME.rgb, CAMERA, [candidate(POSES[0])])
    (found,) = reader.reader.read(FRAME.rgb, CAMERA, list(aimed), twice=True, taken=aimed)
    assert reader.pictures == 1
    alike(found, reader.reader.read(FRAME.rgb, CAMERA, list(aimed))[0])


def test_candidates_of_one_place_are_one_after_aiming() -> None:
    twice = [candidate(POSES[0], aside_px=aside_px) for aside_px in (30.0, 30.0)]
    assert len(Reader().reader.aim(FRAME.rgb, CAMERA, twice)) == 1


def test_a_side_that_the_network_cannot_take_is_refused() -> None:
    assert CropConfig(side_px=96).side_px == 96
    with pytest.raises(ValueError, match="side_px: expected a multiple of 32, got 100"):
        CropConfig(side_px=100)
