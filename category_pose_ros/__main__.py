"""`python -m category_pose_ros` is the `category-pose` command."""

from category_pose_ros.cli import main

main()
