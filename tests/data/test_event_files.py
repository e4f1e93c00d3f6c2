"""Laws of data.event_files and data.event_folder: what is read is what was stored, in memory as in a stream."""

import sys
import types

import numpy as np
import pytest
from recordings import DTYPE, as_bin, stream, write, write_folder

from dietjax import data
from dietjax.data import event_files, sets
from dietjax.data.framing import Framing

SENSOR = (6, 8)


def same(found, expected):
    for field in "xytp":
        np.testing.assert_array_equal(data.as_events(found)[field], expected[field])


# ---- files


def test_an_n_mnist_file_by_its_documented_layout(tmp_path):
    """By hand: column 3, row 5, brighter, 1 · 65,536 + 2 · 256 + 3 microseconds; then column 33, row 0, darker."""
    (tmp_path / "a.bin").write_bytes(bytes([3, 5, 0x80 | 1, 2, 3, 33, 0, 0x7F, 0xFF, 0xFF]))
    found = event_files.read(tmp_path / "a.bin")
    assert found.sensor_size == (34, 34)
    assert [tuple(map(int, event)) for event in found.events] == [(3, 5, 1, 66_051), (33, 0, 0, 2**23 - 1)]


def test_an_overflow_in_an_n_mnist_file_is_no_event_and_delays_all_that_come_after(tmp_path):
    """Row 240, column and polarity whatever; 8,192 microseconds each."""
    events = stream(0, 5, (34, 34))
    pieces = [as_bin(events[i:i + 1]) for i in range(5)]
    overflow = bytes([7, 240, 0x80, 1, 1])
    (tmp_path / "a.bin").write_bytes(pieces[0] + overflow + b"".join(pieces[1:3]) + 2 * overflow + b"".join(pieces[3:]))
    delayed = events.copy()
    delayed["t"] += np.array([0, 1, 1, 3, 3]) * 8192
    same(event_files.read(tmp_path / "a.bin").events, delayed)


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "A.NPY", "a.bin"])
def test_a_file_holds_what_was_written(tmp_path, name):
    events = stream(1)
    if name == "A.NPY":
        with open(tmp_path / name, "wb") as file:
            np.save(file, events)
    else:
        write(tmp_path / name, events)
    same(event_files.read(tmp_path / name).events, events)


def test_an_npz_may_hold_columns_and_say_how_large_the_sensor_is(tmp_path):
    events = stream(2)
    np.savez(tmp_path / "a.npz", x=events["x"], y=events["y"], t=events["t"], polarity=events["p"] == 1,
             sensor_size=[20, 30], notes="any")
    found = event_files.read(tmp_path / "a.npz")
    same(found.events, events)
    assert found.sensor_size == (20, 30)


def decoder(streams, packets):
    """Stands in for the package aedat: its Decoder, of these streams {number: (type, H, W)} and (number, events)."""
    class Decoder:
        def __init__(self, path):
            assert path.read_bytes()

        def id_to_stream(self):
            return {number: {"type": kind, "height": height, "width": width}
                    for number, (kind, height, width) in streams.items()}

        def __iter__(self):
            return iter([{"stream_id": number, "events": events} for number, events in packets])

    return types.SimpleNamespace(Decoder=Decoder)


def test_an_aedat4_file_is_its_packets_in_a_row(tmp_path, monkeypatch):
    """Fields as the package gives them; packets of other streams are no events."""
    events = np.empty(100, [("t", "u8"), ("x", "u2"), ("y", "u2"), ("on", "?")])
    for field in events.dtype.names:
        events[field] = stream(3)["p" if field == "on" else field]
    (tmp_path / "a.aedat4").write_bytes(b"any")
    monkeypatch.setitem(sys.modules, "aedat", decoder({0: ("frame", 6, 8), 1: ("events", 6, 8)},
                                                      [(1, events[:30]), (0, events[:2]), (1, events[30:])]))
    found = event_files.read(tmp_path / "a.aedat4")
    same(found.events, stream(3))
    assert found.sensor_size == SENSOR


def test_tonic_reads_the_same_and_makes_the_same_frames(tmp_path):
    """tonic's frames by count drop what T does not divide: 100 events in 4 frames leave nothing."""
    tonic = pytest.importorskip("tonic")
    from tonic.functional.to_frame import to_frame_numpy
    from tonic.io import read_mnist_file

    events = stream(4)
    path = write(tmp_path / "a.bin", events)
    theirs = read_mnist_file(path, np.dtype([("x", int), ("y", int), ("t", int), ("p", int)]))
    same(event_files.read(path).events, theirs)
    assert tonic.io.events_struct.names  # what it gives is taken as it is
    same(theirs.astype(tonic.io.events_struct), events)
    frames = to_frame_numpy(theirs, (8, 6, 2), n_event_bins=4)  # [T, P, H, W]
    np.testing.assert_array_equal(data.to_frames(theirs, SENSOR, 4), np.moveaxis(frames, 1, -1))


# ---- folders


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """(Path, {file: its events}) of ten recordings."""
    path = tmp_path_factory.mktemp("events") / "turns"
    return path, write_folder(path, sensor_size=SENSOR)


@pytest.mark.parametrize("by, binary", [("count", False), ("time", True)])
def test_a_folder_is_the_frames_of_its_files_in_order(folder, by, binary):
    path, written = folder
    found = data.load(f"events:{path}", framing=Framing(3, by, binary=binary))
    assert (found.name, found.class_names) == ("turns", ("left", "right"))
    assert (found.image_shape, found.frames) == ((*SENSOR, 2), 3)
    assert (found.mean, found.std) == ((0.0, 0.0), (1 / 255, 1 / 255))
    for name, count in (("train", 3), ("test", 2)):
        split = getattr(found, name)
        frames = [data.to_frames(events, SENSOR, 3, by=by, binary=binary) for file, events in written.items()
                  if file.parts[-3] == name]
        np.testing.assert_array_equal(split.images, frames)
        np.testing.assert_array_equal(split.labels, [0] * count + [1] * count)
        assert isinstance(split, data.Split) and split.images.dtype == np.uint8 and split.labels.dtype == np.int32


