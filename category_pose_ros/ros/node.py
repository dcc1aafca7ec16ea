"""The lifecycle node `estimator`: images in, poses out. Converts, hands to the worker, publishes."""

from __future__ import annotations

import functools
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.logging import get_logger
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from category_pose_ros.ros.health import Health
from category_pose_ros.ros.outputs import Outputs
from category_pose_ros.ros.parameters import NodeConfig, changed_config, declare_parameters
from category_pose_ros.ros.pipeline import Answer, Job, Pipeline, TrackerLike, build_tracker
from category_pose_ros.ros.worker import Refused, Worker

_SUCCESS, _FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
_THROTTLE_S = 5.0

_Transition = Callable[["EstimatorNode", LifecycleState], TransitionCallbackReturn]


def _loud(transition: _Transition) -> _Transition:
    """Log what a transition raises, which rclpy would swallow."""

    @functools.wraps(transition)
    def logged(node: EstimatorNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except Exception:
            node.get_logger().error(traceback.format_exc())
            raise

    return logged


class EstimatorNode(LifecycleNode):
    """Estimates the poses of the objects in a camera stream.

    Everything of ROS happens in the executor's thread. The worker's thread decodes and estimates, and wakes the
    executor with a guard condition to have the outcome published.
    """

    def __init__(self, build: Callable[[NodeConfig], TrackerLike] = build_tracker, **node_options: Any) -> None:
        """Declare the parameters; everything else waits for `configure`.

        Args:
            build: loads the model.
            node_options: as rclpy's `Node` takes them.

        Raises:
            ValueError: a parameter that is unknown or cannot be taken.
        """
        super().__init__("estimator", **node_options)
        self.config = declare_parameters(self)
        self._build = build
        self._state = "unconfigured"
        self._health = Health()
        self._info: CameraInfo | None = None
        self._pipeline: Pipeline | None = None
        self._worker: Worker[Job, Answer] | None = None
        self._outputs: Outputs | None = None
        self._subscriptions_of_images: list[Any] = []
        self._wake_up = self.create_guard_condition(self._on_outcome)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # A clock of its own: simulated time may stand still, and that is when one looks.
        self.create_timer(1.0, self._publish_diagnostics, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.add_on_set_parameters_callback(self._on_parameters)

    @_loud
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and warm it up."""
        pipeline = Pipeline(self.config, self._build)
        worker = Worker(pipeline.load, pipeline.handle, self._wake_up.trigger)
        try:
            worker.open()
        except (ValueError, OSError) as error:
            self.get_logger().error(f"cannot load the model: {error}")
            return _FAILURE
        self._pipeline, self._worker = pipeline, worker
        self._outputs = Outputs(self, self.config.publish_tf)
        self._state = "inactive"
        return super().on_configure(state)

    @_loud
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe."""
        image_type, image = (Image, "image")
        if self.config.image_transport == "compressed":
            # As in image_transport: remapping `image` moves the compressed topic along.
            image_type, image = (CompressedImage, f"{self.resolve_topic_name('image')}/compressed")
        self._subscribe(CameraInfo, "camera_info", self._on_camera_info)
        self._subscribe(image_type, image, self._on_image)
        self._state = "active"
        names = ", ".join(subscription.topic_name for subscription in self._subscriptions_of_images)
        self.get_logger().info(f"active, listening to {names}")
        return super().on_activate(state)

    @_loud
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe, and forget what was seen."""
        self._leave_active()
        return super().on_deactivate(state)

    @_loud
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of the model."""
        self.close()
        return _SUCCESS

    @_loud
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.close()
        return _SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After a transition that raised: back to where one can configure again."""
        self.close()
        return _SUCCESS

    def close(self) -> None:
        """Stop subscriptions, worker and publishers, whatever state they are in."""
        self._leave_active()
        if self._worker is not None:
            self._worker.close()
        if self._outputs is not None:
            self._outputs.destroy()
        self._pipeline = self._worker = self._outputs = None
        self._state = "unconfigured"

    def start(self) -> bool:
        """Configure and activate; False where that failed, after an error line."""
        return bool(self.trigger_configure() == _SUCCESS and self.trigger_activate() == _SUCCESS)

    def _leave_active(self) -> None:
        for subscription in self._subscriptions_of_images:
            self.destroy_subscription(subscription)
        self._subscriptions_of_images.clear()
        self._info = None
        if self._pipeline is not None and self._worker is not None:
            self._worker.reset()
            self._worker.submit(self._pipeline.reset)
        if self._outputs is not None:
            self._outputs.clear()
        self._state = "inactive"

    def _subscribe(self, message_type: Any, topic: str, callback: Callable[[Any], None]) -> None:
        overrides = QoSOverridingOptions.with_default_policies()
        subscription = self.create_subscription(
            message_type, topic, callback, qos_profile_sensor_data, qos_overriding_options=overrides
        )
        self._subscriptions_of_images.append(subscription)

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._info = message

    def _on_image(self, message: Image | CompressedImage) -> None:
        received_s = time.monotonic()
        self._health.received += 1
        if self._info is None:
            self._health.drop("no camera_info yet")
            topic = self._subscriptions_of_images[0].topic_name
            self.get_logger().warning(
                f"no camera_info on {topic} yet, images are dropped", throttle_duration_sec=_THROTTLE_S
            )
        elif self._worker is not None and self._worker.offer(Job(message, self._info, received_s)):
            self._health.drop("a newer one came")

    def _on_outcome(self) -> None:
        """Publish what the worker has; its unexpected exceptions end the node here."""
        if self._worker is None or self._outputs is None:
            return
        for outcome in self._worker.take():
            if isinstance(outcome, Refused):
                self._health.drop("unusable")
                self.get_logger().warning(f"image dropped: {outcome.reason}", throttle_duration_sec=_THROTTLE_S)
            else:
                self._outputs.publish(outcome.job.image.header, outcome.result)
                self._health.answer(outcome.job.received_s)

    def _on_parameters(self, parameters: Iterable[Parameter]) -> SetParametersResult:
        try:
            config = changed_config(self.config, parameters, configured=self._worker is not None)
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        if self._pipeline is not None and self._worker is not None and config != self.config:
            self._worker.submit(functools.partial(self._pipeline.reconfigure, config))
        self.config = config
        return SetParametersResult(successful=True)

    def _publish_diagnostics(self) -> None:
        properties = {
            "method": self.config.method,
            "device": self.config.device,
            "model": self.config.model or "the one that comes with the package",
        }
        message = DiagnosticArray(
            status=[self._health.status(self.get_fully_qualified_name(), self._state, properties)]
        )
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)


def run(make_node: Callable[[], EstimatorNode], args: Sequence[str] | None = None) -> int:
    """Spin a node until SIGINT or SIGTERM.

    Returns:
        The exit status: 0 after a signal, 1 where the node could not start.

    Raises:
        Exception: what ended the worker.
    """
    # rclpy's own handlers invalidate the context under the feet of running callbacks, which then raise.
    # A second signal finds the default handler and ends the process at once.
    stop = threading.Event()

    def on_signal(number: int, _: object) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = make_node()
    except ValueError as error:
        get_logger("estimator").fatal(str(error))
        rclpy.shutdown()
        return 1
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        if node.config.autostart and not node.start():
            return 1
        while not stop.is_set():
            executor.spin_once(timeout_sec=0.2)
        return 0
    finally:
        node.close()
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown()


def main(args: Sequence[str] | None = None) -> int:
    return run(EstimatorNode, args)


if __name__ == "__main__":
    sys.exit(main())
