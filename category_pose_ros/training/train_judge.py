"""Training of the judge of a model's answers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from category_pose_ros.config import section, setting, to_dict, validate
from category_pose_ros.models.checkpoint import NeuralMeshModel
from category_pose_ros.models.judge import Judge, JudgeConfig
from category_pose_ros.training.calibration import count_right
from category_pose_ros.training.schedule import learning_rate


@dataclass(frozen=True)
class JudgeTrainConfig:
    """How a judge is trained."""

    steps: int = setting(900, "Optimisation steps.", minimum=1)
    batch: int = setting(64, "Answers per step.", minimum=2)
    learning_rate: float = setting(2e-3, "Peak learning rate of AdamW; it falls as a cosine.", minimum=0.0)
    weight_decay: float = setting(0.05, "Weight decay of AdamW.", minimum=0.0)
    seed: int = setting(1, "Decides the initial weights and the order of the answers.", minimum=0)
    judge: JudgeConfig = section(JudgeConfig)

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True, eq=False)
class Laid:
    """An answer laid over its crop, and what is true of it.

    Attributes:
        channels: (C, h, w), see `estimation.verdict`.
        category: index into those of the model.
        is_right: about an object of its category, with its rotation within 30 degrees.
        is_there: about an object of its category.
    """

    channels: Tensor
    category: int
    is_right: bool
    is_there: bool


def train_judge(model: NeuralMeshModel, answers: Sequence[Laid], config: JudgeTrainConfig) -> NeuralMeshModel:
    """The model with a judge, a moving average of its weights, fitted to answers of the model.

    Raises:
        ValueError: there are no right or no wrong answers.
    """
    right = count_right([answer.is_right for answer in answers])
    torch.manual_seed(config.seed)
    started = time.monotonic()
    # In half precision, since thousands are held.
    channels = torch.stack([answer.channels.half() for answer in answers])
    category = torch.tensor([answer.category for answer in answers])
    truth = torch.tensor([[answer.is_right, answer.is_there] for answer in answers]).float()
    judge = Judge(config.judge, len(model.meshes.names), model.config.feature)
    average = AveragedModel(judge, multi_avg_fn=get_ema_multi_avg_fn(0.99), use_buffers=False)
    optimiser = torch.optim.AdamW(judge.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    bar = tqdm(range(config.steps), desc="training", unit="step", disable=None)
    for step in bar:
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(config.learning_rate, step, config.steps, config.steps // 10)
        rows = torch.randint(len(answers), (config.batch,))
        decided = judge(channels[rows].float(), category[rows])
        loss = functional.binary_cross_entropy_with_logits(decided, truth[rows])
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(judge.parameters(), 1.0)
        optimiser.step()
        average.update_parameters(judge)
        bar.set_postfix(loss=loss.item())
    record = {
        "answers": len(answers),
        "right": right,
        "seconds": round(time.monotonic() - started),
        "torch": torch.__version__,
        "settings": to_dict(config),
    }
    fitted = cast(Judge, average.module).eval()
    return replace(model, judge=fitted, training={**model.training, "judge": record})
