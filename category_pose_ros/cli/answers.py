"""What a model answers to data sets, and how wrong each answer is: what its judge and its scores are fitted to."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from tqdm import tqdm

from category_pose_ros.data.annotations import AnnotatedFrame
from category_pose_ros.data.damage import with_and_without_depth
from category_pose_ros.evaluation.matching import rotation_errors
from category_pose_ros.records import Frame, ObjectEstimate

Said = TypeVar("Said")


def judged_answers(
    answer: Callable[[Frame], Sequence[tuple[ObjectEstimate, Said]]], datasets: Sequence[Sequence[AnnotatedFrame]]
) -> Iterator[tuple[str, Said, float]]:
    """The answers to all frames, with and without their depth; one about an object that does not count is left out.

    Args:
        answer: the objects of a frame, each with what is said of it.

    Returns:
        Of each answer its category, what is said of it, and its rotation error in radians; infinite for a false alarm.
    """
    count = sum(map(len, datasets))
    frames = tqdm(itertools.chain(*datasets), total=count, unit="image", desc="answering", disable=None)
    for annotated in with_and_without_depth(frames):
        found = answer(annotated.frame)
        estimates = [estimate for estimate, _ in found]
        for row, angle in rotation_errors(annotated.frame.camera, estimates, annotated.objects).items():
            yield estimates[row].category, found[row][1], angle
