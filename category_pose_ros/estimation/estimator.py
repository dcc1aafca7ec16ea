"""One frame in, estimates out, no memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from category_pose_ros.config import setting, validate
from category_pose_ros.records import Frame, ObjectEstimate

METHODS = ("neural_mesh",)


@dataclass(frozen=True)
class EstimatorConfig:
    score_threshold: float = setting(0.5, "Objects below this score are not reported.", minimum=0.0, maximum=1.0)

    def __post_init__(self) -> None:
        validate(self)


class PoseEstimator:
    """6D pose and size of every object of the loaded categories in a frame."""

    def __init__(self, categories: tuple[str, ...], config: EstimatorConfig) -> None:
        self.categories = categories

    @staticmethod
    def load(
        categories: Sequence[str] = (),
        method: str = "neural_mesh",
        device: str = "cpu",
        model: Path | None = None,
        config: EstimatorConfig = EstimatorConfig(),
    ) -> PoseEstimator:
        """Load the shipped model, or the file `model`.

        Args:
            categories: names to look for; empty: all that the model knows.
            device: "cpu", "cuda" or "auto".

        Raises:
            ValueError: an unknown category, method or device, a missing or damaged model file.
        """
        return PoseEstimator(tuple(categories), config)

    def estimate(self, frame: Frame) -> list[ObjectEstimate]:
        return []
