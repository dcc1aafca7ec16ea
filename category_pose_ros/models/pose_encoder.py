"""From the mask of an object to which representative instance it is like, and its pose.

After Palazzi et al. 2018: convolutions on the mask, one branch for the class, one for the pose. The
pose is regressed relative to the crop: how the object appears along the crop's line of sight, where
its centre is in the crop, and how far it is for its size.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from category_pose_ros.config import from_dict, setting, to_dict, validate
from category_pose_ros.geometry import SE3, Camera
from category_pose_ros.geometry.rotations import line_of_sight
from category_pose_ros.models.model_file import ModelFile, halved, part
from category_pose_ros.rendering.surface import Surface

FORMAT_VERSION = 1
CROP_PX = 64  # side of the crop that the encoder sees
CROP_MARGIN = 1.25  # side of the crop over that of the mask's box
# What an encoder of whole images sees. Wider than a photograph: all of the paper's grid of places is in it.
WHOLE = Camera(56.0, 56.0, 63.5, 63.5, 128, 128)
ROTATIONS = ("continuous", "cosine")
LAYERS = ("normalised", "paper")
SIGHTS = ("crop", "image")


@dataclass(frozen=True, eq=False)
class Prototype:
    """A representative instance.

    Attributes:
        category: of the object.
        surface: its mesh in units of its box.
        size_m: (3,) extent.
        log_size_covariance: (3, 3) of the logarithms of the extents of those that it stands for.
    """

    category: str
    surface: Surface
    size_m: Tensor
    log_size_covariance: Tensor


@dataclass(frozen=True)
class EncoderConfig:
    """Size of the encoder and what it regresses."""

    width: int = setting(24, "Channels of the first layer.", minimum=4, maximum=256)
    rotation: str = setting(
        "continuous",
        "What stands for a rotation: two of its columns (Zhou et al. 2019), or the cosines of three Euler "
        "angles as in the paper, which cannot tell an angle from its negative.",
        choices=ROTATIONS,
    )
    layers: str = setting(
        "normalised",
        "Five convolutions, each halving the image: of 3x3 with batch normalisation, or as in the paper three of "
        "5x5 and two of 3x3 without, and half of the features dropped in training.",
        choices=LAYERS,
    )
    sees: str = setting(
        "crop",
        "What the encoder is shown: the crop around the mask, or as in the paper the whole image, from which it "
        "also tells the place.",
        choices=SIGHTS,
    )

    def __post_init__(self) -> None:
        validate(self)

    @property
    def side_px(self) -> int:
        """Side of what the encoder sees."""
        return CROP_PX if self.sees == "crop" else WHOLE.width

    def seen_camera(self, crop: Camera) -> Camera:
        """The camera of what the encoder sees, for that of a crop around the mask."""
        return crop.resized(CROP_PX, CROP_PX) if self.sees == "crop" else WHOLE


@dataclass(frozen=True, eq=False)
class Encoding:
    """What the encoder says about B crops, or whole images (which are crops to it).

    Attributes:
        prototype: (B, K) logits.
        rotation: (B, 3, 3) along the crop's line of sight; of the two rotations that a silhouette hardly
            tells apart the one seen from the front.
        behind: (B,) logit that it is the other one, see `twin`.
        centre: (B, 2) of the object, from the middle of the crop, in sides of the crop.
        log_distance: (B,) logarithm of depth times crop side over focal length and diagonal.
    """

    prototype: Tensor
    rotation: Tensor
    behind: Tensor
    centre: Tensor
    log_distance: Tensor


class PoseEncoder(nn.Module):
    """Five strided convolutions and two branches.

    Args:
        config: its size.
        prototypes: number of classes.
    """

    def __init__(self, config: EncoderConfig, prototypes: int) -> None:
        super().__init__()
        widths = [1, config.width, 2 * config.width, 4 * config.width, 5 * config.width, 6 * config.width]
        layers: list[nn.Module] = []
        for number, (before, after) in enumerate(itertools.pairwise(widths)):
            if config.layers == "paper":
                side = 5 if number < 3 else 3
                layers += [nn.Conv2d(before, after, side, 2, side // 2), nn.ReLU()]
            else:
                layers += [nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        dropped = [nn.Dropout(0.5)] if config.layers == "paper" else []
        self.trunk = nn.Sequential(*layers, nn.Flatten(), *dropped)
        features = widths[-1] * (config.side_px // 32) ** 2
        self.continuous = config.rotation == "continuous"
        self.class_branch = nn.Sequential(nn.Linear(features, 96), nn.ReLU(), nn.Linear(96, prototypes))
        outputs = (6 if self.continuous else 3) + 4
        self.pose_branch = nn.Sequential(nn.Linear(features, 256), nn.ReLU(), nn.Linear(256, outputs))

    def forward(self, mask: Tensor) -> Encoding:
        """Encode masks (B, side_px, side_px) in [0, 1]."""
        return self.branches(self.features(mask))

    def features(self, mask: Tensor) -> Tensor:
        """What both branches read, (B, D)."""
        features: Tensor = self.trunk(2 * mask.unsqueeze(1) - 1)
        return features

    def branches(self, features: Tensor) -> Encoding:
        """Class and pose from features (B, D)."""
        pose = self.pose_branch(features)
        rotation = from_columns(pose[:, 4:]) if self.continuous else from_cosines(pose[:, 4:])
        return Encoding(self.class_branch(features), rotation, pose[:, 3], pose[:, :2], pose[:, 2])


@dataclass(frozen=True, eq=False)
class EncoderModel:
    """A trained encoder and the instances that it knows."""

    encoder: PoseEncoder
    prototypes: tuple[Prototype, ...]
    config: EncoderConfig
    training: dict[str, Any]


def nearest_prototype(prototypes: Sequence[Prototype], category: str, size_m: Tensor) -> Prototype:
    """The representative of a category with the most similar size (3,).

    Raises:
        ValueError: none is of the category.
    """
    own = [item for item in prototypes if item.category == category]
    if not own:
        raise ValueError(f"category: expected one with a representative, got {category!r}")
    return min(own, key=lambda item: float((item.size_m.log() - size_m.log()).norm()))


def crop_around(mask: Tensor, camera: Camera, side_px: int) -> tuple[Tensor, Camera]:
    """The square part of an image around its mask, resampled, and its camera.

    Args:
        mask: (H, W) in [0, 1].
        camera: without distortion.
        side_px: of the crop.

    Raises:
        ValueError: the mask is empty.
    """
    rows, columns = torch.nonzero(mask > 0.5, as_tuple=True)
    if len(rows) == 0:
        raise ValueError("mask: expected at least one pixel of the object, got none")
    left, right, top, bottom = (float(value) for value in (columns.min(), columns.max(), rows.min(), rows.max()))
    seen = square_camera(camera, (left - 0.5, top - 0.5, right + 0.5, bottom + 0.5), side_px)
    return resampled(mask, camera, seen), seen


def square_camera(camera: Camera, box: tuple[float, float, float, float], side_px: int) -> Camera:
    """Camera of the square crop around a box (left, top, right, bottom; borders of pixels) with the usual margin."""
    return camera.square(box, CROP_MARGIN, side_px)


def resampled(image: Tensor, camera: Camera, seen: Camera) -> Tensor:
    """What another camera of the same focal ratio sees of an image (H, W): area average, 0 outside."""
    height, width = image.shape
    scale = camera.fx / seen.fx  # pixels of the image per pixel of the crop
    finer = max(1, round(scale))

    def position(count: int) -> Tensor:
        return (torch.arange(count * finer, dtype=torch.float32, device=image.device) + 0.5) / finer - 0.5

    column = (position(seen.width) - seen.cx) * scale + camera.cx
    row = (position(seen.height) - seen.cy) * (camera.fy / seen.fy) + camera.cy
    grid = torch.stack(
        torch.meshgrid((row + 0.5) / height * 2 - 1, (column + 0.5) / width * 2 - 1, indexing="ij")[::-1], -1
    )
    values = functional.grid_sample(image[None, None].float(), grid[None], mode="bilinear", align_corners=False)
    return functional.avg_pool2d(values, finer)[0, 0]


def poses(encoding: Encoding, prototypes: tuple[Prototype, ...], camera: Camera, chosen: Tensor) -> SE3:
    """Poses (B,) that an encoding means in a crop's camera, for the chosen prototypes (B,); differentiable."""
    side = encoding.centre.new_tensor([camera.width, camera.height])
    pixel = (encoding.centre + 0.5) * side - 0.5
    diagonal = torch.stack([item.size_m.norm() for item in prototypes]).to(pixel.device)[chosen]
    depth = encoding.log_distance.exp() * diagonal * camera.fx / camera.width
    translation = camera.rays(pixel) * depth.unsqueeze(-1)
    return SE3(sight(camera).to(pixel.device) @ encoding.rotation, translation)


