"""What every reader and decoder shares: examples as they are stored, and the errors of images that cannot be read."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from ..errors import InputError


class DataError(InputError):
    """A set that cannot be read, and what to do about it."""


class CorruptImage(DataError):
    """One image or recording that cannot be read or decoded."""


class DeepImage(DataError):
    """An image of 16 bits where 8 were expected; `sets.load` then measures what range such images use."""


class DataWarning(UserWarning):
    """Something about a set that is not as it seems, and what is done about it."""


class CorruptImageWarning(DataWarning):
    """A corrupt training image was skipped, as asked for; says which, and what was trained on in its place."""


def content(path: Path) -> bytes:
    """A file's bytes. Where it cannot be read, a DataError: that is no damage which could be skipped, the next attempt
    may succeed.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {os.strerror(error.errno or 0)}") from error


class Example(NamedTuple):
    """One example as it is stored."""

    image: bytes | np.ndarray | Callable[[], np.ndarray]
    """A file of one of `images.FORMATS`; uint8 [H, W, C] or frames [T, H, W, C]; or what makes frames when they are
    needed."""
    label: int


class Source(Protocol):
    """The examples of a split as they are stored; may be read from several threads at once."""

    def __len__(self) -> int:
        """Number of examples."""

    def __getitem__(self, index: int) -> Example:
        """Raises CorruptImage where the file is damaged."""

    def where(self, index: int) -> str:
        """What an example is called in a message."""


class Chosen:
    """Some examples of a source, in this order."""

    def __init__(self, source: Source, indices: np.ndarray):
        self._source, self._indices = source, [int(index) for index in indices]

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Example:
        return self._source[self._indices[index]]

    def where(self, index: int) -> str:
        """What an example is called in a message."""
        return self._source.where(self._indices[index])


class StoredImages(NamedTuple):
    """A set as it is stored."""

    name: str
    train: Source
    test: Source
    class_names: tuple[str, ...]
    shape: tuple[int | None, int | None, int]
    """(H, W, C) of its images; None: they differ."""
    statistics: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    """(mean, std) from STATISTICS, if this set is listed there, or COUNTS; None: to be measured."""
    frames: int | None = None
    """T of examples that have a frame for each timestep; None of images."""
