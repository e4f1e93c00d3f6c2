"""Streams of events, as event cameras give them: what one has to be. NumPy alone.

A camera of this kind reports, for each pixel by itself, when its brightness has changed by a fixed ratio: place, time,
and whether it became brighter (Lichtsteiner, Posch & Delbruck, IEEE JSSC 43(2), 2008).
"""

import itertools
from typing import Any

import numpy as np

from .source import CorruptImage, DataError

EVENT = np.dtype([("x", np.int32), ("y", np.int32), ("p", np.uint8), ("t", np.int64)])
"""An event that was checked: column, row, polarity (1: brighter, 0: darker), microseconds."""
POLARITY = ("p", "polarity", "on")
"""What the field of polarities may be called."""
ORDERS = ("xytp", "xypt", "txyp")
"""Columns of plain arrays, as they are found in the field."""
ANYWHERE = (np.inf, np.inf)
"""Height and width of a sensor that is not known."""
NEEDED = ("a NumPy structured array with the integer fields x and y (pixels), p (polarity: 0 and 1, or -1 and 1) and t "
          "(microseconds)")


def as_events(events: np.ndarray, sensor_size: tuple[int, int] | None = None, *, order: str | None = None,
              name: str = "events") -> np.ndarray:
    """A stream that was checked, EVENT [N].

    Args:
        events: a structured array [N] with integer fields x, y, t and p (or one of POLARITY), others beside them do
            not matter; or a plain one [N, 4].
        sensor_size: (H, W): events have to lie on it. None: anywhere.
        order: columns of a plain array, such as "xytp"; None: the one of ORDERS that its values allow.
        name: what the stream is called in a message.

    Raises:
        DataError: wrong fields or types, polarities that are no two signs, negative coordinates, events beside the
            sensor, columns that could be in several orders, a sensor size that is none.
        CorruptImage: no event, or times that are negative or run backwards.
    """
    check_sensor_size(sensor_size)
    columns = {field: _whole(field, values, name) for field, values in _columns(events, sensor_size, order, name)}
    if not len(columns["t"]):
        raise CorruptImage(f"there is no event at all in {name}: leave that recording out")
    polarity = _polarity(columns["p"], name)
    _check_times(columns["t"], name)
    _check_places(columns["x"], columns["y"], sensor_size, name)
    checked = np.empty(len(polarity), EVENT)
    for field, values in (columns | {"p": polarity}).items():
        checked[field] = values
    return checked


def check_sensor_size(sensor_size: Any, name: str = "sensor_size") -> None:
    """Refuse what is no (H, W); None is one that is not known."""
    if sensor_size is not None and (np.shape(sensor_size) != (2,) or not all(
            isinstance(side, int | np.integer) and side > 0 for side in sensor_size)):
        raise DataError(f"{name} is (height, width) in pixels, two whole numbers above 0, got {sensor_size!r}")


def _columns(events, sensor_size, order, name):
    """(field, its values) of x, y, t and p."""
    if not isinstance(events, np.ndarray):
        raise DataError(f"{name}: a {type(events).__name__}, and needed is {NEEDED}")
    if events.dtype.names is None:
        return _of_a_plain_array(events, sensor_size, order, name)
    given = [field for field in POLARITY if field in events.dtype.names]
    missing = [field for field in ("x", "y", "t") if field not in events.dtype.names]
    if missing or not given:
        raise DataError(f"{name}: the fields are {', '.join(events.dtype.names)}, and needed is {NEEDED}; "
                        "np.lib.recfunctions.rename_fields gives fields other names")
    if len(given) > 1:
        raise DataError(f"{name}: the fields {' and '.join(given)} could each be the polarity; keep one")
    if events.ndim != 1 or any(events.dtype[field].shape for field in (given[0], "x", "y", "t")):
        raise DataError(f"{name}: an array of shape {events.shape} and {events.dtype}; needed is one row of events, "
                        "each with one number in a field: events.ravel(), if only the row has another shape")
    return [("p", events[given[0]]), *((field, events[field]) for field in ("x", "y", "t"))]


