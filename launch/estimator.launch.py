"""The estimator node, with RViz and a bag if wanted: `ros2 launch category_pose_ros estimator.launch.py -s`."""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, ExecuteProcess, LogInfo, OpaqueFunction, RegisterEventHandler
from launch.event_handlers import OnProcessIO
from launch.events.process import ProcessIO
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

SHARE = Path(get_package_share_directory("category_pose_ros"))
ARGUMENTS = {
    "image": ("image", "Image topic; with image_transport:=compressed its name without /compressed."),
    "camera_info": ("camera_info", "Topic of the calibration."),
    "depth": ("", "Registered depth topic; empty: RGB only."),
    "params_file": (str(SHARE / "config" / "estimator.yaml"), "Parameters of the node."),
    "categories": ("", "Categories to look for, separated by commas; empty: as in params_file."),
    "method": ("", "How poses are estimated; empty: as in params_file."),
    "device": ("", "auto, cpu or cuda; empty: as in params_file."),
    "image_transport": ("", "raw or compressed; empty: as in params_file."),
    "rviz": ("false", "Show everything in RViz: true or false."),
    "bag": ("", "A bag to replay, on simulated time; it starts when the node is active. Empty: none."),
    "namespace": ("", "Namespace of the node and of its relative topics."),
}


def generate_launch_description() -> LaunchDescription:
    declared = [
        DeclareLaunchArgument(name, default_value=value, description=text) for name, (value, text) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=launch_all)])


def launch_all(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    estimator = estimator_node(given)
    actions: list[LaunchDescriptionEntity] = [estimator]
    if given["depth"]:
        actions.append(LogInfo(msg=f"depth:={given['depth']} is not used: this version estimates from RGB alone"))
    if given["bag"]:
        actions.append(play_when_active(given["bag"], estimator))
    if given["rviz"].lower() in ("true", "1"):
        actions.append(rviz_node(given))
    return actions


def estimator_node(given: dict[str, str]) -> Node:
    overrides: dict[str, object] = {
        name: given[name] for name in ("method", "device", "image_transport") if given[name]
    }
    if given["categories"]:
        overrides["categories"] = [name.strip() for name in given["categories"].split(",")]
    if given["bag"]:
        overrides["use_sim_time"] = True
    return Node(
        package="category_pose_ros",
        executable="estimator",
        name="estimator",
        namespace=given["namespace"],
        parameters=[given["params_file"], overrides],
        remappings=[("image", given["image"]), ("camera_info", given["camera_info"])],
        output="screen",
    )


def play_when_active(bag: str, estimator: Node) -> RegisterEventHandler:
    """Frames that are played while the model is being loaded would be lost."""
    waiting = [ExecuteProcess(cmd=["ros2", "bag", "play", "--clock", "100", bag], output="screen")]

    def play(event: ProcessIO) -> list[ExecuteProcess] | None:
        # Once, however often the node is activated.
        return [waiting.pop()] if waiting and b"active, listening to" in event.text else None

    return RegisterEventHandler(OnProcessIO(target_action=estimator, on_stdout=play, on_stderr=play))


def rviz_node(given: dict[str, str]) -> Node:
    namespace = given["namespace"].strip("/")
    prefix = f"/{namespace}" if namespace else ""
    shown = [f"/estimator/{name}" for name in ("poses", "markers", "overlay")]
    return Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", str(SHARE / "rviz" / "estimator.rviz")],
        parameters=[{"use_sim_time": bool(given["bag"])}],
        remappings=[(topic, f"{prefix}{topic}") for topic in shown],
    )
