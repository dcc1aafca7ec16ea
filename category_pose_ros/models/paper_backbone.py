"""The backbone of Ma et al. 2022, as a yardstick for speed alone: it has no weights.

ResNet-50 (He et al. 2016) up to its last stage, two upsampling blocks that join the skips of strides
16 and 8, and a linear layer to 128 channels, as in the authors' released code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

IMAGE_SIZE = (320, 448)  # height and width that the paper works at


class PaperBackbone(nn.Module):
    """Images (B, 3, H, W) float32 to unit features (B, 128, H / 8, W / 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_normed(3, 64, 7, stride=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, padding=1))
        widths = (64, 128, 256, 512)
        blocks = (3, 4, 6, 3)
        self.stages = nn.ModuleList(
            _stage(64 if k == 0 else 4 * widths[k - 1], widths[k], blocks[k], stride=1 if k == 0 else 2)
            for k in range(4)
        )
        self.ups = nn.ModuleList((_UpBlock(2048, 1024, 512), _UpBlock(512, 512, 256)))
        self.head = nn.Conv2d(256, 128, 1, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        skips = []
        for stage in self.stages:
            x = stage(x)
            skips.append(x)
        x = self.ups[0](x, skips[2])
        x = self.ups[1](x, skips[1])
        return functional.normalize(self.head(x), dim=1)


class _UpBlock(nn.Module):
    """Twice as large, joined with a skip, two convolutions."""

    def __init__(self, before: int, skip: int, after: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            *_normed(before + skip, after, 3), nn.ReLU(inplace=True), *_normed(after, after, 3), nn.ReLU(inplace=True)
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        large = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        joined: Tensor = self.convolutions(torch.cat([large, skip], dim=1))
        return joined


class _Bottleneck(nn.Module):
    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        after = 4 * width
        self.body = nn.Sequential(
            *_normed(before, width, 1),
            nn.ReLU(inplace=True),
            *_normed(width, width, 3, stride=stride),
            nn.ReLU(inplace=True),
            *_normed(width, after, 1),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(*_normed(before, after, 1, stride=stride))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.body(x) + self.shortcut(x), inplace=True)


def _stage(before: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    first = _Bottleneck(before, width, stride)
    return nn.Sequential(first, *(_Bottleneck(4 * width, width, 1) for _ in range(blocks - 1)))


def _normed(before: int, after: int, kernel: int, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    convolution = nn.Conv2d(before, after, kernel, stride=stride, padding=kernel // 2, bias=False)
    return convolution, nn.BatchNorm2d(after)
