"""From features to hypotheses: with the features that a perfect network would give, the pose comes out."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import pytest
import torch
from neural_models import INFOS, TINY, tiny_meshes
from torch import Tensor
from torch.testing import assert_close

from category_pose_ros.estimation.evidence import CorrespondenceConfig, Evidence, gather_evidence, gather_votes
from category_pose_ros.estimation.proposals import ProposalConfig, ProposalGrid, vertex_support
from category_pose_ros.estimation.solver import SolverConfig, Term, minimise
from category_pose_ros.estimation.state import State
from category_pose_ros.estimation.terms import CorrespondenceTerm, SizePriorTerm
from category_pose_ros.geometry import SE3, Camera, Symmetry, so3
from category_pose_ros.geometry.box import enter_box
from category_pose_ros.geometry.rotations import line_of_sight
from category_pose_ros.geometry.symmetry import canonical, rotation_distance
from category_pose_ros.models.backbone import Backbone, FeatureMap
from category_pose_ros.models.checkpoint import NeuralMeshModel
from category_pose_ros.models.neural_mesh import TEMPERATURE
from category_pose_ros.models.posterior import Posterior

SIDE = 16  # cells
CAMERA = Camera(fx=55.0, fy=55.0, cx=7.0, cy=8.2, width=SIDE, height=SIDE)
CONFIG = CorrespondenceConfig(cells=SIDE * SIDE)
MESHES = tiny_meshes(feature=48, vertex_count=320)
MODEL = NeuralMeshModel(Backbone(TINY), MESHES, TINY, {})


@dataclass(frozen=True)
class View:
    """A cuboid of a category in front of the camera, and the features of a perfect network."""

    category: int
    pose: SE3
    size: Tensor
    features: FeatureMap
    points: Tensor  # (N, 3) where each cell's ray enters the box
    hit: Tensor  # (N,)


def cells() -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    return torch.stack([columns, rows], -1).flatten(0, 1).float()


def allocentric(pose: SE3) -> Tensor:
    return line_of_sight(pose.translation).T @ pose.rotation


def see(category: int, seed: int = 0, shift: tuple[float, float] = (0.0, 0.0)) -> View:
    generator = torch.Generator().manual_seed(seed)
    rotation = so3.exp(torch.randn(3, generator=generator))
    size = INFOS[category].log_size_mean.exp()
    distance = CAMERA.fx * float(size.norm()) / 10.0  # ten cells across
    ray = CAMERA.rays(torch.tensor([7.5 + shift[0], 7.5 + shift[1]]))
    pose = canonical(SE3(rotation, distance * ray), INFOS[category].symmetry)
    points, hit = enter_box(pose, size, CAMERA.rays(cells()))
    own = torch.nonzero(MESHES.category == category).squeeze(-1)
    nearest = own[torch.cdist(points * size, MESHES.points[own] * size).argmin(-1)]
    feature = torch.where(hit.unsqueeze(-1), MESHES.vertex_features()[nearest], MESHES.clutter_features()[:1])
    centre = CAMERA.project(pose.translation) - cells()
    features = FeatureMap(
        feature.detach().T.reshape(1, -1, SIDE, SIDE),
        centre.T.reshape(1, 2, SIDE, SIDE),
        torch.full((1, SIDE, SIDE), float(CAMERA.fx * size.norm() / pose.translation[2])).log(),
        allocentric(pose)[:, [0, 2]].T[None, :, :, None, None].expand(1, 2, 3, SIDE, SIDE),
        (size / size.norm()).log()[None, :, None, None].expand(1, 3, SIDE, SIDE),
    )
    return View(category, pose, size, features, points, hit)


def posterior(categories: tuple[str, ...] = ("can", "mug")) -> Posterior:
    return Posterior(MODEL, categories, torch.device("cpu"))


def evidence_of(view: View) -> Evidence:
    (evidence,) = gather_evidence(view.features, posterior(), [view.category], [CAMERA], CAMERA, CONFIG)
    return evidence


def state_of(view: View) -> State:
    return State(SE3(view.pose.rotation[None], view.pose.translation[None]), view.size.log()[None])


@pytest.mark.parametrize("category", [0, 1])
def test_chances_are_those_of_one_choice(category: int) -> None:
    view = see(category)
    both = posterior().category_probability(view.features)
    assert both.shape == (1, 2, SIDE, SIDE)
    assert (both.sum(1) <= 1 + 1e-5).all()
    hit = view.hit.view(SIDE, SIDE)
    assert both[0, category][hit].min() > 0.5
    assert both[0, category][~hit].max() < 0.1
    (vertices,) = posterior().vertex_probability(view.features, [category])
    # Where only the category counts, a few vertices stand for all.
    assert_close(vertices.sum(0), both[0, category], atol=0.03, rtol=0.0)


def test_categories_that_are_not_loaded_compete_as_clutter() -> None:
    alone = posterior(("mug",))
    assert [table.name for table in alone.tables] == ["mug"]
    for seen in (0, 1):
        features = see(seen).features
        both = posterior().category_probability(features)[:, 1:]
        assert alone.category_probability(features).shape == both.shape == (1, 1, SIDE, SIDE)
        assert (alone.category_probability(features) - both).abs().max() < 0.15
    swapped = posterior(("mug", "can"))
    assert_close(
        swapped.category_probability(see(1).features)[:, 0], posterior().category_probability(see(1).features)[:, 1]
    )


@pytest.mark.parametrize("category", [0, 1])
@pytest.mark.parametrize("seed", range(3))
def test_cells_know_what_they_see(category: int, seed: int) -> None:
    view = see(category, seed)
    evidence = evidence_of(view)
    order = (evidence.cells[:, 1] * SIDE + evidence.cells[:, 0]).long()
    assert sorted(order.tolist()) == list(range(SIDE * SIDE))
    points, hit = view.points[order], view.hit[order]
    error = ((evidence.points_box - points) * (view.size / view.size.norm())).norm(dim=-1)[hit]
    assert error.mean() < 0.1  # of the diagonal; vertices are 0.06 apart
    assert (evidence.weight[~hit] < 0.1 * evidence.weight[hit].mean()).all()
    assert (evidence.weight >= 0).all()
    assert_close(evidence.centre, CAMERA.project(view.pose.translation), atol=1e-3, rtol=0)
    assert float(evidence.diagonal) == pytest.approx(10.0, rel=0.01)
    assert evidence.presence.flatten()[view.hit].min() > 0.5
    support = evidence.support(torch.arange(len(evidence.table.points)))
    assert ((support >= 0) & (support <= 1 + 1e-5)).all()
    vertices, height, width = support.shape
    asked = torch.randint(height * width, (2, vertices), generator=torch.Generator().manual_seed(seed))
    expected = torch.stack([support.flatten(1)[torch.arange(vertices), row] for row in asked])
    assert_close(evidence.support_at(asked), expected)


def test_the_chance_of_a_vertex_is_a_softmax_over_its_category_a_share_of_the_others_and_the_clutter() -> None:
    features = see(0).features
    noise = torch.randn(features.feature.shape, generator=torch.Generator().manual_seed(0))
    mixed = dataclasses.replace(features, feature=torch.nn.functional.normalize(features.feature + 0.3 * noise, dim=1))
    table, clutter = MESHES.vertex_features().detach(), MESHES.clutter_features().detach()
    for index in range(2):
        own, other = table[MESHES.category == index], table[MESHES.category == 1 - index][::4]
        logits = torch.cat([own, other, clutter]) @ mixed.feature[0].flatten(1) / TEMPERATURE
        logits[len(own) : len(own) + len(other)] += math.log(4)  # each stands for four
        (found,) = posterior().vertex_probability(mixed, [index])
        assert_close(found.flatten(1), torch.softmax(logits, dim=0)[: len(own)])


def test_crops_of_a_batch_know_nothing_of_each_other() -> None:
    views = [see(1, 0), see(0, 1), see(1, 2, shift=(1.0, -0.5))]
    cameras = [CAMERA.cropped(k, -k, SIDE, SIDE) for k in range(len(views))]
    parts = [[getattr(view.features, field.name) for view in views] for field in dataclasses.fields(FeatureMap)]
    batch = FeatureMap(*(torch.cat(part) for part in parts))
    categories = [view.category for view in views]
    together = gather_evidence(batch, posterior(), categories, cameras, CAMERA, CONFIG)
    votes = gather_votes(batch, posterior(), categories, cameras, CAMERA, CONFIG)
    for view, camera, mine, voted in zip(views, cameras, together, votes, strict=True):
        (alone,) = gather_evidence(view.features, posterior(), [view.category], [camera], CAMERA, CONFIG)
        (alone_voted,) = gather_votes(view.features, posterior(), [view.category], [camera], CAMERA, CONFIG)
        for name in ("presence", "inside", "centre", "diagonal"):
            assert_close(getattr(mine, name), getattr(alone, name))
            assert_close(getattr(voted, name), getattr(alone_voted, name))
        for name in ("shown", "points_box", "cells", "weight", "axes", "axes_information"):
            assert_close(getattr(mine, name), getattr(alone, name))
        assert_close(mine.intrinsics.project(torch.ones(1, 1, 3)), alone.intrinsics.project(torch.ones(1, 1, 3)))


def test_a_neighbour_of_the_same_category_is_left_out() -> None:
    """Its cells vote for another centre."""
    view, other = see(1, 0), see(1, 1, shift=(9.0, 0.0))
    mine = (view.hit & ~other.hit).view(SIDE, SIDE)
    theirs = other.hit.view(SIDE, SIDE)
    mixed = FeatureMap(
        torch.where(theirs, other.features.feature, view.features.feature),
        torch.where(theirs, other.features.centre, view.features.centre),
        torch.where(theirs, other.features.log_diagonal, view.features.log_diagonal),
        torch.where(theirs, other.features.axes, view.features.axes),
        torch.where(theirs, other.features.log_shape, view.features.log_shape),
    )
    (evidence,) = gather_evidence(mixed, posterior(), [1], [CAMERA], CAMERA, CONFIG)
    assert theirs.sum() > 10
    assert evidence.presence[theirs].max() == 0
    assert evidence.presence[mine].min() > 0.5
    assert_close(evidence.axes, allocentric(view.pose)[:, [0, 2]].T)


def test_a_crop_without_the_object_is_no_failure() -> None:
    view = see(1)
    clutter = MESHES.clutter_features()[0].detach().view(1, -1, 1, 1).expand_as(view.features.feature)
    grid = (SIDE, SIDE)
    nothing = FeatureMap(
        clutter,
        torch.full((1, 2, *grid), 50.0),
        torch.full((1, *grid), 9.0),
        torch.zeros(1, 2, 3, *grid),
        torch.zeros(1, 3, *grid),
    )
    (evidence,) = gather_evidence(nothing, posterior(), [1], [CAMERA], CAMERA, CONFIG)
    values = [getattr(evidence, field.name) for field in dataclasses.fields(evidence)]
    assert all(value.isfinite().all() for value in values if isinstance(value, Tensor))
    states = ProposalGrid(evidence.table, ProposalConfig(rotations=50, axes=20)).propose(evidence)
    assert states.camera_from_object.matrix().isfinite().all()


@pytest.mark.parametrize("category", [0, 1])
def test_the_true_pose_is_supported_best(category: int) -> None:
    view = see(category, 3)
    evidence = evidence_of(view)
    support, presence = vertex_support(state_of(view), evidence)
    away = torch.zeros(4, 9)
    away[0, 3], away[1, 4], away[2, 0], away[3, 2] = 0.8, 0.8, 0.05, 0.4
    others = State.cat([state_of(view)] * 4).moved(away)
    other_support, _ = vertex_support(others, evidence)
    assert float(support) > float(other_support.max())
    assert float(presence) > 0.75


@pytest.mark.parametrize("category", [0, 1])
def test_what_the_image_cuts_off_is_not_held_against_an_object(category: int) -> None:
    view = see(category, 3)
    cut = dataclasses.replace(view.features, feature=view.features.feature.clone())
    cut.feature[..., SIDE // 2 :] = MESHES.clutter_features()[0].detach()[:, None, None]
    supports, masses = [], []
    for image in (CAMERA, CAMERA.cropped(0, 0, SIDE // 2, SIDE)):
        (evidence,) = gather_evidence(cut, posterior(), [category], [CAMERA], image, CONFIG)
        supports.append(float(vertex_support(state_of(view), evidence)[0]))
        masses.append(float(evidence.presence.sum()))
    whole, _ = vertex_support(state_of(view), evidence_of(view))
    assert supports[0] < 0.8 * float(whole)
    assert supports[1] > 0.9 * float(whole)
    assert masses[1] == pytest.approx(masses[0], rel=0.05)


@pytest.mark.parametrize("category", [0, 1])
def test_proposals_differ_in_rotation_and_are_as_many_as_wished(category: int) -> None:
    config = ProposalConfig(keep=5, separation_deg=25.0)
    evidence = evidence_of(see(category))
    states = ProposalGrid(evidence.table, config).propose(evidence)
    rotations = states.camera_from_object.rotation
    assert rotations.shape == (5, 3, 3)
    symmetry = INFOS[category].symmetry
    apart = rotation_distance(rotations[:, None].expand(5, 5, 3, 3), rotations[None].expand(5, 5, 3, 3), symmetry)
    assert (apart[~torch.eye(5, dtype=torch.bool)].rad2deg() > 24.9).all()


@pytest.mark.parametrize("category", [0, 1])
@pytest.mark.parametrize("seed", range(4))
def test_perfect_features_give_the_pose(category: int, seed: int) -> None:
    """Proposals and refinement together, as the method runs them, without a network."""
    view = see(category, seed)
    evidence = evidence_of(view)
    starts = ProposalGrid(evidence.table, ProposalConfig()).propose(evidence)
    keep, table = len(starts.log_size), evidence.table
    terms: list[Term] = [
        CorrespondenceTerm(
            evidence.intrinsics[torch.zeros(keep, dtype=torch.long)],
            evidence.points_box.expand(keep, -1, 3),
            evidence.cells,
            evidence.weight.expand(keep, -1),
            CONFIG.robust_cells,
        ),
        SizePriorTerm(table.log_size_mean.expand(keep, 3), table.log_size_information.expand(keep, 3, 3)),
    ]
    found, _ = minimise(terms, starts, SolverConfig())
    best = int(vertex_support(found, evidence)[0].argmax())
    symmetry: Symmetry = table.symmetry
    angle = rotation_distance(found.camera_from_object.rotation[best], view.pose.rotation, symmetry)
    assert float(angle.rad2deg()) < 8
    offset = CAMERA.project(found.camera_from_object.translation[best]) - CAMERA.project(view.pose.translation)
    assert float(offset.norm()) < 0.5  # cells
    assert_close(found.size_m[best], view.size, rtol=0.25, atol=0)


def votes(length: float) -> Tensor:
    """Unit votes (2, 3, h, w) for the camera's x and z axis, shortened to a mean length."""
    return length * torch.eye(3)[[0, 2]][:, :, None, None].expand(2, 3, SIDE, SIDE)


