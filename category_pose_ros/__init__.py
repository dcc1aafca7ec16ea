"""6D pose and size of every object of a known category, from one camera."""

import os

# Threads of OpenMP that wait for each other spin by default. Where other processes want the cores too, as on every
# robot, that makes PyTorch several times slower; where none does, sleeping at once makes it a third slower. So they
# spin for some microseconds, as GNU's OpenMP can, and then sleep. Read once, when PyTorch is imported.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "passive"
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

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
