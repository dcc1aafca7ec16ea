"""Refuse an interpreter that cannot carry the environment, in one line that says what to do.

Usage: check_interpreter.py wheels|ros
"""

import importlib.util
import os
import platform
import sys


def refusal(mode):
    """What is wrong with this interpreter, or None."""
    version = "{}.{}".format(*sys.version_info)
    if sys.version_info < (3, 10):
        return f"{sys.executable} is Python {version}, 3.10 or later is needed: make PYTHON=/path/to/python3.x"
    # Debian and Ubuntu ship `venv` without this part of it.
    if importlib.util.find_spec("ensurepip") is None:
        return "the venv module is incomplete, install it first: sudo apt install python3-venv"
    if mode == "ros" and importlib.util.find_spec("rclpy") is None:
        distribution = os.environ.get("ROS_DISTRO", "ROS 2")
        return (
            f"{distribution} is sourced, but {sys.executable} (Python {version}) has no rclpy: "
            "name the interpreter it was built for, make PYTHON=/usr/bin/python3"
        )
    machine = f"{platform.system()} on {platform.machine()}"
    if mode == "wheels" and machine != "Linux on x86_64":
        return f"ROS 2 has no wheels for {machine}: source an installed ROS 2 first"
    return None


if __name__ == "__main__":
    message = refusal(sys.argv[1])
    if message:
        sys.exit(f"category_pose_ros: {message}")
