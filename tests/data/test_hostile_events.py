"""What people have of events and that is not as it should be: each is refused, or said, in a sentence."""

import sys

import hostile
import numpy as np
import pytest
from hostile import Case
from recordings import DTYPE, as_bin, stream, write, write_folder

from dietjax import data
from dietjax.config import Data, Experiment, check
from dietjax.data.framing import Framing

SENSOR = (6, 8)


def changed(field, value, at=3):
    """A stream whose event `at` has another value there."""
    events = stream().astype([(name, np.int64) for name in "xytp"])
    events[field][at] = value
    return events


def frames(events, steps=4, **options):
    """(folder) -> what their frames are."""
    return lambda folder: data.to_frames(events() if callable(events) else events, SENSOR, steps, **options).shape


def file(name, content, **framing):
    """(folder) -> a set, one file of which is this."""
    def attempt(folder):
        write_folder(folder, sensor_size=SENSOR)
        path = folder / "train" / "left" / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            content(path)
        return load(folder, **framing)

    return attempt


def load(folder, **framing):
    found = data.load(f"events:{folder}", framing=Framing(2, **framing))
    return f"{found.train.num_examples} of {found.image_shape}"


def resized(folder):
    write_folder(folder)
    return data.load(f"events:{folder}", framing=Framing(2), image_size=32)


def folder_without(*names):
    def attempt(folder):
        write_folder(folder, sensor_size=SENSOR)
        for path in sorted(folder.rglob("*"), reverse=True):
            if any(name in path.relative_to(folder).as_posix() for name in names):
                path.rmdir() if path.is_dir() else path.unlink()
        return load(folder)

    return attempt


def two_sensors(folder):
    write_folder(folder, sensor_size=SENSOR)
    for split, size in (("train", (6, 8)), ("test", (8, 6))):
        np.savez(folder / split / "left" / "a.npz", events=changed("x", 0)[:0:-1][:1], sensor_size=size)
    return load(folder)


def without_the_package(folder):
    """As if aedat was not installed, whether it is or not."""
    write_folder(folder, sensor_size=SENSOR)
    (folder / "train" / "left" / "a.aedat4").write_bytes(b"#!AER-DAT4.0")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "aedat", None)
        return load(folder)


def far_away(folder):
    """One event of one file, where no file says how large the sensor is."""
    write_folder(folder, sensor_size=SENSOR)
    write(folder / "train" / "left" / "0.npy", changed("x", 99))
    return load(folder)


def one_class(folder):
    for split in ("train", "test"):
        write(folder / split / "left" / "0.npy", stream())
    return load(folder)


def cut(content, count):
    return content[:-count]


