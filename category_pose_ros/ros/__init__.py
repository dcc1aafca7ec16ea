"""The ROS 2 face: the only room that imports rclpy or a message package."""
