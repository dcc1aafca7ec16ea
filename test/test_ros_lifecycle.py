"""The whole life cycle, ten times: nothing may be left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")

from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from ros_support import Camera, camera, load_scripted

from category_pose_ros.ros.node import EstimatorNode

SUCCESS = TransitionCallbackReturn.SUCCESS
ROUNDS = 10


@pytest.fixture
def side() -> Iterator[Camera]:
    with camera() as side:
        yield side


@pytest.fixture
def node(side: Camera) -> Iterator[EstimatorNode]:
    # With depth, which is one subscription more.
    depth = Parameter("use_depth", value=True)
    node = EstimatorNode(load_scripted, context=side.context, parameter_overrides=[depth])
    yield node
    node.close()
    node.destroy_node()


def holdings(node: EstimatorNode) -> dict[str, int]:
    """Everything of a node that could pile up."""
    entities = ("publishers", "subscriptions", "services", "clients", "timers", "guards", "waitables")
    return {
        "threads": sum(thread.name == "estimator worker" for thread in threading.enumerate()),
        "managed entities": len(node._managed_entities),
        "parameter callbacks": len(node._on_set_parameters_callbacks),
        **{name: len(list(getattr(node, name))) for name in entities},
    }


def test_ten_rounds_of_the_life_cycle_leave_nothing_behind(node: EstimatorNode) -> None:
    seen: list[tuple[dict[str, int], ...]] = []
    for _ in range(ROUNDS):
        states = [holdings(node)]
        for transition in ("configure", "activate", "deactivate", "cleanup"):
            assert getattr(node, f"trigger_{transition}")() == SUCCESS
            states.append(holdings(node))
        seen.append(tuple(states))
    unconfigured, inactive, active, deactivated, cleaned_up = seen[0]
    assert unconfigured == cleaned_up
    assert inactive == deactivated
    assert active["subscriptions"] == inactive["subscriptions"] + 3
    assert inactive["threads"] == unconfigured["threads"] + 1
    assert all(states == seen[0] for states in seen)


def test_a_node_that_is_shut_down_while_active_lets_go_of_everything(node: EstimatorNode) -> None:
    before = holdings(node)
    assert node.start()
    assert node.trigger_shutdown() == SUCCESS
    assert holdings(node) == before


def test_ten_nodes_one_after_another_end_their_threads(side: Camera) -> None:
    for _ in range(ROUNDS):
        node = EstimatorNode(load_scripted, context=side.context)
        executor = SingleThreadedExecutor(context=side.context)
        executor.add_node(node)
        assert node.start()
        executor.spin_once(timeout_sec=0.1)
        node.close()
        executor.shutdown()
        node.destroy_node()
    assert not [thread for thread in threading.enumerate() if thread.name == "estimator worker"]
