"""Laws of what is found in a set: counts, sizes, formats, samples; compared with how the set was made."""

import collections
import types

import cv2
import numpy as np
import pytest

from dietjax.analysis import data_facts, data_oddities
from dietjax.data.npz import Arrays
from dietjax.data.source import CorruptImage, Example, StoredImages


class Files:
    """Encoded files with labels; those that are None are damaged where they are stored."""

    def __init__(self, files, labels):
        self.files, self.stored_labels = files, labels

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        if self.files[index] is None:
            raise CorruptImage(f"{self.where(index)} fails its checksum")
        return Example(self.files[index], self.stored_labels[index])

    def where(self, index):
        return f"file {index}"


def pictures(count, shape=(4, 6, 3)):
    return np.random.default_rng(count).integers(0, 256, (count, *shape), np.uint8)


def encoded(picture, suffix=".png"):
    return cv2.imencode(suffix, picture)[1].tobytes()


def stored(train, test=None, names=("a", "b", "c")):
    test = test or Arrays(pictures(3), np.arange(3, dtype=np.int32), "test")
    return StoredImages("made", train, test, names, (None, None, 3))


def test_what_is_found_is_what_was_made():
    files = [encoded(picture) for picture in pictures(4)] + [encoded(pictures(1, (8, 5, 3))[0], ".jpg"), None]
    facts = data_facts.examine(stored(Files(files, [0, 0, 2, 2, 2, 1])), 100)
    assert facts.train.formats == {"PNG": 4, "JPEG": 1, "unknown": 1} and facts.test.formats == {"array": 3}
    assert facts.train.shapes == {(4, 6, 3): 4, (8, 5, 3): 1}
    assert facts.train.counts(3).tolist() == [2, 0, 3] and facts.test.counts(3).tolist() == [1, 1, 1]
    assert sum(look.size for look in facts.train.looks) == sum(len(file) for file in files if file)
    assert [look.wrong for look in facts.train.looks] == [None] * 5 + ["file 5 fails its checksum"]
    assert data_facts.describe(facts) == {
        "looked at": "all 6 train images and all 3 test images", "classes": "3",
        "images of a class": "train 0 to 3, test 1", "format": "PNG 4, array 3, JPEG 1, unknown 1",
        "size, [frames ×] height × width × channels": "4 × 6 × 3: 7, 8 × 5 × 3: 1",
        "as stored": f"{(sum(len(file) for file in files if file) + 3 * 72) / 1e3:.3g} kB"}


def test_converted_files_have_the_channels_that_they_get():
    grey = Files([encoded(picture[..., 0]) for picture in pictures(2)], [0, 1])
    for converted, channels in ((False, 1), (True, 3)):
        facts = data_facts.examine(stored(grey), 100, 3 if converted else None)
        assert facts.train.shapes == {(4, 6, channels): 2}
        assert ("images differ in channels" in "".join(data_oddities.find(facts))) != converted


@pytest.mark.parametrize("sample, expected", [(1, [0]), (2, [0, 199]), (5, [0, 49, 99, 149, 199]),
                                              (200, range(200)), (1000, range(200))])
def test_a_sample_is_evenly_spaced_and_said(sample, expected):
    train, told = Arrays(pictures(200), np.zeros(200, np.int32), "train"), []
    facts = data_facts.examine(stored(train), sample, None, lambda *said: told.append(said))
    assert [look.number for look in facts.train.looks] == list(expected)
    assert facts.train.counts(3).tolist() == [200, 0, 0]  # labels are all read
    said = data_facts.describe(facts)["looked at"]
    assert said.startswith("all 200" if sample >= 200 else f"{sample:,} of 200 train images, evenly spaced")
    assert [done for what, done, _ in told if what == "images of train"][-1] == len(expected)


def test_many_sizes_are_told_as_ranges():
    shapes = collections.Counter({(10 + i, 20, 3): 1 for i in range(5)})
    facts = types.SimpleNamespace(shapes=shapes)
    assert data_facts._sizes(facts.shapes) == "10 to 14 (median 12) × 20 × 3"
    assert data_facts._sizes(collections.Counter()) == "none could be read"


def test_frames_are_looked_at_as_a_whole():
    """Equal but for the last frame: not the same; one colour in every frame: nothing to be seen."""
    frames = pictures(2, (3, 4, 4, 1))
    frames = np.stack([frames[0], frames[0], np.full((3, 4, 4, 1), 9, np.uint8)])
    frames[1, 2, 0, 0] ^= 1
    facts = data_facts.examine(stored(Arrays(frames, np.arange(3, dtype=np.int32), "train")), 9)
    assert facts.train.shapes == {(3, 4, 4, 1): 3} and len({look.content for look in facts.train.looks}) == 3
    assert [look.constant for look in facts.train.looks] == [False, False, True]


def test_arrays_that_are_made_when_they_are_needed_are_looked_at():
    made = Files([lambda: pictures(1)[0], lambda: pictures(1)[0]], [0, 1])
    facts = data_facts.examine(stored(made), 9)
    assert facts.train.shapes == {(4, 6, 3): 2} and facts.train.formats == {"array": 2}
    assert any("equal images with different labels" in sentence for sentence in data_oddities.find(facts))


def test_labels_that_are_no_class_are_said():
    facts = data_facts.examine(stored(Arrays(pictures(3), np.array([0, 7, -1]), "train")), 9)
    assert facts.train.counts(3).tolist() == [1, 0, 0]
    assert any("no label of 0..2: 2 train images" in sentence for sentence in data_oddities.find(facts))


@pytest.mark.parametrize("counts, said", [((10, 10, 19), False), ((10, 10, 20), True), ((4, 4, 4), False)])
def test_an_imbalance_is_said_from_twice_as_many_on(counts, said):
    labels = np.repeat(np.arange(3, dtype=np.int32), counts)
    found = data_oddities.find(data_facts.examine(stored(Arrays(pictures(len(labels)), labels, "train")), 99))
    assert ("imbalance: 20 training images of c, 10 of a, 2.0 times" in "; ".join(found)) == said