def sight(camera: Camera) -> Tensor:
    """Rotation (3, 3) of the line of sight through the middle of a crop."""
    middle = torch.tensor([(camera.width - 1) / 2, (camera.height - 1) / 2], dtype=torch.float32)
    return line_of_sight(camera.rays(middle))


def twin(rotation: Tensor) -> Tensor:
    """The other rotation (..., 3, 3) with the same silhouette.

    Far away a silhouette is that of the depth-mirrored object, and every category is nearly its own
    mirror image in y, a camera but for its grip: diag(1, 1, -1) R diag(1, -1, 1) is a rotation again.
    Seen from behind instead of the front.
    """
    return rotation.new_tensor([1.0, 1.0, -1.0]).unsqueeze(-1) * rotation * rotation.new_tensor([1.0, -1.0, 1.0])


def turned(rotation: Tensor, camera: Camera) -> Tensor:
    """The twins of rotations (..., 3, 3) in a crop's camera."""
    along = sight(camera).to(rotation)
    return along @ twin(along.T @ rotation)


def is_behind(rotation: Tensor) -> Tensor:
    """Whether an object along the line of sight (..., 3, 3) is seen from behind: x points away."""
    return rotation[..., 2, 0] > 0


def from_columns(values: Tensor) -> Tensor:
    """Rotation (B, 3, 3) from its first and third column (B, 6), made orthonormal (Zhou et al. 2019)."""
    # Not zero at the start of training, where a direction would be undefined.
    first = functional.normalize(values[:, :3] + values.new_tensor([0.0, 0.0, -1e-3]), dim=-1)
    third = values[:, 3:] + values.new_tensor([0.0, -1e-3, 0.0])
    third = functional.normalize(third - (third * first).sum(-1, keepdim=True) * first, dim=-1)
    return torch.stack([first, torch.linalg.cross(third, first, dim=-1), third], -1)


