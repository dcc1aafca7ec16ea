"""A judge of answers: a small network that sees an answer laid over the features of its crop.

The score of an answer rests on two means over its surface, how well its vertices are supported and
how much of it is there. Where on the object the support is missing tells more: an object seen where
only a pattern looks like one, or seen the wrong way round, fails in places and ways of its own. As
the network of MegaPose (Labbe et al. 2022) that ranks poses by rendering them, but what is laid over
the image is the box of the answer, so that no mesh is needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from category_pose_ros.config import setting, validate

LAID_CHANNELS = 15  # of an answer laid over its crop, features not counted


@dataclass(frozen=True)
class JudgeConfig:
    """Size of the judge; stored in the model file."""

    width: int = setting(32, "Channels of its first layer.", minimum=4, maximum=512)

    def __post_init__(self) -> None:
        validate(self)


class Judge(nn.Module):
    """Four convolutions, and a mean and a maximum over the crop.

    Args:
        config: its size.
        categories: of the model.
        feature: length of a feature vector.
    """

    def __init__(self, config: JudgeConfig, categories: int, feature: int) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.enter = nn.Conv2d(LAID_CHANNELS + feature, width, 1)
        self.category = nn.Embedding(categories, width)
        self.fine = _convolution(width, width)
        self.down = _convolution(width, 2 * width, stride=2)
        self.coarse = nn.Sequential(_convolution(2 * width, 2 * width), _convolution(2 * width, 2 * width))
        self.decide = nn.Sequential(nn.Linear(4 * width, width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(width, 2))

    def forward(self, laid: Tensor, category: Tensor) -> Tensor:
        """Log odds (B, 2) that an answer is right, and that it is at least about an object of its category.

        Args:
            laid: (B, LAID_CHANNELS + feature, h, w), see `estimation.verdict`.
            category: (B,) index into those of the model.
        """
        x = functional.relu(self.enter(laid) + self.category(category)[..., None, None])
        x = self.down(x + self.fine(x))
        x = x + self.coarse(x)
        decided: Tensor = self.decide(torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1))
        return decided


def _convolution(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
        nn.Dropout2d(0.1),
    )
