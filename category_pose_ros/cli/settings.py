"""The settings of the commands: a YAML file first, then single values by dotted name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from category_pose_ros import EstimatorConfig, TrackerConfig
from category_pose_ros.config import Setting, describe, from_flat, load_yaml, section, to_flat

Config = TypeVar("Config")
_NAMESPACES = 2  # at most, above the parameters in a file: of the node, and its name


@dataclass(frozen=True)
class Settings:
    """What can be set, under the names that the ROS node uses too."""

    estimator: EstimatorConfig = section(EstimatorConfig)
    tracker: TrackerConfig = section(TrackerConfig)


def load_settings(params: Path | None, overrides: Iterable[str]) -> Settings:
    """Settings from an optional YAML file and `name=value` texts, later ones winning.

    Args:
        params: mappings as in `Settings`, or a parameter file of the node, whose other parameters are passed over.

    Raises:
        ValueError: not `name=value`, an unknown name, a value of the wrong type or out of range.
    """
    try:
        values = to_flat(load_yaml(Settings, params, _part) if params else Settings())
    except ValueError as error:
        raise ValueError(f"--params: {error}") from error
    return override(from_flat(Settings, values), overrides)


def _part(values: Any) -> Any:
    """Of a parameter file (`/**: estimator: ros__parameters: ...`) what commands know; of other files all."""
    inner = values
    for _ in range(_NAMESPACES):
        if isinstance(inner, dict) and len(inner) == 1 and "ros__parameters" not in inner:
            (inner,) = inner.values()
    if not isinstance(inner, dict) or not isinstance(inner.get("ros__parameters"), dict):
        return values
    known = {field.name for field in fields(Settings)}
    return {name: value for name, value in inner["ros__parameters"].items() if str(name).partition(".")[0] in known}


def override(config: Config, texts: Iterable[str]) -> Config:
    """Settings with some changed by `name=value` texts, later ones winning.

    Raises:
        ValueError: not `name=value`, an unknown name, a value of the wrong type or out of range.
    """
    values = to_flat(config)
    known = {item.name: item for item in describe(type(config))}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator:
            raise ValueError(f"--set: expected name=value, got {text!r}")
        if name not in known:
            raise ValueError(f"--set: {name}: unknown setting, expected one of {', '.join(known)}")
        values[name] = _parse(known[name], value)
    return from_flat(type(config), values)


def _parse(item: Setting, text: str) -> Any:
    parsers: dict[type, Callable[[str], Any]] = {
        bool: yaml.safe_load,
        int: int,
        float: float,
        str: str,
        list: lambda names: [name.strip() for name in names.split(",") if name.strip()],
    }
    try:
        return parsers[item.type](text)
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"--set: {item.name}: expected {item.type.__name__}, got {text!r}") from error
