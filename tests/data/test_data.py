import collections
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dietjax import data
from dietjax.data import order


@pytest.fixture(scope="session")
def digits_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tfds")
    data.load("digits", directory)
    return directory


@pytest.fixture(scope="session")
def digits(digits_dir):
    return data.load("digits", digits_dir)


def run_python(code, *arguments):
    process = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(process, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def prepare(directory, name, features, splits):
    """A tensorflow-datasets directory with these examples, `splits` a dict of lists."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import registered

    with registered.skip_registration():

        class Prepared(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("1.0.0")
            url_infos = {}  # noqa: RUF012

            def _info(self):
                features_dict = tfds.features.FeaturesDict(features)
                return tfds.core.DatasetInfo(builder=self, features=features_dict, disable_shuffling=True)

            def _split_generators(self, dl_manager):
                return {split: self._generate_examples(examples) for split, examples in splits.items()}

            def _generate_examples(self, examples):
                yield from enumerate(examples)

        builder = type(name, (Prepared,), {})(data_dir=directory, file_format="array_record")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    return directory / name / "1.0.0"


def colour_features(shape=(5, 6, 3)):
    import tensorflow_datasets as tfds

    return {
        "id": tfds.features.Text(),
        "image": tfds.features.Image(shape=shape, encoding_format="png"),
        "label": tfds.features.ClassLabel(names=["cat", "dog"]),
    }


def colour_examples(images, labels):
    from PIL import Image

    return [
        {"id": str(i), "image": Image.fromarray(image), "label": int(label)}
        for i, (image, label) in enumerate(zip(images, labels, strict=True))
    ]


@pytest.fixture(scope="session")
def colour():
    """Images [7, 5, 6, 3] and labels of a small colour set."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (7, 5, 6, 3), dtype=np.uint8), rng.integers(0, 2, 7)


@pytest.fixture
def colour_dir(tmp_path, colour):
    images, labels = colour
    splits = {"train": colour_examples(images[:4], labels[:4]), "validation": colour_examples(images[4:], labels[4:])}
    prepare(tmp_path, "colour", colour_features(), splits)
    return tmp_path


def edit_info(prepared, edit):
    path = prepared / "dataset_info.json"
    info = json.loads(path.read_text())
    edit(info)
    path.write_text(json.dumps(info))


class TestDigits:
    def test_pixels_and_labels_equal_scikit_learns(self, digits):
        from sklearn.datasets import load_digits

        levels, labels = load_digits(return_X_y=True)
        given = collections.Counter((x.astype(np.uint8).tobytes(), int(y)) for x, y in zip(levels, labels, strict=True))
        read = collections.Counter()
        for split in (digits.train, digits.test):
            assert split.images.dtype == np.uint8 and split.labels.dtype == np.int32
            assert not (split.images % 15).any()
            read += collections.Counter(
                ((x // 15).tobytes(), int(y)) for x, y in zip(split.images, split.labels, strict=True)
            )
        assert read == given  # as multisets: the splits are disjoint and complete

    def test_a_fifth_of_every_class_is_held_out(self, digits):
        assert len(digits.train.labels) == 1437 and len(digits.test.labels) == 360
        train, test = (np.bincount(split.labels, minlength=10) for split in (digits.train, digits.test))
        np.testing.assert_allclose(test, 0.2 * (train + test), atol=1)

    def test_held_out_examples_are_fixed(self, digits):
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        levels, labels = load_digits(return_X_y=True)
        _, held_out = train_test_split(np.arange(1797), test_size=0.2, stratify=labels, random_state=0)
        held_out.sort()
        np.testing.assert_array_equal(digits.test.images.reshape(360, 64), 15 * levels[held_out])
        np.testing.assert_array_equal(digits.test.labels, labels[held_out])

    def test_dataset_describes_itself(self, digits):
        assert digits.name == "digits"
        assert digits.num_classes == 10
        assert digits.image_shape == (8, 8, 1)
        assert digits.class_names == tuple("0123456789")

    def test_statistics_are_those_of_the_training_split(self, digits):
        pixels = digits.train.images / 255
        np.testing.assert_allclose(digits.mean, [pixels.mean()], atol=5e-5)
        np.testing.assert_allclose(digits.std, [pixels.std()], atol=5e-5)
        assert (digits.mean, digits.std) == data.STATISTICS["digits"]

    @pytest.mark.slow
    def test_processes_can_build_at_the_same_time(self, tmp_path, digits):
        code = (
            "import sys, random; random.seed(0)\n"  # equal seeds, as processes of one experiment have
            "from dietjax import data\n"
            "train = data.load('digits', sys.argv[1]).train\n"
            "print(int(train.images.sum()), len(train.labels))"
        )
        processes = [run_python(code, tmp_path) for _ in range(3)]
        for process in processes:
            out, err = process.communicate()
            assert out.split() == [str(digits.train.images.sum()), "1437"], err
        assert [path.name for path in tmp_path.iterdir()] == ["digits"]
        assert [path.name for path in (tmp_path / "digits").iterdir()] == ["1.0.0"]


class TestLoad:
    def test_png_images_and_labels_come_back_in_order(self, colour, colour_dir):
        images, labels = colour
        dataset = data.load("colour", colour_dir)
        np.testing.assert_array_equal(dataset.train.images, images[:4])
        np.testing.assert_array_equal(dataset.train.labels, labels[:4])
        np.testing.assert_array_equal(dataset.test.images, images[4:])
        np.testing.assert_array_equal(dataset.test.labels, labels[4:])
        assert dataset.class_names == ("cat", "dog") and dataset.image_shape == (5, 6, 3)

    def test_tensor_images_are_read_like_png(self, colour, tmp_path):
        import tensorflow_datasets as tfds

        features = {**colour_features(), "image": tfds.features.Tensor(shape=(5, 6, 3), dtype=np.uint8)}
        examples = [{"id": "", "image": image, "label": label} for image, label in zip(*colour, strict=True)]
        prepare(tmp_path, "tensors", features, {"train": examples, "test": examples})
        np.testing.assert_array_equal(data.load("tensors", tmp_path).train.images, colour[0])

    def test_unknown_statistics_are_measured_on_the_training_split(self, colour, colour_dir):
        dataset = data.load("colour", colour_dir)
        pixels = colour[0][:4] / 255
        np.testing.assert_allclose(dataset.mean, pixels.mean((0, 1, 2)), rtol=1e-12)
        np.testing.assert_allclose(dataset.std, pixels.std((0, 1, 2)), rtol=1e-9)

    @pytest.mark.parametrize("name, module, known", [
        ("cifar10", "tensorflow_datasets.image_classification.cifar", True),
        ("cifar10", "dietjax.data.build", False),  # a user's npz or folder, prepared under that name
        ("cifar10", "my_sets.cifar10", False),
        ("mnist", "tensorflow_datasets.image_classification.mnist", False),  # not in colour
    ])
    def test_known_statistics_are_the_official_sets_alone(self, colour, tmp_path, name, module, known):
        examples = colour_examples(*colour)
        prepared = prepare(tmp_path, name, colour_features(), {"train": examples, "test": examples})
        edit_info(prepared, lambda info: info.update(moduleName=module))
        dataset = data.load(name, tmp_path)
        pixels = colour[0] / 255
        measured = pixels.mean((0, 1, 2)), pixels.std((0, 1, 2))
        expected = data.STATISTICS[name] if known else measured
        np.testing.assert_allclose((dataset.mean, dataset.std), expected, rtol=1e-9)

    def test_name_may_carry_a_version(self, colour_dir):
        assert len(data.load("colour:1.0.0", colour_dir).train.labels) == 4

    def test_directory_defaults_to_the_environment(self, colour_dir, monkeypatch):
        monkeypatch.setenv("TFDS_DATA_DIR", os.fspath(colour_dir))
        assert len(data.load("colour").train.labels) == 4

    def test_unprepared_set_names_directory_and_command(self, tmp_path):
        with pytest.raises(data.DataError) as error:
            data.load("cifar10", tmp_path / "nowhere")
        assert f"not prepared in {tmp_path / 'nowhere'}" in str(error.value)
        assert f"`dietjax prepare cifar10 --data-dir {tmp_path / 'nowhere'}`" in str(error.value)
        assert "pip install 'dietjax[prepare]'" in str(error.value)
        assert not (tmp_path / "nowhere").exists()

    @pytest.mark.parametrize(
        "name, near", [("cifar-10", "cifar10"), ("CIFAR10", "cifar10"), ("mnits", "mnist"), ("colours", "colour")]
    )
    def test_misspelt_name_suggests_the_nearest(self, name, near, colour_dir):
        with pytest.raises(data.DataError, match=f"Did you mean '{near}'"):
            data.load(name, colour_dir)

    def test_unheard_of_name_says_where_it_looked(self, tmp_path):
        with pytest.raises(data.DataError, match="knows no such set"):
            data.load("qqqqqqqq", tmp_path)

    @pytest.mark.parametrize("file_format", ["tfrecord", "parquet"])
    def test_other_file_format_is_named(self, file_format, colour_dir):
        edit_info(colour_dir / "colour" / "1.0.0", lambda info: info.update(fileFormat=file_format))
        with pytest.raises(data.DataError, match=f"stored as {file_format}.*array_record"):
            data.load("colour", colour_dir)

    @pytest.mark.parametrize("declared", [3, 5])
    def test_no_example_is_lost_silently(self, declared, colour_dir):
        def edit(info):
            info["splits"][0]["shardLengths"] = [str(declared)]

        edit_info(colour_dir / "colour" / "1.0.0", edit)
        with pytest.raises(data.DataError, match=f"declares {declared} examples and its files hold 4"):
            data.load("colour", colour_dir)

    def test_missing_file_is_an_error(self, colour_dir):
        next((colour_dir / "colour" / "1.0.0").glob("colour-train*")).unlink()
        with pytest.raises(data.DataError, match="colour-train"):
            data.load("colour", colour_dir)

    def test_images_of_varying_size_are_refused(self, colour, tmp_path):
        examples = colour_examples(*colour)
        prepare(tmp_path, "varying", colour_features((None, None, 3)), {"train": examples, "test": examples})
        with pytest.raises(data.DataError, match=r"differ in size: set data\.image_size"):
            data.load("varying", tmp_path)

    def test_images_other_than_declared_are_refused(self, colour, tmp_path):
        examples = colour_examples(*colour)
        prepare(tmp_path, "other", colour_features((6, 5, 3)), {"train": examples, "test": examples})
        with pytest.raises(data.DataError, match=r"example 0 of split train .* \(5, 6, 3\), others have \(6, 5, 3\)"):
            data.load("other", tmp_path)

    def test_set_without_labels_is_refused(self, tmp_path):
        import tensorflow_datasets as tfds

        examples = [{"text": "a"}]
        prepare(tmp_path, "prose", {"text": tfds.features.Text()}, {"train": examples, "test": examples})
        with pytest.raises(data.DataError, match=r"no image classification set.*text \(Text\)"):
            data.load("prose", tmp_path)

    def test_unlabelled_split_is_refused(self, colour, tmp_path):
        images, labels = colour
        splits = {"train": colour_examples(images, labels), "test": colour_examples(images, np.full(7, -1))}
        prepare(tmp_path, "unlabelled", colour_features(), splits)
        with pytest.raises(data.DataError, match="not labelled"):
            data.load("unlabelled", tmp_path)

    def test_set_without_held_out_split_is_refused(self, colour, tmp_path):
        prepare(tmp_path, "lone", colour_features(), {"train": colour_examples(*colour)})
        with pytest.raises(data.DataError, match=r"train and test.*\['train'\]"):
            data.load("lone", tmp_path)

    def test_constant_channel_is_refused(self, colour, tmp_path):
        images = colour[0].copy()
        images[..., 1] = 7
        examples = colour_examples(images, colour[1])
        prepare(tmp_path, "flat", colour_features(), {"train": examples, "test": examples})
        with pytest.raises(data.DataError, match="channel 1"):
            data.load("flat", tmp_path)

    def test_importing_needs_none_of_the_readers(self):
        code = (
            "import sys, dietjax.data\n"
            "readers = 'tensorflow_datasets', 'grain', 'sklearn', 'array_record', 'PIL', 'cv2'\n"
            "print([m for m in readers if m in sys.modules])"
        )
        out, err = run_python(code).communicate()
        assert out.strip() == "[]", err


class TestBatchIndices:
    @pytest.mark.parametrize("num_examples, batch_size", [(12, 4), (10, 3), (10, 7), (3, 8), (1, 2)])
    def test_every_epoch_reads_every_example_once(self, num_examples, batch_size):
        steps = range(4 * num_examples)
        order = np.concatenate([data.batch_indices(5, num_examples, batch_size, step) for step in steps])
        for epoch in order.reshape(-1, num_examples):
            np.testing.assert_array_equal(np.sort(epoch), np.arange(num_examples))

    def test_order_depends_only_on_seed_and_step(self):
        forward = [data.batch_indices(3, 50, 8, step) for step in range(30)]
        for step in reversed(range(30)):
            order._permutation.cache_clear()
            np.testing.assert_array_equal(data.batch_indices(3, 50, 8, step), forward[step])

    def test_epochs_and_seeds_differ(self):
        first, second = data.batch_indices(0, 100, 100, 0), data.batch_indices(0, 100, 100, 1)
        assert (first != second).any()
        assert (first != data.batch_indices(1, 100, 100, 0)).any()

    def test_batch_is_int32_and_the_callers_own(self):
        batch = data.batch_indices(0, 10, 10, 0)
        expected = batch.copy()
        assert batch.dtype == np.int32 and batch.shape == (10,)
        batch[:] = 0
        np.testing.assert_array_equal(data.batch_indices(0, 10, 10, 0), expected)

    def test_late_steps_do_not_overflow(self):
        assert len(set(data.batch_indices(0, 1_281_167, 1024, 2**31).tolist())) == 1024

    @pytest.mark.parametrize("arguments", [(0, 0, 4, 0), (0, 4, 0, 0), (0, 4, 4, -1)])
    def test_impossible_sizes_are_refused(self, arguments):
        with pytest.raises(ValueError, match="at least 1"):
            data.batch_indices(*arguments)


class TestRandomCropFlip:
    @pytest.mark.parametrize("padding, flip", [(1, False), (0, True), (1, True), (2, True)])
    @pytest.mark.thin(1)
    def test_yields_every_crop_of_the_black_padded_image_and_no_other(self, padding, flip):
        image = np.arange(1, 25, dtype=np.uint8).reshape(3, 4, 2)
        padded = np.zeros((3 + 2 * padding, 4 + 2 * padding, 2), np.uint8)
        padded[padding : padding + 3, padding : padding + 4] = image
        possible = set()
        for top in range(2 * padding + 1):
            for left in range(2 * padding + 1):
                crop = padded[top : top + 3, left : left + 4]
                possible |= {crop.tobytes(), crop[:, ::-1].tobytes()} if flip else {crop.tobytes()}
        images = jnp.asarray(np.tile(image, (1000, 1, 1, 1)))
        augment = jax.jit(data.random_crop_flip, static_argnums=(2, 3))
        drawn = np.asarray(augment(jax.random.key(0), images, padding, flip))
        assert drawn.dtype == np.uint8
        counts = collections.Counter(example.tobytes() for example in drawn)
        assert set(counts) == possible
        expected = 1000 / len(possible)
        assert max(abs(count - expected) for count in counts.values()) < 5 * expected**0.5

    def test_a_reflected_edge_is_numpys(self):
        image = np.arange(1, 13, dtype=np.uint8).reshape(3, 4, 1)
        padded = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="reflect")
        possible = {padded[top:top + 3, left:left + 4].tobytes() for top in range(3) for left in range(3)}
        drawn = data.random_crop_flip(jax.random.key(0), jnp.asarray(np.tile(image, (200, 1, 1, 1))), 1, False,
                                      fill="reflect")
        assert {example.tobytes() for example in np.asarray(drawn)} == possible

    def test_given_sides_take_the_place_of_drawn_ones(self):
        images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (3, 4, 5, 1), dtype=np.uint8))
        found = data.random_crop_flip(jax.random.key(0), images, 0, True, mirrored=jnp.array([True, False, True]))
        np.testing.assert_array_equal(found, np.stack([images[0, :, ::-1], images[1], images[2, :, ::-1]]))

    def test_without_padding_and_flip_is_the_identity(self):
        images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (3, 4, 5, 1), dtype=np.uint8))
        np.testing.assert_array_equal(data.random_crop_flip(jax.random.key(0), images, 0, False), images)


class TestNormalise:
    def test_equals_the_formula(self):
        images = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 3), dtype=np.uint8)
        mean, std = data.STATISTICS["cifar10"]
        expected = (images.astype(np.float64) / 255 - mean) / std
        with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
            normalised = jax.jit(data.normalise, static_argnums=(1, 2))(jnp.asarray(images), mean, std)
        assert normalised.dtype == jnp.float32
        np.testing.assert_allclose(normalised, expected, atol=1e-6)

    def test_training_pixels_have_mean_0_and_deviation_1(self, digits):
        normalised = np.asarray(data.normalise(jnp.asarray(digits.train.images), digits.mean, digits.std))
        assert abs(normalised.mean()) < 1e-3 and abs(normalised.std() - 1) < 1e-3

    def test_yields_the_compute_dtype(self):
        images = jnp.zeros((1, 2, 2, 1), jnp.uint8)
        assert data.normalise(images, (0.5,), (0.5,), jnp.bfloat16).dtype == jnp.bfloat16

    def test_statistics_of_other_channels_are_refused(self):
        with pytest.raises(ValueError, match="3 channels, mean has 1"):
            data.normalise(jnp.zeros((1, 2, 2, 3), jnp.uint8), (0.5,), (0.5,))
