"""Settings as ROS parameters, and the parameter file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")

from rclpy.parameter import Parameter
from ros_support import load_scripted

from category_pose_ros.config import LONGEST_S, describe, setting, to_dict, to_flat
from category_pose_ros.ros import pipeline
from category_pose_ros.ros.parameters import NodeConfig, changed_config, descriptor, parameter_file, with_values
from category_pose_ros.ros.pipeline import Pipeline

PARAMETER_FILE = Path(__file__).parents[1] / "config" / "estimator.yaml"


def test_the_parameter_file_is_the_one_that_the_settings_make() -> None:
    # Where this fails: python -m category_pose_ros.ros.parameters > config/estimator.yaml
    assert PARAMETER_FILE.read_text(encoding="utf-8") == parameter_file()


def test_the_parameter_file_holds_the_defaults() -> None:
    values = yaml.safe_load(parameter_file())["/**"]["estimator"]["ros__parameters"]
    assert values == to_dict(NodeConfig())
    types = {name: type(value) for name, value in to_flat(NodeConfig()).items()}
    assert {name: type(value) for name, value in _flat(values).items()} == types


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def test_descriptors_carry_description_range_and_choices() -> None:
    items = {item.name: item for item in describe(NodeConfig)}
    assert "raw, compressed" in descriptor(items["image_transport"]).additional_constraints
    bounded = descriptor(items["estimator.score_threshold"]).floating_point_range[0]
    assert (bounded.from_value, bounded.to_value) == (0.0, 1.0)
    whole = descriptor(items["tracker.confirm_after"]).integer_range[0]
    assert whole.from_value == 1
    assert all(descriptor(item).description for item in items.values())


@pytest.mark.parametrize("empty", [[], None, b"", [""], ()])
def test_all_the_ways_to_write_an_empty_list_are_one(empty: Any) -> None:
    assert with_values(NodeConfig(), {"categories": empty}).categories == ()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("nonsense", 1, "nonsense: unknown setting"),
        ("estimator.nonsense", 1, r"estimator\.nonsense: unknown setting"),
        ("method", "guess", "method: expected one of .*, got 'guess'"),
        ("categories", "mug", "categories: expected list, got 'mug'"),
        ("categories", 7, "categories: expected list, got 7"),
        ("hint_classes", True, "hint_classes: expected list, got True"),
        ("estimator.neural_mesh.sizes", 1.5, r"estimator\.neural_mesh\.sizes: expected list, got 1\.5"),
        ("categories", [1], r"categories: expected a list of names, got \(1,\)"),
        ("estimator.score_threshold", 2.0, "score_threshold: expected at most 1.0, got 2.0"),
        ("estimator.score_threshold", float("nan"), "score_threshold: expected .*, got nan"),
        ("pairing.fallback_after_s", float("inf"), "fallback_after_s: expected a finite number, got inf"),
        ("tracker.drop_after_s", 1e300, r"drop_after_s: expected at most 1000000\.0, got 1e\+300"),
        ("threads", 20000, "threads: expected at most 256, got 20000"),
        ("autostart", "yes", "autostart: expected bool, got 'yes'"),
    ],
)
def test_wrong_values_are_refused_by_name(name: str, value: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        with_values(NodeConfig(), {name: value})


def test_settings_in_seconds_have_a_maximum() -> None:
    assert {item.maximum for item in describe(NodeConfig) if item.name.endswith("_s")} == {LONGEST_S}


def test_once_configured_everything_changes_but_how_the_node_is_connected() -> None:
    config = NodeConfig()
    request = [Parameter("categories", value=["mug"]), Parameter("estimator.score_threshold", value=0.25)]
    changed = changed_config(config, request, configured=True)
    assert (changed.categories, changed.estimator.score_threshold) == (("mug",), 0.25)
    for name, value in (("image_transport", "compressed"), ("use_depth", True), ("pairing.slop_s", 0.5)):
        with pytest.raises(ValueError, match=f"{name}: can only change while unconfigured"):
            changed_config(config, [Parameter(name, value=value)], configured=True)
        assert changed_config(config, [Parameter(name, value=value)], configured=False) != config
    assert changed_config(config, [Parameter("use_sim_time", value=True)], configured=True) == config


def test_a_setting_cannot_be_deleted() -> None:
    with pytest.raises(ValueError, match="categories: expected a value, got none"):
        changed_config(NodeConfig(), [Parameter("categories", Parameter.Type.NOT_SET)], configured=False)


@pytest.mark.parametrize(
    "lack", [MemoryError(), torch.cuda.OutOfMemoryError("out of memory"), None], ids=["Python", "CUDA", "CPU"]
)
def test_a_model_that_memory_cannot_hold_is_refused(lack: Exception | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object) -> None:
        if lack is not None:
            raise lack
        torch.empty(10**14)

    monkeypatch.setattr(pipeline.PoseEstimator, "load", load)
    with pytest.raises(ValueError, match="too little memory"):
        pipeline.load(NodeConfig())


def test_a_bug_while_loading_is_not_taken_for_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(pipeline.PoseEstimator, "load", load)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        pipeline.load(NodeConfig())


def test_a_setting_with_one_bound_has_a_range_too() -> None:
    import dataclasses

    @dataclasses.dataclass(frozen=True)
    class Bounded:
        gain: float = setting(1e-5, "Gain.", minimum=0.0)
        count: int = setting(1, "Count.", maximum=9)

    gain, count = (descriptor(item) for item in describe(Bounded))
    assert gain.floating_point_range[0].from_value == 0.0
    assert count.integer_range[0].to_value == 9


@pytest.mark.parametrize(("asked", "environment", "expected"), [(3, None, 3), (0, None, 4), (0, "2", 2)])
def test_the_model_leaves_cores_for_the_messages(
    asked: int, environment: str | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    if environment is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", environment)
        monkeypatch.setattr(pipeline, "_THREADS_AT_START", int(environment))
    config = NodeConfig(threads=asked)
    try:
        Pipeline(config, load_scripted(config)).warm_up()
        assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)
