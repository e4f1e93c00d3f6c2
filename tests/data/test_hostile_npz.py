"""Files of arrays as people have them: one sentence with the remedy, and never another set than was saved."""

import functools
import gzip
import io
import pickle
import warnings
import zipfile

import numpy as np
import pytest
from hostile import Case, check
from hypothesis import given, settings
from hypothesis import strategies as st

from dietjax import data

IMAGES = np.random.default_rng(0).integers(0, 256, (9, 4, 3), dtype=np.uint8)
ARRAYS = {"train_images": IMAGES[:6], "train_labels": np.arange(6) % 2, "test_images": IMAGES[6:],
          "test_labels": np.arange(3) % 2, "class_names": np.array(["cat", "dog"])}
ONE_HOT = np.eye(2, dtype=int)


def saved(save=np.savez, **changes):
    """An .npz's bytes; None: without this array."""
    file = io.BytesIO()
    save(file, **{name: array for name, array in (ARRAYS | changes).items() if array is not None})
    return file.getvalue()


def read(content, path):
    """What came of a file of these bytes, in a line."""
    (path / "pets.npz").write_bytes(content)
    found = data.load(f"npz:{path}/pets.npz")
    return (f"{found.train.num_examples} training and {found.test.num_examples} test images of {found.image_shape}, "
            f"classes {', '.join(found.class_names)}")


def of(content):
    return functools.partial(read, content)


def arrays(**changes):
    return of(saved(**changes))


def labels(*training, test=(0, 1, 0), **changes):
    return arrays(train_labels=np.array(training), test_labels=np.array(test), **changes)


