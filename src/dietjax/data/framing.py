"""From a stream of events to frames: by equal numbers of events, or by windows of time. NumPy alone."""

import dataclasses
import warnings
from typing import Literal

import numpy as np

from ..errors import unknown
from .events import as_events, check_sensor_size
from .source import DataError, DataWarning

COUNTS = ((0.0, 0.0), (1 / 255, 1 / 255))
"""(mean, std) of frames of events for `normalise`, which gives their counts as they are: no event is 0, and one is 1,
so that a first layer accumulates binary frames."""


class LeftOutWarning(DataWarning):
    """Events after the last window of a fixed length are in no frame; says how many."""


@dataclasses.dataclass(frozen=True)
class Framing:
    """How recordings of events become examples, frames [T, H, W, 2]; see `to_frames`."""

    frames: int
    """T."""
    by: Literal["count", "time"] = "count"
    window: int | None = None
    binary: bool = False
    sensor_size: tuple[int, int] | None = None
    """(H, W), larger than the recordings' own where a border is to stay empty. None: what the files say, else as far as
    their events reach."""

    def __post_init__(self):
        check_sensor_size(self.sensor_size)
        whole = isinstance(self.frames, int | np.integer) and not isinstance(self.frames, bool)
        if not whole or self.frames < 1:
            raise DataError(f"frames must be a whole number of at least 1, got {self.frames!r}")
        if self.by not in ("count", "time"):
            raise unknown("way to cut events into frames, by", str(self.by), ("count", "time"))
        if self.window is not None and self.by == "count":
            raise DataError(f"window is a time ({self.window} microseconds), and frames are cut by count: cut them by "
                            "time, or leave it out")
        if self.window is not None and (not isinstance(self.window, int | np.integer) or self.window < 1):
            raise DataError(f"window must be a whole number of microseconds of at least 1, got {self.window!r}")


def to_frames(events: np.ndarray, sensor_size: tuple[int, int], frames: int, *,
              by: Literal["count", "time"] = "count", window: int | None = None, binary: bool = False,
              order: str | None = None) -> np.ndarray:
    """How many events each pixel had in each frame: uint8 [T, H, W, 2], darker (0) and brighter (1) apart.

    Args:
        events: see `as_events`, in the order of time.
        sensor_size: (H, W) in pixels.
        frames: T.
        by: "count": N events become T frames of N / T events, rounded so that they differ by one at most. "time": T
            equal windows from the first event to the last.
        window: with "time", the length of every window in microseconds instead, from the first event on. Frames after
            the recording's end are empty.
        binary: whether there was an event, 0 or 1, instead of how many.
        order: columns of a plain array [N, 4], such as "xytp".

    Raises:
        DataError: see `as_events`; settings that do not go together; and more than 255 events of a pixel in one frame,
            which uint8 does not hold: nothing is clipped.

    Warns:
        LeftOutWarning: events lie after the T windows of a fixed length.
    """
    cut, left_out = framed(as_events(events, sensor_size, order=order), sensor_size,
                           Framing(frames, by, window, binary))
    if left_out:
        said = said_of_left_out(left_out, len(events), "the stream", frames, window)
        warnings.warn(LeftOutWarning(said), stacklevel=2)
    return cut


def framed(events: np.ndarray, sensor_size: tuple[int, int], framing: Framing, name: str = "events"
           ) -> tuple[np.ndarray, int]:
    """(`to_frames` of events that were checked, how many of them are in no frame)."""
    steps, (height, width) = framing.frames, sensor_size
    ends = _ends(events["t"], framing)
    used = events[:ends[-1]]
    frame = np.repeat(np.arange(steps), np.diff(ends, prepend=0))
    cell = ((frame * height + used["y"]) * width + used["x"]) * 2 + used["p"]
    counts = np.bincount(cell, minlength=steps * height * width * 2).reshape(steps, height, width, 2)
    if framing.binary:
        return (counts > 0).astype(np.uint8), len(events) - len(used)
    if counts.max() > np.iinfo(np.uint8).max:
        step, y, x, _ = np.unravel_index(counts.argmax(), counts.shape)
        raise DataError(f"pixel x {x}, y {y} of {name} has {counts.max()} events in frame {step}, and a frame holds at "
                        "most 255 of them: cut the recording into more frames (timesteps), or take binary frames")
    return counts.astype(np.uint8), len(events) - len(used)


def _ends(times, framing):
    """For each frame how many events lie before its end, [T]; Python's integers, which do not overflow."""
    steps, first, last = framing.frames, int(times[0]), int(times[-1])
    if framing.by == "count":
        return np.array([i * len(times) // steps for i in range(1, steps + 1)])
    span = last - first + 1
    if framing.window is None:
        lasts = [first - (-i * span // steps) - 1 for i in range(1, steps + 1)]
    else:
        lasts = [first + min(i * framing.window, span) - 1 for i in range(1, steps + 1)]
    return np.searchsorted(times, np.array(lasts, np.int64), side="right")


def said_of_left_out(left_out: int, count: int, name: str, frames: int, window: int | None) -> str:
    """The sentence about events after the last window."""
    return (f"{left_out:,} of {count:,} events of {name} come after the last of {frames} windows of {window:,} "
            "microseconds, and are in no frame: take longer windows or more frames, or leave window out, which cuts "
            "the whole recording into equal ones")