PLAIN = np.stack([stream()[field].astype(np.int64) for field in "xytp"], 1)
BIN = as_bin(stream())
CASES = [
    Case("an event far away in one of many files", far_away,
         ("warning", "PATH/train/left/0.npy has an event at x 99, and no other recording has one beyond 7",
          "6 × 100 pixels (height × width)", "data.sensor_size", "6 of (6, 100, 2)")),
    # streams
    Case("times that run backwards", frames(lambda: changed("t", 0, at=50)),
         ("error", "times of events run backwards: event 50 is at 0 microseconds", "np.argsort(events['t']")),
    Case("a negative time", frames(lambda: changed("t", -1, at=0)),
         ("error", "event 0 of events is at -1 micro", "t - t[0]")),
    Case("times in seconds", frames(lambda: stream().astype([(f, float if f == "t" else int) for f in "xytp"])),
         ("error", "t of events are float64", "np.round(1e6 * t).astype(np.int64), where yours are seconds")),
    Case("coordinates as floats",
         frames(lambda: stream().astype([(f, np.float32 if f == "x" else int) for f in "xytp"])),
         ("error", "x of events are float32; needed are integers", ".astype(np.int64)")),
    Case("a column outside the sensor", frames(lambda: changed("x", 8)),
         ("error", "event 3 of events is at x 8, y", "outside the sensor of 6 × 8 pixels (height × width)",
          "of 100 events, outside are 1", "larger sensor_size")),
    Case("a sensor given as width × height", lambda _: data.to_frames(stream(), (8, 6), 4).shape,
         ("error", "outside the sensor of 8 × 6 pixels (height × width)",
          "if height and width were exchanged")),
    Case("a negative coordinate", frames(lambda: changed("y", -2)), ("error", "is at x", "y -2, outside the sensor")),
    Case("a coordinate that was negative before it was stored unsigned", frames(lambda: changed("x", -1).astype(
        [(field, np.uint64) for field in "xytp"])), ("error", "x of events reach 18446744073709551615",
          "were negative")),
    Case("no event at all", frames(lambda: stream()[:0]), ("error", "there is no event at all in events")),
    Case("polarities of 0 to 3", frames(lambda: changed("p", 3)),
         ("error", "polarities of events are 0, 1, 3; needed")),
    Case("polarities of -1, 0 and 1", frames(lambda: changed("p", -1)),
         ("error", "are -1, 0, 1; needed are 0 and 1, or -1")),
    Case("brightness in the place of polarity", frames(lambda: changed("p", np.arange(100), at=slice(None))),
         ("error", "polarities of events are 0, 1, 2, 3, ...; needed")),
    Case("fields of other names", frames(lambda: stream().astype([("timestamp", int), *((f, int) for f in "xyp")])),
         ("error", "events: the fields are timestamp, x, y, p, and needed is a NumPy structured array",
          "rename_fields")),
    Case("no field of polarities", frames(lambda: stream()[["x", "y", "t"]]),
         ("error", "the fields are x, y, t, and needed")),
    Case("two fields that could be polarities",
         frames(lambda: np.zeros(3, [(f, int) for f in ("x", "y", "t", "p", "on")])),
         ("error", "the fields p and on could each be the polarity; keep one")),
    Case("a list of tuples", frames([(0, 1, 2, 1)]),
         ("error", "events: a list, and needed is a NumPy structured array")),
    Case("a plain array [4, N]", frames(PLAIN.T), ("error", "int64 of shape (4, 100)", "(yours is events.T)")),
    Case("a plain array of three columns", frames(PLAIN[:, :3]),
         ("error", "of shape (100, 3)", "or a plain array [N, 4]")),
    Case("a plain array of floats", frames(PLAIN.astype(float)),
         ("error", "columns of events are float64; needed are int")),
    Case("a plain array with times that run backwards", frames(PLAIN[::-1]),
         ("error", "columns are in none of the orders xytp, xypt, txyp", "times run backwards")),
    Case("a plain array that could be in several orders", frames(np.array([[0, 1, 0, 1], [1, 0, 1, 1]])),
         ("error", "columns could be in the order xytp or xypt")),
    Case("a plain array as most libraries store it", frames(PLAIN), ("taken", "(4, 6, 8, 2)")),
    Case("an order of columns that is none", frames(PLAIN, order="xyzt"),
         ("error", "order names the columns x, y, t and p")),
    Case("events in a table of two axes", frames(lambda: stream()[:, None]),
         ("error", "events: an array of shape (100, 1)", "needed is one row", "ravel()")),
    Case("two numbers in a field", frames(np.zeros(3, [("x", int, (2,)), ("y", int), ("t", int), ("p", int)])),
         ("error", "needed is one row of events, each with one number in a field")),
    Case("a sensor size of one number", lambda _: data.to_frames(stream(), 34, 4),
         ("error", "sensor_size is (height, width) in pixels, two whole numbers above 0, got 34")),
    Case("256 events of a pixel in a frame", frames(lambda: changed("t", 7, at=slice(None))[np.zeros(256, int)], 1),
         ("error", "has 256 events in frame 0, and a frame holds at most 255", "or take binary frames")),
    Case("windows that end before the recording", frames(lambda: changed("t", 10**6, at=99), by="time", window=100),
         ("warning", "come after the last of 4 windows of 100 microseconds", "(4, 6, 8, 2)")),
    # how they are to be cut
    Case("a window of time, and frames by count", frames(stream(), window=5),
         ("error", "window is a time", "by count: cut them by time")),
    Case("a window of no length", frames(stream(), by="time", window=0),
         ("error", "window must be a whole number of micro", "got 0")),
    Case("a way to cut that is none", frames(stream(), by="counts"),
         ("error", "unknown way to cut", "did you mean 'count'")),
    Case("no frames", frames(stream(), 0), ("error", "frames must be a whole number of at least 1, got 0")),
    Case("a sensor of one side", lambda _: data.to_frames(stream(), (34,), 4),
         ("error", "sensor_size is (height, width) in pixels, two whole numbers above 0, got (34,)")),
    Case("a set of events without a word on frames", lambda folder: data.load(f"events:{folder}"),
         ("error", "become frames: pass framing=dietjax.data.Framing(frames=T)")),
    Case("frames of events that are to be resized", resized,
         ("error", "has frames, which are taken as they are: leave out data.image_size (32)")),
    Case("--data.events-window without --data.events-by time",
         lambda _: check(Experiment("x", data=Data(events_window=5))),
         ("error", "data.events_window is the length of a window of time, and data.events_by is count")),
    Case("dietjax prepare events:PATH", lambda folder: data.prepare(f"events:{folder}", folder),
         ("error", "is read as it is: there is nothing to prepare")),
    # files
    Case("a .bin that is cut off", file("9.bin", cut(BIN, 2)),
         ("error", "9.bin is cut off: it has 498 bytes", "5 for each")),
    Case("an empty file", file("9.bin", b""), ("error", "9.bin is empty: it has no bytes")),
    Case("a .bin without an event", file("9.bin", bytes([0, 240, 0, 0, 0])),
         ("error", "there is no event at all in", "9.bin")),
    Case("a .npy that is cut off",
         file("9.npy", lambda path: path.write_bytes(cut(write(path, stream()).read_bytes(), 5))),
         ("error", "9.npy is cut off or damaged")),
    Case("a .npz with a flipped byte", file("9.npz", lambda path: path.write_bytes(bytes(
        byte ^ (255 if i == 300 else 0) for i, byte in enumerate(write(path, stream()).read_bytes())))),
         ("error", "9.npz cannot be read: it is damaged", "--data.skip-corrupt")),
    Case("text called .npy", file("9.npy", b"t,x,y,p\n0,1,1,1\n"),
         ("error", "9.npy is no .npy file: np.save writes one")),
    Case("a .npy called .npz",
         file("9.npz", lambda path: path.write_bytes(write(path.with_suffix(".npy"), stream()).read_bytes())),
         ("error", "9.npz cannot be read as an .npz file: it is an .npy file")),
    Case("pickled objects", file("9.npy", lambda path: np.save(path, np.array([{"x": 1}, None]))),
         ("error", "9.npy holds pickled Python objects", "can run code")),
    Case("an .npz of other arrays", file("9.npz", lambda path: np.savez(path, frames=np.zeros(3))),
         ("error", '9.npz holds frames; needed is an array "events"')),
    Case("an .npz whose columns are not equally long", file("9.npz", lambda path: np.savez(path, x=[1, 2], t=[3])),
         ("error", "9.npz holds x (2,), t (1,); needed is", "equally long")),
    Case("an .npz with a sensor size that is none",
         file("9.npz", lambda path: np.savez(path, events=stream(), sensor_size=8)),
         ("error", "sensor_size in", "9.npz is (height, width) in pixels", "got (8,)")),
    Case("a frame in the place of events", file("9.npy", lambda path: np.save(path, np.zeros((4, 6, 8, 2), np.uint8))),
         ("error", "9.npy: uint8 of shape (4, 6, 8, 2), and needed is")),
    Case("an .aedat4 without the package that reads it", without_the_package,
         ("error", "a.aedat4 needs the package aedat: pip install 'dietjax[events]'")),
    Case("a file of another camera format", file("9.raw", b"% evt 3.0"),
         ("error", "9.raw is no recording with an ending of .npy, .npz, .bin, .aedat4")),
    # folders
    Case("sensors of two sizes", two_sensors,
         ("error", "has 8 × 6 pixels, that of", "6 × 8: one network takes one size", "data.sensor_size")),
    Case("a recording of a larger sensor than is set", file("9.npz", lambda path: np.savez(
        path, events=stream(), sensor_size=(20, 30)), sensor_size=(6, 8)),
         ("error", "the sensor of", "(20, 30) pixels, and data.sensor_size is (6, 8): set at least 20 30")),
    Case("one recording with an event outside the sensor",
         file("9.npy", lambda path: np.save(path, changed("x", 40)), sensor_size=(6, 8)),
         ("error", "event 3 of PATH/train/left/9.npy is at x 40", "outside the sensor of 6 × 8")),
    Case("no folder", lambda folder: load(folder / "nothing"), ("error", "nothing is no directory: events:PATH needs")),
    Case("no test folder", folder_without("test"),
         ("error", "test is no directory", "events:PATH needs PATH/{train,test}/CLASS", "data.holdout")),
    Case("a class that is in train alone", folder_without("test/left"),
         ("error", "only in train: left. Both need the same")),
    Case("a class without recordings", folder_without("left/0", "left/1", "left/2"),
         ("error", "left holds no recordings: put some")),
    Case("one class", one_class, ("error", "are all of one class, left: there is nothing to tell apart")),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_case_is_answered_as_expected(case, tmp_path):
    hostile.check(case, tmp_path)


def test_streams_are_refused_by_one_event_wherever_it_is():
    """One value of one event, at any place: what is refused of it is the sentence that names its kind."""
    rng = np.random.default_rng(0)
    for field, value, says in (("t", -5, "microseconds: times begin at 0"), ("x", 8, "outside the sensor"),
                               ("y", 6, "outside the sensor"), ("p", 2, "polarities of events are"),
                               ("t", 2**40, "run backwards")):
        for at in rng.integers(0, 99, 5).tolist():
            with pytest.raises(data.DataError, match=says):
                data.as_events(changed(field, value, at), SENSOR)
    assert data.as_events(stream().astype(DTYPE), SENSOR).dtype.names == ("x", "y", "p", "t")
