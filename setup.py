import re
from pathlib import Path

from setuptools import find_packages, setup

NAME = "category_pose_ros"
HERE = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / NAME / "__init__.py").read_text(encoding="utf-8"), re.M).group(1)

setup(
    name=NAME,
    version=VERSION,
    description="6D pose and size of every object of a known category, from one camera, in ROS 2",
    long_description="ROS 2 node, Python library and console command; the README says how.",
    author="The category_pose_ros authors",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={
        # Without `**`: the setuptools of Ubuntu 22.04 does not know it.
        NAME: ["weights/*.safetensors", "weights/*.md", "example/*.*", "example/*/*"],
        f"{NAME}.evaluation": ["templates/*"],
    },
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/foxglove", ["foxglove/estimator.json"]),
        (f"share/{NAME}/launch", ["launch/estimator.launch.py", "launch/two_cameras.launch.py"]),
        (f"share/{NAME}/config", ["config/estimator.yaml"]),
        (f"share/{NAME}/rviz", ["rviz/estimator.rviz"]),
    ],
    # For pip alone: colcon takes dependencies from package.xml, where OpenCV is the one of ROS.
    install_requires=[
        "av>=10",
        "click>=8",
        # Ray tracer of the training images; it has no wheels for ARM under Linux, where robots only estimate.
        "embreex>=2.17.7; platform_machine in 'x86_64 AMD64 arm64'",
        "jinja2>=3",
        "matplotlib>=3.5",
        # Compiles the solver for CPUs; PyTorch runs it where it has no wheels.
        "numba>=0.60; platform_machine in 'x86_64 AMD64 aarch64 arm64'",
        "numpy>=1.26",
        "opencv-python-headless>=4.5",
        # Runs the network on CPUs; PyTorch does where it has no wheels.
        "openvino>=2025.0; platform_machine in 'x86_64 AMD64 aarch64 arm64'",
        "pillow>=9",
        "pyyaml>=5.4",
        "rosbags>=0.10",
        "rosbags-image>=0.10",
        "safetensors>=0.4",
        "scipy>=1.8",
        "torch>=2.1",
        "tqdm>=4.60",
    ],
    extras_require={
        "test": ["hypothesis>=6.100", "pytest>=7", "pytest-timeout>=2.1"],
    },
    entry_points={
        "console_scripts": [
            "category-pose = category_pose_ros.cli:main",
            "estimator = category_pose_ros.ros.node:main",
        ],
    },
    zip_safe=False,
)