@pytest.mark.parametrize("category", [0, 1])
def test_the_longer_the_mean_vote_the_surer_the_axes(category: int) -> None:
    view = see(category)
    found = {}
    for length in (0.0, 0.5, 0.9, 1.0):
        features = dataclasses.replace(view.features, axes=votes(length)[None])
        (found[length],) = gather_evidence(features, posterior(), [category], [CAMERA], CAMERA, CONFIG)
    assert (found[0.0].axes_information == 0).all()
    assert found[0.5].axes_information[1] < found[0.9].axes_information[1] < found[1.0].axes_information[1] < 100
    assert float(found[0.9].axes_information[1]) == pytest.approx(9.0, rel=1e-3)  # 1 / (1 - 0.9), less the 1 of nothing
    symmetric = INFOS[category].symmetry is Symmetry.AXIS_Z
    assert bool(found[0.9].axes_information[0] > 0) is not symmetric


def test_rotations_that_agree_with_the_votes_are_likelier() -> None:
    view = see(1)
    evidence = evidence_of(view)
    right = allocentric(view.pose)
    wrong = right @ so3.exp(torch.tensor([0.3, 0.0, 0.0]))
    likelihood = evidence.axes_log_likelihood(
        torch.stack([right, wrong, right @ so3.exp(torch.tensor([3.0, 0.0, 0.0]))])
    )
    assert likelihood[0] == pytest.approx(0.0, abs=1e-4)
    assert likelihood[0] > likelihood[1] > likelihood[2]