def _of_a_plain_array(events, sensor_size, order, name):
    if events.ndim != 2 or events.shape[1] != 4:
        turned = " (yours is events.T)" if events.ndim == 2 and events.shape[0] == 4 else ""
        raise DataError(f"{name}: {events.dtype.name} of shape {events.shape}, and needed is {NEEDED}, or a plain "
                        f"array [N, 4] of integers{turned}")
    if order is not None and sorted(order) != sorted("xytp"):
        raise DataError(f"order names the columns x, y, t and p, such as xytp, got {order!r}")
    events = _whole("columns", events, name)
    possible = [order] if order else [o for o in ORDERS if not len(events) or _allowed(events, o, sensor_size)]
    if len(possible) == 1:
        return list(zip(possible[0], events.T, strict=True))
    if not len(events):
        return [(field, events[:, 0]) for field in "xytp"]
    why = (f"could be in the order {' or '.join(possible)}" if possible else
           f"are in none of the orders {', '.join(ORDERS)}: in each of them times run backwards, polarities are no two "
           "signs, or places lie beside the sensor")
    raise DataError(f"{name}: a plain array [N, 4], whose columns {why}; make it {NEEDED}")


def _allowed(events, order, sensor_size):
    """Whether columns in this order can be what they are called."""
    columns = dict(zip(order, events.T, strict=True))
    height, width = ANYWHERE if sensor_size is None else sensor_size
    return (min(columns[field].min() for field in "xyt") >= 0 and (np.diff(columns["t"]) >= 0).all()
            and set(np.unique(columns["p"]).tolist()) <= {-1, 0, 1}
            and columns["x"].max() < width and columns["y"].max() < height)


def _whole(field, values, name):
    """Values as int64; what is no integer is refused."""
    kinds = "biu" if field == "p" else "iu"
    if values.dtype.kind not in kinds:
        remedy = {"t": "np.round(1e6 * t).astype(np.int64), where yours are seconds",
                  "p": "p.astype(np.int8), if they are whole"}.get(field, "round them on purpose, .astype(np.int64)")
        raise DataError(f"{field} of {name} are {values.dtype.name}; needed are integers, times in microseconds: "
                        f"{remedy}")
    if values.dtype.kind == "u" and values.size and values.max() > np.iinfo(np.int64).max:
        raise DataError(f"{field} of {name} reach {values.max()}, which is beyond any time or place: they were "
                        "negative numbers, or the file is of another layout")
    return values.astype(np.int64)


def _polarity(values, name):
    found = np.unique(values).tolist()
    if not (set(found) <= {0, 1} or set(found) <= {-1, 1}):
        shown = ", ".join(map(str, itertools.chain(found[:4], ["..."] if len(found) > 4 else [])))
        raise DataError(f"polarities of {name} are {shown}; needed are 0 and 1, or -1 and 1")
    return values == 1


def _check_times(times, name):
    if times.min() < 0:
        index = int(np.argmax(times < 0))
        raise CorruptImage(f"event {index} of {name} is at {times[index]} microseconds: times begin at 0 or later; "
                           "subtract the first one, t - t[0], if they run forwards")
    backwards = times[1:] < times[:-1]
    if backwards.any():
        index = int(np.argmax(backwards))
        raise CorruptImage(f"times of {name} run backwards: event {index + 1} is at {times[index + 1]} microseconds, "
                           f"the one before it at {times[index]}; if only their order is wrong, sort them: "
                           "events[np.argsort(events['t'], kind='stable')]")


def _check_places(x, y, sensor_size, name):
    height, width = ANYWHERE if sensor_size is None else sensor_size
    wrong = (x < 0) | (y < 0) | (x >= width) | (y >= height)
    if wrong.any():
        index = int(np.argmax(wrong))
        sensor = "any sensor" if sensor_size is None else f"the sensor of {height} × {width} pixels (height × width)"
        turned = min(x.min(), y.min()) >= 0 and x.max() < height and y.max() < width
        remedy = ("all would lie on it, if height and width were exchanged" if turned else
                  "columns x and rows y count from 0; a larger sensor has a larger sensor_size")
        raise DataError(f"event {index} of {name} is at x {x[index]}, y {y[index]}, outside {sensor} (of {len(x):,} "
                        f"events, outside are {int(wrong.sum()):,}): {remedy}")
