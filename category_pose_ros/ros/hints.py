"""What others say about where objects are: 2D detections or a mask, as regions of a frame.

vision_msgs is imported only where detections are asked for: not every installation has it.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from category_pose_ros.data.messages import unpadded
from category_pose_ros.records import Region

TOPICS = {"detections": "detections_2d", "mask": "mask"}
HINTS = ("none", *TOPICS)
_MASK_ENCODINGS = ("mono8", "8UC1")


def message_type(hint: str) -> Any:
    """The type of the messages on `TOPICS[hint]`.

    Raises:
        ValueError: its package is not installed.
    """
    if hint == "mask":
        return Image
    try:
        return importlib.import_module("vision_msgs.msg").Detection2DArray
    except ImportError as error:
        raise ValueError(f"hint: {hint} needs vision_msgs, which is not installed") from error


def renamed(pairs: Sequence[str]) -> dict[str, str]:
    """Categories by the detector's names, from `DETECTOR=OURS`.

    Raises:
        ValueError: a text of another form.
    """
    result = {}
    for pair in pairs:
        theirs, _, ours = pair.partition("=")
        if not theirs or not ours:
            raise ValueError(f"hint_classes: expected DETECTOR=OURS, got {pair!r}")
        result[theirs] = ours
    return result


def regions_from_message(message: Any, image: Header, classes: Mapping[str, str]) -> tuple[Region, ...]:
    """The regions of an image that a hint names.

    Args:
        message: vision_msgs/Detection2DArray, or a mask.
        image: header of the image.
        classes: what our categories are called there, where the names differ.

    Raises:
        ValueError: a hint for an image of another frame, or one that cannot be read.
    """
    if message.header.frame_id != image.frame_id:
        raise ValueError(
            f"hint.header.frame_id: expected that of the image, {image.frame_id!r}, got {message.header.frame_id!r}"
        )
    if isinstance(message, Image):
        return (_from_mask(message),)
    return tuple(_from_detection(detection, classes) for detection in message.detections)


def _from_mask(message: Image) -> Region:
    """Whether the numbers tell instances apart does not matter: the search does so itself."""
    if message.encoding not in _MASK_ENCODINGS:
        raise ValueError(f"mask.encoding: expected one of {', '.join(_MASK_ENCODINGS)}, got {message.encoding!r}")
    return Region(mask=unpadded(message, 1, 1, "mask") > 0)


def _from_detection(detection: Any, classes: Mapping[str, str]) -> Region:
    """The box upright around a turned one, and the likeliest class; without any the category is open."""
    box = detection.bbox
    cosine, sine = abs(np.cos(box.center.theta)), abs(np.sin(box.center.theta))
    across = 0.5 * (cosine * box.size_x + sine * box.size_y)
    down = 0.5 * (sine * box.size_x + cosine * box.size_y)
    u, v = box.center.position.x, box.center.position.y
    likeliest = max(detection.results, key=lambda result: result.hypothesis.score, default=None)
    name = None if likeliest is None else likeliest.hypothesis.class_id
    category = classes.get(name, name) if name else None
    return Region(box=(u - across, v - down, u + across, v + down), category=category)
