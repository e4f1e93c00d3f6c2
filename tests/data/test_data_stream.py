"""Laws of data.stream and batches.StreamedBatches: every example once, the same pictures whoever decodes them."""

import collections
import warnings

import cv2
import jax
import numpy as np
import pytest

from dietjax import data
from dietjax.config import Data
from dietjax.data import crops, images
from dietjax.data.source import Example
from dietjax.data.stream import Stream
from dietjax.parallel.mesh import batch_sharding, make_mesh
from dietjax.train.batches import StreamedBatches, make_batches


class Pictures:
    """A source of JPEGs of several sizes; those in `broken` are cut off."""

    def __init__(self, count, broken=()):
        rng = np.random.default_rng(0)
        self.files = []
        for i in range(count):
            coarse = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
            file = cv2.imencode(".jpg", cv2.resize(coarse, (24 + i % 5, 20 + i % 7)))[1].tobytes()
            self.files.append(file[: len(file) // 2] if i in broken else file)

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        return Example(self.files[index], index)  # its label says which one it is

    def where(self, index):
        return f"picture {index}"


def stream(count=50, broken=(), **options):
    return Stream(Pictures(count, broken), (8, 8, 3), resized=True, num_classes=count, **options)


def steps(source, seed, batch_size, steps, rows=None):
    """(images, labels) of these consecutive steps, one after the other."""
    batches = source.training_batches(seed, batch_size, steps.start, rows)
    found = [next(batches) for _ in steps]
    batches.close()
    return tuple(np.concatenate(x) for x in zip(*found, strict=True))


@pytest.fixture(scope="module")
def alone():
    """Three epochs and a bit by one host with one thread: (images, labels) [16 · 10, ...]."""
    return steps(stream(threads=1), 3, 16, range(10))


class TestTraining:
    @pytest.mark.parametrize("threads", [1, 4])
    @pytest.mark.parametrize("hosts", [1, 2, 4])
    def test_hosts_and_threads_change_nothing(self, alone, hosts, threads):
        shares = [steps(stream(threads=threads), 3, 16, range(10), rows)
                  for rows in np.arange(16).reshape(hosts, 16 // hosts)]
        for whole, parts in zip(alone, zip(*shares, strict=True), strict=True):
            parts = [part.reshape(10, 16 // hosts, *part.shape[1:]) for part in parts]
            np.testing.assert_array_equal(np.concatenate(parts, axis=1).reshape(whole.shape), whole)

    def test_an_epoch_reads_every_example_once_in_the_one_order(self, alone):
        _, labels = alone
        for epoch in range(3):
            np.testing.assert_array_equal(np.sort(labels[50 * epoch : 50 * (epoch + 1)]), np.arange(50))
        np.testing.assert_array_equal(labels[:16], data.batch_indices(3, 50, 16, 0))

    def test_it_resumes_from_the_step_alone(self, alone):
        for part, whole in zip(steps(stream(threads=2), 3, 16, range(6, 10)), alone, strict=True):
            np.testing.assert_array_equal(part, whole[6 * 16 :])

    def test_a_picture_is_cropped_anew_in_every_epoch_and_for_every_seed(self, alone):
        pictures, labels = alone
        first, second = (pictures[50 * epoch : 50 * (epoch + 1)][np.argsort(labels[50 * epoch : 50 * (epoch + 1)])]
                         for epoch in (0, 1))
        assert (first != second).any((1, 2, 3)).all()
        other, seen = steps(stream(), 4, 50, range(1))
        assert (other[np.argsort(seen)] != first).any((1, 2, 3)).all()

    def test_a_batch_larger_than_the_set_spans_epochs(self):
        _, labels = steps(stream(7), 0, 21, range(1))
        np.testing.assert_array_equal(np.sort(labels), np.repeat(np.arange(7), 3))


    def test_threads_are_as_many_as_the_cores_that_the_process_may_use(self, monkeypatch):
        monkeypatch.setattr("os.cpu_count", lambda: 64)
        monkeypatch.setattr("os.sched_getaffinity", lambda process: {3, 5, 8}, raising=False)
        assert stream()._threads == 3
        monkeypatch.delattr("os.sched_getaffinity")
        assert stream()._threads == 64
        assert stream(threads=2)._threads == 2


class TestEvaluation:
    @pytest.mark.parametrize("batch_size", [50, 16, 64, 7])
    def test_every_example_once_in_order_and_centred(self, batch_size):
        source = stream()
        batches = list(source.batches(batch_size))
        assert {len(labels) for _, labels in batches[:-1]} <= {batch_size}
        pictures, labels = (np.concatenate(x) for x in zip(*batches, strict=True))
        np.testing.assert_array_equal(labels, np.arange(50))
        expected = [crops.centre_crop(images.decode(file, "", 3), 8, 8) for file in source.source.files]
        np.testing.assert_array_equal(pictures, expected)

    def test_a_host_gets_its_rows_and_decodes_no_others(self):
        source, decoded = stream(threads=2), []
        whole = list(source.batches(16))
        example = source._example
        source._example = lambda index, *rest: decoded.append(index) or example(index, *rest)
        shares = [list(source.batches(16, lambda size, half=half: np.arange(size)[half])) for half in
                  (slice(None, None, 2), slice(1, None, 2))]
        assert sorted(decoded) == list(range(50))
        for (pictures, labels), *halves in zip(whole, *shares, strict=True):
            for i, (part, classes) in enumerate(halves):
                np.testing.assert_array_equal(part, pictures[i::2])
                np.testing.assert_array_equal(classes, labels[i::2])

    def test_take_is_what_it_is_for_a_split_in_memory(self):
        source, chosen = stream(), np.array([40, 3, 3, 17])
        pictures, labels = (np.concatenate(x) for x in zip(*source.batches(50), strict=True))
        whole = data.Split(pictures, labels)
        for wanted in (chosen, chosen[:0]):
            for one, other in zip(source.take(wanted), whole.take(wanted), strict=True):
                np.testing.assert_array_equal(one, other)
                assert one.dtype == other.dtype
        assert (source.num_examples, source.image_shape) == (whole.num_examples, whole.image_shape)
        np.testing.assert_array_equal(source.labels, whole.labels)
        assert source.labels.dtype == np.int32


class TestCorrupt:
    def test_a_corrupt_picture_stops_training_by_name(self):
        with pytest.raises(data.DataError, match=r"^picture 20 is corrupt"):
            steps(stream(broken=(20,), threads=2), 0, 10, range(5))

    def test_skipped_ones_are_reported_once_and_replaced_by_the_next(self):
        source = stream(broken=(20, 21, 49), skip_corrupt=True, threads=4)
        with pytest.warns(data.CorruptImageWarning) as reported:
            _, labels = steps(source, 0, 10, range(10))  # two epochs
        assert sorted(str(warning.message) for warning in reported) == [
            f"picture {i} is corrupt: {len(source.source.files[i])} bytes that are no whole {images.FORMATS}; "
            f"in its place: picture {used}" for i, used in ((20, 22), (21, 22), (49, 0))]
        expected = np.concatenate([data.batch_indices(0, 50, 10, step) for step in range(10)])
        for broken, used in ((20, 22), (21, 22), (49, 0)):
            expected[expected == broken] = used
        np.testing.assert_array_equal(labels, expected)

    def test_a_skip_changes_no_other_picture_and_no_host_sees_another(self):
        sound, _ = steps(stream(), 0, 10, range(5))
        broken = stream(broken=(20,), skip_corrupt=True, threads=2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", data.CorruptImageWarning)
            pictures, _ = steps(broken, 0, 10, range(5))
            share, _ = steps(broken, 0, 10, range(5), np.arange(5, 10))
        same = (pictures == sound).all((1, 2, 3))
        assert np.flatnonzero(~same).tolist() == np.flatnonzero(
            np.concatenate([data.batch_indices(0, 50, 10, step) for step in range(5)]) == 20).tolist()
        np.testing.assert_array_equal(share, pictures.reshape(5, 10, 8, 8, 3)[:, 5:].reshape(share.shape))

    def test_a_set_without_a_sound_picture_is_an_error(self):
        with pytest.raises(data.DataError, match="is corrupt"):
            steps(stream(5, broken=range(5), skip_corrupt=True), 0, 5, range(1))

    def test_a_label_beyond_the_classes_is_an_error(self):
        source = Stream(Pictures(9), (8, 8, 3), resized=True, num_classes=8)
        with pytest.raises(data.DataError, match=r"^picture 8 has label 8, classes are 0\.\.7"):
            next(source.batches(9))


class TestStreamedBatches:
    def dataset(self):
        names = tuple(map(str, range(50)))
        return data.Dataset("pictures", stream(), stream(), names, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))

    def test_batches_are_those_of_the_stream_normalised(self, alone):
        """Asked for out of order as well: a run that resumes asks for any step first."""
        mesh = make_mesh(devices=jax.devices()[:1])
        streamed = make_batches(self.dataset(), Data(image_size=8), 3, 16, mesh)
        assert isinstance(streamed, StreamedBatches)
        pictures, labels = (x.reshape(10, 16, *x.shape[1:]) for x in alone)
        for step in (0, 1, 2, 7, 1):
            arguments = streamed.arguments(step)
            assert arguments[0].dtype == np.uint8 and arguments[0].sharding == batch_sharding(mesh)
            x, y = streamed.fetch(jax.random.key(0), *arguments)
            np.testing.assert_array_equal(y, labels[step])
            expected = (pictures[step] / 255 - np.array([0.5, 0.4, 0.3])) / np.array([0.2, 0.3, 0.4])
            np.testing.assert_allclose(x, expected, atol=1e-5)

    def test_two_epochs_show_both_sides_of_every_example(self):
        """50 examples in batches of 20: the third batch lies in two epochs."""
        mesh = make_mesh(devices=jax.devices()[:1])
        batches = make_batches(self.dataset(), Data(image_size=8, flip=True, flip_alternates=True), 3, 20, mesh)
        plain = make_batches(self.dataset(), Data(image_size=8), 3, 20, mesh)
        sides = collections.defaultdict(list)
        for step in range(10):
            whole, labels = plain.fetch(jax.random.key(0), *plain.arguments(step))
            seen, _ = batches.fetch(jax.random.key(step), *batches.arguments(step))
            for image, shown, label in zip(np.asarray(whole), np.asarray(seen), np.asarray(labels), strict=True):
                flipped = np.array_equal(shown, image[:, ::-1])
                assert flipped != np.array_equal(shown, image)
                sides[int(label)].append(flipped)
        first = [shown[0] for shown in sides.values()]
        assert len(sides) == 50 and 10 < sum(first) < 40
        assert all(shown == [shown[0], not shown[0]] * 2 for shown in sides.values())

    @pytest.mark.slow
    def test_flips_are_the_steps(self):
        mesh = make_mesh(devices=jax.devices()[:1])
        plain, flipping = (make_batches(self.dataset(), Data(image_size=8, flip=flip), 3, 32, mesh)
                           for flip in (False, True))
        arguments = plain.arguments(0)
        x, y = (f.fetch(jax.random.key(1), *arguments)[0] for f in (plain, flipping))
        flipped = np.array([not np.array_equal(a, b) for a, b in zip(x, y, strict=True)])
        assert 4 < flipped.sum() < 28
        np.testing.assert_array_equal(np.asarray(y)[flipped], np.asarray(x)[flipped, :, ::-1])
