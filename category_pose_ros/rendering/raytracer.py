"""A small ray tracer for training images: primary rays, soft shadows, mirrored surroundings.

Intersections come from Embree, shading is vectorised NumPy on the pixels that are hit. The world
has z up; the camera has OpenCV axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from category_pose_ros.geometry import SE3, Camera
from category_pose_ros.geometry.mesh import Mesh

FloatArray = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]

TEXTURE_SIZE = 128
_SHADOW_OFFSET = 5e-4  # metres; keeps a shadow ray from hitting the surface that it starts on
_ENVIRONMENT_BLUR = (1.0, 4.0, 12.0, 24.0)  # pixels of the (64, 128) map: sharp to dull mirrors, diffuse
_MAP_SIZE = 48  # side of the two paraboloid maps that an environment is looked up in


@dataclass(frozen=True, eq=False)
class Material:
    """How a surface looks.

    Attributes:
        texture: (TEXTURE_SIZE, TEXTURE_SIZE, 3) uint8 albedo, sRGB; row 0 is v = 0.
        gloss: strength of the mirror part at normal incidence, 0 to 1.
        roughness: blur of the mirror part, 0 sharp to 1 dull.
        metallic: 1 tints the mirror part with the albedo and removes the diffuse part.
        opacity: below 1 the surroundings shine through.
    """

    texture: Image
    gloss: float = 0.04
    roughness: float = 0.5
    metallic: float = 0.0
    opacity: float = 1.0


@dataclass(frozen=True, eq=False)
class Lighting:
    """Surroundings and lamps. Only the first lamp casts shadows.

    Attributes:
        radiance: (levels, 2 * M * M, 3) float32 linear; per level of blur, two paraboloid maps
            (Heidrich and Seidel 1998), which need no trigonometry to look up; the last is diffuse.
        lamp_directions: (L, 3) unit vectors towards the lamps, world frame.
        lamp_colours: (L, 3) linear.
        lamp_softness: radius of the lamps as a share of their distance.
    """

    radiance: FloatArray
    lamp_directions: FloatArray
    lamp_colours: FloatArray
    lamp_softness: float

    @staticmethod
    def from_panorama(panorama: FloatArray, directions: FloatArray, colours: FloatArray, softness: float) -> Lighting:
        """From equirectangular linear radiance (64, 128, 3), row 0 straight up."""
        axis = (np.arange(_MAP_SIZE) + 0.5) / _MAP_SIZE * 2 - 1
        x, y = np.meshgrid(axis, axis)
        up = (1 - x * x - y * y) / 2
        length = np.sqrt(x * x + y * y + up * up)
        height, width = panorama.shape[:2]
        row = np.arccos(np.clip(np.stack([up, -up]) / length, -1, 1)) * (height / np.pi)
        column = np.arctan2(y, x) * (width / (2 * np.pi)) + width / 2
        rows = np.minimum(row.astype(int), height - 1)
        columns = np.broadcast_to(column.astype(int) % width, rows.shape)
        around = np.concatenate([panorama, panorama, panorama], 1)  # its left and right border are one place
        blurred = [cv2.GaussianBlur(around, (0, 0), blur)[:, width : 2 * width] for blur in _ENVIRONMENT_BLUR]
        maps = [each[rows, columns].reshape(-1, 3) for each in blurred]
        return Lighting(np.stack(maps), directions, colours, softness)

    def look_up(self, directions: FloatArray, level: npt.NDArray[np.integer] | int) -> FloatArray:
        """Radiance (N, 3) from unit directions (N, 3)."""
        scale = (0.5 * _MAP_SIZE) / (1 + np.abs(directions[:, 2]))
        column = (directions[:, 0] * scale + 0.5 * _MAP_SIZE).astype(np.int32)
        row = (directions[:, 1] * scale + 0.5 * _MAP_SIZE).astype(np.int32)
        flat = np.clip(row, 0, _MAP_SIZE - 1) * _MAP_SIZE + np.clip(column, 0, _MAP_SIZE - 1)
        found: FloatArray = self.radiance[level, flat + (directions[:, 2] < 0) * (_MAP_SIZE * _MAP_SIZE)]
        return found


@dataclass(frozen=True, eq=False)
class Rendering:
    """What each pixel sees.

    Attributes:
        rgb: (H, W, 3) uint8.
        owner: (H, W) int32, the number given with each part; -1 where nothing is hit.
        depth: (H, W) float32 metres along the optical axis, 0 where nothing is hit.
    """

    rgb: Image
    owner: npt.NDArray[np.int32]
    depth: FloatArray


@dataclass(frozen=True, eq=False)
class _Hits:
    pixel: npt.NDArray[np.intp]  # flat index of the pixels that hit something
    part: npt.NDArray[np.int32]
    point: FloatArray
    normal: FloatArray  # turned towards the camera
    view: FloatArray  # unit vector towards the camera
    uv: FloatArray


class RayTracer:
    """Renders one set of parts from any number of cameras.

    Args:
        parts: meshes in the world frame with material and owner number.

    Raises:
        ValueError: no parts.
    """

    def __init__(self, parts: Sequence[tuple[Mesh, Material, int]]) -> None:
        # Imported here: the estimator renders nothing and must load without Embree.
        from embreex import rtcore_scene
        from embreex.mesh_construction import TriangleMesh

        if not parts:
            raise ValueError("parts: expected at least one mesh, got none")
        meshes = [mesh for mesh, _, _ in parts]
        starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes])[:-1]
        self._faces = np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts, strict=True)])
        self._vertices = np.concatenate([mesh.vertices for mesh in meshes])
        self._normals = np.concatenate([mesh.normals for mesh in meshes])
        self._uv = np.concatenate([mesh.uv for mesh in meshes])
        self._face_part = np.repeat(np.arange(len(parts), dtype=np.int32), [len(mesh.faces) for mesh in meshes])
        self._part_owner = np.array([owner for _, _, owner in parts], dtype=np.int32)
        materials = [material for _, material, _ in parts]
        self._textures = np.stack([material.texture for material in materials])
        self._gloss, self._roughness, self._metallic, self._opacity = (
            np.array([getattr(material, name) for material in materials], dtype=np.float32)
            for name in ("gloss", "roughness", "metallic", "opacity")
        )
        self._scene = rtcore_scene.EmbreeScene()
        TriangleMesh(self._scene, self._vertices, self._faces.astype(np.int32))

    def render(
        self,
        camera: Camera,
        camera_from_world: SE3,
        lighting: Lighting,
        background: Image,
        rng: np.random.Generator,
        supersampling: float = 1.0,
    ) -> Rendering:
        """Render one view.

        Args:
            camera: without distortion.
            camera_from_world: one pose.
            background: (H, W, 3) uint8, shown where nothing is hit.
            rng: places the shadow rays on the lamps.
            supersampling: rays per pixel along each image axis.
        """
        width, height = round(camera.width * supersampling), round(camera.height * supersampling)
        dense = camera.resized(width, height)
        hits, depth = self._trace(dense, camera_from_world)
        linear = _to_linear(cv2.resize(background, (width, height))).reshape(-1, 3)
        linear[hits.pixel] = self._shade(hits, lighting, rng)
        image = _to_srgb(linear.reshape(height, width, 3))
        owner = np.full(height * width, -1, dtype=np.int32)
        owner[hits.pixel] = self._part_owner[hits.part]
        size = (camera.width, camera.height)
        if supersampling != 1.0:
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        # Labels are those of the ray nearest to the pixel's centre, never a blend.
        owner_image = cv2.resize(owner.reshape(height, width), size, interpolation=cv2.INTER_NEAREST_EXACT)
        depth_image = cv2.resize(depth.reshape(height, width), size, interpolation=cv2.INTER_NEAREST_EXACT)
        return Rendering(image, owner_image, depth_image)

    def _trace(self, camera: Camera, camera_from_world: SE3) -> tuple[_Hits, FloatArray]:
        world_from_camera = camera_from_world.inverse()
        rotation = world_from_camera.rotation.numpy().astype(np.float32)
        origin = world_from_camera.translation.numpy().astype(np.float32)
        columns, rows = np.meshgrid(
            (np.arange(camera.width, dtype=np.float32) - np.float32(camera.cx)) / np.float32(camera.fx),
            (np.arange(camera.height, dtype=np.float32) - np.float32(camera.cy)) / np.float32(camera.fy),
        )
        rays = np.stack([columns.ravel(), rows.ravel(), np.ones(columns.size, np.float32)], 1)
        directions = np.ascontiguousarray(rays @ rotation.T)  # z = 1 in the camera: distance is depth
        origins = np.ascontiguousarray(np.broadcast_to(origin, directions.shape))
        found = self._scene.run(origins, directions, output=1)
        pixel = np.flatnonzero(found["primID"] >= 0)
        face = found["primID"][pixel]
        depth = np.zeros(len(rays), np.float32)
        depth[pixel] = found["tfar"][pixel]
        b1, b2 = found["u"][pixel], found["v"][pixel]
        weights = np.stack([1 - b1 - b2, b1, b2], 1)
        corners = self._faces[face]
        normal = _unit(np.einsum("nk,nkc->nc", weights, self._normals[corners]))
        uv = np.einsum("nk,nkc->nc", weights, self._uv[corners])
        view = -directions[pixel]
        point = origin - view * depth[pixel, None]
        view = _unit(view)
        normal *= np.sign(_dot(normal, view))[:, None]
        return _Hits(pixel, self._face_part[face], point, normal, view, uv), depth

    def _shade(self, hits: _Hits, lighting: Lighting, rng: np.random.Generator) -> FloatArray:
        albedo = self._albedo(hits)
        gloss, roughness = self._gloss[hits.part, None], self._roughness[hits.part]
        metallic, opacity = self._metallic[hits.part, None], self._opacity[hits.part, None]
        diffuse = lighting.look_up(hits.normal, -1)
        facing = _dot(hits.normal, hits.view)[:, None]
        mirrored = 2 * facing * hits.normal - hits.view
        mirror = lighting.look_up(mirrored, np.minimum((roughness * 3).astype(np.int32), 2))
        shininess = 4 + 400 * (1 - roughness) ** 3
        for number, direction in enumerate(lighting.lamp_directions):
            towards = hits.normal @ direction
            if number == 0:
                towards = towards * self._lit(hits, direction, lighting.lamp_softness, rng)
            colour = lighting.lamp_colours[number]
            diffuse += np.maximum(towards, 0)[:, None] * colour
            peak = np.exp(shininess * (np.minimum(mirrored @ direction, 1) - 1)) * (towards > 0)
            mirror += (peak * (1 + shininess * 0.05))[:, None] * colour
        grazing = (1 - facing) ** 2
        fresnel = gloss + (1 - gloss) * grazing * grazing * (1 - facing) * ((1 - roughness)[:, None] * (gloss > 0))
        body = albedo * diffuse * (1 - metallic)
        clear = np.flatnonzero(opacity[:, 0] < 1)
        if len(clear):
            bent = _unit(0.4 * hits.normal[clear] - hits.view[clear])
            through = lighting.look_up(bent, 0) * np.sqrt(albedo[clear])
            body[clear] = opacity[clear] * body[clear] + (1 - opacity[clear]) * through
        return body + fresnel * mirror * (metallic * albedo + 1 - metallic)

    def _albedo(self, hits: _Hits) -> FloatArray:
        """Bilinear texture look-up, linear."""
        position = (hits.uv % 1.0) * TEXTURE_SIZE - 0.5
        base = np.floor(position).astype(np.int64)
        fraction = (position - base).astype(np.float32)
        u = np.clip(np.stack([base[:, 0], base[:, 0] + 1]), 0, TEXTURE_SIZE - 1)
        v = np.clip(np.stack([base[:, 1], base[:, 1] + 1]), 0, TEXTURE_SIZE - 1)
        right, up = fraction[:, :1], fraction[:, 1:]
        low, high = (
            (1 - right) * self._textures[hits.part, row, u[0]] + right * self._textures[hits.part, row, u[1]]
            for row in v
        )
        return _to_linear((1 - up) * low + up * high)

    def _lit(
        self, hits: _Hits, direction: FloatArray, softness: float, rng: np.random.Generator
    ) -> npt.NDArray[np.bool_]:
        """Whether a random point of the lamp is seen: noise that blurs into a soft shadow."""
        jitter = rng.standard_normal((len(hits.point), 3), dtype=np.float32) * softness
        towards = np.ascontiguousarray(direction + jitter, dtype=np.float32)
        start = np.ascontiguousarray(hits.point + _SHADOW_OFFSET * hits.normal, dtype=np.float32)
        blocked: npt.NDArray[np.int32] = self._scene.run(start, towards, query="OCCLUDED")
        return blocked < 0


def _dot(first: FloatArray, second: FloatArray) -> FloatArray:
    product: FloatArray = np.einsum("nc,nc->n", first, second)
    return product


def _unit(vectors: FloatArray) -> FloatArray:
    scale: FloatArray = np.reciprocal(np.maximum(np.sqrt(_dot(vectors, vectors)), 1e-6))
    return vectors * scale[:, None]


def _to_linear(srgb: npt.NDArray[np.generic]) -> FloatArray:
    scaled = np.asarray(srgb, dtype=np.float32) / np.float32(255)
    return scaled * scaled  # gamma 2 instead of 2.2: a tenth of the cost, and the lamps are random anyway


def _to_srgb(linear: FloatArray) -> Image:
    return (np.sqrt(np.clip(linear, 0, 1)) * 255 + 0.5).astype(np.uint8)
