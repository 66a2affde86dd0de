"""Labelled images as examples: arrays of bytes, or files that are read when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from smcbench.task import Split

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


class Pictures(Sequence[Picture]):
    """Examples that are put together one at a time when asked for."""

    def __init__(self, ids: Sequence[Any], labels: Sequence[int], image: Callable[[int], Any]) -> None:
        self.ids, self.labels = ids, labels
        self._image = image

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        return Picture(str(self.ids[index]), self._image(index), self.labels[index])


Splits = Mapping[Split, Arrays] | Mapping[Split, Pictures]
