"""The network as it runs at estimation: whoever computes it, it says the same."""

from __future__ import annotations

import copy
import importlib.util
import sys

import pytest
import torch
from neural_models import TINY
from torch.testing import assert_close

from category_pose_ros.models.backbone import Backbone, FeatureMap, folded
from category_pose_ros.models.judge import Judge, JudgeConfig
from category_pose_ros.models.quantization import input_ranges, quantized
from category_pose_ros.models.runtime import prepared, prepared_judge

CPU = torch.device("cpu")
FIELDS = ("feature", "centre", "log_diagonal", "axes", "log_shape")
needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    torch.manual_seed(0)
    backbone = Backbone(TINY)
    backbone(images(2, 64, 64))  # in training mode: gives the batch norms statistics of their own
    return backbone.eval()


def images(count: int, height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8)


def alike(found: FeatureMap, expected: FeatureMap, tolerance: float) -> None:
    for name in FIELDS:
        assert_close(getattr(found, name), getattr(expected, name), atol=tolerance, rtol=tolerance)


@needs_openvino
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-4), ("bfloat16", 0.05)])
def test_openvino_agrees_with_pytorch_at_every_size(backbone: Backbone, precision: str, tolerance: float) -> None:
    network = prepared(backbone, CPU, "openvino", precision)
    for size in ((1, 64, 64), (3, 128, 128), (1, 96, 160), (1, 64, 64)):
        pictures = images(*size)
        with torch.inference_mode():
            alike(network(pictures), backbone(pictures), tolerance)


@needs_openvino
def test_openvino_rounds_to_eight_bits_as_pytorch_does(backbone: Backbone) -> None:
    ranges = input_ranges(backbone, [images(1, 64, 96), images(1, 64, 64)])
    network, oracle = prepared(backbone, CPU, "openvino", "int8", ranges), quantized(folded(backbone), ranges)
    for size in ((1, 64, 64), (3, 128, 128)):
        pictures = images(*size)
        with torch.inference_mode():
            found, expected = network(pictures), oracle(pictures)
        # A sum that lies between two integers may go to either, and the layers after it amplify that.
        assert (found.feature * expected.feature).sum(1).mean() > 0.999
        assert (found.centre - expected.centre).abs().mean() < 0.02


@needs_openvino
def test_eight_bits_are_chosen_where_their_ranges_are_known(backbone: Backbone) -> None:
    ranges, pictures = input_ranges(backbone, [images(1, 64, 64)]), images(1, 64, 64)
    auto, rounded, exact = (
        prepared(backbone, CPU, "auto", precision, ranges)(pictures) for precision in ("auto", "int8", "float32")
    )
    alike(auto, rounded, 1e-6)
    assert not torch.equal(exact.feature, rounded.feature)


@needs_openvino
def test_only_another_network_is_traced_anew(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    traced: list[torch.nn.Module] = []
    trace = torch.jit.trace

    def note(network: torch.nn.Module, *given: object, **options: object) -> object:
        traced.append(network)
        return trace(network, *given, **options)

    monkeypatch.setattr(torch.jit, "trace", note)
    ranges, pictures = input_ranges(backbone, [images(1, 64, 64)]), images(1, 64, 96)
    wider = {name: (low, 2 * high) for name, (low, high) in ranges.items()}
    changed = copy.deepcopy(backbone)
    with torch.no_grad():
        changed.vote_head.bias += 1.0
    said = []
    for count, (network, limits) in enumerate([(backbone, ranges), (backbone, wider), (changed, wider)], start=1):
        for _ in range(2):
            said.append(prepared(copy.deepcopy(network), CPU, "openvino", "int8", limits)(pictures))
            assert len(traced) == count
        alike(said[-1], said[-2], 0.0)
    assert not torch.equal(said[1].centre, said[2].centre)
    assert not torch.equal(said[3].centre, said[4].centre)


def test_eight_bits_need_openvino_and_ranges(backbone: Backbone) -> None:
    ranges = input_ranges(backbone, [images(1, 64, 64)])
    with pytest.raises(ValueError, match="precision: int8 needs OpenVINO on a CPU"):
        prepared(backbone, CPU, "pytorch", "int8", ranges)
    if importlib.util.find_spec("openvino") is not None:
        with pytest.raises(ValueError, match="precision: int8 needs a model that knows the ranges"):
            prepared(backbone, CPU, "openvino", "int8")


@needs_openvino
def test_an_answer_of_openvino_outlives_the_next_one(backbone: Backbone) -> None:
    network = prepared(backbone, CPU, "openvino", "float32")
    first = network(images(1, 64, 64))
    kept = first.feature.clone()
    network(images(1, 64, 64))
    assert torch.equal(first.feature, kept)


@needs_openvino
def test_openvino_takes_images_that_are_views(backbone: Backbone) -> None:
    """As those that come from OpenCV, whose channels are last."""
    network = prepared(backbone, CPU, "openvino", "float32")
    pictures = images(1, 64, 64)
    seen = pictures.contiguous(memory_format=torch.channels_last)
    alike(network(seen), network(pictures), 1e-6)


@needs_openvino
def test_openvino_follows_the_number_of_threads(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    import openvino

    class Spy(openvino.Core):  # type: ignore[misc]
        def compile_model(self, model: object, device: str, options: dict[str, object]) -> object:
            threads.append(options["INFERENCE_NUM_THREADS"])
            return super().compile_model(model, device, options)

    threads: list[object] = []
    monkeypatch.setattr(openvino, "Core", Spy)
    network, pictures = prepared(backbone, CPU, "openvino", "float32"), images(1, 64, 64)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = network(pictures)
        for count in (1, 2, 2):
            torch.set_num_threads(count)
            alike(network(pictures), expected, 1e-4)
    finally:
        torch.set_num_threads(before)
    assert threads == [1, 2]


@needs_openvino
def test_openvino_judges_as_pytorch_does_however_many_answers() -> None:
    torch.manual_seed(1)
    judge = Judge(JudgeConfig(width=8), categories=3, feature=6)
    judge(torch.randn(4, judge.enter.in_channels, 16, 16), torch.arange(4) % 3)  # statistics for the batch norms
    alone, other = prepared_judge(judge, CPU, "openvino"), prepared_judge(judge, CPU, "pytorch")
    for count in (1, 5, 2):
        laid, category = torch.randn(count, judge.enter.in_channels, 16, 16), torch.arange(count) % 3
        with torch.inference_mode():
            assert_close(alone(laid, category), other(laid, category), atol=1e-5, rtol=1e-4)


@needs_openvino
def test_nothing_is_reported_to_anybody(backbone: Backbone) -> None:
    prepared(backbone, CPU, "openvino")
    assert "openvino_telemetry" not in sys.modules


def test_pytorch_runs_the_network_where_openvino_is_missing(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    network, pictures = prepared(backbone, CPU, "auto", "float32"), images(1, 64, 64)
    with torch.inference_mode():
        alike(network(pictures), backbone(pictures), 1e-4)
    with pytest.raises(ValueError, match="openvino is not installed"):
        prepared(backbone, CPU, "openvino")


def test_openvino_refuses_another_device(backbone: Backbone) -> None:
    with pytest.raises(ValueError, match="openvino runs on the CPU, and the device is cuda"):
        prepared(backbone, torch.device("cuda"), "openvino")
