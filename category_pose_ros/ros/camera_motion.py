"""Where the camera is in a frame that does not move, from TF.

tf2_ros is imported only where this is asked for: not every installation has it.
"""

from __future__ import annotations

import importlib
from typing import Any

from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode
from rclpy.time import Time
from std_msgs.msg import Header

from category_pose_ros.geometry import SE3
from category_pose_ros.ros.conversions import pose_from_transform

_PATIENCE = Duration(seconds=0.05)  # a transform may come a little later than the image of its time


def tf2() -> Any:
    """The module tf2_ros.

    Raises:
        ValueError: it is not installed.
    """
    try:
        return importlib.import_module("tf2_ros")
    except ImportError as error:
        raise ValueError("fixed_frame: needs tf2_ros, which is not installed") from error


class CameraMotion:
    """Listens to TF, and tells where the camera of an image was.

    Args:
        node: subscribes to TF.
        fixed_frame: a frame that does not move, such as `odom`.

    Raises:
        ValueError: tf2_ros is not installed.
    """

    def __init__(self, node: LifecycleNode, fixed_frame: str) -> None:
        self._tf2 = tf2()
        self._fixed_frame = fixed_frame
        self._buffer = self._tf2.Buffer()
        self._listener = self._tf2.TransformListener(self._buffer, node)

    def world_from_camera(self, image: Header) -> SE3:
        """Pose of the camera in the fixed frame when the image was taken, batch shape (), float64.

        To be asked in another thread than the executor's, which hears of transforms meanwhile.

        Args:
            image: header of the image.

        Raises:
            ValueError: TF does not know it.
        """
        where = (self._fixed_frame, image.frame_id, Time.from_msg(image.stamp))
        try:
            try:
                found = self._buffer.lookup_transform(*where)
            except self._tf2.ExtrapolationException:  # its neighbours in time are known: it may be under way
                found = self._buffer.lookup_transform(*where, timeout=_PATIENCE)
        except self._tf2.TransformException as error:
            raise ValueError(f"fixed_frame: no transform from {image.frame_id!r}: {error}") from error
        pose = pose_from_transform(found.transform)
        if not bool(pose.matrix().isfinite().all()):
            raise ValueError(f"fixed_frame: expected a transform of finite numbers, got {found.transform}")
        return pose

    def forget(self) -> None:
        """Begin anew, for a clock that was set back: TF would take what comes now for too old."""
        self._buffer.clear()

    def destroy(self) -> None:
        """Listen no longer."""
        self._listener.unregister()
