"""Laws of alternating flips: every example is seen from both sides in two epochs, from a set in memory too."""

import collections

import jax
import numpy as np
from quadrants import BATCH, EXAMPLES, make_dataset
from short_training import one_device

from dietjax.config import Data
from dietjax.data import alternate_sides, batch_indices
from dietjax.train.batches import make_batches


def test_sides_alternate_with_the_epoch_and_differ_between_examples():
    """Seven examples in batches of three: a batch may lie in two epochs."""
    seen = collections.defaultdict(list)
    for step in range(14):
        indices, sides = (draw(0, 7, 3, step) for draw in (batch_indices, alternate_sides))
        for index, side in zip(indices.tolist(), sides.tolist(), strict=True):
            seen[index].append(side)
    assert all(sides == [sides[0], not sides[0]] * 3 for sides in seen.values())
    assert len({sides[0] for sides in seen.values()}) == 2
    assert [list(alternate_sides(seed, 1000, 1000, 0)) for seed in (1, 1)] != [
        list(alternate_sides(seed, 1000, 1000, 0)) for seed in (1, 2)]


def test_a_set_in_memory_is_flipped_as_the_sides_say():
    dataset = make_dataset()
    plain, alternating = (make_batches(dataset, Data(**options), 0, BATCH, one_device())
                          for options in ({}, {"flip": True, "flip_alternates": True}))
    for step in (0, EXAMPLES // BATCH + 1):
        whole = np.asarray(plain.fetch(jax.random.key(0), *plain.arguments(step))[0])
        shown = np.asarray(alternating.fetch(jax.random.key(0), *alternating.arguments(step))[0])
        sides = alternate_sides(0, EXAMPLES, BATCH, step)
        np.testing.assert_array_equal(shown, np.where(sides[:, None, None, None], whole[:, :, ::-1], whole))
        assert 0 < sides.sum() < BATCH
