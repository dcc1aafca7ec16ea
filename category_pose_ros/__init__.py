"""6D pose and size of every object of a known category, from one camera."""

import os

# Threads of OpenMP that wait for each other spin by default. Where other processes want the cores too, as on every
# robot, that makes PyTorch several times slower, and idle it gains nothing. Read once, when PyTorch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from category_pose_ros.estimation.estimator import EstimatorConfig, PoseEstimator
from category_pose_ros.geometry import SE3, Camera
from category_pose_ros.records import Frame, ObjectEstimate, Region, Track, TrackState
from category_pose_ros.tracking.tracker import Tracker, TrackerConfig

__version__ = "0.1.0"
__all__ = [
    "SE3",
    "Camera",
    "EstimatorConfig",
    "Frame",
    "ObjectEstimate",
    "PoseEstimator",
    "Region",
    "Track",
    "TrackState",
    "Tracker",
    "TrackerConfig",
]
