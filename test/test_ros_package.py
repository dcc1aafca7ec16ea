"""The package as ROS tools see it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import yaml

ROOT = Path(__file__).parents[1]
MANIFEST = ElementTree.parse(ROOT / "package.xml").getroot()
MODULES = {"tf2_ros": "tf2_ros_py"}  # not named as the package that holds them


def test_the_manifest_names_every_ros_package_that_is_imported() -> None:
    files = [*(ROOT / "category_pose_ros").rglob("*.py"), *(ROOT / "launch").glob("*.py")]
    sources = "\n".join(path.read_text(encoding="utf-8") for path in files)
    ros = r"rclpy|rcl_interfaces|builtin_interfaces|\w+_msgs|\w+_srvs|cv_bridge|launch|launch_ros|ament_index_python"
    imported = set(re.findall(rf"^\s*(?:from|import) ({ros})\b", sources, re.M))
    imported |= set(re.findall(rf'_optional\("({ros})', sources))
    imported |= {MODULES.get(name, name) for name in re.findall(r'import_module\("(\w+)', sources)}
    named = {item.text for item in MANIFEST if item.tag.endswith("depend")}
    assert imported <= named, f"package.xml lacks {', '.join(sorted(imported - named))}"
    assert {"vision_msgs", "tf2_msgs", "tf2_ros_py", "cv_bridge"} <= imported


def test_the_package_is_marked_for_the_resource_index() -> None:
    assert (ROOT / "resource" / "category_pose_ros").is_file()


def test_rviz_shows_overlay_markers_poses_and_frames_of_the_node() -> None:
    config = yaml.safe_load((ROOT / "rviz" / "estimator.rviz").read_text(encoding="utf-8"))
    displays = {item["Class"]: item for item in config["Visualization Manager"]["Displays"]}
    topics = {
        "rviz_default_plugins/Image": "/estimator/overlay",
        "rviz_default_plugins/MarkerArray": "/estimator/markers",
        "rviz_default_plugins/PoseArray": "/estimator/poses",
    }
    assert {name: displays[name]["Topic"]["Value"] for name in topics} == topics
    assert "rviz_default_plugins/TF" in displays


def test_foxglove_shows_panels_that_are_laid_out_on_topics_of_the_node() -> None:
    layout = json.loads((ROOT / "foxglove" / "estimator.json").read_text(encoding="utf-8"))
    text = json.dumps(layout["layout"])
    assert all(f'"{panel}"' in text for panel in layout["configById"])
    topics = set(re.findall(r"/estimator/[a-z/]+", json.dumps(layout["configById"])))
    assert topics == {"/estimator/overlay/compressed", "/estimator/markers", "/estimator/poses"}


def test_every_launch_configuration_and_layout_file_is_installed() -> None:
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    for folder in ("launch", "config", "rviz", "foxglove"):
        for path in (ROOT / folder).iterdir():
            if path.is_file():
                assert f'"{folder}/{path.name}"' in setup, f"setup.py does not install {path.name}"
