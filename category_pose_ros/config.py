"""Settings: frozen dataclasses with one definition for YAML, command line and ROS parameters.

A settings class stands beside the code it tunes and nests along the import arrows. Every field is
made with `setting`, which carries its description and range:

    @dataclass(frozen=True)
    class SolverConfig:
        iterations: int = setting(10, "Damped steps per hypothesis.", minimum=1, maximum=100)

`describe` lists all settings of a tree under dotted names (`solver.iterations`), which are the
names in YAML, in ROS parameters and on the command line alike.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

Config = TypeVar("Config")

LONGEST_S = 1e6  # maximum of settings in seconds: eleven days, whose nanoseconds are far from overflowing


@dataclass(frozen=True)
class Setting:
    """One scalar setting or list of strings, as `describe` lists it."""

    name: str
    type: type  # bool, int, float, str or list (of str)
    default: Any
    description: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] | None = None


def setting(
    default: Any,
    description: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """A dataclass field with a description, an inclusive range or a list of choices."""
    metadata = {"description": description, "minimum": minimum, "maximum": maximum, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


def section(config_class: type) -> Any:
    """A dataclass field that holds another settings class with its defaults."""
    return dataclasses.field(default_factory=config_class)


def validate(config: Any) -> None:
    """Check every setting of a settings object against its type, range and choices.

    Settings classes call this from `__post_init__`.

    Raises:
        ValueError: names the setting, what was expected and what came.
    """
    for item in _own_settings(type(config)):
        _check(item, getattr(config, item.name))


def describe(config_class: type, prefix: str = "") -> Iterator[Setting]:
    """All settings of a settings class and its sections, depth first, with dotted names."""
    hints = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        if dataclasses.is_dataclass(hints[field.name]):
            yield from describe(typing.cast(type, hints[field.name]), f"{prefix}{field.name}.")
        else:
            yield _as_setting(field, hints[field.name], prefix)


def to_flat(config: Any) -> dict[str, Any]:
    """The values of a settings object under dotted names; tuples become lists."""
    flat = {}
    for item in describe(type(config)):
        value = config
        for part in item.name.split("."):
            value = getattr(value, part)
        flat[item.name] = list(value) if isinstance(value, tuple) else value
    return flat


def from_flat(config_class: type[Config], values: Mapping[str, Any]) -> Config:
    """A settings object from dotted names; what is not named keeps its default.

    Raises:
        ValueError: an unknown name, or a value of the wrong type or out of range.
    """
    known = [item.name for item in describe(config_class)]
    for name in values:
        if name not in known:
            raise ValueError(f"{name}: unknown setting, expected one of {', '.join(known)}")
    return from_dict(config_class, _nested(values.items()))


def from_dict(config_class: type[Config], values: Mapping[str, Any], prefix: str = "") -> Config:
    """A settings object from nested mappings; unknown keys are refused by name.

    Raises:
        ValueError: as `from_flat`.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{prefix.rstrip('.') or 'settings'}: expected a mapping, got {values!r}")
    hints = typing.get_type_hints(config_class)
    fields = {field.name: field for field in dataclasses.fields(config_class)}  # type: ignore[arg-type]
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        if key not in fields:
            raise ValueError(f"{prefix}{key}: unknown setting, expected one of {', '.join(sorted(fields))}")
        if dataclasses.is_dataclass(hints[key]):
            arguments[key] = from_dict(typing.cast(type, hints[key]), value, f"{prefix}{key}.")
        else:
            item = _as_setting(fields[key], hints[key], prefix)
            arguments[key] = _coerce(item, value)
    try:
        return config_class(**arguments)
    except ValueError as error:  # of settings that contradict each other; each by itself is checked above
        raise ValueError(f"{prefix}{error}") from error


def to_dict(config: Any) -> dict[str, Any]:
    """Nested plain values, ready for YAML or JSON."""
    result: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            value = to_dict(value)
        result[field.name] = list(value) if isinstance(value, tuple) else value
    return result


def load_yaml(config_class: type[Config], path: Path, part: Callable[[Any], Any] = lambda values: values) -> Config:
    """A settings object from a YAML file of nested mappings, dotted names, or both.

    Args:
        part: takes what is meant out of what the file holds.

    Raises:
        ValueError: the file is not YAML, or as `from_flat`.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid YAML: {error}") from error
    meant = {} if values is None else part(values)  # an empty file says nothing
    try:
        return from_dict(config_class, _nested(_dotted(meant)) if isinstance(meant, Mapping) else meant)
    except RecursionError as error:
        raise ValueError(f"{path}: expected mappings that do not contain themselves") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _dotted(values: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings, by dotted name."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _nested(values: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """The nested mappings of dotted names."""
    nested: dict[str, Any] = {}
    for name, value in values:
        *parents, leaf = name.split(".")
        level = nested
        for parent in parents:
            level = level.setdefault(parent, {})
            if not isinstance(level, dict):
                raise ValueError(f"{name}: expected {parent} to hold settings, got {level!r}")
        level[leaf] = value
    return nested


def _own_settings(config_class: type) -> Iterator[Setting]:
    hints = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        if not dataclasses.is_dataclass(hints[field.name]):
            yield _as_setting(field, hints[field.name], "")


def _as_setting(field: dataclasses.Field[Any], hint: Any, prefix: str) -> Setting:
    kind = list if typing.get_origin(hint) is tuple else hint
    return Setting(prefix + field.name, kind, field.default, **field.metadata)


def _coerce(item: Setting, value: Any) -> Any:
    """YAML and ROS write 1 for 1.0 and lists for tuples; anything else must match as it is."""
    if item.type is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            value = float(value)
        except OverflowError as error:
            raise ValueError(f"{item.name}: expected a number that a float can hold, got an integer") from error
    if item.type is list and isinstance(value, list):
        value = tuple(value)
    _check(item, value)
    return value


def _check(item: Setting, value: Any) -> None:
    expected: Any = {list: tuple, float: (float, int)}.get(item.type, item.type)
    is_bool_for_number = isinstance(value, bool) and expected is not bool
    if not isinstance(value, expected) or is_bool_for_number:
        raise ValueError(f"{item.name}: expected {item.type.__name__}, got {value!r}")
    if item.type is list and not all(isinstance(element, str) for element in value):
        raise ValueError(f"{item.name}: expected a list of names, got {value!r}")
    if item.type is float and not math.isfinite(value):
        raise ValueError(f"{item.name}: expected a finite number, got {value!r}")
    if item.minimum is not None and value < item.minimum:
        raise ValueError(f"{item.name}: expected at least {item.minimum}, got {value!r}")
    if item.maximum is not None and value > item.maximum:
        raise ValueError(f"{item.name}: expected at most {item.maximum}, got {value!r}")
    if item.choices is not None:
        for element in value if item.type is list else (value,):
            if element not in item.choices:
                raise ValueError(f"{item.name}: expected one of {', '.join(item.choices)}, got {element!r}")
