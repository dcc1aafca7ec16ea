"""One estimator per camera, each in the camera's namespace: an example to copy into a robot's own launch files.

The topic names are relative: `image:=color/image_raw` is /left/color/image_raw for the camera `left`.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

ESTIMATOR = Path(get_package_share_directory("category_pose_ros")) / "launch" / "estimator.launch.py"
ARGUMENTS = {
    "cameras": ("left,right", "Namespaces of the cameras, separated by commas."),
    "image": ("image", "Image topic, relative to the camera's namespace."),
    "camera_info": ("camera_info", "Topic of the calibration, relative to the camera's namespace."),
    "depth": ("", "Depth topic, registered to the image, relative to the camera's namespace; empty: RGB only."),
    "categories": ("", "Categories to look for, separated by commas; empty: all that the model knows."),
    "device": ("", "auto, cpu or cuda; empty: as in the parameter file."),
}


def generate_launch_description() -> LaunchDescription:
    declared = [
        DeclareLaunchArgument(name, default_value=value, description=text) for name, (value, text) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=estimators)])


def estimators(context: LaunchContext) -> list[IncludeLaunchDescription]:
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    cameras = [name.strip() for name in given.pop("cameras").split(",")]
    return [
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(str(ESTIMATOR)), launch_arguments={**given, "namespace": camera}.items()
        )
        for camera in cameras
    ]
