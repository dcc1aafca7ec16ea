"""Networks in eight bits: which inputs they expect, and how near they stay to the network that they copy."""

from __future__ import annotations

import math

import pytest
import torch
from neural_models import TINY
from torch import Tensor

from category_pose_ros.models.backbone import Backbone, folded
from category_pose_ros.models.quantization import Ranges, check_ranges, input_ranges, quantized
from category_pose_ros.records import OUTSIDE


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    torch.manual_seed(0)
    backbone = Backbone(TINY)
    backbone(pictures(1)[0].expand(2, -1, -1, -1))  # in training mode: gives the batch norms statistics of their own
    return backbone.eval()


def pictures(count: int, height: int = 64, width: int = 96) -> list[Tensor]:
    return [torch.randint(0, 256, (1, 3, height, width), dtype=torch.uint8) for _ in range(count)]


@pytest.fixture(scope="module")
def ranges(backbone: Backbone) -> Ranges:
    return input_ranges(backbone, pictures(4))


@torch.no_grad()
def test_ranges_are_those_of_the_inputs(backbone: Backbone) -> None:
    (picture,) = pictures(1)
    ranges = input_ranges(backbone, [picture])
    inside = backbone.stages[0][0].first(backbone.stem((picture.float() - OUTSIDE) / 60))
    low, high = ranges["stages.0.0.second.0"]
    assert low == 0.0  # after a ReLU
    assert high == pytest.approx(1.25 * float(inside.max()), rel=1e-4)
    low, high = ranges["merges.0.0"]
    assert low == -high < 0.0  # a sum of what knows no sign


def test_one_odd_picture_widens_a_range_by_its_share_alone(backbone: Backbone) -> None:
    grey = torch.full((1, 3, 64, 64), 128, dtype=torch.uint8)
    noise = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    name = "stages.1.0.first.0"
    alone, other = (input_ranges(backbone, [each])[name][1] for each in (grey, noise))
    assert input_ranges(backbone, [grey, grey, grey, noise])[name][1] == pytest.approx(
        (3 * alone + other) / 4, rel=1e-4
    )


@torch.no_grad()
def test_a_copy_in_eight_bits_says_nearly_the_same(backbone: Backbone, ranges: Ranges) -> None:
    exact, rounded = folded(backbone), quantized(folded(backbone), ranges)
    (picture,) = pictures(1)
    alike = (exact(picture).feature * rounded(picture).feature).sum(1)
    assert float(alike.mean()) > 0.99
    assert not torch.equal(exact(picture).feature, rounded(picture).feature)


@torch.no_grad()
def test_weights_have_seven_bits_and_inputs_eight(backbone: Backbone, ranges: Ranges) -> None:
    """Products that processors without VNNI add in pairs in 16 bits without cutting them off."""
    network = folded(backbone)
    exact, rounded = dict(network.named_modules()), dict(quantized(network, ranges).named_modules())
    for name, (low, high) in ranges.items():
        nothing = torch.zeros(1, exact[name].in_channels, 8, 8)
        impulse = nothing.clone()
        impulse[0, 0, 4, 4] = high
        found, true = (each[name](impulse) - each[name](nothing) for each in (rounded, exact))
        step = high * exact[name].weight.abs().amax((1, 2, 3)) / 63
        assert ((found - true).abs().amax((0, 2, 3)) < 0.51 * step + 1e-6).all()
        beyond = rounded[name](impulse * 1.5) - rounded[name](nothing)
        assert (beyond - found).abs().max() <= (found / 127).abs().max() * (low < 0) + 1e-6  # -128 to 127 steps


def test_the_network_that_is_copied_stays_as_it_is(backbone: Backbone, ranges: Ranges) -> None:
    network = folded(backbone)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    quantized(network, ranges)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


def test_ranges_of_another_network_are_refused(backbone: Backbone, ranges: Ranges) -> None:
    with pytest.raises(ValueError, match=r"ranges: expected those of .*neck\.0"):
        quantized(folded(backbone), {name: limits for name, limits in ranges.items() if name != "neck.0"})
    with pytest.raises(ValueError, match=r"ranges\.neck\.0: expected finite numbers, got \(0\.0, inf\)"):
        check_ranges(backbone, {**ranges, "neck.0": (0.0, math.inf)})


def test_ranges_are_not_measured_on_nothing(backbone: Backbone) -> None:
    with pytest.raises(ValueError, match="pictures: expected at least one, got none"):
        input_ranges(backbone, [])
