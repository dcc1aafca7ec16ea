"""Feature backbone: a slim residual network with a feature pyramid, stride 8.

Basic blocks as in ResNet-18 (He et al. 2016) with about half its width, and a top-down pyramid
(Lin et al. 2017) that brings the context of stride 32 back to stride 8. Plain 3x3 convolutions
and batch norm only, so that it runs in bfloat16 and folds for inference.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from category_pose_ros.config import setting, validate
from category_pose_ros.records import OUTSIDE


@dataclass(frozen=True)
class BackboneConfig:
    """Size of the network; stored in the model file."""

    width: int = setting(48, "Channels at stride 4; deeper stages have 2, 4 and 5 times as many.", minimum=8)
    pyramid: int = setting(96, "Channels of the feature pyramid.", minimum=8)
    feature: int = setting(48, "Length of a feature vector.", minimum=4)
    extra: int = setting(0, "Residual blocks beyond two in each of the stages of stride 16 and 32.", minimum=0)

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """What the network says about each cell, (B, ..., h, w) with h = H / 8.

    Attributes:
        feature: (B, C, h, w) unit vectors.
        centre: (B, 2, h, w) vote for the projected centre of the object, in cells from this one.
        log_diagonal: (B, h, w) vote for the log of the object's apparent diagonal, in cells.
        axes: (B, 2, 3, h, w) vote for the object's x and z axis, seen along the line of sight to its
            centre. Trained by squared error, so it is the mean of what is possible: as long as one
            where the image decides the axis, short where it leaves several.
        log_shape: (B, 3, h, w) vote for the log of the extents, in diagonals of the box. Learned
            beside the others; no term reads it yet.
    """

    feature: Tensor
    centre: Tensor
    log_diagonal: Tensor
    axes: Tensor
    log_shape: Tensor

    def each(self) -> list[FeatureMap]:
        """The batch one by one, without a batch dimension."""
        return [FeatureMap(*parts) for parts in zip(*(getattr(self, item.name) for item in fields(self)), strict=True)]

    @staticmethod
    def stack(maps: Sequence[FeatureMap]) -> FeatureMap:
        """A batch of maps that have none."""
        return FeatureMap(*(torch.stack([getattr(each, item.name) for each in maps]) for item in fields(FeatureMap)))

    def votes_with_mirror(self, mirrored: FeatureMap) -> FeatureMap:
        """With votes averaged with those of the mirrored images; `feature` stays as it is."""
        across = self.axes.new_tensor([-1.0, 1.0, 1.0])
        return FeatureMap(
            self.feature,
            0.5 * (self.centre + mirrored.centre.flip(-1) * across[:2, None, None]),
            0.5 * (self.log_diagonal + mirrored.log_diagonal.flip(-1)),
            0.5 * (self.axes + mirrored.axes.flip(-1) * across[:, None, None]),
            0.5 * (self.log_shape + mirrored.log_shape.flip(-1)),
        )


class Backbone(nn.Module):
    """Image to feature map. Height and width must be multiples of 32."""

    def __init__(self, config: BackboneConfig = BackboneConfig()) -> None:
        super().__init__()
        self.config = config
        widths = [config.width * factor for factor in (1, 2, 4, 5)]
        self.stem = _convolution(3, 32, stride=2)
        further = (1, 1, 1 + config.extra, 1 + config.extra)
        self.stages = nn.ModuleList(
            nn.Sequential(_Block(before, after, stride=2), *(_Block(after, after) for _ in range(count)))
            for before, after, count in zip([32, *widths[:-1]], widths, further, strict=True)
        )
        self.laterals = nn.ModuleList(nn.Conv2d(width, config.pyramid, 1) for width in widths[1:])
        self.merges = nn.ModuleList(_convolution(config.pyramid, config.pyramid) for _ in range(2))
        self.neck = _convolution(config.pyramid, config.pyramid)
        self.feature_head = nn.Conv2d(config.pyramid, config.feature, 1)
        self.vote_head = nn.Conv2d(config.pyramid, 12, 1)

    def take_over(self, other: Backbone) -> None:
        """Answer as another network does: with its weights, and extra blocks that it lacks being the identity.

        Raises:
            ValueError: it differs in more than having fewer extra blocks.
        """
        if replace(other.config, extra=self.config.extra) != self.config or other.config.extra > self.config.extra:
            raise ValueError(f"initial: expected a network of {self.config}, got {other.config}")
        missing, _ = self.load_state_dict(other.state_dict(), strict=False)
        for name in missing:
            if name.endswith("second.1.weight"):
                nn.init.zeros_(self.get_parameter(name))  # no residual; what comes in is positive already

    def forward(self, image: Tensor) -> FeatureMap:
        """Args: image (B, 3, H, W) uint8 RGB."""
        scaled = (image.to(self.feature_head.weight.dtype) - OUTSIDE) / 60.0
        x = self.stem(scaled.contiguous(memory_format=torch.channels_last))
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        top: Tensor = self.laterals[2](levels[3])
        for k in (1, 0):
            top = self.merges[k](
                self.laterals[k](levels[k + 1]) + functional.interpolate(top, scale_factor=2.0, mode="nearest")
            )
        x = self.neck(top)
        feature = functional.normalize(self.feature_head(x).float(), dim=1)
        votes = self.vote_head(x).float()
        axes = votes[:, 3:9].unflatten(1, (2, 3))
        return FeatureMap(feature, votes[:, :2] * 4, votes[:, 2] + 2, axes, votes[:, 9:] - 0.5)


def folded(network: Backbone) -> Backbone:
    """A copy for inference alone, with every batch norm folded into the convolution before it."""
    copied = copy.deepcopy(network).eval()
    for part in copied.modules():
        if isinstance(part, nn.Sequential):
            for k in range(len(part) - 1):
                first, second = part[k], part[k + 1]
                if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                    part[k], part[k + 1] = fuse_conv_bn_eval(first, second), nn.Identity()
    return copied


class _Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.first = _convolution(before, after, stride=stride)
        self.second = nn.Sequential(nn.Conv2d(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after))
        self.shortcut: nn.Module = nn.Identity()
        if before != after or stride != 1:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride=stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.second(self.first(x)) + self.shortcut(x))


def _convolution(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)
    )
