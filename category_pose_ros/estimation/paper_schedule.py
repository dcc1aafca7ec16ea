"""The inference of Ma et al. (ECCV 2022) on its own schedule, with our network, to compare ours with.

`PaperSchedule.search` reads as the paper: a grid over rotation, distance and place, peaks of the best
score per place, 300 steps of Adam on rendered vertex features, overlapping pixels awarded to one of
the objects, and 300 steps more. The numbers are those of the paper and its released code. What differs:
- A pose is a full one, seen by the real camera; theirs shifts the rendering of an object on the optical
  axis. Rotations of the grid are relative to the line of sight, which is what a shift does.
- The cuboid is rendered exactly, by intersecting rays with it, not rasterized from triangles.
- Distances of the grid follow from the size of the category, which is in metres, and a range of
  apparent sizes; theirs are those of one data set.
- Clutter is the best of several vectors, which their code allows, and not one mean.
- The paper gives an object neither a score in [0, 1] nor an uncertainty; `_estimates` says what stands for them.
The size is the category's mean. Depth and `Frame.regions` are not looked at. Tracks are followed as in our
own schedule.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from category_pose_ros.estimation import images
from category_pose_ros.estimation.belief import Belief, Search
from category_pose_ros.estimation.neural_mesh import NeuralMeshConfig, NeuralMeshMethod
from category_pose_ros.estimation.state import State
from category_pose_ros.geometry import SE3, Camera, rotations, so3
from category_pose_ros.geometry.box import enter_box
from category_pose_ros.geometry.symmetry import canonical
from category_pose_ros.models.checkpoint import NeuralMeshModel
from category_pose_ros.models.neural_mesh import TEMPERATURE
from category_pose_ros.models.posterior import CategoryTable
from category_pose_ros.records import Frame, ObjectEstimate

AREA_PX = 448 * 320  # of the image that the network sees
AZIMUTHS, ELEVATIONS_DEG, ROLLS_DEG = 12, (-30.0, 15.0, 60.0), (-30.0, 0.0, 30.0)
PLACES = 9  # along either side of the image
DISTANCES, APPARENT = 9, (0.09, 0.8)  # smallest and largest diagonal, as shares of the root of the image's area
LEAST_SCORE = 0.03  # per vertex of the mesh; 0.08 with the features of the paper, where ours would miss most objects
PEAK_RADIUS = 2  # places
LEARNING_RATE, BETAS = 0.05, (0.4, 0.6)
ITERATIONS, DECAY_EVERY, DECAY = 300, 100, 0.2
SIDEWAYS = 0.1  # steps across the image, relative to those along the line of sight
_PIECE = 20  # iterations between two yields of a search


@dataclass(frozen=True, eq=False)
class _Scene:
    """A feature map compared with the vertices of all categories and with the clutter; N cells.

    Attributes:
        similarity: (V, N) cosine between the features of vertices and cells.
        clutter: (N,) the same for the best clutter vector.
        cells: camera of the feature map, which may exceed the image on the right and below.
        shown: columns and rows of the feature map that show the image.
        inside: (N,) whether a cell is among them; the others resemble nothing.
        rays: (N, 3) through the cells.
    """

    similarity: Tensor
    clutter: Tensor
    cells: Camera
    shown: tuple[float, float]
    inside: Tensor
    rays: Tensor


@dataclass(frozen=True, eq=False)
class _Hypotheses:
    """B states, the category of each, (B,), and the cells that each may claim, (B, N) bool."""

    state: State
    category: Tensor
    allowed: Tensor


class PaperSchedule(NeuralMeshMethod):
    """Estimates every object of a frame as Ma et al. do; arguments as of `NeuralMeshMethod`."""

    def __init__(
        self, model: NeuralMeshModel, categories: tuple[str, ...], device: torch.device, config: NeuralMeshConfig
    ) -> None:
        super().__init__(model, categories, device, config)
        meshes = model.meshes
        parts = [torch.nonzero(meshes.category == meshes.names.index(name)).squeeze(-1) for name in categories]
        self._memory = meshes.vertex_features()[torch.cat(parts)].detach().to(device)  # (V, C)
        self._clutter = meshes.clutter_features().detach().to(device)  # (K, C)
        self._layout = _Layout(self._posterior.tables)

    def search(self, frame: Frame, explained: Sequence[Belief] = ()) -> Search:
        """All objects of the frame, best first, whatever their score; the paper knows of none before."""
        scene = self._compare(*images.rectify(frame))
        proposals: list[_Hypotheses] = []
        for index in range(len(self._posterior.tables)):
            yield
            proposals.append(self._propose(scene, index))
        found = _joined(proposals)
        if len(found.category) == 0:
            return []
        found = yield from self._descend(scene, found)
        found = replace(found, allowed=self._award(scene, found))
        found = yield from self._descend(scene, found)
        return self._estimates(scene, found)

    @torch.no_grad()
    def _compare(self, image: images.Image, camera: Camera) -> _Scene:
        shrink = math.sqrt(AREA_PX / (camera.width * camera.height))
        small, small_camera = images.fit(image, camera, round(shrink * max(camera.width, camera.height)))
        cells = images.cell_camera(small_camera)
        feature = self._features([small]).feature[0].flatten(1)  # (C, N)
        rows, columns = torch.meshgrid(torch.arange(cells.height), torch.arange(cells.width), indexing="ij")
        places = torch.stack([columns, rows], -1).float().flatten(0, 1).to(self._device)  # (N, 2)
        shown = (camera.width * cells.fx / camera.fx, camera.height * cells.fy / camera.fy)
        inside = (places < places.new_tensor(shown) - 0.5).all(-1)
        similarity = (self._memory @ feature) * inside
        return _Scene(similarity, (self._clutter @ feature).amax(0), cells, shown, inside, cells.rays(places))

    @torch.no_grad()
    def _propose(self, scene: _Scene, index: int) -> _Hypotheses:
        """Peaks, over the places in the image, of the best score over rotation and distance."""
        table, cells = self._posterior.tables[index], scene.cells
        turns = _grid_rotations().to(self._device)  # (G, 3, 3)
        shares = torch.from_numpy(np.geomspace(*APPARENT, DISTANCES)).float().to(self._device)
        apparent = math.sqrt(scene.shown[0] * scene.shown[1]) * shares  # (D,)
        distances = cells.fx * table.log_size_mean.exp().norm() / apparent  # (D,)
        offsets, visible = _seen_ahead(table, turns, distances, cells.fx)
        similarity = scene.similarity[self._layout.span(index)].view(-1, cells.height, cells.width)
        places = _places(scene.shown).to(self._device)  # (P, 2)
        best, which = _best_of_grid(similarity, offsets, visible, places)
        peaks = _peaks(best.view(PLACES, PLACES), LEAST_SCORE * len(table.points))  # (B,)
        rays = cells.rays(places[peaks])
        aside = [
            rotations.line_of_sight(ray) @ turns[which[k] % len(turns)] for k, ray in zip(peaks, rays, strict=True)
        ]
        rotation = torch.stack(aside) if aside else turns[:0]
        translation = distances[which[peaks] // len(turns)].unsqueeze(-1) * rays
        state = State(SE3(rotation, translation), table.log_size_mean.expand(len(peaks), 3))
        everywhere = torch.ones(len(peaks), len(scene.rays), dtype=torch.bool, device=self._device)
        return _Hypotheses(state, torch.full_like(peaks, index), everywhere)

    def _descend(self, scene: _Scene, found: _Hypotheses) -> Generator[None, None, _Hypotheses]:
        """Adam on every hypothesis by itself; lengths are in diagonals of its category."""
        diagonal = found.state.size_m.norm(dim=-1, keepdim=True)
        scale = torch.cat(
            [SIDEWAYS * diagonal, SIDEWAYS * diagonal, diagonal, torch.ones_like(found.state.log_size)], 1
        )
        step = torch.zeros_like(scale, requires_grad=True)  # (B, 6)

        def moved() -> State:
            return found.state.moved(functional.pad(step * scale, (0, 3)))

        optimizer = torch.optim.Adam([step], lr=LEARNING_RATE, betas=BETAS)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, DECAY_EVERY, DECAY)
        for iteration in range(ITERATIONS):
            optimizer.zero_grad()
            with torch.enable_grad():
                self._loss(scene, replace(found, state=moved())).sum().backward()
            optimizer.step()
            schedule.step()
            if iteration % _PIECE == 0:
                yield
        with torch.no_grad():
            return replace(found, state=moved())

    def _loss(self, scene: _Scene, found: _Hypotheses) -> Tensor:
        """1 - (mean of the better of object and clutter - mean of clutter), over all cells, (B,)."""
        margin, covered = self._margin(scene, found)
        return 1 - (margin.clamp_min(0) * (covered & found.allowed)).mean(-1)

    def _margin(self, scene: _Scene, found: _Hypotheses) -> tuple[Tensor, Tensor]:
        """By how much cells resemble the rendered object more than clutter, and which it covers, (B, N) each."""
        points, covered = enter_box(found.state.camera_from_object, found.state.size_m, scene.rays)
        vertex, weight = self._layout.interpolate(points, found.category)
        cell = torch.arange(len(scene.rays), device=vertex.device)[:, None]
        return (scene.similarity[vertex, cell] * weight).sum(-1) - scene.clutter, covered & scene.inside

    @torch.no_grad()
    def _award(self, scene: _Scene, found: _Hypotheses) -> Tensor:
        """The cells (B, N) left to each hypothesis when all pairs have settled whose their common ones are.

        Of two, the one with the larger sum of scores over the common cells and half of that over its others.
        """
        margin, covered = self._margin(scene, found)
        score = margin + scene.clutter
        claimed = (covered & (margin > 0) & (score > 0)).float()
        common = (claimed * score) @ claimed.T  # (B, B) of the row's scores, where the column claims too
        strength = 0.5 * (common + common.diagonal().unsqueeze(-1))
        number = torch.arange(len(claimed), device=claimed.device)
        later = number.unsqueeze(-1) > number
        loses = (strength < strength.T) | ((strength == strength.T) & later)
        return found.allowed & ~((loses.float() @ claimed > 0) & (claimed > 0))

    @torch.no_grad()
    def _estimates(self, scene: _Scene, found: _Hypotheses) -> list[ObjectEstimate]:
        """Best first.

        The score is the mean chance, over the cells covered, that they show the object and not clutter,
        none in those lost to other objects; as in our visible fraction, a share of `full_presence` is all,
        because a cuboid covers more than its object. The covariance is about half a step of the grid.
        """
        margin, covered = self._margin(scene, found)
        own = covered & found.allowed
        filled = (self._config.correspondence.full_presence * covered.sum(-1)).clamp_min(1)
        scores = ((torch.sigmoid(margin / TEMPERATURE) * own).sum(-1) / filled).clamp_max(1)
        visible = ((own & (margin > 0)).sum(-1) / filled).clamp_max(1)
        estimates = []
        for row in scores.argsort(descending=True):
            table = self._posterior.tables[int(found.category[row])]
            pose = canonical(found.state.camera_from_object[row], table.symmetry).to("cpu")
            distance = float(pose.translation[2])
            if distance <= 0:
                continue
            size_m = found.state.size_m[row].double().cpu().numpy()
            spread = np.diag([(0.15 * distance) ** 2] * 3 + [math.radians(15) ** 2] * 3)
            seen = float(scores[row]), float(visible[row])
            estimates.append(ObjectEstimate(table.name, pose, size_m, *seen, spread))
        return estimates


class _Layout:
    """Where in the list of all vertices those of each face stand: in rows, as `mesh.cuboid_grid` lays them out.

    Args:
        tables: of the categories, in the order in which their vertices stand.
    """

    def __init__(self, tables: list[CategoryTable]) -> None:
        self._counts = torch.stack([_counts(table) for table in tables])  # (categories, 3) along each axis
        faces = (self._counts.roll(-1, 1) * self._counts.roll(-2, 1)).repeat_interleave(2, 1)  # (categories, 6)
        ends = faces.flatten().cumsum(0)
        self._first = (ends - faces.flatten()).view_as(faces)
        self._ends = ends.view_as(faces)[:, -1].tolist()

    def span(self, category: int) -> slice:
        """All vertices of a category."""
        return slice(int(self._first[category, 0]), self._ends[category])

    def interpolate(self, points_box: Tensor, category: Tensor) -> tuple[Tensor, Tensor]:
        """The vertices around points on a cuboid's surface and their bilinear weights.

        Args:
            points_box: (B, N, 3) in units of the box.
            category: (B,).

        Returns:
            Indices and weights, (B, N, 4) each.
        """
        axis = points_box.detach().abs().argmax(-1, keepdim=True)  # (B, N, 1)
        side = (points_box.detach().gather(-1, axis) > 0).long()
        first = self._first[category].gather(1, (2 * axis + side).squeeze(-1)).unsqueeze(-1)
        columns = self._along(category, (axis + 2) % 3)
        row, down = _between(points_box.gather(-1, (axis + 1) % 3), self._along(category, (axis + 1) % 3))
        column, across = _between(points_box.gather(-1, (axis + 2) % 3), columns)
        corner = first + row * columns + column  # (B, N, 1)
        index = torch.cat([corner, corner + 1, corner + columns, corner + columns + 1], -1)
        weight = [(1 - down) * (1 - across), (1 - down) * across, down * (1 - across), down * across]
        return index, torch.cat(weight, -1)

    def _along(self, category: Tensor, axis: Tensor) -> Tensor:
        return self._counts[category].gather(1, axis.squeeze(-1)).unsqueeze(-1)


def _between(coordinate: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """The lower of the two of `count` evenly spaced vertices around a coordinate, and the share of the upper."""
    place = torch.minimum(((coordinate + 0.5) * count - 0.5).clamp_min(0), count - 1.0)
    lower = torch.minimum(place.detach().floor(), count - 2.0)
    return lower.long(), place - lower


def _counts(table: CategoryTable) -> Tensor:
    """How many vertices (3,) of a cuboid stand along each axis."""
    across = [table.points[table.normals[:, axis] == 0, axis] for axis in range(3)]
    counts = torch.stack([torch.tensor(len((1e4 * values).round().unique())) for values in across])
    expected = 2 * int((counts * counts.roll(1)).sum())
    if len(table.points) != expected:
        raise ValueError(f"model: expected the vertices of {table.name} in a regular grid of {expected}")
    return counts.to(table.points.device)


def _grid_rotations() -> Tensor:
    """Rotations (G, 3, 3) of objects ahead; at azimuth 0 their front is seen, elevation is that of the camera."""
    azimuths = torch.arange(AZIMUTHS) * (2 * math.pi / AZIMUTHS)
    degrees = torch.tensor(ELEVATIONS_DEG), torch.tensor(ROLLS_DEG)
    azimuth, elevation, roll = torch.cartesian_prod(azimuths, *(values.deg2rad() for values in degrees)).unbind(-1)
    zero = torch.zeros_like(azimuth)
    turned, tilted, rolled = (
        so3.exp(torch.stack(vector, -1))
        for vector in ([zero, zero, azimuth], [elevation, zero, zero], [zero, zero, roll])
    )
    facing = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, -1.0], [-1.0, 0.0, 0.0]])  # upright, x towards the camera
    return rolled @ tilted @ facing @ turned


def _seen_ahead(table: CategoryTable, turns: Tensor, distances: Tensor, focal: float) -> tuple[Tensor, Tensor]:
    """Vertices of objects of mean size straight ahead, for D distances and G rotations.

    Returns:
        Where they appear relative to the centre, (D * G, V, 2) cells, and whether their face is seen, (D * G, V).
    """
    points = (table.points * table.log_size_mean.exp()) @ turns.transpose(-1, -2)  # (G, V, 3)
    normals = table.normals @ turns.transpose(-1, -2)
    ahead = torch.stack([torch.zeros_like(distances), torch.zeros_like(distances), distances], -1)
    placed = (points + ahead[:, None, None]).flatten(0, 1)  # (D * G, V, 3)
    visible = (placed.unflatten(0, (len(distances), -1)) * normals).sum(-1) < 0
    return focal * placed[..., :2] / placed[..., 2:].clamp_min(1e-3), visible.flatten(0, 1)


def _best_of_grid(similarity: Tensor, offsets: Tensor, visible: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """For each place the hypothesis whose visible vertices resemble the cells under them most, in sum.

    Args:
        similarity: (V, h, w).
        offsets: (H, V, 2) columns and rows of the vertices of each hypothesis, relative to the place.
        visible: (H, V).
        places: (P, 2).

    Returns:
        The sum and the number of the hypothesis, (P,) each.
    """
    height, width = similarity.shape[1:]
    margin = max(height, width)  # nothing resembles what is outside the image
    padded = functional.pad(similarity, (margin, margin, margin, margin))
    column, row = (offsets.round().long().clamp(-margin, margin) + margin).unbind(-1)
    vertex = torch.arange(len(similarity), device=offsets.device)
    index = (vertex * padded.shape[1] + row) * padded.shape[2] + column
    shifts = (places.round().long() * places.new_tensor([1, padded.shape[2]]).long()).sum(-1)
    scores = torch.stack([(padded.take(index + shift) * visible).sum(-1) for shift in shifts])  # (P, H)
    best, which = scores.max(-1)
    return best, which


def _places(shown: tuple[float, float]) -> Tensor:
    """Centres (P, 2), row by row, of a grid of PLACES x PLACES over the image, in cells."""
    rows, columns = torch.meshgrid(torch.arange(PLACES), torch.arange(PLACES), indexing="ij")
    share = (torch.stack([columns, rows], -1).flatten(0, 1) + 0.5) / PLACES
    return share * share.new_tensor(shown) - 0.5


def _peaks(scores: Tensor, least: float) -> Tensor:
    """Indices (B,), into the flat map (h, w), of what nothing nearby exceeds and what reaches the least score."""
    highest = functional.max_pool2d(scores[None], 2 * PEAK_RADIUS + 1, stride=1, padding=PEAK_RADIUS)[0]
    return torch.nonzero(((scores == highest) & (scores >= least)).flatten()).squeeze(-1)


def _joined(parts: list[_Hypotheses]) -> _Hypotheses:
    state = State.cat([part.state for part in parts])
    return _Hypotheses(state, torch.cat([part.category for part in parts]), torch.cat([part.allowed for part in parts]))
