"""The node's settings as ROS parameters: declared with descriptions and ranges, refused by name.

`python -m category_pose_ros.ros.parameters > config/estimator.yaml` writes the defaults as a parameter file.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSPolicyKind
from rclpy.qos_overriding_options import QoSOverridingOptions

from category_pose_ros.config import Setting, describe, from_flat, section, setting, to_flat, validate
from category_pose_ros.estimation.estimator import DEVICES, METHODS, EstimatorConfig
from category_pose_ros.ros.camera_motion import tf2
from category_pose_ros.ros.hints import HINTS, message_type, renamed
from category_pose_ros.ros.pairing import PairingConfig
from category_pose_ros.tracking.tracker import TrackerConfig

# What the worker can take over while it runs; the others say how the node is connected.
_CHANGEABLE = (
    "categories",
    "method",
    "device",
    "threads",
    "model",
    "rectified",
    "hint_classes",
    "estimator.",
    "tracker.",
)
_INTEGER_LIMITS = (-(2**63), 2**63 - 1)
_FLOAT_LIMITS = (-sys.float_info.max, sys.float_info.max)
_OVERRIDES = "qos_overrides."
# Parameters that rclpy itself knows.
_FOREIGN = ("use_sim_time", "start_type_description_service", _OVERRIDES)


@dataclass(frozen=True)
class NodeConfig:
    """Everything that can be set on the node."""

    categories: tuple[str, ...] = setting((), "Categories to look for; empty: all that the model knows.")
    method: str = setting("neural_mesh", "How poses are estimated.", choices=METHODS)
    device: str = setting("auto", "Where the model runs; auto takes CUDA where there is one.", choices=DEVICES)
    threads: int = setting(
        0,
        "CPU threads of the model; 0: OMP_NUM_THREADS, or else half of the cores, the rest is for messages.",
        minimum=0,
        maximum=256,
    )
    model: str = setting("", "Path of a model file; empty: the one that comes with the package.")
    image_transport: str = setting(
        "raw", "Subscribe to `image`, or to `image/compressed`.", choices=("raw", "compressed")
    )
    use_depth: bool = setting(False, "Subscribe to `depth`, which is registered to the image.")
    depth_transport: str = setting(
        "raw", "Subscribe to `depth`, or to `depth/compressedDepth`.", choices=("raw", "compressedDepth")
    )
    hint: str = setting(
        "none", "Search only where `detections_2d` or `mask` say that objects are, paired by time.", choices=HINTS
    )
    hint_classes: tuple[str, ...] = setting(
        ("cup=mug",), "Categories that have another name in `detections_2d`, as DETECTOR=OURS."
    )
    rectified: bool = setting(False, "The images are rectified: take P of camera_info, and no distortion.")
    fixed_frame: str = setting(
        "", "Frame of TF that does not move, such as odom; tracking allows for the camera's motion in it. Empty: not."
    )
    publish_tf: bool = setting(True, "Publish a transform per object, where tf2_msgs is installed.")
    autostart: bool = setting(True, "Configure and activate without a lifecycle manager.")
    pairing: PairingConfig = section(PairingConfig)
    estimator: EstimatorConfig = section(EstimatorConfig)
    tracker: TrackerConfig = section(TrackerConfig)

    def __post_init__(self) -> None:
        validate(self)
        renamed(self.hint_classes)


def declare_parameters(node: Node) -> NodeConfig:
    """Declare every setting, with the values that files and the command line give.

    Raises:
        ValueError: a given name that is no setting, or a value of the wrong type or out of range.
    """
    # rclpy ignores given values that nobody declares, and has no public list of them; a typing error
    # in a parameter file must not pass unseen.
    given = {name: parameter.value for name, parameter in node._parameter_overrides.items()}
    config = with_values(NodeConfig(), {name: value for name, value in given.items() if not name.startswith(_FOREIGN)})
    values = to_flat(config)
    for item in describe(NodeConfig):
        node.declare_parameter(item.name, values[item.name], descriptor(item), ignore_override=True)
        if item.type is list:  # rclpy takes an empty list for one of bytes unless told otherwise
            node.set_parameters([Parameter(item.name, Parameter.Type.STRING_ARRAY, values[item.name])])
    return config


def overridable() -> QoSOverridingOptions:
    """What of a topic's quality of service can be set by parameters."""
    kinds = QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY, QoSPolicyKind.DURABILITY
    return QoSOverridingOptions(kinds)


def unused_overrides(node: Node) -> list[str]:
    """Given names of such parameters that no topic of the node has declared."""
    given = (name for name in node._parameter_overrides if name.startswith(_OVERRIDES))
    return sorted(name for name in given if not node.has_parameter(name))


