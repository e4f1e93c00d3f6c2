"""Sets in an .npz: in memory as they are, with NumPy alone; what is wrong with one is said in a sentence."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from dietjax import data
from dietjax.cli import main as cli
from dietjax.data import sets

COLOUR = (6, 5, 3)


def arrays(shape=(6, 5), **changes):
    """What an .npz holds: 8 training and 5 test images of 2 classes."""
    rng = np.random.default_rng(0)
    whole = {}
    for split, count in (("train", 8), ("test", 5)):
        whole[f"{split}_images"] = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
        whole[f"{split}_labels"] = np.arange(count) % 2
    return {key: value for key, value in (whole | changes).items() if value is not None}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "pets.npz"


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1), COLOUR])
def test_it_is_in_memory_as_it_was_saved(path, save, shape):
    saved = arrays(shape, class_names=np.array(["cat", "dog"]), notes=np.array({"any": "object"}))
    save(path, **saved)
    dataset = data.load(f"npz:{path}")
    channels = 3 if shape == COLOUR else 1
    assert (dataset.name, dataset.class_names, dataset.image_shape) == ("pets", ("cat", "dog"), (6, 5, channels))
    for name in ("train", "test"):
        split = getattr(dataset, name)
        assert isinstance(split, data.Split) and split.images.dtype == np.uint8 and split.labels.dtype == np.int32
        np.testing.assert_array_equal(split.images, saved[f"{name}_images"].reshape(-1, 6, 5, channels))
        np.testing.assert_array_equal(split.labels, saved[f"{name}_labels"])
    pixels = saved["train_images"].reshape(-1, channels) / 255
    np.testing.assert_allclose(dataset.mean, pixels.mean(0), rtol=1e-9)
    np.testing.assert_allclose(dataset.std, pixels.std(0), rtol=1e-9)


@pytest.mark.parametrize("names, expected", [
    (None, ("0", "1")),
    (np.array([b"cat", b"dog"]), ("cat", "dog")),
])
def test_classes_are_called_as_the_file_says_or_by_their_numbers(path, names, expected):
    np.savez(path, **arrays(class_names=names))
    assert data.load(f"npz:{path}").class_names == expected


def test_a_class_may_be_without_images_which_is_said(path):
    np.savez(path, **arrays(class_names=np.array(["cat", "dog", "emu"])))
    with pytest.warns(data.DataWarning, match=r"1 of 3 classes have no training images \(emu\) and are never learnt"):
        assert data.load(f"npz:{path}").class_names == ("cat", "dog", "emu")


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.uint64])
def test_labels_of_any_integer_type_are_read(path, kind):
    np.savez(path, **arrays(train_labels=np.arange(8, dtype=kind) % 2))
    np.testing.assert_array_equal(data.load(f"npz:{path}").train.labels, [0, 1, 0, 1, 0, 1, 0, 1])


@pytest.mark.slow
def test_only_what_streams_needs_more_than_numpy(path):
    """In another process, where the readers of other sets and OpenCV cannot be imported, a run's modules can."""
    np.savez(path, **arrays())
    code = """
import sys
missing = ("tensorflow_datasets", "tensorflow", "grain", "array_record", "cv2")
sys.modules.update(dict.fromkeys(missing))  # None: importing it fails
from dietjax import config, data
from dietjax.cli import main
from dietjax.run import assemble
dataset = assemble.open_data(config.Data(name=sys.argv[1]))
print(dataset.train.images.shape, dataset.test.num_examples)
print(next(dataset.test.batches(4))[0].shape)
try:
    data.load(sys.argv[1], image_size=4)
except data.DataError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code, f"npz:{path}"], capture_output=True, text=True, check=True)
    shape, batch, streams = done.stdout.splitlines()
    assert (shape, batch) == ("(8, 6, 5, 1) 5", "(4, 6, 5, 1)")
    assert "need grain and opencv-python-headless: pip install them" in streams


def test_it_streams_where_it_is_resized_or_large(path, monkeypatch):
    np.savez(path, **arrays(COLOUR))
    whole = data.load(f"npz:{path}")
    assert data.load(f"npz:{path}", image_size=4).image_shape == (4, 4, 3)
    monkeypatch.setattr(sets, "RESIDENT_BYTES", 13 * 6 * 5 * 3 - 1)
    large = data.load(f"npz:{path}")
    assert isinstance(large.train, data.Stream)
    for one, other in zip(large.train.take(np.arange(8)), whole.train, strict=True):
        np.testing.assert_array_equal(one, other)


ONE_HOT = np.eye(2, dtype=int)[np.arange(8) % 2]


@pytest.mark.parametrize("changes, says", [
    ({"test_labels": None}, "lacks test_labels: np.savez(path, train_images=..., train_labels=..., "),
    ({"train_images": np.zeros((8, 6, 5))}, "train_images of PATH are float64 of shape (8, 6, 5, 1); needed are uint8 "
                                            "[N, H, W] or [N, H, W, 1 or 3], of frames [N, T, H, W, 1, 2 or 3]; "
                                            "pixels are 0..255: where yours are 0..1, "
                                            "np.round(255 * images).astype(np.uint8)"),
    ({"train_images": np.zeros((8, 6, 5), np.int64)}, "images.astype(np.uint8)"),
    ({"train_images": np.zeros((8, 3, 6, 5), np.uint8)}, "channels come last: np.moveaxis(images, 1, -1)"),
    ({"train_images": np.zeros((8, 1, 6, 5), np.uint8)}, "channels come last: np.moveaxis(images, 1, -1)"),
    ({"train_images": np.zeros((8, 6, 5, 4), np.uint8)}, "without transparency: images[..., :3]"),
    ({"train_images": np.zeros((8, 30), np.uint8)}, "rows of pixels: images.reshape(N, H, W, C)"),
    ({"train_images": np.zeros((0, 6, 5), np.uint8), "train_labels": np.zeros(0, int)}, "there are none"),
    ({"train_labels": ONE_HOT}, "needed are 8 integers: one-hot rows become them by labels.argmax(1)"),
    ({"train_labels": np.zeros((8, 1), int)}, "needed are 8 integers: labels.ravel()"),
    ({"train_labels": np.array(["cat", "dog"] * 4)}, "class_names, labels = np.unique(labels, return_inverse=True)"),
    ({"train_labels": np.zeros(8)}, "are float64 of shape (8,); needed are 8 integers: labels.astype(int), if they"),
    ({"train_labels": np.zeros(7, int)}, "shape (7,); needed are 8 integers, one for each image"),
    ({"train_labels": np.arange(8) % 2 + 1, "test_labels": np.ones(5, int)},
     "labels span 1..2, and none is 0: classes are numbered from 0, labels - 1; or give class_names"),
    ({"train_labels": np.arange(8) % 2 + 1, "test_labels": np.ones(5, int), "class_names": np.array(["cat", "dog"])},
     "labels of train span 1..2, but there are 2 classes, 0..1: number them from 0"),
    ({"train_labels": np.array([0, 10**9] * 4)}, "labels of train reach 1000000000, with 8 images: number the"),
    ({"train_labels": np.array([0, 2**40] * 4)}, "with 8 images: number the classes 0"),
    ({"test_labels": np.full(5, 2)}, "labels of test span 2..2, but there are 2 classes"),
    ({"test_labels": np.full(5, -1)}, "labels of test span -1..-1, but there are 2 classes"),
    ({"test_images": np.zeros((5, 5, 5), np.uint8)}, "training images are (6, 5, 1), test images (5, 5, 1); both need"),
    ({"class_names": np.array(["cat", "dog", "cat"])}, "class_names of PATH hold 'cat' more than once: give each"),
    ({"class_names": np.array([1, 2])}, "class_names of PATH are int64 of shape (2,); needed are strings"),
    ({"class_names": np.array(["cat", "dog"], object)}, "class_names of PATH are pickled Python objects, and reading "
                                                        "those can run code: save one plain array, np.array(x, str)"),
    ({"train_images": np.array([None] * 8)}, "train_images of PATH are pickled Python objects"),
])
def test_wrong_arrays_are_named_with_the_remedy(path, changes, says):
    np.savez(path, **arrays(**changes))
    with pytest.raises(data.DataError) as error:
        data.load(f"npz:{path}")
    assert says.replace("PATH", str(path)) in str(error.value) and "\n" not in str(error.value)


def save_one_array(path):
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))


def flip(path):
    content = bytearray(path.read_bytes())
    content[content.index(b"NUMPY") + 200] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage, says", [
    (os.remove, "cannot be read: No such file or directory; give the path of an .npz file"),
    (lambda p: os.remove(p) or os.mkdir(p), "cannot be read: Is a directory"),
    (lambda p: p.write_bytes(b""), "cannot be read: it is empty; np.savez writes an .npz file"),
    (lambda p: p.write_bytes(b"some text"), "cannot be read as an .npz file: it is text; np.savez writes one"),
    (lambda p: p.write_bytes(pickle.dumps([1, 2])), "cannot be read as an .npz file: it is a pickle, and reading"),
    (save_one_array, "cannot be read as an .npz file: it is an .npy file, one array without a name"),
    (lambda p: p.write_bytes(p.read_bytes()[:-40]), "cannot be read as an .npz file: it is cut off: copy or write it"),
    (flip, "cannot be read: it is damaged ('train_images.npy' is not what it was when it was written); copy or write"),
])
def test_a_file_that_is_no_npz_or_not_whole_is_named(path, damage, says):
    np.savez(path, **arrays())
    damage(path)
    with pytest.raises(data.DataError) as error:
        data.load(f"npz:{path}")
    assert f"{path} {says}" in str(error.value) and "\n" not in str(error.value)


def test_the_prefix_is_named_where_it_was_forgotten(path):
    with pytest.raises(data.DataError, match=r"a file of arrays is called npz:pets\.npz"):
        data.load("pets.npz")


def test_the_command_line_says_one_sentence(path, tmp_path, capsys):
    experiment = tmp_path / "tiny.py"
    experiment.write_text("from dietjax.config import *\nexperiment = Experiment('tiny')")
    assert cli.main(["train", str(experiment), "--workdir", str(tmp_path / "run"), "--data.name", f"npz:{path}"]) == 2
    said = capsys.readouterr().err
    assert said == f"error: {path} cannot be read: No such file or directory; give the path of an .npz file\n"
