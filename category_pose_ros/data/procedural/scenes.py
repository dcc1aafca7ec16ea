"""Scenes of several objects with light and surroundings: on a table, in the air, on a street."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from category_pose_ros.data.procedural import streets, surfaces, tabletop
from category_pose_ros.data.procedural.bottles import make_bottle
from category_pose_ros.data.procedural.bowls import make_bowl
from category_pose_ros.data.procedural.cameras import make_camera
from category_pose_ros.data.procedural.cans import make_can
from category_pose_ros.data.procedural.cars import make_car, repainted
from category_pose_ros.data.procedural.distractors import make_distractor, make_fingers
from category_pose_ros.data.procedural.instance import Instance
from category_pose_ros.data.procedural.laptops import make_laptop
from category_pose_ros.data.procedural.mugs import make_mug
from category_pose_ros.data.procedural.placement import PlacedObject, Surroundings
from category_pose_ros.data.procedural.surfaces import Rng, TextureSource
from category_pose_ros.geometry import SE3, Camera
from category_pose_ros.geometry.symmetry import canonical, symmetry_of
from category_pose_ros.rendering.raytracer import Lighting, RayTracer, Rendering

FAMILIES: dict[str, Callable[[Rng, TextureSource], Instance]] = {
    "bottle": make_bottle,
    "bowl": make_bowl,
    "camera": make_camera,
    "can": make_can,
    "car": make_car,
    "laptop": make_laptop,
    "mug": make_mug,
}
SYMMETRIES = {name: symmetry_of(name) for name in FAMILIES}
DEFAULT_CATEGORIES = ("bottle", "can", "mug")


def known_families(categories: Sequence[str]) -> None:
    """Check names of categories.

    Raises:
        ValueError: there are none, or one that has no family.
    """
    unknown = [name for name in categories if name not in FAMILIES]
    if unknown or not categories:
        got = repr(unknown[0]) if unknown else "none"
        raise ValueError(f"categories: expected names among {', '.join(FAMILIES)}, got {got}")


@dataclass(frozen=True, eq=False)
class Scene:
    """Objects with light and surroundings, ready to be rendered from anywhere.

    Attributes:
        objects: those of our categories and distractors alike.
        surroundings: on a table the objects stand or lie on the plane z = 0, on a street within 0.1 m of it.
    """

    objects: tuple[PlacedObject, ...]
    lighting: Lighting
    tracer: RayTracer
    surroundings: Surroundings

    def render(
        self, camera: Camera, camera_from_world: SE3, background: surfaces.Image, rng: Rng, supersampling: float = 1.0
    ) -> Rendering:
        """One view; `owner` counts `objects`, -1 is everything else."""
        rendering = self.tracer.render(camera, camera_from_world, self.lighting, background, rng, supersampling)
        return Rendering(rendering.rgb, np.maximum(rendering.owner, -1), rendering.depth)


def make_scene(
    rng: Rng,
    source: TextureSource,
    categories: Sequence[str] = DEFAULT_CATEGORIES,
    object_count: int | None = None,
    on_table: float = 0.7,
    way: npt.NDArray[np.floating] | None = None,
) -> Scene:
    """A random scene around the world's origin; the first object is always of one of the categories.

    Cars stand on streets, among cars; where both they and smaller things are wanted, a scene has one
    or the other.

    Args:
        categories: of the objects; one named twice is drawn twice as often.
        object_count: objects of our categories; None: one to three, on a street one to six.
        on_table: chance that small objects rest on a table instead of floating in the air.
        way: (N, 2) points of a street that stay free, as of a camera that drives there.
    """
    small = [name for name in categories if name != "car"]
    # Drawn only where there is a choice, so that the other scenes do not depend on it.
    if not small or (len(small) < len(categories) and rng.random() > len(small) / len(categories)):
        return _street_scene(rng, source, object_count or int(rng.integers(1, 7)), way)
    return _small_scene(rng, source, small, object_count, on_table)


def _small_scene(
    rng: Rng, source: TextureSource, categories: Sequence[str], object_count: int | None, on_table: float
) -> Scene:
    supported = bool(rng.random() < on_table)
    wanted = object_count or int(rng.integers(1, 4))
    instances = [FAMILIES[str(rng.choice(list(categories)))](rng, source) for _ in range(wanted)]
    instances += [make_distractor(rng, source, categories) for _ in range(rng.integers(0, 4))]
    if rng.random() < 0.2:
        instances.append(make_fingers(rng, source))
    placed = (tabletop.place_on_table if supported else tabletop.place_in_air)(rng, instances)
    parts = [part for number, item in enumerate(placed) for part in item.parts(number)]
    if supported:
        reach = max(float(np.abs(mesh.vertices[:, :2]).max()) for mesh, _, _ in parts) * float(np.sqrt(2))
        parts.append(tabletop.table_top(rng, source, reach))
    surroundings = Surroundings.TABLE if supported else Surroundings.AIR
    return Scene(tuple(placed), tabletop.room_light(rng, source), RayTracer(parts), surroundings)


def _street_scene(rng: Rng, source: TextureSource, cars: int, way: npt.NDArray[np.floating] | None) -> Scene:
    # A street has fewer models than cars: a car takes as long to make as the rest of a small scene.
    models = [make_car(rng, source) for _ in range(min(cars, int(rng.integers(1, 4))))]
    others = [repainted(rng, models[rng.integers(len(models))]) for _ in range(cars - len(models))]
    street = streets.make_street(rng, source, [*models, *others], way)
    parts = [part for number, item in enumerate(street.objects) for part in item.parts(number)]
    tracer = RayTracer([*parts, *street.ground])
    return Scene(street.objects, streets.daylight(rng, source), tracer, Surroundings.STREET)


def canonical_box(camera_from_object: SE3, instance: Instance) -> tuple[SE3, npt.NDArray[np.float64]]:
    """The pose that we want as the answer, and the object's extent (3,) along its axes in metres."""
    pose = canonical(camera_from_object, SYMMETRIES[instance.category])
    return pose, instance.extent((pose.inverse() @ camera_from_object).rotation.numpy())