def with_values(config: NodeConfig, values: Mapping[str, Any]) -> NodeConfig:
    """The settings with some replaced, by dotted name, from values as rclpy gives them.

    Raises:
        ValueError: as `declare_parameters`; or a hint or fixed frame whose package is not installed.
    """
    lists = {item.name for item in describe(NodeConfig) if item.type is list}
    plain = {name: _names(value) if name in lists else value for name, value in values.items()}
    changed = from_flat(NodeConfig, to_flat(config) | plain)
    if changed.hint != "none":
        message_type(changed.hint)
    if changed.fixed_frame:
        tf2()
    return changed


def changed_config(config: NodeConfig, parameters: Iterable[Parameter], configured: bool) -> NodeConfig:
    """The settings after a request to set parameters.

    Args:
        configured: the model is loaded; then what says how the node is connected cannot change.

    Raises:
        ValueError: a value that cannot be taken, or not now.
    """
    own = [item for item in parameters if not item.name.startswith(_FOREIGN)]
    for item in own:
        if item.type_ is Parameter.Type.NOT_SET:  # rclpy would forget the parameter
            raise ValueError(f"{item.name}: expected a value, got none; a setting cannot be deleted")
    values = {item.name: item.value for item in own}
    changed = with_values(config, values)
    before, after = to_flat(config), to_flat(changed)
    for name in values:
        if configured and before[name] != after[name] and not name.startswith(_CHANGEABLE):
            raise ValueError(f"{name}: can only change while unconfigured")
    return changed


def descriptor(item: Setting) -> ParameterDescriptor:
    """Description, range and choices of a setting for `ros2 param describe`."""
    result = ParameterDescriptor(name=item.name, description=item.description)
    result.dynamic_typing = item.type is list  # an empty list on the command line has no type
    if item.choices is not None:
        result.additional_constraints = f"one of {', '.join(item.choices)}"
    if item.minimum is None and item.maximum is None:
        return result
    if item.type is int:
        low, high = _limits(item, _INTEGER_LIMITS)
        result.integer_range = [IntegerRange(from_value=int(low), to_value=int(high))]
    else:
        low, high = _limits(item, _FLOAT_LIMITS)
        result.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
    return result


def parameter_file() -> str:
    """All defaults as the text of a parameter file; it applies to `estimator` in any namespace."""
    lines = [
        "# Written by `python -m category_pose_ros.ros.parameters`.",
        "/**:",
        "  estimator:",
        "    ros__parameters:",
    ]
    open_sections: list[str] = []
    for item in describe(NodeConfig):
        *sections, name = item.name.split(".")
        lines += [f"{'  ' * (3 + depth)}{title}:" for depth, title in _opened(open_sections, sections)]
        open_sections = sections
        indent = "  " * (3 + len(sections))
        lines += [f"{indent}# {item.description}{_constraint(item)}", f"{indent}{name}: {_yaml(item.default)}"]
    return "\n".join(lines) + "\n"


def _names(value: Any) -> Any:
    """A list of names; rclpy gives an empty one as None or as no bytes, and users write it as [''].

    What is no list stays as it is, for the check of the settings to refuse.
    """
    if value is None:
        return []
    is_list = isinstance(value, Iterable) and not isinstance(value, str)
    return [name for name in value if name != ""] if is_list else value


def _limits(item: Setting, otherwise: tuple[float, float]) -> tuple[float, float]:
    low = otherwise[0] if item.minimum is None else item.minimum
    high = otherwise[1] if item.maximum is None else item.maximum
    return low, high


def _opened(before: list[str], now: list[str]) -> Iterator[tuple[int, str]]:
    """The sections, with their depth, that begin between two settings."""
    common = 0
    while common < min(len(before), len(now)) and before[common] == now[common]:
        common += 1
    return iter(list(enumerate(now))[common:])


def _constraint(item: Setting) -> str:
    if item.choices is not None:
        return f" One of: {', '.join(item.choices)}."
    bounds = [f"{word} {bound}" for word, bound in (("from", item.minimum), ("to", item.maximum)) if bound is not None]
    return f" Range: {' '.join(bounds)}." if bounds else ""


def _yaml(value: Any) -> str:
    """JSON is YAML, but `1e-05` would be read as a string: YAML wants a point in a float."""
    text = json.dumps(list(value) if isinstance(value, tuple) else value)
    if isinstance(value, float) and "e" in text and "." not in text:
        text = text.replace("e", ".0e")
    return text


if __name__ == "__main__":
    sys.stdout.write(parameter_file())
