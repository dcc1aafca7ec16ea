"""How the learning rate of every training goes."""

from __future__ import annotations

import math


def learning_rate(peak: float, step: int, steps: int, warmup_steps: int) -> float:
    """Linear warm-up, then a cosine to zero.

    Args:
        step: that is about to be taken, from 0.
        steps: in all, those of the warm-up included.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(steps - warmup_steps, 1)
    return peak * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
