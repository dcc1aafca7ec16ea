"""The launch file under launch itself, where ROS brings it."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")
pytest.importorskip("launch", reason="needs launch, which comes with an installed ROS 2")
pytest.importorskip("launch_ros", reason="needs launch_ros, which comes with an installed ROS 2")

import launch
from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from ros_support import camera

from category_pose_ros.estimation.estimator import DEFAULT_MODEL

LAUNCH_FILE = Path(__file__).parents[1] / "launch" / "estimator.launch.py"
CONTRACT = {"image", "camera_info", "depth", "params_file", "namespace"}
CONTRACT |= {"categories", "method", "device", "rviz", "bag"}


@pytest.fixture(autouse=True)
def _installed() -> None:
    try:
        get_package_share_directory("category_pose_ros")
    except PackageNotFoundError:
        pytest.skip("needs the package installed in a sourced workspace")


@pytest.fixture
def module() -> ModuleType:
    """The launch file."""
    spec = importlib.util.spec_from_file_location("estimator_launch", LAUNCH_FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_argument_of_the_contract_has_a_default_and_a_description(module: ModuleType) -> None:
    entities = module.generate_launch_description().entities
    arguments = {item.name: item for item in entities if isinstance(item, launch.actions.DeclareLaunchArgument)}
    assert set(arguments) >= CONTRACT
    assert all(item.default_value is not None and item.description for item in arguments.values())


@pytest.mark.parametrize(
    ("given", "processes"),
    [({}, ["estimator"]), ({"rviz": "true"}, ["estimator", "rviz2"]), ({"depth": "/depth"}, ["estimator"])],
)
def test_the_arguments_choose_what_is_started(module: ModuleType, given: dict[str, str], processes: list[str]) -> None:
    context = launch.LaunchContext()
    defaults = {name: value for name, (value, _) in module.ARGUMENTS.items()}
    context.launch_configurations.update(defaults | given)
    actions = module.launch_all(context)
    assert [action.node_executable for action in actions if hasattr(action, "node_executable")] == processes


@pytest.mark.skipif(shutil.which("ros2") is None, reason="needs the ros2 command")
@pytest.mark.skipif(not DEFAULT_MODEL.exists(), reason="needs the model that comes with the package")
def test_the_launched_node_becomes_active_and_ends_cleanly() -> None:
    command = ["ros2", "launch", "category_pose_ros", "estimator.launch.py", "image:=/image", "device:=cpu"]
    with camera() as side:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            side.until_listening()
            assert side.state() == "active"
            process.send_signal(signal.SIGINT)
            output = process.communicate(timeout=60)[0]
        finally:
            process.kill()
            process.communicate()
    assert "finished cleanly" in output
