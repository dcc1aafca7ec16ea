"""The `category-pose` command; needs no ROS."""

from category_pose_ros.cli.command import main

__all__ = ["main"]
