"""Sets of one's own: folders, numpy arrays; what is in the way of reading or preparing a set."""

import os
import resource

import cv2
import numpy as np
import pytest
import requests

from dietjax import data
from dietjax.cli import main as cli
from dietjax.data import images, records, sets
from dietjax.data.source import CorruptImage

CLASSES = ("cat", "dog")


@pytest.fixture(scope="module")
def arrays():
    """What an .npz holds: 2 classes, grey 6x5."""
    rng = np.random.default_rng(0)
    return {f"{split}_{what}": rng.integers(0, 256, (n, 6, 5), dtype=np.uint8) if what == "images" else np.arange(n) % 2
            for split, n in (("train", 8), ("test", 5)) for what in ("images", "labels")}


def write_folder(path, arrays, suffix=".png"):
    for split in ("train", "test"):
        for i, (image, label) in enumerate(zip(arrays[f"{split}_images"], arrays[f"{split}_labels"], strict=True)):
            (path / split / CLASSES[label]).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(os.fspath(path / split / CLASSES[label] / f"{i}{suffix}"), image)
    return path


@pytest.fixture
def folder(tmp_path, arrays):
    return write_folder(tmp_path / "pets", arrays)


def assert_holds(split, images, labels):
    """As stored class by class."""
    order = np.argsort(labels, kind="stable")
    np.testing.assert_array_equal(split.images[..., 0], images[order])
    np.testing.assert_array_equal(split.labels, labels[order])


class TestFolder:
    def test_small_ones_are_in_memory_as_stored(self, folder, arrays):
        dataset = data.load(f"folder:{folder}")
        assert (dataset.name, dataset.class_names, dataset.image_shape) == ("pets", CLASSES, (6, 5, 1))
        assert isinstance(dataset.train, data.Split)
        for split in ("train", "test"):
            assert_holds(getattr(dataset, split), arrays[f"{split}_images"], arrays[f"{split}_labels"])
        pixels = arrays["train_images"] / 255
        np.testing.assert_allclose((dataset.mean[0], dataset.std[0]), (pixels.mean(), pixels.std()), rtol=1e-9)

    @pytest.mark.parametrize("name", ["mnist", "digits"])
    @pytest.mark.parametrize("prepared", [False, True])
    def test_a_name_that_is_an_official_sets_too_lends_no_statistics(self, tmp_path, arrays, name, prepared):
        folder, pixels = write_folder(tmp_path / name, arrays), arrays["train_images"] / 255
        if prepared:
            data.prepare(f"folder:{folder}", tmp_path / "tfds")
        dataset = data.load(name if prepared else f"folder:{folder}", tmp_path / "tfds")
        assert dataset.image_shape == (6, 5, 1)
        np.testing.assert_allclose((dataset.mean[0], dataset.std[0]), (pixels.mean(), pixels.std()), rtol=1e-9)

    def test_those_of_any_size_stream_at_one(self, tmp_path):
        for i, (height, width) in enumerate([(20, 30), (40, 25), (9, 9), (100, 50)]):
            for split in ("train", "test"):
                (tmp_path / split / CLASSES[i % 2]).mkdir(parents=True, exist_ok=True)
                image = np.random.default_rng(i).integers(0, 256, (height, width, 3), dtype=np.uint8)
                cv2.imwrite(os.fspath(tmp_path / split / CLASSES[i % 2] / f"{i}.jpg"), image)
        with pytest.raises(data.DataError, match=r"2\.jpg has shape \(9, 9, 3\).* set data\.image_size"):
            data.load(f"folder:{tmp_path}")
        dataset = data.load(f"folder:{tmp_path}", image_size=8)
        assert isinstance(dataset.train, data.Stream) and dataset.image_shape == (8, 8, 3)
        images, labels = next(dataset.test.batches(4))
        assert images.shape == (4, 8, 8, 3) and labels.tolist() == [0, 0, 1, 1]
        assert len(dataset.mean) == 3 and min(dataset.std) > 0
        assert data.load(f"folder:{tmp_path}", image_size=8).mean == dataset.mean

    def test_large_ones_stream_as_stored(self, folder, arrays, monkeypatch):
        whole = data.load(f"folder:{folder}")
        monkeypatch.setattr(sets, "RESIDENT_BYTES", 13 * 30 - 1)
        dataset = data.load(f"folder:{folder}")
        assert isinstance(dataset.train, data.Stream)
        for one, other in zip(dataset.test.take(np.arange(5)), whole.test, strict=True):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(next(dataset.train.training_batches(0, 4, 0))[0],
                                      whole.train.images[data.batch_indices(0, 8, 4, 0)])
        assert dataset.mean == whole.mean

    @pytest.mark.parametrize("break_it, says", [
        (lambda p: os.rename(p / "test", p / "held"), r"test is no directory, nor val .*: folder:PATH needs PATH/"),
        (lambda p: (p / "train" / "emu").mkdir(), "class folder .*emu holds no images"),
        (lambda p: os.rename(p / "test" / "dog", p / "test" / "wolf"), "only in train: dog; only in test: wolf"),
        (lambda p: [f.unlink() for f in (p / "test" / "dog").iterdir()], "class folder .*dog holds no images"),
        (lambda p: (p / "test" / "dog" / "notes.txt").touch(), r"notes\.txt is no image"),
        (lambda p: (p / "train" / "dog" / "7.png").write_bytes(b""), r"train/dog/7\.png is corrupt: 0 bytes"),
        (lambda p: (p / "train" / "dog" / "7.png").unlink() or cv2.imwrite(
            os.fspath(p / "train" / "dog" / "7.png"), np.zeros((6, 4), np.uint8)), r"7\.png has shape \(6, 4, 1\)"),
    ])
    def test_what_is_wrong_is_named(self, folder, break_it, says):
        break_it(folder)
        with pytest.raises(data.DataError, match=says):
            data.load(f"folder:{folder}")

    def test_other_class_count_is_an_error(self, folder, arrays):
        extra = folder / "train" / "emu"
        extra.mkdir()
        (folder / "train" / "cat" / "0.png").rename(extra / "0.png")
        with pytest.raises(data.DataError, match="train has 3 classes, test has 2; only in train: emu"):
            data.load(f"folder:{folder}")

    @pytest.mark.parametrize("split", ["train", "test"])
    def test_skipping_covers_training_alone(self, folder, split):
        corrupt = next((folder / split / "cat").iterdir())
        corrupt.write_bytes(corrupt.read_bytes()[:-4])
        if split == "test":
            with pytest.raises(data.DataError, match=f"{corrupt.name} is corrupt"):
                data.load(f"folder:{folder}", skip_corrupt=True)
        else:
            with pytest.warns(data.CorruptImageWarning, match=f"{corrupt.name} is corrupt.*in its place: .*train/"):
                dataset = data.load(f"folder:{folder}", skip_corrupt=True)
            assert len(dataset.train.labels) == 8


