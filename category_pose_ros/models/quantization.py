"""Networks in eight bits: what OpenVINO makes integer products of, which a CPU computes in half the time.

Weights are rounded per output channel and the inputs of each convolution as one (Jacob et al. 2018, section 2;
Krishnamoorthi 2018, post-training), but for the first and the last convolutions. Nothing is trained for it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from category_pose_ros.models.backbone import Backbone, folded

Ranges = Mapping[str, tuple[float, float]]
"""Of the inputs of each convolution that is rounded, by its name in the network: (low, high), low 0 or -high."""

# Processors without VNNI add products in pairs, in 16 bits: 2 * 255 * 127 would be cut off there, 2 * 255 * 63 is not.
_WEIGHT_LARGEST = 63
# The first and the last convolutions are little work, and three quarters of the error if they are rounded.
_EXACT = ("stem.", "stages.0.0.first.", "stages.0.0.shortcut.", "feature_head", "vote_head")
_MARGIN = 1.25
_UNSIGNED, _SIGNED = (0, 255), (-128, 127)


@torch.no_grad()
def input_ranges(backbone: Backbone, pictures: Iterable[Tensor]) -> Ranges:
    """How large the inputs of each convolution become: the mean over the pictures of the largest, and a quarter more.

    The largest of all pictures would be that of one cell in millions, and coarse for the rest.

    Args:
        pictures: (B, 3, H, W) uint8, sides multiples of 32.

    Returns:
        Of each convolution that is rounded.

    Raises:
        ValueError: there are no pictures.
    """
    network = folded(backbone)
    seen: dict[str, list[tuple[float, float]]] = {}
    for name, convolution in _convolutions(network):

        def note(_: nn.Module, given: tuple[Tensor], name: str = name) -> None:
            seen.setdefault(name, []).append((float(given[0].min()), float(given[0].abs().max())))

        convolution.register_forward_pre_hook(note)
    for picture in pictures:
        network(picture)
    if not seen:
        raise ValueError("pictures: expected at least one, got none")
    return {name: _range(values) for name, values in seen.items()}


def _range(seen: list[tuple[float, float]]) -> tuple[float, float]:
    """Of the least input and the largest magnitude in each picture."""
    high = _MARGIN * sum(magnitude for _, magnitude in seen) / len(seen)
    return (-high if min(least for least, _ in seen) < 0 else 0.0), high


def quantized(network: Backbone, ranges: Ranges) -> Backbone:
    """A copy of a folded network that rounds as eight bits do; OpenVINO makes it one that computes in them.

    Args:
        ranges: as of `input_ranges`.

    Raises:
        ValueError: the ranges are not those of this network.
    """
    check_ranges(network, ranges)
    copied = copy.deepcopy(network)
    for name, convolution in _convolutions(copied):
        holder, _, own = name.rpartition(".")
        setattr(copied.get_submodule(holder), own, _Rounded(convolution, ranges[name]))
    return copied


def check_ranges(network: Backbone, ranges: Ranges) -> None:
    """Raise a ValueError unless there is one for each convolution to round, folded or not, and all are finite."""
    expected = {name for name, _ in _convolutions(network)}
    if expected != ranges.keys():
        raise ValueError(f"ranges: expected those of {sorted(expected)}, got {sorted(ranges)}")
    for name, limits in ranges.items():
        if not all(map(math.isfinite, limits)):
            raise ValueError(f"ranges.{name}: expected finite numbers, got {limits}")


class _Rounded(nn.Conv2d):
    """A convolution whose inputs and weights are rounded to what integers can say."""

    _steps: Tensor
    _zeros: Tensor

    def __init__(self, exact: nn.Conv2d, limits: tuple[float, float]) -> None:
        super().__init__(exact.in_channels, exact.out_channels, exact.kernel_size, exact.stride, exact.padding)  # type: ignore[arg-type]
        self.weight, self.bias = exact.weight, exact.bias
        low, high = limits
        self._integers = _SIGNED if low < 0 else _UNSIGNED
        self._step = max(high, 1e-6) / self._integers[1]
        steps = (exact.weight.detach().abs().amax((1, 2, 3)) / _WEIGHT_LARGEST).clamp_min(1e-9)
        self.register_buffer("_steps", steps)
        self.register_buffer("_zeros", torch.zeros_like(steps, dtype=torch.int32))

    def extra_repr(self) -> str:
        exact = super().extra_repr()  # type: ignore[no-untyped-call]
        return f"{exact}, step={self._step}, integers={self._integers}"

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as PyTorch names it
        given = torch.fake_quantize_per_tensor_affine(input, self._step, 0, *self._integers)
        weight = torch.fake_quantize_per_channel_affine(
            self.weight, self._steps, self._zeros, 0, -_WEIGHT_LARGEST, _WEIGHT_LARGEST
        )
        return functional.conv2d(given, weight, self.bias, self.stride, self.padding)


def _convolutions(network: nn.Module) -> list[tuple[str, nn.Conv2d]]:
    """Those that are rounded."""
    return [
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d) and not name.startswith(_EXACT)
    ]
