"""The launch file under launch itself, where ROS brings it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")
pytest.importorskip("launch", reason="needs launch, which comes with an installed ROS 2")
pytest.importorskip("launch_ros", reason="needs launch_ros, which comes with an installed ROS 2")

import launch
from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from launch_ros.utilities import evaluate_parameters
from ros_support import camera

from category_pose_ros.estimation.estimator import DEFAULT_MODEL

LAUNCH_FILE = Path(__file__).parents[1] / "launch" / "estimator.launch.py"
TWO_CAMERAS = LAUNCH_FILE.with_name("two_cameras.launch.py")
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
    return load_module(LAUNCH_FILE)


def load_module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.name.replace(".", "_"), path)
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


def node_of(module: ModuleType, **given: str) -> Any:
    """The estimator as the launch file describes it."""
    return module.estimator_node({name: value for name, (value, _) in module.ARGUMENTS.items()} | given)


def settings_of(node: Any) -> dict[str, Any]:
    """What the arguments set on top of the parameter file."""
    context = launch.LaunchContext()
    parameters = evaluate_parameters(context, node._Node__parameters)
    return dict(parameters[-1]) if isinstance(parameters[-1], dict) else {}


def test_a_depth_topic_switches_depth_on_and_a_clock_simulated_time(module: ModuleType) -> None:
    assert settings_of(node_of(module)) == {}
    assert settings_of(node_of(module, depth="/depth", depth_transport="compressedDepth")) == {
        "depth_transport": "compressedDepth",
        "use_depth": True,
    }
    assert settings_of(node_of(module, bag="a_bag")) == settings_of(node_of(module, use_sim_time="true"))
    assert settings_of(node_of(module, categories="mug, can")) == {"categories": ("mug", "can")}
    assert settings_of(node_of(module, fixed_frame="odom")) == {"fixed_frame": "odom"}


def test_a_topic_of_hints_chooses_the_hint(module: ModuleType) -> None:
    assert settings_of(node_of(module, mask="/mask")) == {"hint": "mask"}
    assert settings_of(node_of(module, detections_2d="/yolo/detections")) == {"hint": "detections"}
    with pytest.raises(ValueError, match="detections_2d, mask: expected one of them, got both"):
        node_of(module, mask="/mask", detections_2d="/yolo/detections")


def test_each_of_two_cameras_has_its_estimator_in_its_namespace() -> None:
    module = load_module(TWO_CAMERAS)
    context = launch.LaunchContext()
    defaults = {name: value for name, (value, _) in module.ARGUMENTS.items()}
    context.launch_configurations.update(defaults | {"cameras": "head, hand", "image": "color/image_raw"})
    included = [dict(item.launch_arguments) for item in module.estimators(context)]
    assert [item["namespace"] for item in included] == ["head", "hand"]
    assert all(item["image"] == "color/image_raw" for item in included)
    assert all(set(item) <= set(load_module(LAUNCH_FILE).ARGUMENTS) for item in included)


@pytest.mark.skipif(shutil.which("ros2") is None, reason="needs the ros2 command")
@pytest.mark.skipif(not DEFAULT_MODEL.exists(), reason="needs the model that comes with the package")
def test_the_launched_node_becomes_active_and_ends_cleanly() -> None:
    command = ["ros2", "launch", "category_pose_ros", "estimator.launch.py", "image:=/image", "device:=cpu"]
    with camera() as side:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            # What runs in the background of a shell has SIGINT ignored, and launch would inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            side.until_listening()
            assert side.state() == "active"
            process.send_signal(signal.SIGINT)
            output = process.communicate(timeout=60)[0]
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # a node that outlives its launch would answer the next test
            process.communicate()
    assert "finished cleanly" in output
