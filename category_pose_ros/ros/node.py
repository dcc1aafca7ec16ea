"""The lifecycle node `estimator`: images in, poses out. Converts, hands to the worker, publishes."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.logging import get_logger
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions

from category_pose_ros.ros.control import Control, Use
from category_pose_ros.ros.health import THROTTLE_S, Health
from category_pose_ros.ros.inputs import Inputs
from category_pose_ros.ros.outputs import Outputs
from category_pose_ros.ros.pairing import Capture
from category_pose_ros.ros.parameters import changed_config, declare_parameters, unused_overrides
from category_pose_ros.ros.pipeline import Answer, Job, Loaded, Pipeline, load, needs_model, needs_tracker
from category_pose_ros.ros.worker import Refused, Worker

_SIGNALS = signal.SIGINT, signal.SIGTERM
_SUCCESS, _FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE

_Transition = Callable[["EstimatorNode", LifecycleState], TransitionCallbackReturn]

_loading = threading.Event()  # while set, a signal need not wait


class _StopLoading(BaseException):
    """A signal has come while a model was being loaded."""


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """For what takes long and leaves nothing behind: a signal ends it."""
    _loading.set()
    try:
        yield
    finally:
        _loading.clear()


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

    def __init__(self, load: Callable[..., Loaded] = load, **node_options: Any) -> None:
        """Declare the parameters and offer the services; everything else waits for `configure`.

        Args:
            load: as `pipeline.load`.
            node_options: as rclpy's `Node` takes them.

        Raises:
            ValueError: a parameter that is unknown or cannot be taken.
        """
        super().__init__("estimator", **node_options)
        self.config = declare_parameters(self)
        self._load = load
        self._state = "unconfigured"
        self._health = Health()
        self._loaded: Loaded | None = None  # for the settings as they are; the pipeline may not have got to them
        self._pipeline: Pipeline | None = None
        self._worker: Worker[Job, Answer] | None = None
        self._inputs: Inputs | None = None
        self._outputs: Outputs | None = None
        self._control = Control(self, lambda: self._inputs is not None, self._forget_objects)
        self._wake_up = self.create_guard_condition(self._on_outcome)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # A clock of its own: simulated time may stand still, and that is when one looks.
        self.create_timer(1.0, self._publish_diagnostics, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.add_on_set_parameters_callback(self._on_parameters)

    @_loud
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and warm it up."""
        with _interruptible():
            self.get_logger().info("loading the model; the first time after an installation it is compiled as well")
            try:
                loaded = self._load(self.config)
            except (ValueError, OSError) as error:
                self.get_logger().error(f"cannot load the model: {error}")
                return _FAILURE
            pipeline = Pipeline(self.config, loaded)
            worker = Worker(pipeline.warm_up, pipeline.handle, self._wake_up.trigger)
            worker.open()
        self._loaded, self._pipeline, self._worker = loaded, pipeline, worker
        self._outputs = Outputs(self, self.config.publish_tf)
        self._state = "inactive"
        return super().on_configure(state)

    @_loud
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe."""
        self._inputs = Inputs(self, self.config, self._health, self._on_capture)
        self._health.watch()
        self._state = "active"
        self.get_logger().info(f"active, listening to {', '.join(self._inputs.topics)}")
        if unused := unused_overrides(self):
            self.get_logger().warning(f"no such topic or policy: {', '.join(unused)}")
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
        self._state = "finalized"
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
        self._loaded = self._pipeline = self._worker = self._outputs = None
        self._state = "unconfigured"

    def start(self) -> bool:
        """Configure and activate; False where that failed, after an error line."""
        return bool(self.trigger_configure() == _SUCCESS and self.trigger_activate() == _SUCCESS)

    def _leave_active(self) -> None:
        if self._inputs is not None:
            self._health.drop("forgotten", self._inputs.waiting)
            self._inputs.destroy()
            self._inputs = None
        self._forget_objects()
        self._control.forget_requests()
        self._state = "inactive"

    def _forget_objects(self) -> None:
        """Forget tracks and frames under way, and delete what is shown."""
        if self._pipeline is not None and self._worker is not None:
            forgotten = self._worker.reset()
            self._health.drop("forgotten", len(forgotten))
            if any(job.is_one_look for job in forgotten):
                self._control.ask_again()
            self._worker.submit(self._pipeline.reset)
        if self._outputs is not None:
            self._outputs.clear()
        self._health.watch()

    def _on_capture(self, capture: Capture) -> None:
        assert self._inputs is not None, "a capture without inputs"
        assert self._worker is not None, "inputs without a worker"
        use = self._control.use_of_image(capture.received_s)
        if use is Use.NOTHING:
            self._health.drop("disabled")
        elif self._worker.offer(Job(capture, use is Use.ONE_LOOK, self._inputs.camera_motion)):
            self._health.drop("a newer one came")

    def _on_outcome(self) -> None:
        """Publish what the worker has; its unexpected exceptions end the node here."""
        if self._worker is None or self._outputs is None:
            return
        for outcome in self._worker.take():
            if isinstance(outcome, Refused):
                self._health.drop("unusable")
                self.get_logger().warning(f"image dropped: {outcome.reason}", throttle_duration_sec=THROTTLE_S)
                if outcome.job.is_one_look:
                    self._control.ask_again()
            else:
                self._on_answer(self._outputs, outcome.job.capture, outcome.result)

    def _on_answer(self, outputs: Outputs, capture: Capture, answer: Answer) -> None:
        outputs.publish(capture.image.header, answer)
        self._health.answer(capture.received_s, len(answer.tracks), answer.lost)
        if answer.depth_fault is not None:
            self._health.refused_depths += 1
            self.get_logger().warning(f"image used as RGB: {answer.depth_fault}", throttle_duration_sec=THROTTLE_S)
        if answer.hint_fault is not None:
            self._health.refused_hints += 1
            self.get_logger().warning(f"image searched without: {answer.hint_fault}", throttle_duration_sec=THROTTLE_S)
        if answer.motion_fault is not None:
            self._health.unplaced += 1
            self.get_logger().warning(
                f"camera taken to be at rest: {answer.motion_fault}", throttle_duration_sec=THROTTLE_S
            )

    def _on_parameters(self, parameters: Iterable[Parameter]) -> SetParametersResult:
        try:
            config = changed_config(self.config, parameters, configured=self._worker is not None)
            if self._loaded is not None and needs_tracker(self.config, config):
                # Here, so that what cannot be loaded is refused with the reason. The worker goes on meanwhile, but what
                # it finds is published afterwards.
                estimator = None if needs_model(self.config, config) else self._loaded.estimator
                with _interruptible():
                    self._loaded = self._load(config, estimator)
        except (ValueError, OSError) as error:
            return SetParametersResult(successful=False, reason=str(error))
        if self._pipeline is not None and self._worker is not None and self._loaded is not None:
            self._worker.submit(functools.partial(self._pipeline.adopt, config, self._loaded))
        self.config = config
        return SetParametersResult(successful=True)

    def _publish_diagnostics(self) -> None:
        state = "disabled" if self._state == "active" and not self._control.enabled else self._state
        status = self._health.status(self.get_fully_qualified_name(), state, self._properties())
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    def _properties(self) -> dict[str, str]:
        """What runs; of a model that is not loaded what is asked for."""
        estimator = None if self._pipeline is None else self._pipeline.loaded.estimator
        return {
            "method": self.config.method,
            "model": self.config.model or "the one that comes with the package",
            "categories": ", ".join(self.config.categories if estimator is None else estimator.categories),
            "device": self.config.device if estimator is None else estimator.device,
        }


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

    def on_signal(*_: object) -> None:
        stop.set()
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        if _loading.is_set():
            raise _StopLoading

    for number in _SIGNALS:
        signal.signal(number, on_signal)
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    try:
        return _spin(make_node, stop)
    except _StopLoading:
        pass
    finally:
        rclpy.shutdown()
        # The interpreter's last collection walks through all of PyTorch; on a busy machine that alone can outlast
        # the patience of who asked the process to end. Frozen, it is left out.
        gc.freeze()
    sys.stdout.flush()
    os._exit(0)  # the worker's thread may go on compiling for a minute


def _spin(make_node: Callable[[], EstimatorNode], stop: threading.Event) -> int:
    """The exit status of a node that is spun until `stop`."""
    try:
        node = make_node()
    except ValueError as error:
        get_logger("estimator").fatal(str(error))
        return 1
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        if node.config.autostart and not stop.is_set() and not node.start():
            return 1
        while not stop.is_set():
            executor.spin_once(timeout_sec=0.2)
        return 0
    finally:
        node.close()
        executor.shutdown()
        node.destroy_node()


def main(args: Sequence[str] | None = None) -> int:
    return run(EstimatorNode, args)


if __name__ == "__main__":
    sys.exit(main())
