"""Events of scikit-learn's digits: a simulated event camera moves before each of them in three saccades.

As N-MNIST was recorded (Orchard, Jayawant, Cohen & Thakor, Frontiers in Neuroscience 9:437, 2015): the camera goes
along the sides of a triangle. Each pixel fires when the logarithm of its brightness has changed by a threshold since it
last did (Lichtsteiner, Posch & Delbruck, IEEE JSSC 43(2), 2008); between two looks at the picture the logarithm is a
line (ESIM, Rebecq, Gehrig & Scaramuzza, CoRL 2018). There is no noise and nothing is drawn: the same events every time.
"""

import itertools

import numpy as np

from . import optdigits
from .events import EVENT, as_events
from .framing import COUNTS, Framing, framed
from .npz import Arrays
from .source import StoredImages

SENSOR = (16, 16)
"""Pixels, H × W."""
DIGIT = 12
"""Pixels that the 8 of a digit become: it stays on the sensor, wherever the camera looks."""
CORNERS = ((-2.0, -2.0), (2.0, 0.0), (-2.0, 2.0), (-2.0, -2.0))
"""Where the digit's centre is, (y, x) in pixels from the sensor's, before and after each saccade."""
SACCADE = 100_000
"""Microseconds of one."""
LOOKS = 10
"""In each saccade, evenly spaced in time."""
DARK = 0.3
"""Brightness around a digit, where its brightest pixels have 1."""
THRESHOLD = 0.15
"""Change of the logarithm of brightness that makes an event."""
UNIT = 2**16
"""Steps of a threshold in which the logarithm is counted: in whole numbers no event depends on how a machine rounds."""


def open_saccade_digits(framing: Framing) -> StoredImages:
    """The set in memory, as frames uint8 [N, T, H, W, 2]; split as `digits` is.

    Raises DataError where a sensor size is asked for in which the events do not lie.
    """
    recordings, labels, splits = record()
    size = framing.sensor_size or SENSOR

    def framed_as_asked(index):
        name = f"saccade_digits[{index}]"
        return framed(as_events(recordings[index], size, name=name), size, framing, name)[0]

    train, test = (Arrays(np.stack([framed_as_asked(i) for i in chosen]), labels[chosen].astype(np.int32),
                          f"saccade_digits: {split}") for split, chosen in splits.items())
    return StoredImages("saccade_digits", train, test, tuple(map(str, range(optdigits.CLASSES))), (*size, 2), COUNTS,
                        framing.frames)


def record() -> tuple[list[np.ndarray], np.ndarray, dict[str, np.ndarray]]:
    """(Events of every digit, EVENT [n] each; labels [1797]; {"train", "test": which of them})."""
    counts, labels, splits = optdigits.read()
    moments, places = _path()
    before = reference = _seen(counts, places[0])
    fired = []
    for look in range(1, len(moments)):
        now = _seen(counts, places[look])
        steps = np.sign(now - reference) * (np.abs(now - reference) // UNIT)
        fired += _events_between(moments[look - 1], moments[look], before, now, reference, steps)
        before, reference = now, reference + UNIT * steps
    example, y, x, p, t = (np.concatenate(column) for column in zip(*fired, strict=True))
    order = np.argsort(example * (moments[-1] + 1) + t, kind="stable")
    events = np.empty(len(t), EVENT)
    for field, values in (("x", x), ("y", y), ("p", p), ("t", t)):
        events[field] = values[order]
    ends = np.cumsum(np.bincount(example, minlength=len(labels)))
    return np.split(events, ends[:-1]), labels, splits


def _path() -> tuple[np.ndarray, np.ndarray]:
    """(Microseconds of each look, [L]; where the digit is then, [L, 2]): at rest in the corners, in between fastest."""
    share = np.arange(LOOKS + 1) / LOOKS
    along = ((1 - np.cos(np.pi * share)) / 2)[:, None]
    corners = np.array(CORNERS)
    legs = [before + along * (after - before) for before, after in itertools.pairwise(corners)]
    places = np.concatenate([legs[0], *(leg[1:] for leg in legs[1:])])
    return SACCADE // LOOKS * np.arange(len(places)), places


def _seen(counts, place):
    """Logarithm of the brightness on the sensor, int [N, H, W], with the digit at (y, x): interpolated linearly."""
    rows, columns = (_interpolation(side, offset) for side, offset in zip(SENSOR, place, strict=True))
    ink = rows @ (counts / optdigits.LARGEST) @ columns.T
    return np.rint(np.log(DARK + (1 - DARK) * ink) * (UNIT / THRESHOLD)).astype(np.int64)


def _interpolation(side, offset):
    """[side, 8]: what each of a digit's rows (or columns) counts on each of the sensor's, 0 beyond the digit's edge."""
    position = (np.arange(side) + 0.5 - side / 2 - offset) * 8 / DIGIT + 3.5
    return np.maximum(0, 1 - np.abs(position[:, None] - np.arange(8)))


def _events_between(start, end, before, now, reference, steps):
    """Lists of (example, y, x, p, t) of the events between two looks; `steps`: how many each pixel fires, with sign."""
    found = []
    for number in range(1, int(np.abs(steps).max()) + 1):
        at = np.nonzero(np.abs(steps) >= number)
        sign = np.sign(steps[at])
        crossed = (reference[at] + sign * number * UNIT - before[at]) / (now[at] - before[at])
        found.append((*at, sign > 0, (start + crossed * (end - start)).astype(np.int64)))
    return found
