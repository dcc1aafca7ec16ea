"""What is built and installed: one version, no module left behind, no dependency unnamed."""

from __future__ import annotations

import ast
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import category_pose_ros

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "category_pose_ros"
# Modules that are not named as the distribution that holds them.
DISTRIBUTIONS = {"PIL": "pillow", "cv2": "opencv-python-headless", "yaml": "pyyaml"}
# Comes with ROS, named in package.xml.
FROM_ROS = re.compile(r"rclpy|rcl_interfaces|builtin_interfaces|ament_index_python|\w+_(msgs|srvs)|cv_bridge")
ON_NO_INDEX = {"pytorch3d"}  # a yardstick of the benchmark, imported only where somebody has built it


def test_package_xml_has_the_version_of_the_package() -> None:
    assert ET.parse(ROOT / "package.xml").findtext("version") == category_pose_ros.__version__


def test_every_folder_of_modules_is_a_package() -> None:
    """Others are found in the source tree and missing in what is built of it."""
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_setup_names_every_distribution_that_the_package_imports() -> None:
    declared = (ROOT / "setup.py").read_text(encoding="utf-8")
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in {name.partition(".")[0] for name in names}:
                if name in sys.stdlib_module_names or name in {PACKAGE.name, *ON_NO_INDEX} or FROM_ROS.fullmatch(name):
                    continue
                distribution = DISTRIBUTIONS.get(name, name.replace("_", "-"))
                assert f'"{distribution}' in declared, f"{path}: imports {name}, setup.py does not name it"
