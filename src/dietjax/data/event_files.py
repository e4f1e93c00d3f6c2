"""Files of events: .npy and .npz, N-MNIST's .bin, .aedat4."""

import io
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .archive import read_arrays
from .events import NEEDED, POLARITY, as_events, check_sensor_size
from .source import CorruptImage, DataError, DataWarning, content

N_MNIST = (34, 34)
"""(H, W) of N-MNIST, whose files do not say it."""
EVENT_BYTES = 5
OVERFLOW_ROW, OVERFLOW = 240, 2**13
"""In a .bin, what has this row is no event: all times after it are later by so many microseconds."""

STANDS_OUT = 2
"""Times as far as in every other recording: so far an event can hardly lie on the same sensor."""


class Recording(NamedTuple):
    """A file as it is stored."""

    events: np.ndarray
    """What `as_events` takes."""
    sensor_size: tuple[int, int] | None
    """(H, W), where the file says it."""


def read(path: Path) -> Recording:
    """The recording in a file.

    Raises:
        CorruptImage: the file is empty, cut off or damaged.
        DataError: it holds something else than events, or reading it needs a package that is not there.
    """
    return READERS[path.suffix.lower()](path)


def sensor_size_of(paths: Iterable[Path]) -> tuple[int, int]:
    """(H, W) that recordings have in common: what the files say, else as far as the events of all of them reach.

    Raises DataError where they say different ones.
    """
    said: tuple[Path, tuple[int, int]] | None = None
    reaches, corrupt = {}, None
    for path in paths:
        try:
            size, extent = _size(path)
        except CorruptImage as error:  # whoever reads it decides what to do about it
            corrupt = corrupt or error
            continue
        if size and said and size != said[1]:
            raise DataError(f"the sensor of {path} has {_shown(size)} pixels, that of {said[0]} {_shown(said[1])}: one "
                            "network takes one size; leave one kind out, or set data.sensor_size, in which both fit, "
                            "and the smaller lies in its upper left corner")
        said = said or (size and (path, size))
        reaches[path] = extent
    if corrupt and not reaches:
        raise corrupt
    return said[1] if said else _reach_of_all(reaches)


def _reach_of_all(reaches):
    """(H, W) in which all events lie; that of one recording that reaches much farther than every other is said."""
    size = tuple(max(extent[side] for extent in reaches.values()) for side in (0, 1))
    for side in (0, 1) if len(reaches) > 2 else ():
        *_, (usual, _), (_, path) = sorted((extent[side], path) for path, extent in reaches.items())
        if size[side] > STANDS_OUT * usual:
            warnings.warn(DataWarning(
                f"{path} has an event at {'yx'[side]} {size[side] - 1}, and no other recording has one beyond "
                f"{usual - 1}: for it alone all frames become {_shown(size)} pixels (height × width). Mend or remove "
                "it, or set data.sensor_size to what the sensor has"), stacklevel=4)
    return size


def _size(path):
    """((H, W) that the file says or None, (H, W) in which its events lie)."""
    if path.suffix.lower() == ".bin":  # all are of one size, and none needs to be read for it
        return N_MNIST, N_MNIST
    recording = read(path)
    events = as_events(recording.events, name=str(path))
    return recording.sensor_size, (int(events["y"].max()) + 1, int(events["x"].max()) + 1)


def _shown(size):
    return f"{size[0]} × {size[1]}"


def _npy(path):
    stored = _content(path)
    if not stored.startswith(b"\x93NUMPY"):
        raise CorruptImage(f"{path} is no .npy file: np.save writes one")
    try:
        return Recording(np.lib.format.read_array(io.BytesIO(stored), allow_pickle=False), None)
    except (ValueError, SyntaxError, EOFError) as error:  # numpy's, of what it refuses or does not understand
        if "Object arrays" in str(error):
            raise DataError(f"{path} holds pickled Python objects, and reading those can run code: save {NEEDED}"
                            ) from error
        raise CorruptImage(f"{path} is cut off or damaged ({error}): copy or write it again") from error


def _npz(path):
    """An array "events", or one each of x, y, t and p; beside them "sensor_size", (H, W), where it is known."""
    try:
        found, held = read_arrays(path, ("events", "sensor_size", "x", "y", "t", *POLARITY))
    except DataError as error:
        raise CorruptImage(str(error)) from error
    size = tuple(found.pop("sensor_size").ravel().tolist()) if "sensor_size" in found else None
    check_sensor_size(size, f"sensor_size in {path}")
    if "events" in found:
        return Recording(found["events"], size)
    lengths = {values.shape for values in found.values()}
    if len(lengths) != 1:
        shapes = ", ".join(f"{name} {values.shape}" for name, values in found.items()) or ", ".join(held)
        raise DataError(f'{path} holds {shapes}; needed is an array "events", {NEEDED}, or x, y, t and p, equally long')
    events = np.empty(lengths.pop(), [(name, values.dtype) for name, values in found.items()])
    for name, values in found.items():
        events[name] = values
    return Recording(events, size)


def _bin(path):
    """N-MNIST (Orchard, Jayawant, Cohen & Thakor, Frontiers in Neuroscience 9:437, 2015): five bytes an event, which
    are column, row, then one bit of polarity (1: brighter) and 23 bits of microseconds, the most significant first.
    """
    stored = _content(path)
    if len(stored) % EVENT_BYTES:
        raise CorruptImage(f"{path} is cut off: it has {len(stored):,} bytes, and a .bin of N-MNIST has {EVENT_BYTES} "
                           "for each event")
    x, y, high, middle, low = np.frombuffer(stored, np.uint8).reshape(-1, EVENT_BYTES).T.astype(np.int64)
    overflow = y == OVERFLOW_ROW
    events = np.empty(len(x), [("x", np.int64), ("y", np.int64), ("p", np.int64), ("t", np.int64)])
    events["x"], events["y"], events["p"] = x, y, high >> 7
    events["t"] = ((high & 127) << 16 | middle << 8 | low) + OVERFLOW * np.cumsum(overflow)
    return Recording(events[~overflow], N_MNIST)


def _aedat4(path):
    """By the package aedat, which tonic's reader calls too; tonic itself would not tell the sensor's size."""
    try:
        import aedat
    except ModuleNotFoundError as error:
        raise DataError(f"reading {path} needs the package aedat: pip install 'dietjax[events]'") from error
    _content(path)
    try:
        decoder = aedat.Decoder(path)
        streams = {number: about for number, about in decoder.id_to_stream().items() if about["type"] == "events"}
        packets = [packet["events"] for packet in decoder if packet["stream_id"] in streams]
    except RuntimeError as error:  # the decoder's, of whatever it cannot read
        raise CorruptImage(f"{path} is cut off or no .aedat4 file ({error})") from error
    if len(streams) != 1:
        raise DataError(f"{path} holds {len(streams)} streams of events; needed is one: export each camera's to a file "
                        "of its own")
    about, = streams.values()
    return Recording(np.concatenate(packets) if packets else np.empty(0, [(field, int) for field in "xytp"]),
                     (about["height"], about["width"]))


def _content(path):
    stored = content(path)
    if not stored:
        raise CorruptImage(f"{path} is empty: it has no bytes")
    return stored


READERS: dict[str, Callable[[Path], Recording]] = {".npy": _npy, ".npz": _npz, ".bin": _bin, ".aedat4": _aedat4}
"""Ending of a file's name -> what reads it."""