def from_cosines(values: Tensor) -> Tensor:
    """Rotation (B, 3, 3) from the cosines (B, 3) of three Euler angles about z, y and x, each in [0, pi]."""
    cosine = values.clamp(-1 + 1e-4, 1 - 1e-4)
    sine = (1 - cosine.square()).sqrt()
    one, zero = torch.ones_like(cosine[:, 0]), torch.zeros_like(cosine[:, 0])
    (a, b, c), (x, y, z) = cosine.unbind(-1), sine.unbind(-1)
    about_z = torch.stack([a, -x, zero, x, a, zero, zero, zero, one], -1).unflatten(-1, (3, 3))
    about_y = torch.stack([b, zero, y, zero, one, zero, -y, zero, b], -1).unflatten(-1, (3, 3))
    about_x = torch.stack([one, zero, zero, zero, c, -z, zero, z, c], -1).unflatten(-1, (3, 3))
    return about_z @ about_y @ about_x


def save_encoder(path: Path, model: EncoderModel) -> None:
    """Write a model file: weights in half precision, meshes in full, a JSON header."""
    tensors = halved("encoder.", model.encoder.state_dict())
    for number, item in enumerate(model.prototypes):
        tensors[f"prototypes.{number}.vertices"] = item.surface.vertices
        tensors[f"prototypes.{number}.faces"] = item.surface.faces.to(torch.int32)
    described = [
        {
            "category": item.category,
            "size_m": item.size_m.tolist(),
            "log_size_covariance": item.log_size_covariance.tolist(),
        }
        for item in model.prototypes
    ]
    header = {"encoder": to_dict(model.config), "prototypes": described, "training": model.training}
    _FILE.write(path, header, tensors)


def load_encoder(path: Path) -> EncoderModel:
    """Read a model file.

    Raises:
        ValueError: the file is missing, damaged, of another format version or not an encoder.
    """
    return _FILE.read(path)


def _assemble(header: dict[str, Any], tensors: dict[str, Tensor]) -> EncoderModel:
    config = from_dict(EncoderConfig, header["encoder"])
    prototypes = tuple(
        Prototype(
            item["category"],
            Surface.from_triangles(
                tensors[f"prototypes.{number}.vertices"].numpy(), tensors[f"prototypes.{number}.faces"].numpy()
            ),
            torch.tensor(item["size_m"]),
            torch.tensor(item["log_size_covariance"]),
        )
        for number, item in enumerate(header["prototypes"])
    )
    encoder = PoseEncoder(config, len(prototypes))
    encoder.load_state_dict(part("encoder.", tensors))
    return EncoderModel(encoder.eval(), prototypes, config, header["training"])


_FILE = ModelFile(("an", "encoder"), "category_pose_ros_encoder", FORMAT_VERSION, _assemble)
