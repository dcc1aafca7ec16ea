"""Annotated frames that are read when they are asked for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
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
            ValueError: a file is missing or damaged.
        """

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._named(name) for name in self.names[index]]
        return self._named(self.names[index])

    def __iter__(self) -> Iterator[AnnotatedFrame]:
        # The sequence's own would take an IndexError of a damaged file for the end.
        return map(self._named, self.names)

    def _named(self, name: str) -> AnnotatedFrame:
        try:
            return self.load(name)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
