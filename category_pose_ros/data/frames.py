"""Annotated frames that are read when they are asked for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from category_pose_ros.data.annotations import AnnotatedFrame


class FrameList(Sequence[AnnotatedFrame]):
    """The frames of a data set in its own layout.

    Args:
        names: of the frames, each once.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    @abstractmethod
    def load(self, name: str) -> AnnotatedFrame:
        """The frame of a name.

        Raises:
            ValueError: a file is missing or damaged; the message names it.
        """

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self.load(name) for name in self.names[index]]
        return self.load(self.names[index])
