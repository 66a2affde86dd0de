"""Labelled images as examples: arrays of bytes, or files that are read when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from smcbench.task import Split

from ._labelled import Lazy

Shape = tuple[int, int, int]
"""Height, width and channels."""


class Picture(NamedTuple):
    """An example: an array of bytes, height x width x channels; or the file that holds it, still encoded."""

    id: str
    image: Any
    label: int


class Encoded(NamedTuple):
    """An image file that is read when it is needed, and the place to name if it is wrong."""

    where: str
    read: Callable[[], bytes]


class Arrays(NamedTuple):
    """Examples as arrays: bytes of shape (count, height, width, channels), labels, ids."""

    pixels: Any
    labels: Any
    ids: Sequence[str]


class Pictures(Lazy):
    """Examples that are put together one at a time when asked for."""

    def __init__(self, ids: Sequence[Any], labels: Sequence[int], image: Callable[[int], Any]) -> None:
        self.ids, self.labels = ids, labels
        self._image = image

    def __len__(self) -> int:
        return len(self.labels)

    def made(self, index: int) -> Picture:
        """One picture, its image memory-mapped or still in its file."""
        return Picture(str(self.ids[index]), self._image(index), self.labels[index])


Splits = Mapping[Split, Arrays] | Mapping[Split, Pictures]
