"""Backbone, neural meshes and model files: shapes, round trip, refusal of what is not a model."""

from __future__ import annotations

import json
import os
import pickle
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from neural_models import INFOS, TINY, tiny_meshes, tiny_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from category_pose_ros.cli import main
from category_pose_ros.models.backbone import Backbone, folded
from category_pose_ros.models.checkpoint import averaged, load_model, save_model
from category_pose_ros.models.judge import LAID_CHANNELS, Judge, JudgeConfig
from category_pose_ros.models.paper_backbone import PaperBackbone
from category_pose_ros.models.quantization import input_ranges
from category_pose_ros.records import STRIDE_PX


def image(height: int, width: int, batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (batch, 3, height, width), generator=generator, dtype=torch.uint8)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "some folder" / "tiny.safetensors"
    save_model(path, tiny_model())
    return path


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 128), (96, 160)])
def test_the_feature_map_has_a_cell_per_stride(height: int, width: int) -> None:
    output = Backbone(TINY).eval()(image(height, width))
    cells = (height // STRIDE_PX, width // STRIDE_PX)
    assert output.feature.shape == (2, TINY.feature, *cells)
    assert output.centre.shape == (2, 2, *cells)
    assert output.log_diagonal.shape == (2, *cells)
    assert output.axes.shape == (2, 2, 3, *cells)
    assert output.log_shape.shape == (2, 3, *cells)


@pytest.mark.parametrize("bfloat16", [False, True])
def test_features_are_unit_vectors_in_single_precision(bfloat16: bool) -> None:
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        output = Backbone(TINY).eval()(image(64, 64))
    assert output.feature.dtype == output.centre.dtype == output.log_diagonal.dtype == torch.float32
    assert_close(output.feature.norm(dim=1), torch.ones(2, 8, 8))


def test_images_of_a_batch_do_not_disturb_each_other() -> None:
    backbone, pictures = Backbone(TINY).eval(), image(64, 64)
    assert_close(backbone(pictures).feature[1:], backbone(pictures[1:]).feature, atol=1e-5, rtol=1e-4)


def test_the_network_moves_with_the_image() -> None:
    """A shift by the coarsest stride shifts the features, away from the borders."""
    backbone = Backbone(TINY).eval()
    wide = image(320, 352, batch=1)
    left, right = backbone(wide[..., :320]).feature, backbone(wide[..., 32:]).feature
    cells = 32 // STRIDE_PX
    inner = slice(16, 24)
    assert_close(left[..., inner, 16 + cells : 24], right[..., inner, 16 : 24 - cells], atol=2e-2, rtol=0)


def test_meshes_hold_all_vertices_of_all_categories() -> None:
    meshes = tiny_meshes()
    assert meshes.names == ("can", "mug")
    assert len(meshes.points) == len(meshes.normals) == len(meshes.category) == len(meshes.memory)
    assert meshes.category.unique().tolist() == [0, 1]
    assert (meshes.points.abs() <= 0.5).all()
    assert_close(meshes.vertex_features().norm(dim=-1), torch.ones(len(meshes.points)))
    assert_close(meshes.clutter_features().norm(dim=-1), torch.ones(3))


def test_neighbouring_vertices_start_alike() -> None:
    meshes = tiny_meshes(feature=48, vertex_count=320)
    features = meshes.vertex_features()[meshes.category == 1]
    distance = torch.cdist(meshes.points[meshes.category == 1], meshes.points[meshes.category == 1])
    similarity = features @ features.T
    assert similarity[(distance > 0) & (distance < 0.15)].mean() > similarity[distance > 0.8].mean() + 0.4


def test_a_saved_model_comes_back(saved: Path) -> None:
    model, loaded = tiny_model(), load_model(saved)
    assert loaded.config == TINY
    assert loaded.training == model.training
    assert loaded.meshes.names == model.meshes.names
    for info, original in zip(loaded.meshes.infos, INFOS, strict=True):
        assert info.symmetry is original.symmetry
        assert_close(info.log_size_mean, original.log_size_mean)
        assert_close(info.log_size_covariance, original.log_size_covariance)
    for name, value in model.meshes.state_dict().items():
        assert torch.equal(loaded.meshes.state_dict()[name], value)
    assert not loaded.backbone.training
    picture = image(64, 64)
    expected, found = model.backbone(picture), loaded.backbone(picture)  # stored in half precision
    assert_close(found.feature, expected.feature, atol=5e-3, rtol=0)
    assert_close(found.centre, expected.centre, atol=5e-2, rtol=0)


def test_saving_what_was_loaded_changes_nothing(saved: Path) -> None:
    again = saved.with_name("again.safetensors")
    save_model(again, load_model(saved))
    first, second = load_file(saved), load_file(again)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_model_files_are_for_whom_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        save_model(tmp_path / "model.safetensors", tiny_model())
    finally:
        os.umask(before)
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == 0o644


@contextmanager
def full_disk() -> Iterator[None]:
    """No file becomes longer than 1000 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_model_that_cannot_be_written_leaves_the_old_one(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = saved.read_bytes()
    with full_disk(), pytest.raises(SystemExit) as stopped:
        main(["average", str(saved), "--output", str(saved)])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == f"category-pose: error: {saved}: cannot be written: File too large\n"
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_the_grid_of_the_file_counts_not_the_one_of_today(tmp_path: Path) -> None:
    """A model trained with another number of vertices stays usable."""
    model = tiny_model()
    object.__setattr__(model, "meshes", tiny_meshes(vertex_count=100))
    save_model(tmp_path / "model.safetensors", model)
    assert torch.equal(load_model(tmp_path / "model.safetensors").meshes.points, model.meshes.points)


def test_a_judge_is_kept_in_the_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = tiny_model()
    judge = Judge(JudgeConfig(width=8), len(model.meshes.names), TINY.feature).eval()
    save_model(tmp_path / "judged.safetensors", replace(model, judge=judge))
    loaded = load_model(tmp_path / "judged.safetensors")
    assert loaded.judge is not None
    laid, category = torch.randn(3, LAID_CHANNELS + TINY.feature, 16, 16), torch.tensor([0, 1, 1])
    assert_close(loaded.judge(laid, category), judge(laid, category), atol=1e-2, rtol=0)
    assert averaged([loaded, loaded]).judge is None  # it knows the features of the network that it was trained on


def test_ranges_are_kept_in_the_file_and_must_be_those_of_its_network(tmp_path: Path) -> None:
    model, path = tiny_model(), tmp_path / "ranged.safetensors"
    ranges = input_ranges(model.backbone, [image(64, 64)])
    save_model(path, replace(model, ranges=ranges))
    loaded = load_model(path)
    assert loaded.ranges == ranges
    assert averaged([loaded, loaded]).ranges is None
    rewrite(path, lambda header: header["ranges"].pop("neck.0"))
    refused(path, "ranges: expected those of")


def header_of(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        header: dict[str, Any] = json.loads(file.metadata()["category_pose_ros"])
    return header


def rewrite(
    path: Path,
    change_header: Callable[[dict[str, Any]], Any] = lambda header: None,
    change_tensors: Callable[[dict[str, torch.Tensor]], Any] = lambda tensors: None,
) -> None:
    header, tensors = header_of(path), load_file(path)
    change_header(header)
    change_tensors(tensors)
    save_file(tensors, path, metadata={"category_pose_ros": json.dumps(header)})


def refused(path: Path, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load_model(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "none.safetensors", "model: no such file")
    refused(tmp_path, "model: no such file")


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(saved: Path, share: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(share * len(content))])
    refused(saved, "is damaged")


def test_a_scrambled_file_is_refused(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    content[:200] = bytes((value * 7 + 13) % 256 for value in content[:200])
    saved.write_bytes(content)
    refused(saved, "is damaged")


def test_a_file_of_another_kind_is_refused(saved: Path) -> None:
    saved.write_text("not a model at all, but long enough to hold a header\n" * 10)
    refused(saved, "is damaged")
    save_file({"weight": torch.zeros(3)}, saved)
    refused(saved, "is not a model of this package")
    save_file({"weight": torch.zeros(3)}, saved, metadata={"category_pose_ros": "{"})
    refused(saved, "is damaged")
    save_file({"weight": torch.zeros(3)}, saved, metadata={"category_pose_ros": "[1, 2]"})
    refused(saved, "is damaged")


class _Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("trapped"),))


def test_nothing_is_unpickled(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(saved.parent)
    saved.write_bytes(pickle.dumps(_Trap()))
    refused(saved, "is damaged")
    torch.save({"model": _Trap()}, saved)
    refused(saved, "is damaged")
    assert not Path("trapped").exists()


def test_another_format_version_is_refused(saved: Path) -> None:
    rewrite(saved, lambda header: header.update(format_version=99))
    refused(saved, "has format version 99, expected 5")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header: header.pop("categories"), "'categories' is missing"),
        (lambda header: header.pop("backbone"), "'backbone' is missing"),
        (lambda header: header["backbone"].update(depth=50), "depth: unknown setting"),
        (lambda header: header["backbone"].update(width=16), "is damaged"),
        (lambda header: header["categories"][0].update(symmetry="cubic"), "cubic"),
        (lambda header: header["categories"].pop(), "expected numbers below 1"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(
    saved: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    rewrite(saved, change)
    refused(saved, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("backbone.neck.0.weight"), "is damaged"),
        (lambda tensors: tensors.pop("meshes.memory"), "'memory' is missing"),
        (lambda tensors: tensors.pop("meshes.clutter"), "'clutter' is missing"),
        (lambda tensors: tensors.update({"meshes.extra": torch.zeros(2)}), "is damaged"),
        (lambda tensors: tensors.update({"meshes.memory": torch.zeros(5, 8)}), "meshes.memory: expected shape"),
        (lambda tensors: tensors["meshes.memory"].fill_(torch.nan), "meshes.memory: expected finite values"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    saved: Path, change: Callable[[dict[str, torch.Tensor]], Any], message: str
) -> None:
    rewrite(saved, change_tensors=change)
    refused(saved, message)


def test_meshes_take_over_what_they_share() -> None:
    trained, fresh = tiny_meshes(vertex_count=80), tiny_meshes(vertex_count=40)
    fresh.take_over(trained)
    for point, vector, category in zip(fresh.points, fresh.memory, fresh.category, strict=True):
        own = torch.nonzero(trained.category == category).squeeze(-1)
        nearest = own[(trained.points[own] - point).norm(dim=-1).argmin()]
        assert torch.equal(vector, trained.memory[nearest])
    assert torch.equal(fresh.clutter, trained.clutter)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_folded_network_says_the_same(dtype: torch.dtype) -> None:
    backbone, pictures = Backbone(TINY), image(64, 64)
    backbone(pictures)  # in training mode: gives the batch norms statistics of their own
    expected = backbone.eval()(pictures)
    faster = folded(backbone)
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in faster.modules())
    found = faster.to(dtype)(pictures)
    tolerance = 1e-4 if dtype == torch.float32 else 0.05
    for name in ("feature", "centre", "log_diagonal", "axes", "log_shape"):
        assert_close(getattr(found, name), getattr(expected, name), atol=tolerance, rtol=tolerance)


def test_the_papers_backbone_is_the_size_that_it_should_be() -> None:
    """ResNet-50's own 23.5 million, the rest in the upsampling blocks; stride 8, 128 channels."""
    backbone = PaperBackbone().eval()
    stages = sum(value.numel() for part in (backbone.stem, backbone.stages) for value in part.parameters())
    assert stages == 23_508_032
    features = backbone(torch.rand(1, 3, 64, 96))
    assert features.shape == (1, 128, 8, 12)
    assert_close(features.norm(dim=1), torch.ones(1, 8, 12))


def test_the_average_of_models_has_the_mean_of_their_weights() -> None:
    first, second = tiny_model(), tiny_model()
    with torch.no_grad():
        for weight in (*second.backbone.parameters(), *second.meshes.parameters()):
            weight += 0.5
    mean = averaged([first, second])
    assert_close(mean.backbone.stem[0].weight, first.backbone.stem[0].weight + 0.25)
    assert_close(mean.meshes.memory, first.meshes.memory + 0.25)
    assert_close(mean.meshes.points, first.meshes.points)
    assert mean.training == {"averaged": [first.training, second.training]}


def test_models_of_other_vertices_have_no_average() -> None:
    first, second = tiny_model(), tiny_model()
    second.meshes.points = second.meshes.points + 0.1
    with pytest.raises(ValueError, match="models: expected the same network, categories and vertices"):
        averaged([first, second])