class TestPrepare:
    @pytest.mark.parametrize("prefix", ["", "npz:"])
    def test_arrays_come_back_as_they_were(self, tmp_path, arrays, prefix):
        np.savez(tmp_path / "pets.npz", **arrays, class_names=np.array(CLASSES))
        assert data.prepare(f"{prefix}{tmp_path}/pets.npz", tmp_path / "tfds") == tmp_path / "tfds" / "pets" / "1.0.0"
        dataset = data.load("pets", tmp_path / "tfds")
        assert dataset.class_names == CLASSES and dataset.image_shape == (6, 5, 1)
        for split in ("train", "test"):
            np.testing.assert_array_equal(getattr(dataset, split).images[..., 0], arrays[f"{split}_images"])
            np.testing.assert_array_equal(getattr(dataset, split).labels, arrays[f"{split}_labels"])

    @pytest.mark.parametrize("suffix", [".png", ".jpg"])
    def test_a_folder_comes_back_as_it_was(self, tmp_path, arrays, suffix, capsys):
        folder = write_folder(tmp_path / "My Pets", arrays, suffix)
        command = ["prepare", f"folder:{folder}", "--data-dir", f"{tmp_path}/tfds"]
        assert cli.main(command) == 2
        assert "give one of a-z, 0-9 and _ with --name" in capsys.readouterr().err
        assert cli.main([*command, "--name", "pets"]) == 0
        assert capsys.readouterr().out == f"{tmp_path}/tfds/pets/1.0.0\n"
        one, other = data.load("pets", tmp_path / "tfds"), data.load(f"folder:{folder}")
        assert one.class_names == other.class_names
        for split in ("train", "test"):  # JPEGs too: files are kept, not encoded again
            for x, y in zip(getattr(one, split), getattr(other, split), strict=True):
                np.testing.assert_array_equal(x, y)
        assert cli.main([*command, "--name", "pets"]) == 2
        assert "is there already: remove it" in capsys.readouterr().err

    def test_wrong_arrays_are_named_and_nothing_is_built(self, tmp_path, arrays):
        """Which can be wrong, and how: test_data_npz.py; it is the same reader."""
        np.savez(tmp_path / "pets.npz", **arrays | {"test_labels": np.full(5, 2)})
        with pytest.raises(data.DataError, match=r"labels of test span 2\.\.2, but there are 2 classes"):
            data.prepare(f"{tmp_path}/pets.npz", tmp_path / "tfds")
        assert not (tmp_path / "tfds").exists()

    def test_frames_are_no_images(self, tmp_path, arrays):
        frames = {key: np.stack([value] * 3, axis=1) for key, value in arrays.items() if key.endswith("images")}
        np.savez(tmp_path / "pets.npz", **arrays | {key: value[..., None] for key, value in frames.items()})
        with pytest.raises(data.DataError, match=r"pets has frames.*read it as npz:PATH"):
            data.prepare(f"{tmp_path}/pets.npz", tmp_path / "tfds")

    def test_a_corrupt_image_is_named_and_nothing_is_built(self, tmp_path, folder):
        corrupt = folder / "test" / "dog" / "3.png"
        corrupt.write_bytes(corrupt.read_bytes()[:-4])
        with pytest.raises(data.DataError, match=r"test/dog/3\.png is corrupt"):
            data.prepare(f"folder:{folder}", tmp_path / "tfds")
        assert list((tmp_path / "tfds").iterdir()) == []

    def test_an_official_set_names_the_extra_that_it_needs(self, tmp_path, monkeypatch):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(data.DataError, match=r"needs tensorflow.*pip install 'dietjax\[prepare\]'"):
            data.prepare("cifar10", tmp_path)
        with pytest.raises(data.DataError, match="Did you mean 'cifar10'"):
            data.prepare("cifar-10", tmp_path)

    @pytest.mark.parametrize("error, says", [
        (requests.ConnectionError("no route to toronto"),
         r"no route to toronto\. The same command tries again.*archives from .*downloads/manual, put there by hand"),
        (AssertionError("Manual directory x does not exist or is empty. Register first"),
         r"cifar10 is downloaded by hand, into .*downloads/manual.*Register first"),
    ])
    def test_a_download_that_fails_says_how_to_go_on(self, tmp_path, monkeypatch, error, says):
        def fail(self, **options):
            raise error

        monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
        monkeypatch.setattr("tensorflow_datasets.core.DatasetBuilder.download_and_prepare", fail)
        with pytest.raises(data.DataError, match=f"(?s){says}"):
            data.prepare("cifar10", tmp_path)

    def test_a_bucket_names_the_package_that_it_needs(self, monkeypatch):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(data.DataError, match=r"gs://bucket/sets needs gcsfs: pip install gcsfs"):
            data.load("cifar10", "gs://bucket/sets")

    def test_a_set_that_has_a_name_keeps_it(self, tmp_path):
        with pytest.raises(data.DataError, match="leave out --name"):
            data.prepare("digits", tmp_path, "figures")


