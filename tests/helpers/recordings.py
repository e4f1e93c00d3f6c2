"""Recordings of events for tests: drawn streams, and folders of files."""

import numpy as np

DTYPE = np.dtype([("x", np.uint16), ("y", np.uint16), ("t", np.int64), ("p", np.int8)])


def stream(seed=0, count=100, sensor_size=(6, 8), until=1000):
    """Events in the order of time, anywhere on the sensor."""
    rng = np.random.default_rng(seed)
    events = np.empty(count, DTYPE)
    events["t"] = np.sort(rng.integers(0, until, count))
    events["y"], events["x"] = (rng.integers(0, side, count) for side in sensor_size)
    events["p"] = rng.integers(0, 2, count)
    return events


def as_bin(events):
    """N-MNIST's bytes: column, row, one bit of polarity and 23 bits of time, the most significant first."""
    return b"".join(bytes([int(e["x"]), int(e["y"])]) + (int(e["p"]) << 23 | int(e["t"])).to_bytes(3, "big")
                    for e in events)


def write(path, events):
    """The events as a file of the kind that its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".bin":
        path.write_bytes(as_bin(events))
    elif path.suffix == ".npy":
        np.save(path, events)
    else:
        np.savez(path, events=events)
    return path


def write_folder(path, counts=(3, 2), suffix=".npy", splits=("train", "test"), **options):
    """A folder of two classes, so many recordings of each in train and in test -> {file: its events}."""
    written = {}
    for split, count in zip(splits, counts, strict=True):
        for label in ("left", "right"):
            for i in range(count):
                events = stream(len(written), **options)
                written[write(path / split / label / f"{i}{suffix}", events)] = events
    return written
