"""Objects as RViz markers, and back.

An object is three markers with its track id: a box (namespace `box`), fainter the less of the object is seen, its
axes (`axes`) and a label (`label`). The box marker alone says everything: pose, size (`scale`), and category, score
and visible fraction in `text`, which RViz ignores for boxes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
from geometry_msgs.msg import Point, Pose, PoseArray, Vector3
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from category_pose_ros.data.messages import stamp_ns
from category_pose_ros.records import ObjectEstimate, Track, TrackState
from category_pose_ros.ros.conversions import pose_from_message
from category_pose_ros.visualization.palette import category_colour

_NAMESPACES = ("box", "axes", "label")
_ALPHA = (0.15, 0.55)  # of the box of an object that is hidden, and of one in full view
_TEXT_HEIGHT, _LINE_WIDTH = (0.15, 0.03), (0.01, 0.004)  # as shares of the object's diagonal, and at least, in metres


class MarkerBoard:
    """Remembers which markers are shown, so that those of objects that are gone are deleted."""

    def __init__(self) -> None:
        self._shown: set[int] = set()
        self._header = Header()

    def update(self, poses: PoseArray, tracks: Sequence[Track]) -> MarkerArray:
        """Markers of the tracks at these poses, and deletions of all that are shown and not among them."""
        header = self._header = poses.header
        gone = self._shown - {track.track_id for track in tracks}
        self._shown = {track.track_id for track in tracks}
        markers = [_deletion(header, namespace, track_id) for track_id in sorted(gone) for namespace in _NAMESPACES]
        for pose, track in zip(poses.poses, tracks, strict=True):
            markers += [_box(header, track, pose), _axes(header, track, pose), _label(header, track, pose)]
        return MarkerArray(markers=markers)

    def clear(self) -> MarkerArray:
        """Deletions of all that are shown, in the frame in which they are."""
        return self.update(PoseArray(header=self._header), [])


def tracks_from_markers(message: MarkerArray) -> list[Track]:
    """The tracks of a marker message, in its order; covariance is not in markers and is zero.

    Raises:
        ValueError: a box marker whose text is not ours.
    """
    boxes = (marker for marker in message.markers if marker.ns == "box" and marker.action == Marker.ADD)
    return [_track(marker) for marker in boxes]


def _track(marker: Marker) -> Track:
    said = re.fullmatch(r"(.+) score=(\S+) visible=(\S+)", marker.text)
    if said is None:
        raise ValueError(f"marker.text: expected '<category> score=<number> visible=<number>', got {marker.text!r}")
    estimate = ObjectEstimate(
        category=said[1],
        camera_from_object=pose_from_message(marker.pose),
        size_m=np.array([marker.scale.x, marker.scale.y, marker.scale.z]),
        score=float(said[2]),
        visible_fraction=float(said[3]),
        covariance=np.zeros((6, 6)),
    )
    return Track(marker.id, TrackState.CONFIRMED, estimate, stamp_ns(marker.header))


def _marker(header: Header, namespace: str, track: Track, kind: int, pose: Pose) -> Marker:
    return Marker(header=header, ns=namespace, id=track.track_id, type=kind, action=Marker.ADD, pose=pose)


def _deletion(header: Header, namespace: str, track_id: int) -> Marker:
    return Marker(header=header, ns=namespace, id=track_id, action=Marker.DELETE)


def _box(header: Header, track: Track, pose: Pose) -> Marker:
    estimate = track.estimate
    marker = _marker(header, "box", track, Marker.CUBE, pose)
    marker.scale = _vector(map(float, estimate.size_m))
    marker.color = _colour(estimate.category, alpha=float(np.interp(estimate.visible_fraction, (0, 1), _ALPHA)))
    marker.text = f"{estimate.category} score={estimate.score:.4f} visible={estimate.visible_fraction:.4f}"
    return marker


def _axes(header: Header, track: Track, pose: Pose) -> Marker:
    """Red x, green y, blue z, each from the centre to the face of the box and half as far again."""
    marker = _marker(header, "axes", track, Marker.LINE_LIST, pose)
    marker.scale.x = _to_scale(_LINE_WIDTH, track)
    for axis, extent in enumerate(track.estimate.size_m):
        tip, channels = [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]
        tip[axis], channels[axis] = 0.75 * float(extent), 1.0
        marker.points += [Point(), Point(x=tip[0], y=tip[1], z=tip[2])]
        marker.colors += [ColorRGBA(r=channels[0], g=channels[1], b=channels[2], a=1.0)] * 2
    return marker


def _label(header: Header, track: Track, pose: Pose) -> Marker:
    """Above the object in the image: y of the camera points down."""
    at, height = pose.position, _to_scale(_TEXT_HEIGHT, track)
    half_extent = 0.5 * float(track.estimate.camera_from_object.rotation[1].abs().numpy() @ track.estimate.size_m)
    above = Point(x=at.x, y=at.y - half_extent - height, z=at.z)
    marker = _marker(header, "label", track, Marker.TEXT_VIEW_FACING, Pose(position=above))
    marker.scale.z = height
    marker.color = ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)
    marker.text = f"{track.estimate.category} {track.track_id} {track.estimate.score:.2f}"
    return marker


def _to_scale(share_and_least: tuple[float, float], track: Track) -> float:
    """Metres, so that it can be read beside a mug and on a car far away."""
    share, least_m = share_and_least
    return max(least_m, share * float(np.linalg.norm(track.estimate.size_m)))


def _vector(values: Iterable[float]) -> Vector3:
    x, y, z = values
    return Vector3(x=x, y=y, z=z)


def _colour(category: str, alpha: float) -> ColorRGBA:
    red, green, blue = (channel / 255 for channel in category_colour(category))
    return ColorRGBA(r=red, g=green, b=blue, a=alpha)
