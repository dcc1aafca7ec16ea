"""Training of the pose encoder: one loop, read from top to bottom.

Rendering takes longer than learning, so masks of one instance never seen before replace the oldest of
a pool now and then, and batches are drawn from the pool.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from category_pose_ros.config import section, setting, to_dict, validate
from category_pose_ros.data.procedural.scenes import FAMILIES, known_families
from category_pose_ros.data.silhouettes import (
    CAMERA,
    Family,
    Shape,
    crop_boxes,
    look,
    nearest,
    random_views,
    render_masks,
)
from category_pose_ros.geometry import so3
from category_pose_ros.models.pose_encoder import (
    CROP_PX,
    EncoderConfig,
    EncoderModel,
    Encoding,
    PoseEncoder,
    Prototype,
    is_behind,
    save_encoder,
    sight,
    square_camera,
    twin,
)
from category_pose_ros.rendering.surface import Surface
from category_pose_ros.training.schedule import learning_rate

LOSSES = ("parts", "matrix")


@dataclass(frozen=True)
class EncoderTrainConfig:
    """How the pose encoder is trained."""

    categories: tuple[str, ...] = setting(tuple(FAMILIES), "Categories to learn.")
    prototypes: int = setting(3, "Representative instances per category.", minimum=1, maximum=64)
    gallery: int = setting(160, "Instances per category of which the representatives are chosen.", minimum=1)
    instances: int = setting(600, "Instances at hand; new ones replace the oldest.", minimum=1)
    renew_every: int = setting(2, "Steps from one new instance to the next.", minimum=1)
    views: int = setting(16, "Masks of each instance.", minimum=1)
    choosing: int = setting(60, "Held-out masks per category, each of another instance.", minimum=1)
    cells: int = setting(28, "Meshes are simplified to a grid of this many cells along each axis.", minimum=4)
    steps: int = setting(6500, "Optimisation steps.", minimum=1)
    batch: int = setting(64, "Masks per step.", minimum=2)
    learning_rate: float = setting(2e-3, "Peak learning rate of AdamW; it falls as a cosine.", minimum=0.0)
    seed: int = setting(1, "Decides everything.", minimum=0)
    bfloat16: bool = setting(True, "Convolutions in bfloat16.")
    loss: str = setting(
        "parts",
        "Of the pose: rotation, centre in the crop and logarithm of the distance, or as in the paper the squared "
        "error of the matrix (3, 4), with the translation in diagonals of the object.",
        choices=LOSSES,
    )
    threads: int = setting(1, "CPU threads of the optimisation.", minimum=1)
    encoder: EncoderConfig = section(EncoderConfig)

    def __post_init__(self) -> None:
        validate(self)
        known_families(self.categories)

    def family(self, category: str) -> Family:
        """The instances of a category."""
        return Family(category, self.seed, self.cells, self.gallery)


@dataclass(frozen=True, eq=False)
class MaskSamples:
    """Crops and what is true of them.

    Attributes:
        mask: (N, side, side) bool, as the encoder sees it.
        prototype: (N,) cluster of the instance, counted over all categories.
        rotation: (N, 3, 3) along the line of sight, seen from the front.
        behind: (N,) bool, whether its twin is the true one.
        centre, log_distance: as in Encoding.
    """

    mask: Tensor
    prototype: Tensor
    rotation: Tensor
    behind: Tensor
    centre: Tensor
    log_distance: Tensor

    def __getitem__(self, index: Tensor) -> MaskSamples:
        return MaskSamples(*(value[index] for value in vars(self).values()))

    @staticmethod
    def cat(parts: list[MaskSamples]) -> MaskSamples:
        return MaskSamples(
            *(torch.cat(values) for values in zip(*(vars(part).values() for part in parts), strict=True))
        )

    def replace(self, start: int, others: MaskSamples) -> None:
        """Overwrite the samples from `start` on by others, in place."""
        for mine, new in zip(vars(self).values(), vars(others).values(), strict=True):
            mine[start : start + len(new)] = new

    def mirrored(self) -> MaskSamples:
        """What a mirror shows: every category is nearly its own mirror image in y, a camera but for its grip."""
        flip = self.rotation.new_tensor([-1.0, 1.0, 1.0])
        rotation = flip.unsqueeze(-1) * self.rotation * self.rotation.new_tensor([1.0, -1.0, 1.0])
        centre = self.centre * self.centre.new_tensor([-1.0, 1.0])
        return MaskSamples(self.mask.flip(-1), self.prototype, rotation, self.behind, centre, self.log_distance)


class MaskSource:
    """Masks of instances never seen before, of all categories in turn.

    Args:
        config: what to render.
        prototypes: of all categories.
    """

    def __init__(self, config: EncoderTrainConfig, prototypes: tuple[Prototype, ...]) -> None:
        self._config = config
        self._prototypes = prototypes
        self._looks = [look(item.surface.scaled(item.size_m)) for item in prototypes]

    def masks(self, split: str, views: int, rng: np.random.Generator) -> Iterator[MaskSamples]:
        """Of each instance of a split as many views, without end."""
        config = self._config
        sources = [config.family(name).split(split) for name in config.categories]
        for source in itertools.cycle(sources):
            shape = next(source)
            yield mask_samples(rng, shape, self.prototype_of(shape), views, config.encoder)

    def prototype_of(self, shape: Shape) -> int:
        """The prototype of an instance's category that it is most like."""
        own = [index for index, item in enumerate(self._prototypes) if item.category == shape.category]
        return own[nearest(look(shape.surface), [self._looks[index] for index in own])]