def test_a_stream_is_what_lies_in_memory(folder, monkeypatch):
    path, written = folder
    whole = data.load(f"events:{path}", framing=Framing(4))
    monkeypatch.setattr(sets, "RESIDENT_BYTES", len(written) * 4 * 6 * 8 * 2 - 1)
    streamed = data.load(f"events:{path}", framing=Framing(4), threads=2)
    assert isinstance(streamed.train, data.Stream) and streamed.frames == whole.frames == 4
    assert streamed.image_shape == whole.image_shape
    np.testing.assert_array_equal(streamed.train.labels, whole.train.labels)
    images, labels = next(streamed.train.training_batches(7, 5, 0))
    chosen = data.batch_indices(7, 6, 5, 0)
    np.testing.assert_array_equal(images, whole.train.images[chosen])
    np.testing.assert_array_equal(labels, whole.train.labels[chosen])


def test_labels_of_a_stream_are_known_without_reading_a_recording(folder, monkeypatch):
    path, _ = folder
    monkeypatch.setattr(sets, "RESIDENT_BYTES", 0)
    streamed = data.load(f"events:{path}", framing=Framing(4, sensor_size=SENSOR))
    monkeypatch.setattr(event_files, "READERS", {})
    assert streamed.test.labels.tolist() == [0, 0, 1, 1]


def test_n_mnist_as_it_is_downloaded(tmp_path):
    """Folders Train and Test, a sensor of 34 × 34 that no file says; a border that stays empty, where one is asked."""
    write_folder(tmp_path, suffix=".bin", splits=("Train", "Test"), sensor_size=(20, 20))
    found = data.load(f"events:{tmp_path}", framing=Framing(5))
    assert found.image_shape == (34, 34, 2)
    wider = data.load(f"events:{tmp_path}", framing=Framing(5, sensor_size=(36, 40)))
    np.testing.assert_array_equal(wider.train.images[:, :, :34, :34], found.train.images)
    assert wider.image_shape == (36, 40, 2) and wider.train.images.sum() == 6 * 100


def test_the_sensor_is_what_the_files_say_else_as_far_as_all_events_reach(tmp_path):
    paths = [write(tmp_path / f"{i}.npy", np.array([(x, y, 0, 1)], DTYPE)) for i, (x, y) in enumerate([(9, 1), (2, 6)])]
    assert event_files.sensor_size_of(paths) == (7, 10)
    np.savez(tmp_path / "a.npz", events=np.array([(1, 1, 0, 1)], DTYPE), sensor_size=(12, 11))
    assert event_files.sensor_size_of([*paths, tmp_path / "a.npz"]) == (12, 11)


def test_a_damaged_training_recording_is_skipped_where_that_is_asked_for(tmp_path):
    written = write_folder(tmp_path, sensor_size=SENSOR)
    damaged = tmp_path / "train" / "left" / "1.npy"
    damaged.write_bytes(damaged.read_bytes()[:-3])
    with pytest.raises(data.DataError, match=r"1\.npy is cut off or damaged"):
        data.load(f"events:{tmp_path}", framing=Framing(2))
    with pytest.warns(data.CorruptImageWarning, match=r"1\.npy is cut off .*; in its place: .*2\.npy"):
        found = data.load(f"events:{tmp_path}", framing=Framing(2), skip_corrupt=True)
    following = written[tmp_path / "train" / "left" / "2.npy"]
    np.testing.assert_array_equal(found.train.images[1], data.to_frames(following, SENSOR, 2))


def test_a_share_of_each_class_is_held_out_where_there_is_no_test(tmp_path):
    write_folder(tmp_path, counts=(4,), splits=("train",), sensor_size=SENSOR)
    found = data.load(f"events:{tmp_path}", framing=Framing(2), holdout=0.25)
    assert (found.train.labels.tolist(), found.test.labels.tolist()) == ([0, 0, 0, 1, 1, 1], [0, 1])


def test_events_after_the_last_window_are_said_once_of_a_set(tmp_path):
    write_folder(tmp_path, sensor_size=SENSOR)
    with pytest.warns(data.LeftOutWarning, match="come after the last of 2 windows of 100 microsec.*one file") as said:
        data.load(f"events:{tmp_path}", framing=Framing(2, "time", 100), threads=1)
    assert len(said) == 2  # of train and of test


def test_frames_of_two_channels_in_an_npz_are_counts_of_events(tmp_path, monkeypatch):
    frames = np.stack([data.to_frames(stream(seed), SENSOR, 3) for seed in range(4)])
    np.savez(tmp_path / "a.npz", train_images=frames, train_labels=[0, 1, 0, 1], test_images=frames,
             test_labels=[0, 1, 0, 1])
    found = data.load(f"npz:{tmp_path / 'a.npz'}")
    assert found.image_shape == (*SENSOR, 2) and (found.mean, found.std) == ((0.0, 0.0), (1 / 255, 1 / 255))
    np.testing.assert_array_equal(found.train.images, frames)
    monkeypatch.setattr(sets, "RESIDENT_BYTES", 0)
    streamed = data.load(f"npz:{tmp_path / 'a.npz'}", threads=1)
    assert isinstance(streamed.train, data.Stream) and streamed.frames == 3
    np.testing.assert_array_equal(streamed.train.take(np.arange(4))[0], frames)