class TestRecords:
    @pytest.fixture
    def prepared(self, tmp_path, arrays):
        np.savez(tmp_path / "pets.npz", **arrays)
        return data.prepare(f"{tmp_path}/pets.npz", tmp_path)

    def test_a_flipped_byte_is_found_and_the_example_named(self, prepared):
        file = next(prepared.glob("pets-train*"))
        content = bytearray(file.read_bytes())
        content[content.rfind(b"IDAT") + 8] ^= 255
        file.write_bytes(content)
        with pytest.raises(data.DataError, match=r"example . of split train .* is corrupt"):
            data.load("pets", prepared.parent.parent)

    def test_a_damaged_chunk_costs_its_own_examples_alone(self, prepared, arrays):
        file = next(prepared.glob("pets-train*"))
        content = bytearray(file.read_bytes())
        content[content.index(b"IDAT") + 8] ^= 1  # of the first: all others come after it
        file.write_bytes(content)
        train = records.open_prepared("pets", prepared.parent.parent).train
        for _ in range(2):
            with pytest.raises(CorruptImage, match="example 0 of split train"):
                train[0]
            for index in range(1, 8):
                image, label = train[index]
                np.testing.assert_array_equal(images.decode(image, ""), arrays["train_images"][index][..., None])
                assert label == arrays["train_labels"][index]

    def test_a_cut_file_is_named(self, prepared):
        file = next(prepared.glob("pets-train*"))
        file.write_bytes(file.read_bytes()[:-1000])
        with pytest.raises(data.DataError, match=r"pets-train.* is damaged|its files hold"):
            data.load("pets", prepared.parent.parent)

    def test_a_set_of_more_files_than_may_be_open_is_refused(self, prepared, monkeypatch):
        monkeypatch.setattr(resource, "getrlimit", lambda kind: (64, 257))
        with pytest.raises(data.DataError, match=r"pets has 2 files, and this process may open 257: .*ulimit -Hn 258"):
            data.load("pets", prepared.parent.parent)

    def test_the_limit_on_open_files_is_raised_to_what_a_set_needs(self, prepared, monkeypatch):
        asked = []
        monkeypatch.setattr(resource, "getrlimit", lambda kind: (64, 4096))
        monkeypatch.setattr(resource, "setrlimit", lambda kind, limits: asked.append(limits))
        data.load("pets", prepared.parent.parent)
        assert asked == [(258, 4096)]

    def test_images_resized_stream(self, prepared):
        dataset = data.load("pets", prepared.parent.parent, image_size=4)
        assert isinstance(dataset.train, data.Stream) and dataset.image_shape == (4, 4, 1)
        assert sum(len(labels) for _, labels in dataset.train.batches(3)) == 8