def train_encoder(config: EncoderTrainConfig, output: Path) -> Path:
    """Train a pose encoder and write it to the file `output`.

    Returns:
        Path of the model file.
    """
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    started = time.monotonic()
    prototypes = tuple(item for name in config.categories for item in _prototypes(config, name))
    source = MaskSource(config, prototypes)
    count = config.choosing * len(config.categories)
    held_out = MaskSamples.cat(list(itertools.islice(source.masks("choosing", 1, rng), count)))
    fresh = source.masks("training", config.views, rng)
    pool = MaskSamples.cat(list(itertools.islice(fresh, config.instances)))
    encoder = PoseEncoder(config.encoder, len(prototypes)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=config.learning_rate, weight_decay=1e-2)
    bar = tqdm(range(1, config.steps + 1), desc="training", unit="step", disable=None)
    for step in bar:
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(config.learning_rate, step - 1, config.steps, config.steps // 20)
        if step % config.renew_every == 0:
            pool.replace(step // config.renew_every % config.instances * config.views, next(fresh))
        batch = pool[torch.randint(len(pool.mask), (config.batch,))]
        batch = batch.mirrored() if step % 2 else batch
        with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
            features = encoder.features(damaged(batch.mask))
        loss = encoder_loss(encoder.branches(features.float()), batch, config.loss)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 5.0)
        optimiser.step()
        if step % 500 == 0 or step == config.steps:
            bar.write(f"step {step}: loss {loss.item():.3f}, {_held_out(encoder, held_out, config.loss)}")
    record = {"seconds": round(time.monotonic() - started), "torch": torch.__version__, "settings": to_dict(config)}
    save_encoder(output, EncoderModel(encoder.eval(), prototypes, config.encoder, record))
    return output


def mask_samples(
    rng: np.random.Generator, shape: Shape, prototype: int, views: int, config: EncoderConfig
) -> MaskSamples:
    """What an encoder sees of one instance in random views."""
    poses = random_views(rng, shape, views)
    boxes = crop_boxes(shape.surface, poses, CAMERA)
    cameras = [config.seen_camera(square_camera(CAMERA, tuple(box), CROP_PX)) for box in boxes.tolist()]
    mask = render_masks(shape.surface, poses, cameras)
    rotation = torch.stack([sight(camera) for camera in cameras]).transpose(-1, -2) @ poses.rotation
    behind = is_behind(rotation)
    matrices = torch.from_numpy(np.stack([camera.matrix() for camera in cameras])).float()
    projected = (matrices @ poses.translation.unsqueeze(-1)).squeeze(-1)
    centre = (projected[:, :2] / projected[:, 2:] + 0.5) / config.side_px - 0.5
    focal = matrices[:, 0, 0]
    log_distance = (poses.translation[:, 2] * config.side_px / (focal * shape.size_m.norm())).log()
    front = torch.where(behind[:, None, None], twin(rotation), rotation)
    return MaskSamples(mask, torch.full((views,), prototype), front, behind, centre, log_distance)


def encoder_loss(encoding: Encoding, truth: MaskSamples, pose: str = "parts") -> Tensor:
    """Cross-entropies of class and side, squared error of the pose.

    Args:
        pose: one of LOSSES; `matrix` is that of Palazzi et al. 2018.
    """
    classes = functional.cross_entropy(encoding.prototype, truth.prototype)
    behind = functional.binary_cross_entropy_with_logits(encoding.behind, truth.behind.float())
    rotation = (encoding.rotation - truth.rotation).square().sum((1, 2)).mean()
    if pose == "matrix":
        away = _translation(encoding.centre, encoding.log_distance) - _translation(truth.centre, truth.log_distance)
        return 0.3 * classes + 0.5 * behind + rotation + away.square().sum(-1).mean()
    centre = (encoding.centre - truth.centre).square().sum(-1).mean()
    distance = (encoding.log_distance - truth.log_distance).square().mean()
    return 0.3 * classes + 0.5 * behind + rotation + 20 * centre + 5 * distance


def _translation(centre: Tensor, log_distance: Tensor) -> Tensor:
    """Translations (B, 3) in diagonals of the object, before a camera whose focal length is the image's side."""
    return functional.pad(centre, (0, 1), value=1.0) * log_distance.exp().unsqueeze(-1)


def damaged(mask: Tensor) -> Tensor:
    """Masks (B, H, W) as a network would find them: some with a piece missing, all with a soft outline."""
    batch, height, width = mask.shape
    blurred = functional.avg_pool2d(mask.float().unsqueeze(1), 3, 1, 1).squeeze(1)
    soft = torch.where(torch.rand(batch, 1, 1) < 0.5, mask.float(), blurred)
    corner, extent = torch.rand(batch, 2, 1), torch.rand(batch, 2, 1) * 0.35
    inside = []
    for axis, size in ((0, height), (1, width)):
        place = (torch.arange(size) + 0.5) / size
        inside.append((place >= corner[:, axis]) & (place < corner[:, axis] + extent[:, axis]))
    hidden = inside[0].unsqueeze(-1) & inside[1].unsqueeze(1) & (torch.rand(batch, 1, 1) < 0.25)
    return soft * ~hidden


@torch.no_grad()
def _held_out(encoder: PoseEncoder, samples: MaskSamples, pose: str) -> str:
    """Loss, class accuracy and median error of the rotation, of which two are nearly the same, on whole masks."""
    encoder.eval()
    encoding = encoder(samples.mask.float())
    encoder.train()
    loss = float(encoder_loss(encoding, samples, pose))
    right = float((encoding.prototype.argmax(-1) == samples.prototype).float().mean())
    turn = torch.rad2deg(so3.angle_between(encoding.rotation, samples.rotation).median())
    side = float(((encoding.behind > 0) == samples.behind).float().mean())
    return f"held out: loss {loss:.3f}, class {right:.3f}, rotation {float(turn):.1f} deg, side {side:.3f}"


def _prototypes(config: EncoderTrainConfig, category: str) -> list[Prototype]:
    found = config.family(category).representatives(config.prototypes)
    pairs = zip(found.medoids, found.log_size_covariance, strict=True)
    return [_prototype(shape, covariance) for shape, covariance in pairs]


def _prototype(shape: Shape, log_size_covariance: Tensor) -> Prototype:
    unit = Surface.from_triangles((shape.surface.vertices / shape.size_m).numpy(), shape.surface.faces.numpy())
    return Prototype(shape.category, unit, shape.size_m, log_size_covariance)
