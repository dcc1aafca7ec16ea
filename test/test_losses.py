"""Losses of the neural mesh model: soft targets, what is rewarded, where gradients go."""

from __future__ import annotations

import pytest
import torch
from neural_models import INFOS, TINY, tiny_meshes
from torch import Tensor
from torch.nn import functional
from torch.testing import assert_close

from category_pose_ros.data.samples import UNKNOWN, Samples
from category_pose_ros.geometry import Symmetry
from category_pose_ros.models.backbone import Backbone, FeatureMap
from category_pose_ros.models.neural_mesh import NeuralMeshes
from category_pose_ros.training.losses import neural_mesh_loss, vertex_weights

CELLS = 8


def target(background: bool = True, objects: bool = True) -> Samples:
    """Two crops: left half an object, each of another category, right half background."""
    torch.manual_seed(1)
    category = torch.full((2, CELLS, CELLS), -1)
    if objects:
        category[0, :, : CELLS // 2], category[1, :, : CELLS // 2] = 0, 1
        if not background:
            category[0], category[1] = 0, 1
    point = torch.rand(2, CELLS, CELLS, 3) - 0.5
    point[..., 0] = 0.5
    return Samples(
        torch.randint(0, 256, (2, 3, 8 * CELLS, 8 * CELLS), dtype=torch.uint8),
        category,
        point,
        torch.randn(2, CELLS, CELLS, 2),
        1 + torch.rand(2, CELLS, CELLS),
        functional.normalize(torch.randn(2, CELLS, CELLS, 2, 3), dim=-1),
        torch.rand(2, CELLS, CELLS, 3) - 1,
    )


def perfect(meshes: NeuralMeshes, samples: Samples) -> FeatureMap:
    """The features of the vertex nearest to what each cell sees; clutter elsewhere; the true votes."""
    flat = samples.category.flatten()
    on_object = flat >= 0
    features = meshes.clutter_features()[torch.zeros_like(flat)]
    weights = vertex_weights(meshes, flat[on_object], samples.box_point.flatten(0, 2)[on_object], 0.09)
    features[on_object] = meshes.vertex_features()[weights.argmax(-1)]
    feature = features.view(2, CELLS, CELLS, -1).permute(0, 3, 1, 2)
    return FeatureMap(feature.detach(), *true_votes(samples))


def true_votes(samples: Samples) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        samples.centre.permute(0, 3, 1, 2).clone(),
        samples.log_diagonal.clone(),
        samples.axes.permute(0, 3, 4, 1, 2).clone(),
        samples.log_shape.permute(0, 3, 1, 2).clone(),
    )


def blind() -> FeatureMap:
    torch.manual_seed(2)
    feature = functional.normalize(torch.randn(2, TINY.feature, CELLS, CELLS), dim=1)
    return FeatureMap(feature, *(torch.zeros_like(votes) for votes in true_votes(target())))


