"""The launched node with its own model under launch_testing: `colcon test`, or `launch_test` on this file.

What needs no model is tested over DDS in test_ros_*.py, with ROS from wheels too.
"""

from __future__ import annotations

import functools
import itertools
import unittest
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")

# Before what is skipped on wheels, so that a name that is gone shows there as well.
import rclpy
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from std_srvs.srv import Trigger

from category_pose_ros.data.bags import EXAMPLE_BAG, BagFrames
from category_pose_ros.data.bop import BopScene
from category_pose_ros.estimation.estimator import DEFAULT_MODEL
from category_pose_ros.evaluation.evaluate import pose_errors
from category_pose_ros.evaluation.matching import match
from category_pose_ros.ros.playback import Playback

pytest.importorskip("launch_testing", reason="needs launch_testing, which comes with an installed ROS 2")
pytest.importorskip("launch_testing_ros", reason="needs launch_testing_ros, which comes with an installed ROS 2")

import launch_testing
from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_testing.actions import ReadyToTest

PATIENCE_S = 120.0
FRAMES = 10


@pytest.mark.launch_test
@pytest.mark.timeout(900)
def generate_test_description() -> LaunchDescription:
    # Skipped here: launch_testing imports the file while pytest collects its folder, all of which would be skipped.
    try:
        share = Path(get_package_share_directory("category_pose_ros"))
    except PackageNotFoundError:
        pytest.skip("needs the package installed in a sourced workspace")
    if not DEFAULT_MODEL.exists() or not EXAMPLE_BAG.exists():
        pytest.skip("needs the model and the example that come with the package")
    source = PythonLaunchDescriptionSource(str(share / "launch" / "estimator.launch.py"))
    estimator = IncludeLaunchDescription(source, launch_arguments={"device": "cpu"}.items())
    return LaunchDescription([estimator, ReadyToTest()])


class TestTheLaunchedNode(unittest.TestCase):
    def setUp(self) -> None:
        self.context = Context()
        rclpy.init(context=self.context)
        self.playback = Playback(self.context)
        assert self.playback.spin_until(self.playback.is_heard, PATIENCE_S), "the node is active"

    def tearDown(self) -> None:
        self.playback.destroy_node()
        rclpy.shutdown(context=self.context)

    def call(self, kind: Any, service: str, request: Any) -> Any:
        client = self.playback.create_client(kind, f"estimator/{service}")
        assert self.playback.spin_until(client.service_is_ready, PATIENCE_S), f"{service} is offered"
        # A server drops an answer to a client that it has not discovered yet. Readers are discovered in the order in
        # which they were made: once a younger client gets its answer, so will this one.
        younger = self.playback.create_client(GetState, "estimator/get_state")
        asked = [younger.call_async(GetState.Request())]
        while not self.playback.spin_until(asked[-1].done, 5.0):
            assert len(asked) < PATIENCE_S / 5.0, f"{service} does not answer"
            asked.append(younger.call_async(GetState.Request()))
        future = client.call_async(request)
        assert self.playback.spin_until(future.done, PATIENCE_S), f"{service} does not answer"
        return future.result()

    def test_poses_of_the_example_are_those_of_its_ground_truth(self) -> None:
        frames = list(itertools.islice(BagFrames(EXAMPLE_BAG), FRAMES))
        scene = BopScene(EXAMPLE_BAG.parent)
        for frame in frames:  # one by one, so that a busy machine answers each
            self.playback.play([frame], 1.0, lambda: None)
            self.playback.spin_until(functools.partial(self.playback.account.is_complete, frame.stamp_ns), 20.0)
        errors = []
        for number, frame in enumerate(frames):
            found = [track.estimate for track in self.playback.account.tracks.get(frame.stamp_ns, [])]
            truth = scene.objects(number)
            errors += [pose_errors(found[i], truth[j]) for i, j in match(frame.camera, found, truth).pairs]
        assert len(errors) >= 3
        assert np.median([np.degrees(error.rotation_rad) for error in errors]) < 30.0
        assert np.median([error.distance_fraction for error in errors]) < 0.3

    def test_parameters_that_cannot_be_taken_are_refused_with_the_reason(self) -> None:
        value = ParameterValue(type=ParameterType.PARAMETER_STRING_ARRAY, string_array_value=["dragon"])
        request = SetParameters.Request(parameters=[Parameter(name="categories", value=value)])
        result = self.call(SetParameters, "set_parameters", request).results[0]
        assert not result.successful
        assert "categories: expected names among" in result.reason

    def test_the_services_answer(self) -> None:
        assert self.call(Trigger, "reset", Trigger.Request()).success

    def test_the_life_cycle_can_be_walked_and_ends_active(self) -> None:
        for label in ("deactivate", "cleanup", "configure", "activate"):
            request = ChangeState.Request()
            request.transition.label = label
            assert self.call(ChangeState, "change_state", request).success, label
        assert self.call(GetState, "get_state", GetState.Request()).current_state.label == "active"


@launch_testing.post_shutdown_test()
class TestAfterShutdown(unittest.TestCase):
    def test_the_node_ended_cleanly(self, proc_info: Any) -> None:
        launch_testing.asserts.assertExitCodes(proc_info)
