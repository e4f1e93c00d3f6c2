"""Laws of the batches that a loop of one's own iterates: every example once an epoch, in the order of training."""

from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dietjax import data
from dietjax.data.npz import Arrays
from dietjax.data.order import epoch_batches
from dietjax.data.stream import Stream

COUNT = 10


def split(kind):
    """Ten examples that show their numbers, in memory or streamed."""
    numbers = np.arange(COUNT, dtype=np.int32)
    images = np.broadcast_to(numbers.astype(np.uint8)[:, None, None, None], (COUNT, 2, 3, 1))
    if kind == "memory":
        return data.Split(images, numbers)
    return Stream(Arrays(images, numbers, "numbers"), (2, 3, 1), resized=False, num_classes=COUNT, threads=1)


@pytest.mark.parametrize("kind", ["memory", "streamed"])
def test_a_loop_over_epochs_reads_what_training_reads(kind):
    found, expected = [], []
    for epoch in range(3):
        batches = list(split(kind).batches(5, seed=4, epoch=epoch))
        assert [images.shape for images, _ in batches] == [(5, 2, 3, 1)] * 2
        found += [labels for _, labels in batches]
        for images, labels in batches:
            np.testing.assert_array_equal(images[:, 1, 2, 0], labels)
    expected = [data.batch_indices(4, COUNT, 5, step) for step in range(6)]
    np.testing.assert_array_equal(found, expected)
    assert len({tuple(np.concatenate(found[2 * epoch:2 * epoch + 2])) for epoch in range(3)}) == 3


@pytest.mark.parametrize("kind", ["memory", "streamed"])
@pytest.mark.parametrize("options, sizes", [({}, [4, 4, 2]), ({"drop_last": True}, [4, 4]), ({"seed": 0}, [4, 4, 2]),
                                            ({"seed": 7, "epoch": 2, "drop_last": True}, [4, 4])])
def test_the_last_batch_is_smaller_or_left_out(kind, options, sizes):
    labels = [labels for _, labels in split(kind).batches(4, **options)]
    assert list(map(len, labels)) == sizes
    order = np.concatenate(labels)
    assert len(set(order.tolist())) == len(order)
    assert (order == np.arange(len(order))).all() == ("seed" not in options)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(1, 70), st.none() | st.integers(0, 2**40), st.integers(0, 5))
def test_every_example_comes_once_whatever_the_batches(count, batch_size, seed, epoch):
    many, batch = epoch_batches(count, batch_size, seed=seed, epoch=epoch if seed is not None else 0)
    batches = [batch(number).tolist() for number in range(many)]
    assert sorted(chain(*batches)) == list(range(count))
    assert {len(b) for b in batches[:-1]} <= {batch_size} and 1 <= len(batches[-1]) <= batch_size
    if seed is not None:
        whole = data.batch_indices(seed, count, count, epoch)
        assert list(chain(*batches)) == whole.tolist()


@pytest.mark.parametrize("kind", ["memory", "streamed"])
def test_hosts_share_the_rows_of_a_shuffled_batch(kind):
    whole = [labels for _, labels in split(kind).batches(4, seed=1)]
    halves = [[labels for _, labels in split(kind).batches(4, lambda size, h=h: np.arange(size)[h::2], seed=1)]
              for h in (0, 1)]
    for batch, even, odd in zip(whole, *halves, strict=True):
        np.testing.assert_array_equal(batch[::2], even)
        np.testing.assert_array_equal(batch[1::2], odd)


@pytest.mark.parametrize("kind", ["memory", "streamed"])
def test_a_subset_is_a_split_of_its_own(kind):
    whole = split(kind)
    assert whole.labels.tolist() == list(range(COUNT))  # read before: a subset's are others
    part = whole.subset(np.array([7, 2, 4]))
    assert part.num_examples == 3 and part.labels.tolist() == [7, 2, 4] and whole.num_examples == COUNT
    images, labels = part.take(np.arange(3))
    np.testing.assert_array_equal(images[:, 0, 0, 0], labels)
    assert [labels.tolist() for _, labels in part.batches(2)] == [[7, 2], [4]]
