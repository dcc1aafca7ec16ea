"""What all tests share: reproducible examples, and a ROS graph that nobody else sees."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# No deadline: the machine may be busy. Derandomized: a failure is the change's, not the day's.
settings.register_profile("category_pose_ros", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("category_pose_ros")


@pytest.fixture(scope="session", autouse=True)
def _isolated_ros_graph(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nodes of the tests, and of the processes they start, neither hear nor disturb a robot."""
    os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"  # since Iron
    os.environ["ROS_LOCALHOST_ONLY"] = "1"  # Humble; deprecated later, with the same effect
    os.environ["ROS_LOG_DIR"] = str(tmp_path_factory.mktemp("ros_log"))
