"""One frame in, estimates out, no memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from category_pose_ros.config import section, setting, validate
from category_pose_ros.estimation.belief import Belief, Search, Sighting, finished
from category_pose_ros.estimation.foreground import Foreground
from category_pose_ros.estimation.neural_mesh import NeuralMeshConfig, NeuralMeshMethod
from category_pose_ros.estimation.paper_schedule import PaperSchedule
from category_pose_ros.estimation.silhouette import SilhouetteConfig, SilhouetteMethod
from category_pose_ros.models.checkpoint import load_model
from category_pose_ros.models.pose_encoder import load_encoder
from category_pose_ros.models.runtime import device_for
from category_pose_ros.records import Frame, ObjectEstimate

_WEIGHTS = Path(__file__).parent.parent / "weights"
DEFAULT_MODEL = _WEIGHTS / "neural_mesh.safetensors"
DEFAULT_ENCODER = _WEIGHTS / "silhouette.safetensors"
METHODS = ("neural_mesh", "silhouette")
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class EstimatorConfig:
    """Everything that can be tuned about one frame."""

    score_threshold: float = setting(0.15, "Objects below this score are not reported.", minimum=0.0, maximum=1.0)
    schedule: str = setting(
        "ours", "How to search: ours, or as in the paper, to compare with, which takes long.", choices=("ours", "paper")
    )
    neural_mesh: NeuralMeshConfig = section(NeuralMeshConfig)
    silhouette: SilhouetteConfig = section(SilhouetteConfig)

    def __post_init__(self) -> None:
        validate(self)


class Method(Protocol):
    """A pose estimation system: a frame in, all objects out, whatever their score."""

    def search(self, frame: Frame, explained: Sequence[Belief] = ()) -> Search:
        """All objects in the frame, best first; those explained may be left out."""

    def follow(
        self, frame: Frame, beliefs: Sequence[Belief], prior: Sequence[float], others: Sequence[Belief] = ()
    ) -> list[Sighting]:
        """What the frame makes of objects that were seen before, one sighting each."""


class PoseEstimator:
    """6D pose and size of every object of the loaded categories in a frame."""

    def __init__(self, method: Method, categories: tuple[str, ...], device: str, config: EstimatorConfig) -> None:
        self._method = method
        self.categories = categories
        self.device = device
        self.config = config

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
            method: one of METHODS.
            device: "cpu", "cuda", or "auto" for CUDA where there is one.
            model: a model file of the method; None: the one that ships with the package. With `silhouette`
                the shipped neural mesh model still finds the objects whose masks do not come with the frame.
            config: settings.

        Raises:
            ValueError: an unknown category, method or device, a schedule that the method does not have, a missing
                or damaged model file.
        """
        if method not in METHODS:
            raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")
        chosen_device = _device(device)
        load = _neural_mesh if method == "neural_mesh" else _silhouette
        loaded, wanted = load(model, categories, chosen_device, config)
        return PoseEstimator(loaded, wanted, str(chosen_device), config)

    def estimate(self, frame: Frame) -> list[ObjectEstimate]:
        """All objects whose score reaches the threshold, best first."""
        return finished(self.search(frame))

    def search(self, frame: Frame, explained: Sequence[Belief] = ()) -> Search:
        """`estimate` in short pieces of work: a generator that yields after each and returns the objects.

        Args:
            explained: what is known to be there; it may be left out.
        """
        found = yield from self._method.search(frame, explained)
        return [item for item in found if item.score >= self.config.score_threshold]

    def follow(
        self, frame: Frame, beliefs: Sequence[Belief], prior: Sequence[float], others: Sequence[Belief] = ()
    ) -> list[Sighting]:
        """What a frame makes of objects that were seen before, whatever their score: no search, one crop each.

        Args:
            beliefs: predicted for the frame's time.
            prior: per belief, the share of its category's size prior to add to what it knows.
            others: about objects that are not asked about, which may tell something of those that are.

        Returns:
            One sighting per belief.
        """
        return self._method.follow(frame, beliefs, prior, others)


def _neural_mesh(
    path: Path | None, categories: Sequence[str], device: torch.device, config: EstimatorConfig
) -> tuple[Method, tuple[str, ...]]:
    loaded = load_model(path or DEFAULT_MODEL)
    wanted = _chosen(categories, loaded.meshes.names)
    schedule = PaperSchedule if config.schedule == "paper" else NeuralMeshMethod
    return schedule(loaded, wanted, device, config.neural_mesh), wanted


def _silhouette(
    path: Path | None, categories: Sequence[str], device: torch.device, config: EstimatorConfig
) -> tuple[Method, tuple[str, ...]]:
    if config.schedule != "ours":
        raise ValueError(f"schedule: expected ours with method silhouette, got {config.schedule}")
    encoder = load_encoder(path or DEFAULT_ENCODER)
    wanted = _chosen(categories, tuple(dict.fromkeys(item.category for item in encoder.prototypes)))
    finder = load_model(DEFAULT_MODEL)
    found = tuple(name for name in wanted if name in finder.meshes.names)
    masks = Foreground(NeuralMeshMethod(finder, found, device, config.neural_mesh)) if found else None
    return SilhouetteMethod(encoder, wanted, config.silhouette, masks), wanted


def _chosen(categories: Sequence[str], known: tuple[str, ...]) -> tuple[str, ...]:
    for name in categories:
        if name not in known:
            raise ValueError(f"categories: expected names among {', '.join(known)}, got {name!r}")
    return tuple(dict.fromkeys(categories)) or known


def _device(name: str) -> torch.device:
    if name not in DEVICES:
        raise ValueError(f"device: expected one of {', '.join(DEVICES)}, got {name!r}")
    return device_for(name)