@pytest.mark.parametrize("category", [0, 1])
def test_a_mirrored_crop_says_the_same_of_its_object(category: int) -> None:
    """Evidence from the mirrored crop alone, twice the same opinion, is that of the crop itself."""
    view = see(category)
    y_flipped = MESHES.points * torch.tensor([1.0, -1.0, 1.0])
    same_category = MESHES.category.unsqueeze(0) == MESHES.category.unsqueeze(1)
    mirror = torch.cdist(y_flipped, MESHES.points).masked_fill(~same_category, torch.inf).argmin(-1)
    # What a perfect network says of the mirrored image: the mirrored vertices in mirrored places.
    own = view.features.feature[0].flatten(1).T @ MESHES.vertex_features().T
    seen = MESHES.vertex_features()[mirror[own.argmax(-1)]].detach()
    feature = torch.where(view.hit.unsqueeze(-1), seen, MESHES.clutter_features()[:1].detach())
    across = torch.tensor([-1.0, 1.0, 1.0])
    mirrored = FeatureMap(
        feature.T.reshape(1, -1, SIDE, SIDE).flip(-1),
        view.features.centre.flip(-1) * across[:2, None, None],
        view.features.log_diagonal.flip(-1),
        view.features.axes.flip(-1) * across[:, None, None],
        view.features.log_shape.flip(-1),
    )
    (both,) = gather_evidence(view.features, posterior(), [category], [CAMERA], CAMERA, CONFIG, mirrored)
    alone = evidence_of(view)
    assert_close(both.axes, alone.axes)
    assert_close(both.centre, alone.centre)
    assert_close(both.presence, alone.presence, atol=0.05, rtol=0)
    order, expected = both.cells.sum(-1).argsort(), alone.cells.sum(-1).argsort()
    assert len(order) == len(expected)
    size = view.size / view.size.norm()
    places = {tuple(cell.tolist()): point for cell, point in zip(alone.cells, alone.points_box, strict=True)}
    errors = [
        ((point - places[tuple(cell.tolist())]) * size).norm()
        for cell, point, weight in zip(both.cells, both.points_box, both.weight, strict=True)
        if weight > 0.1 * both.weight.max()
    ]
    assert torch.stack(errors).median() < 0.02


@pytest.mark.parametrize("category", [0, 1])
def test_votes_alone_see_the_object_where_all_evidence_does(category: int) -> None:
    view = see(category, 2)
    (votes,) = gather_votes(view.features, posterior(), [category], [CAMERA], CAMERA, CONFIG)
    evidence = evidence_of(view)
    assert_close(votes.centre, evidence.centre, atol=0.05, rtol=0.0)
    assert_close(votes.diagonal, evidence.diagonal, atol=0.05, rtol=0.0)
    assert_close(votes.presence, evidence.presence, atol=0.05, rtol=0.0)
