"""The estimator node, with RViz and a bag if wanted: `ros2 launch category_pose_ros estimator.launch.py -s`."""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction, RegisterEventHandler
from launch.event_handlers import OnProcessIO
from launch.events.process import ProcessIO
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

SHARE = Path(get_package_share_directory("category_pose_ros"))
ARGUMENTS = {
    "image": ("image", "Image topic; with image_transport:=compressed its name without /compressed."),
    "camera_info": ("camera_info", "Topic of the calibration."),
    "depth": ("", "Depth topic, registered to the image; empty: RGB only."),
    "detections_2d": ("", "Topic of 2D detections of the image, to search only there; empty: none."),
    "mask": ("", "Topic of masks of the image, to search only there; empty: none."),
    "params_file": (str(SHARE / "config" / "estimator.yaml"), "Parameters of the node."),
    "categories": ("", "Categories to look for, separated by commas; empty: as in params_file."),
    "method": ("", "How poses are estimated; empty: as in params_file."),
    "device": ("", "auto, cpu or cuda; empty: as in params_file."),
    "fixed_frame": ("", "Frame of TF that does not move, such as odom, for a moving camera; empty: as in params_file."),
    "image_transport": ("", "raw or compressed; empty: as in params_file."),
    "depth_transport": ("", "raw or compressedDepth; empty: as in params_file."),
    "rviz": ("false", "Show everything in RViz: true or false."),
    "rviz_frame": ("camera_optical_frame", "Fixed frame of RViz: that of the images, or one that TF connects with it."),
    "bag": ("", "A bag to replay, on simulated time; it starts when the node is active. Empty: none."),
    "use_sim_time": ("false", "Take the time from /clock: true or false; a bag sets it."),
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
    if given["bag"]:
        actions.append(play_when_active(given["bag"], estimator))
    if is_true(given["rviz"]):
        actions.append(rviz_node(given))
    return actions


def estimator_node(given: dict[str, str]) -> Node:
    chosen = ("method", "device", "fixed_frame", "image_transport", "depth_transport")
    overrides: dict[str, object] = {name: given[name] for name in chosen if given[name]}
    if given["categories"]:
        overrides["categories"] = [name.strip() for name in given["categories"].split(",")]
    if given["depth"]:
        overrides["use_depth"] = True
    if given["detections_2d"] and given["mask"]:
        raise ValueError("detections_2d, mask: expected one of them, got both")
    if given["detections_2d"] or given["mask"]:
        overrides["hint"] = "mask" if given["mask"] else "detections"
    if is_on_simulated_time(given):
        overrides["use_sim_time"] = True
    remapped = [name for name in ("image", "camera_info", "depth", "detections_2d", "mask") if given[name]]
    return Node(
        package="category_pose_ros",
        executable="estimator",
        name="estimator",
        namespace=given["namespace"],
        parameters=[given["params_file"], overrides],
        remappings=[(name, given[name]) for name in remapped],
        output="screen",
        sigterm_timeout="30",  # on a busy machine an image under way outlasts the five seconds that launch grants
    )


def is_on_simulated_time(given: dict[str, str]) -> bool:
    return bool(given["bag"]) or is_true(given["use_sim_time"])


def is_true(text: str) -> bool:
    return text.lower() in ("true", "1")


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
        arguments=["-d", str(SHARE / "rviz" / "estimator.rviz"), "-f", given["rviz_frame"]],
        parameters=[{"use_sim_time": is_on_simulated_time(given)}],
        remappings=[(topic, f"{prefix}{topic}") for topic in shown],
    )
