"""The house: which room may import which, and what stays out of every file."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "category_pose_ros"
ROOT = Path(__file__).resolve().parent.parent
CORE = {"geometry", "records", "rendering", "models", "estimation", "tracking"}
SIDE_ROOMS = {"data", "evaluation", "visualization"}

# Beside itself and the settings, a room may import these. `api` is what the package itself exports.
MAY_IMPORT = {
    "config": set(),
    "geometry": set(),
    "records": {"geometry"},
    "rendering": {"geometry", "records"},
    "models": {"geometry", "records", "rendering"},
    "estimation": CORE - {"estimation", "tracking"},
    "tracking": CORE - {"tracking"},
    "data": {"geometry", "records", "rendering"},
    "training": {"geometry", "records", "rendering", "models", "data"},
    "evaluation": {"geometry", "records", "data"},
    "visualization": {"geometry", "records", "rendering"},
    "ros": CORE | SIDE_ROOMS | {"api"},
    "cli": CORE | SIDE_ROOMS | {"api", "training"},
    "__main__": {"cli"},
    "api": CORE,
}
ROS_PACKAGES = re.compile(r"rclpy|rcl_interfaces|builtin_interfaces|\w+_(msgs|srvs)|cv_bridge|launch|launch_ros")
# Homes of developers and of build machines.
FOREIGN_PATH = re.compile(r"(?<![\w.])/(root|work|home/\w+|Users/\w+)/")


def room_of(path: Path) -> str:
    """`category_pose_ros/data/bop.py` and `category_pose_ros/data.py` are the room `data`."""
    name = path.relative_to(ROOT / PACKAGE).parts[0].removesuffix(".py")
    return "api" if name == "__init__" else name


SOURCES = sorted((ROOT / PACKAGE).rglob("*.py"))
ROOMS = {room_of(path) for path in SOURCES}


def imported_modules(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that a file imports, at any depth of nesting."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def imported_room(module: str) -> str | None:
    """The room that a dotted name is in; None outside the package and for its version."""
    package, _, rest = module.partition(".")
    if package != PACKAGE or rest == "__version__":
        return None
    name = rest.partition(".")[0]
    return name if name in ROOMS else "api"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_import_along_the_arrows(path: Path) -> None:
    room = room_of(path)
    assert room in MAY_IMPORT, f"{room} is no room of the house: give it a place in the table"
    allowed = MAY_IMPORT[room] | {room, "config", None}
    for line, module in imported_modules(path):
        assert imported_room(module) in allowed, f"{path}:{line}: {room} may not import {module}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_ros_room_imports_ros(path: Path) -> None:
    if room_of(path) == "ros":
        return
    for line, module in imported_modules(path):
        assert not ROS_PACKAGES.fullmatch(module.partition(".")[0]), f"{path}:{line}: imports {module}"


def test_the_table_has_no_circle() -> None:
    above: set[str] = set()
    rooms = dict(MAY_IMPORT)
    while rooms:
        free = {room for room, imports in rooms.items() if imports <= above}
        assert free, f"a circle among {sorted(rooms)}"
        above |= free
        rooms = {room: imports for room, imports in rooms.items() if room not in free}


def test_importing_the_package_leaves_ros_unloaded() -> None:
    program = (
        f"import sys, {PACKAGE}; "
        "loaded = {name.partition('.')[0] for name in sys.modules}; "
        "print(*sorted(name for name in loaded if name == 'rclpy' or name.endswith('_msgs')))"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


def test_no_file_names_a_place_on_somebodys_machine() -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for path in (ROOT / name for name in names if name):
        try:
            text = path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError):
            continue  # binary, or deleted and not yet committed
        found = FOREIGN_PATH.search(text)
        assert found is None, f"{path}: names {found.group()}"
