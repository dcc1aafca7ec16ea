"""SE(3), cameras, symmetries. Knows no images and no learning."""

from category_pose_ros.geometry.camera import Camera
from category_pose_ros.geometry.se3 import SE3
from category_pose_ros.geometry.symmetry import Symmetry

__all__ = ["SE3", "Camera", "Symmetry"]