def alone(array):
    """As np.save writes it."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def zipped(*members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of names that come twice
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


def flipped(place):
    content = bytearray(saved())
    content[content.index(place) + len(place)] ^= 1
    return bytes(content)


MEMBERS = [(f"{name}.npy", alone(array)) for name, array in ARRAYS.items()]
WHOLE = saved()
CASES = [
    Case("no such file", lambda path: data.load(f"npz:{path}/a.npz"), ("error", "No such file", "give the path")),
    Case("a folder", lambda path: data.load(f"npz:{path}"), ("error", "Is a directory")),
    Case("the prefix forgotten", lambda path: data.load("a.npz"), ("error", "is called npz:a.npz")),
    Case("an empty file", of(b""), ("error", "it is empty", "np.savez")),
    Case("text", of(b"label,pixel\n"), ("error", "it is text", "np.savez")),
    Case("an .npy under another name", of(alone(IMAGES)),
         ("error", "an .npy file, one array without a name", "np.savez")),
    Case("a pickle", of(pickle.dumps(ARRAYS)), ("error", "it is a pickle", "can run code")),
    Case("an HDF5 file", of(b"\x89HDF\r\n\x1a\n" + bytes(99)), ("error", "HDF5", "h5py")),
    Case("packed once more", of(gzip.compress(WHOLE)), ("error", "gzip", "unpack it")),
    Case("cut off", of(WHOLE[:-40]), ("error", "it is cut off: copy or write it again")),
    Case("cut off at half", of(WHOLE[: len(WHOLE) // 2]), ("error", "it is cut off")),
    Case("cut off at the front", of(WHOLE[100:]), ("error", "it is damaged")),
    Case("a pixel flipped", of(flipped(IMAGES[:6].tobytes()[:5])), ("error", "damaged ('train_images.npy'", "copy")),
    Case("a shape flipped", of(flipped(b"'shape': (")), ("error", "damaged ('train_images.npy'")),
    Case("a name flipped", of(WHOLE[::-1].replace(b"seman_ssalc", b"semaN_ssalc", 1)[::-1]),
         ("error", "it is damaged")),
    Case("the number of arrays flipped", of(WHOLE[:-12] + b"\4" + WHOLE[-11:]), ("error", "its directory is not what")),
    Case("compressed", of(saved(np.savez_compressed)), ("taken", "6 training", "cat, dog")),
    Case("a zip of something else", of(zipped(("cat.png", b"x"))), ("error", "lacks train_images", "and has cat.png")),
    Case("names as in another library", of(zipped(("x_train.npy", alone(IMAGES)), ("y_train.npy", alone(IMAGES)))),
         ("error", "lacks train_images, train_labels", "and has x_train, y_train", "np.savez(path, train_images=...")),
    Case("an array twice", of(zipped(*MEMBERS, ("notes.npy", b"x"), ("notes.npy", b"x"))),
         ("error", "notes more than once")),
    Case("a member that is no array", of(zipped(*MEMBERS[1:], ("train_images.npy", b"no array"))),
         ("error", "train_images of PATH/pets.npz cannot be read", "write it again")),
    Case("an array cut off within a whole zip", of(zipped(*MEMBERS[1:], ("train_images.npy", MEMBERS[0][1][:-3]))),
         ("error", "train_images of PATH/pets.npz cannot be read", "write it again")),
    Case("pickled images", arrays(train_images=np.array([None] * 6)), ("error", "train_images", "pickled", "np.uint8")),
    Case("pickled labels", arrays(test_labels=np.array([0, 1, None])), ("error", "test_labels", "pickled", "int)")),
    Case("pickled names", arrays(class_names=np.array(["cat", "dog"], object)), ("error", "class_names", "str)")),
    Case("duplicate names", arrays(class_names=np.array(["cat", "cat"])), ("error", "'cat' more than once")),
    Case("a scalar of names", arrays(class_names=np.array("cat")),
         ("error", "class_names", "of shape ()", "each class")),
    Case("numbers as names", arrays(class_names=np.array([3, 7])),
         ("error", "class_names", "int64", "np.array(names, str)")),
    Case("fewer names than classes", arrays(class_names=np.array(["cat"])), ("error", "span 0..1", "1 classes")),
    Case("a test set forgotten", arrays(test_images=None, test_labels=None),
         ("error", "lacks test_images, test_labels")),
    Case("one-hot labels", labels(*ONE_HOT[[0, 1, 0, 1, 0, 1]]), ("error", "one-hot rows", "labels.argmax(1)")),
    Case("labels in a column", labels(*[[0], [1]] * 3), ("error", "labels.ravel()")),
    Case("strings as labels", labels(*["cat", "dog"] * 3), ("error", "class_names, labels = np.unique")),
    Case("labels of floats", labels(*[0.0, 1.0] * 3), ("error", "float64", "labels.astype(int)")),
    Case("labels of truth values", labels(*[False, True] * 3), ("error", "bool", "labels.astype(int)")),
    Case("labels from 1", labels(*[1, 2] * 3, test=(1, 2, 1), class_names=None), ("error", "none is 0", "labels - 1")),
    Case("labels from 1, with names", labels(*[1, 2] * 3, test=(1, 2, 1)),
         ("error", "span 1..2", "number them from 0")),
    Case("labels with holes", labels(*[0, 2] * 3, test=(0, 2, 0), class_names=None),
         ("warning", "1 of 3 classes have no training images (1)", "0, 1, 2", "6 training")),
    Case("labels far apart", labels(*[0, 10**9] * 3, class_names=None), ("error", "reach 1000000000", "np.unique")),
    Case("labels below 0", labels(*[0, -1] * 3), ("error", "span -1..0", "number them from 0")),
    Case("fewer labels than images", labels(0, 1, 0), ("error", "of shape (3,)", "6 integers")),
    Case("a test label that training lacks", labels(*[0, 1] * 3, test=(0, 2, 0), class_names=None), ("error", "0..2")),
    Case("one class", labels(*[0] * 6, test=(0, 0, 0), class_names=None),
         ("error", "all of one class, 0", "add images")),
    Case("one class, two names", labels(*[1] * 6), ("error", "all of one class, dog", "nothing to tell apart")),
    Case("floats of 0..1", arrays(train_images=IMAGES[:6] / 255), ("error", "float64", "np.round(255 * images)")),
    Case("whole numbers of 0..255", arrays(train_images=IMAGES[:6].astype(int)),
         ("error", "int64", "astype(np.uint8)")),
    Case("16 bits", arrays(train_images=IMAGES[:6] * np.uint16(257)), ("error", "uint16", "255 / most", "both splits")),
    Case("channels first", arrays(train_images=np.zeros((6, 3, 4, 4), np.uint8)),
         ("error", "np.moveaxis(images, 1, -1)")),
    Case("transparency", arrays(train_images=np.zeros((6, 4, 3, 4), np.uint8)), ("error", "images[..., :3]")),
    Case("rows of pixels", arrays(train_images=np.zeros((6, 12), np.uint8)), ("error", "images.reshape(N, H, W, C)")),
    Case("no images", arrays(train_images=IMAGES[:0], train_labels=np.zeros(0, int)), ("error", "there are none")),
    Case("test images of another size", arrays(test_images=np.zeros((3, 4, 4), np.uint8)),
         ("error", "both need one size")),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_said(case, tmp_path):
    check(case, tmp_path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("npz")


def is_what_was_saved(found):
    return found.class_names == ("cat", "dog") and all(
        np.array_equal(getattr(getattr(found, split), what).reshape(ARRAYS[f"{split}_{what}"].shape),
                       ARRAYS[f"{split}_{what}"]) for split in ("train", "test") for what in ("images", "labels"))


def assert_refused_or_the_same(content, folder):
    (folder / "pets.npz").write_bytes(content)
    try:
        found = data.load(f"npz:{folder}/pets.npz")
    except data.DataError as error:
        assert "\n" not in str(error)
    else:
        assert is_what_was_saved(found)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@settings(max_examples=50)
@given(place=st.integers(0, 10**4), change=st.integers(1, 255))
def test_a_byte_that_is_flipped_anywhere_changes_nothing_unseen(folder, save, place, change):
    """Places of a date or of rights change nothing; all others have to be found."""
    content = bytearray(saved(save))
    content[place % len(content)] ^= change
    assert_refused_or_the_same(bytes(content), folder)


@settings(max_examples=50)
@given(length=st.integers(0, len(WHOLE) - 1))
def test_a_file_that_is_cut_off_anywhere_is_refused(folder, length):
    (folder / "pets.npz").write_bytes(WHOLE[:length])
    with pytest.raises(data.DataError, match=r"cut off|damaged|empty|text"):
        data.load(f"npz:{folder}/pets.npz")