def test_nothing_is_asked_of_what_is_unknown() -> None:
    meshes, output, samples = tiny_meshes(), blind(), target()
    output.feature.requires_grad_()
    samples.category[:, :2] = UNKNOWN
    neural_mesh_loss(output, meshes, samples).total.backward()
    assert output.feature.grad is not None
    asked = output.feature.grad.abs().sum(1) > 0
    assert not asked[:, :2].any()
    assert asked[:, 2:, : CELLS // 2].all()


def test_weights_sum_to_one_and_stay_in_the_category() -> None:
    meshes = tiny_meshes()
    category = torch.tensor([0, 1, 1, 0])
    weights = vertex_weights(meshes, category, torch.rand(4, 3) - 0.5, 0.09)
    assert_close(weights.sum(-1), torch.ones(4))
    assert (weights[meshes.category != category.unsqueeze(-1)] == 0).all()


def test_weights_are_largest_at_the_nearest_vertex() -> None:
    meshes = tiny_meshes()
    own = torch.nonzero(meshes.category == 1).squeeze(-1)
    weights = vertex_weights(meshes, torch.ones(len(own), dtype=torch.long), meshes.points[own], 0.09)
    assert weights.argmax(-1).tolist() == own.tolist()


def test_weights_fall_with_the_distance_on_the_object_not_in_the_unit_box() -> None:
    meshes = tiny_meshes(vertex_count=320)
    size = INFOS[1].log_size_mean.exp()
    size = size / size.norm()
    point = torch.tensor([[0.5, 0.1, 0.2]])
    weights = vertex_weights(meshes, torch.tensor([1]), point, 0.09)[0][meshes.category == 1]
    distance = ((meshes.points[meshes.category == 1] - point) * size).norm(dim=-1)
    ratio = (weights[0] / weights[1]).log()
    assert ratio == pytest.approx(float(distance[1] ** 2 - distance[0] ** 2) / (2 * 0.09**2), rel=1e-3)


def test_perfect_features_cost_less_than_blind_ones() -> None:
    meshes, samples = tiny_meshes(feature=TINY.feature), target()
    good, bad = neural_mesh_loss(perfect(meshes, samples), meshes, samples), neural_mesh_loss(blind(), meshes, samples)
    assert good.object < bad.object
    assert good.clutter < bad.clutter
    assert good.total < 0.5 * bad.total
    assert good.centre == 0
    assert good.diagonal == good.axes == good.shape == 0


def test_votes_are_measured_in_diagonals_and_on_objects_alone() -> None:
    meshes, samples = tiny_meshes(), target()
    output = perfect(meshes, samples)
    samples.log_diagonal[:] = torch.log(torch.tensor(4.0))
    output.log_diagonal[:] = samples.log_diagonal + 0.5
    output.centre[:] = output.centre + 2.0
    losses = neural_mesh_loss(output, meshes, samples)
    assert float(losses.centre) == pytest.approx(0.5)
    assert float(losses.diagonal) == pytest.approx(0.5)
    output.centre[:, :, :, CELLS // 2 :] += 100.0
    assert float(neural_mesh_loss(output, meshes, samples).centre) == pytest.approx(0.5)


def test_only_categories_with_a_yaw_are_asked_for_their_x_axis() -> None:
    meshes, samples = tiny_meshes(), target()
    symmetric = torch.tensor([info.symmetry is Symmetry.AXIS_Z for info in INFOS])
    assert symmetric.any()
    assert not symmetric.all()
    output = perfect(meshes, samples)
    of_symmetric = symmetric[samples.category] & (samples.category >= 0)
    output.axes[:, 0].permute(0, 2, 3, 1)[of_symmetric] += 1.0
    assert neural_mesh_loss(output, meshes, samples).axes == 0
    output.axes[:, 0].permute(0, 2, 3, 1)[~of_symmetric & (samples.category >= 0)] += 1.0
    assert neural_mesh_loss(output, meshes, samples).axes > 0.1


def test_gradients_flow_to_the_backbone_the_memory_and_the_clutter() -> None:
    backbone, meshes, samples = Backbone(TINY), tiny_meshes(), target()
    neural_mesh_loss(backbone(samples.image), meshes, samples).total.backward()
    for name, parameter in [*backbone.named_parameters(), *meshes.named_parameters()]:
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert backbone.stem[0].weight.grad.abs().max() > 0
    assert backbone.vote_head.weight.grad.abs().max() > 0
    assert (meshes.memory.grad.abs().sum(-1) > 0).all()
    assert (meshes.clutter.grad.abs().sum(-1) > 0).all()


@pytest.mark.parametrize(("background", "objects"), [(False, True), (True, False)])
def test_a_batch_without_objects_or_without_background_is_no_failure(background: bool, objects: bool) -> None:
    backbone, meshes, samples = Backbone(TINY), tiny_meshes(), target(background, objects)
    losses = neural_mesh_loss(backbone(samples.image), meshes, samples)
    losses.total.backward()
    assert losses.total.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in _with_gradient(backbone, meshes))


def _with_gradient(*modules: torch.nn.Module) -> list[Tensor]:
    return [parameter for module in modules for parameter in module.parameters() if parameter.grad is not None]


def test_gradient_descent_finds_the_vertices() -> None:
    """Features that are free to move find their vertices: the loss has the minimum it should have."""
    meshes, samples = tiny_meshes(feature=32), target()
    free = torch.nn.Parameter(torch.randn(2, 32, CELLS, CELLS))
    optimiser = torch.optim.Adam([free, *meshes.parameters()], lr=0.05)
    votes = true_votes(samples)
    history = []
    for _ in range(30):
        losses = neural_mesh_loss(FeatureMap(functional.normalize(free, dim=1), *votes), meshes, samples)
        optimiser.zero_grad()
        losses.total.backward()
        optimiser.step()
        history.append(float(losses.total.detach()))
    assert history[-1] < 0.5 * history[0]
