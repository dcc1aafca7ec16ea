"""What all tests share: reproducible examples, and a ROS graph that nobody else sees."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import settings

# No deadline: the machine may be busy. Derandomized: a failure is the change's, not the day's.
settings.register_profile("category_pose_ros", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("category_pose_ros")


@pytest.fixture(scope="session", autouse=True)
def _isolated_ros_graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nodes of the tests, and of the processes they start, neither hear nor disturb a robot or other tests."""
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"  # since Iron
    os.environ["ROS_LOCALHOST_ONLY"] = "1"  # Humble; deprecated later, with the same effect
    os.environ["ROS_LOG_DIR"] = str(tmp_path_factory.mktemp("ros_log"))
    domain, reservation = _reserved_domain()
    os.environ["ROS_DOMAIN_ID"] = str(domain)
    with reservation:
        yield


def _reserved_domain() -> tuple[int, socket.socket]:
    """A domain that no other tests on this machine have, and what keeps it so: a port that stands for it.

    It is the port of the domain's discovery, which DDS takes for UDP and we for TCP.
    """
    for offset in range(100):
        domain = 1 + (os.getpid() + offset) % 100
        try:
            return domain, socket.create_server(("127.0.0.1", 7400 + 250 * domain))
        except OSError:
            continue
    raise RuntimeError("all ROS domains from 1 to 100 are taken by other tests")
