"""Settings: one definition read from YAML, flat names and nested mappings; refusals by name."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from category_pose_ros.config import (
    describe,
    from_dict,
    from_flat,
    load_yaml,
    section,
    setting,
    to_dict,
    to_flat,
    validate,
)


@dataclass(frozen=True)
class Inner:
    iterations: int = setting(10, "Steps.", minimum=1, maximum=100)
    damping: float = setting(0.1, "Added to the diagonal.", minimum=0.0)
    offset: float = setting(0.0, "Without a range.")

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True)
class Outer:
    method: str = setting("fast", "Which one.", choices=("fast", "exact"))
    solver: Inner = section(Inner)
    categories: tuple[str, ...] = setting(("mug",), "What to look for.", choices=("mug", "can", "bottle"))
    verbose: bool = setting(False, "Say more.")

    def __post_init__(self) -> None:
        validate(self)


CHANGED = Outer(method="exact", solver=Inner(iterations=3, damping=2.5), categories=("can", "mug"), verbose=True)


def test_describe_lists_depth_first_in_the_order_of_definition() -> None:
    settings = list(describe(Outer))
    assert [item.name for item in settings] == [
        "method",
        "solver.iterations",
        "solver.damping",
        "solver.offset",
        "categories",
        "verbose",
    ]
    iterations = settings[1]
    assert (iterations.type, iterations.default, iterations.minimum, iterations.maximum) == (int, 10, 1, 100)
    assert iterations.description == "Steps."
    assert settings[0].choices == ("fast", "exact")
    assert [item.type for item in settings] == [str, int, float, float, list, bool]


@pytest.mark.parametrize("config", [Outer(), CHANGED])
def test_round_trips(config: Outer, tmp_path: Path) -> None:
    assert from_dict(Outer, to_dict(config)) == config
    assert from_flat(Outer, to_flat(config)) == config
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(to_dict(config)), encoding="utf-8")
    assert load_yaml(Outer, path) == config


def test_a_file_that_contains_itself_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("solver: &again\n  solver: *again\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"settings\.yaml: expected mappings that do not contain themselves"):
        load_yaml(Outer, path)


def test_dotted_names_may_stand_in_a_file_beside_mappings(tmp_path: Path) -> None:
    flat, path = to_flat(Outer()), tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(flat))
    assert load_yaml(Outer, path) == Outer()
    section, leaf = next(name for name in flat if "." in name).split(".", 1)
    path.write_text(yaml.safe_dump({section: 3, f"{section}.{leaf}": flat[f"{section}.{leaf}"]}))
    with pytest.raises(ValueError, match=rf"{section}\.{leaf}: expected {section} to hold settings, got 3"):
        load_yaml(Outer, path)


def test_flat_and_nested_values_are_plain() -> None:
    assert to_flat(CHANGED)["categories"] == ["can", "mug"]
    assert to_flat(CHANGED)["solver.damping"] == 2.5
    assert to_dict(CHANGED)["solver"] == {"iterations": 3, "damping": 2.5, "offset": 0.0}


def test_what_is_not_named_keeps_its_default(tmp_path: Path) -> None:
    assert from_flat(Outer, {"solver.iterations": 4}) == Outer(solver=Inner(iterations=4))
    empty = tmp_path / "empty.yaml"
    empty.write_text("# nothing\n", encoding="utf-8")
    assert load_yaml(Outer, empty) == Outer()


def test_an_integer_serves_as_a_float() -> None:
    damping = from_flat(Outer, {"solver.damping": 1}).solver.damping
    assert (damping, type(damping)) == (1.0, float)
    assert Inner(damping=1).damping == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"metod": "fast"}, "metod: unknown setting, expected one of .*method"),
        ({"solver": {"iteration": 3}}, r"solver\.iteration: unknown setting, expected one of .*iterations"),
        ({"solver": 3}, "solver: expected a mapping, got 3"),
        ({"method": {"name": "fast"}}, "method: expected str"),
        ({"method": "slow"}, "method: expected one of fast, exact, got 'slow'"),
        ({"method": None}, "method: expected str, got None"),
        ({"solver": {"iterations": 0}}, r"solver\.iterations: expected at least 1, got 0"),
        ({"solver": {"iterations": 101}}, r"solver\.iterations: expected at most 100, got 101"),
        ({"solver": {"iterations": 3.0}}, r"solver\.iterations: expected int, got 3\.0"),
        ({"solver": {"iterations": True}}, r"solver\.iterations: expected int, got True"),
        ({"solver": {"damping": True}}, r"solver\.damping: expected float, got True"),
        ({"solver": {"damping": "high"}}, r"solver\.damping: expected float, got 'high'"),
        ({"solver": {"damping": math.nan}}, r"solver\.damping: expected a finite number, got nan"),
        ({"solver": {"offset": math.nan}}, r"solver\.offset: expected a finite number, got nan"),
        ({"solver": {"damping": math.inf}}, r"solver\.damping: expected a finite number, got inf"),
        ({"solver": {"damping": -0.5}}, r"solver\.damping: expected at least 0\.0, got -0\.5"),
        ({"verbose": 1}, "verbose: expected bool, got 1"),
        ({"categories": "mug"}, "categories: expected list, got 'mug'"),
        ({"categories": ["mug", 3]}, "categories: expected a list of names"),
        ({"categories": ["mug", "sofa"]}, "categories: expected one of mug, can, bottle, got 'sofa'"),
    ],
)
def test_wrong_values_are_refused_by_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        from_dict(Outer, values)


@pytest.mark.parametrize("name", ["solver.iteration", "solvr.iterations", "solver", "method.name", ""])
def test_unknown_flat_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: unknown setting"):
        from_flat(Outer, {"solver.iterations": 3, name: 3})


def test_settings_made_in_python_are_validated_too() -> None:
    with pytest.raises(ValueError, match="iterations: expected at least 1, got 0"):
        Inner(iterations=0)
    with pytest.raises(ValueError, match="categories: expected list"):
        Outer(categories=["mug"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("method: [", "not valid YAML"),
        ("- method\n", "settings: expected a mapping"),
        ("[]", "settings: expected a mapping"),
        ("fast", "settings: expected a mapping, got 'fast'"),
    ],
)
def test_damaged_files_are_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load_yaml(Outer, path)
