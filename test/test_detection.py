"""Candidates from votes: as many as there are objects, where they are, however they lie."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from category_pose_ros.estimation.detection import (
    Candidate,
    DetectionConfig,
    distinct,
    find_candidates,
    merge_levels,
)
from category_pose_ros.geometry import Camera
from category_pose_ros.models.backbone import FeatureMap
from category_pose_ros.models.posterior import Posterior

CAMERA = Camera(fx=500.0, fy=500.0, cx=319.5, cy=239.5, width=640, height=480)
CELLS = CAMERA.resized(80, 60)
CONFIG = DetectionConfig()


class Votes:
    """A vote map that objects are drawn into; stands for network and vertex memory together."""

    def __init__(self, categories: int = 2) -> None:
        self.probability = torch.zeros(categories, CELLS.height, CELLS.width)
        self.centre = torch.randn(1, 2, CELLS.height, CELLS.width, generator=torch.Generator().manual_seed(0))
        self.log_diagonal = torch.zeros(1, CELLS.height, CELLS.width)

    def draw(self, column: float, row: float, diagonal: float, category: int = 0, noise: float = 0.0) -> None:
        """A disc of cells, diameter 0.7 diagonals, that vote for (column, row)."""
        rows, columns = torch.meshgrid(torch.arange(CELLS.height), torch.arange(CELLS.width), indexing="ij")
        inside = (columns - column) ** 2 + (rows - row) ** 2 < (0.35 * diagonal) ** 2
        self.vote(inside, column, row, diagonal, category, noise)

    def vote(
        self, cells: Tensor, column: float, row: float, diagonal: float, category: int = 0, noise: float = 0.0
    ) -> None:
        generator = torch.Generator().manual_seed(1)
        rows, columns = torch.nonzero(cells, as_tuple=True)
        self.probability[:, cells] = 0.0
        self.probability[category, cells] = 0.9
        target = torch.tensor([column, row]) + noise * torch.randn(len(rows), 2, generator=generator)
        self.centre[0][:, rows, columns] = (target - torch.stack([columns, rows], -1)).T
        self.log_diagonal[0][cells] = math.log(diagonal)

    def category_probability(self, features: FeatureMap) -> Tensor:
        return self.probability.unsqueeze(0)

    def find(self, **settings: Any) -> list[Candidate]:
        grid = (CELLS.height, CELLS.width)
        features = FeatureMap(
            torch.zeros(1, 1, *grid),
            self.centre,
            self.log_diagonal,
            torch.zeros(1, 2, 3, *grid),
            torch.zeros(1, 3, *grid),
        )
        config = dataclasses.replace(CONFIG, **settings)
        return find_candidates(features, cast(Posterior, self), CELLS, CAMERA, config)


def places(candidates: list[Candidate]) -> set[tuple[int, int, int]]:
    """Category, and cell of the centre."""
    return {(item.category, round((item.u - 3.5) / 8), round((item.v - 3.5) / 8)) for item in candidates}


def test_nothing_is_found_in_clutter() -> None:
    assert Votes().find() == []


def test_a_candidate_says_where_in_the_image_and_how_large() -> None:
    votes = Votes()
    votes.draw(column=30.25, row=20.5, diagonal=10.0, category=1)
    (found,) = votes.find()
    expected = (CELLS.rays(torch.tensor([30.25, 20.5]))[:2] * 500 + torch.tensor([CAMERA.cx, CAMERA.cy])).tolist()
    assert (found.u, found.v) == pytest.approx(expected, abs=0.01)
    assert found.diagonal_px == pytest.approx(80, rel=1e-3)
    assert found.category == 1
    assert found.votes == pytest.approx(0.9 * math.pi * 3.5**2, rel=0.15)


def test_noisy_votes_are_one_object() -> None:
    votes = Votes()
    votes.draw(30, 20, 12.0, noise=0.7)
    found = votes.find()
    assert len(found) == 1
    assert (found[0].u, found[0].v) == pytest.approx((243.5, 163.5), abs=3)


@pytest.mark.parametrize("gap", [5.0, 7.0, 20.0])
def test_two_objects_side_by_side_stay_two(gap: float) -> None:
    votes = Votes()
    votes.draw(30, 20, 8.0, noise=0.3)
    votes.draw(30 + gap, 20, 8.0, noise=0.3)
    assert places(votes.find()) == {(0, 30, 20), (0, 30 + round(gap), 20)}


def test_one_behind_the_other_stay_two() -> None:
    """The cells are mixed, the votes are not."""
    votes = Votes()
    votes.draw(30, 20, 20.0)
    votes.draw(39, 22, 8.0)
    assert places(votes.find()) == {(0, 30, 20), (0, 39, 22)}


def test_categories_do_not_share_votes() -> None:
    votes = Votes()
    votes.draw(30, 20, 10.0, category=0)
    votes.draw(31, 26, 10.0, category=1)
    assert places(votes.find()) == {(0, 30, 20), (1, 31, 26)}


def test_most_votes_come_first_and_the_number_is_bounded() -> None:
    votes = Votes()
    for k, diagonal in enumerate((6.0, 12.0, 9.0, 15.0)):
        votes.draw(10 + 20 * k, 30, diagonal)
    assert [round((item.u - 3.5) / 8) for item in votes.find()] == [70, 30, 50, 10]
    assert [round((item.u - 3.5) / 8) for item in votes.find(max_objects=2)] == [70, 30]


def test_unlikely_cells_and_lonely_ones_are_not_heard() -> None:
    votes = Votes()
    votes.draw(30, 20, 10.0)
    votes.probability *= 0.2
    assert votes.find(cell_threshold=0.25) == []
    lonely = Votes()
    one = torch.zeros(60, 80, dtype=torch.bool)
    one[5, 7] = True
    lonely.vote(one, 7, 5, 4)
    assert lonely.find(least_votes=1.5) == []


@pytest.mark.timeout(60)
@pytest.mark.parametrize("inside_too", [False, True])
def test_votes_for_a_centre_outside_the_image_come_to_an_end(inside_too: bool) -> None:
    """An object cut off by the border; a search that looks only inside would never finish."""
    votes = Votes()
    if inside_too:
        votes.draw(3, 3, 8.0)
    border = torch.zeros(60, 80, dtype=torch.bool)
    border[20:40, 76:] = True
    votes.vote(border, column=85, row=30, diagonal=25.0)
    found = places(votes.find())
    assert found <= {(0, 3, 3), (0, 85, 30)}
    assert ((0, 3, 3) in found) == inside_too


@pytest.mark.timeout(60)
def test_random_votes_come_to_an_end() -> None:
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        votes = Votes(categories=1)
        votes.probability[:] = torch.rand(votes.probability.shape, generator=generator) / 3.5
        votes.centre *= 30
        votes.log_diagonal[:] = 6 * torch.rand(votes.log_diagonal.shape, generator=generator) - 1
        found = votes.find()
        assert len(found) <= CONFIG.max_objects
        assert all(math.isfinite(value) for item in found for value in (item.u, item.v, item.diagonal_px, item.votes))


def at(u: float, votes: float, category: int = 0, diagonal_px: float = 100.0) -> Candidate:
    return Candidate(category, u, 200.0, diagonal_px, votes)


def test_a_place_that_speaks_for_one_category_is_not_followed_up_for_another() -> None:
    strong, weak, elsewhere, small = at(300, 50), at(310, 5, 1), at(400, 5, 1), at(300, 5, 1, diagonal_px=40.0)
    levels = [[strong, weak, elsewhere, small], []]
    assert set(merge_levels(levels, CONFIG, finest=1.0)) == {strong, elsewhere, small}
    assert merge_levels([[strong, at(310, 15, 1)], []], CONFIG, finest=1.0) == [strong, at(310, 15, 1)]
    assert merge_levels(levels, dataclasses.replace(CONFIG, rival_share=0.0), finest=1.0)[0] == strong
    assert len(merge_levels(levels, dataclasses.replace(CONFIG, rival_share=0.0), finest=1.0)) == 4


def test_after_aiming_each_object_is_left_once() -> None:
    first, again, rival, weak, few = at(300, 50), at(305, 40), at(302, 40, 1), at(302, 20, 2), at(100, 9)
    found = distinct([few, weak, again, rival, first], least_votes=10.0, rival_share=0.6)
    assert found == [first, rival]
