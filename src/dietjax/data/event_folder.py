"""A user's own recordings of events: PATH/{train,test}/CLASS/*.{npy,npz,bin,aedat4}."""

import functools
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .event_files import READERS, read, sensor_size_of
from .events import as_events
from .folder import HELD_OUT, Kind, class_folders
from .framing import COUNTS, Framing, LeftOutWarning, framed, said_of_left_out
from .source import DataError, Example, StoredImages

RECORDINGS = Kind("events", "recording", tuple(READERS), ("train", "Train"), ("test", "Test", *HELD_OUT[1:]))
"""With the folders' names that N-MNIST's archives have."""


class EventFiles:
    """A split's recordings, class by class, each in the order of names; they become frames when they are read."""

    def __init__(self, classes: Sequence[Sequence[Path]], sensor_size: tuple[int, int], framing: Framing):
        self._files = [(path, label) for label, paths in enumerate(classes) for path in paths]
        self._sensor_size, self._framing, self._said = sensor_size, framing, False

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Example:
        path, label = self._files[index]
        return Example(functools.partial(self._frames, path), label)

    def where(self, index: int) -> str:
        """What an example is called in a message."""
        return str(self._files[index][0])

    def _frames(self, path: Path) -> np.ndarray:
        recording = read(path)
        if recording.sensor_size and any(np.greater(recording.sensor_size, self._sensor_size)):
            raise DataError(f"the sensor of {path} has {recording.sensor_size} pixels, and data.sensor_size is "
                            f"{self._sensor_size}: set at least {' '.join(map(str, recording.sensor_size))}")
        events = as_events(recording.events, self._sensor_size, name=str(path))
        frames, left_out = framed(events, self._sensor_size, self._framing, str(path))
        if left_out and not self._said:
            self._said = True
            warnings.warn(LeftOutWarning(said_of_left_out(left_out, len(events), str(path), self._framing.frames,
                                                          self._framing.window)
                                         + "; this is said of one file only"), stacklevel=2)
        return frames


def open_events(path: Path, framing: Framing, holdout: float = 0.0, holdout_seed: int = 0) -> StoredImages:
    """The set in a folder; class names are those of its subfolders, in order. holdout: see `folder.hold_out`.

    Raises DataError where the folder has another layout, or its recordings are of sensors of several sizes.
    """
    train, test = class_folders(path, RECORDINGS, holdout, holdout_seed)
    size = framing.sensor_size or sensor_size_of(file for split in (train, test) for files in split.values()
                                                 for file in files)
    return StoredImages(path.name, EventFiles(list(train.values()), size, framing),
                        EventFiles(list(test.values()), size, framing), tuple(train), (*size, 2), COUNTS,
                        framing.frames)
