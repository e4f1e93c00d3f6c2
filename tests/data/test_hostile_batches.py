"""Batches for a loop of one's own, asked for wrongly: refused where they are asked for, not in the loop."""

import numpy as np
import pytest
from hostile import Case, check

from dietjax import data
from dietjax.data.npz import Arrays
from dietjax.data.stream import Stream

IMAGES, LABELS = np.zeros((6, 2, 2, 1), np.uint8), np.array([0, 1] * 3, np.int32)


def asked(*arguments, **options):
    """Of a split in memory and of one that is streamed, which say the same; no batch is read."""
    def attempt(folder):
        said = []
        for split in (data.Split(IMAGES, LABELS), Stream(Arrays(IMAGES, LABELS, ""), (2, 2, 1), resized=False,
                                                         num_classes=2)):
            try:
                split.batches(*arguments, **options)
            except data.DataError as error:
                said.append(error)
        assert len(said) == 2 and str(said[0]) == str(said[1])
        raise said[0]

    return attempt


CASES = [
    Case("batches of 0", asked(0), ("error", "batch_size", "from 1 on", "got 0")),
    Case("batches of -8", asked(-8), ("error", "batch_size", "got -8")),
    Case("batches of 12.5", asked(12.5), ("error", "batch_size", "whole number", "got 12.5")),
    Case("batches of '128'", asked("128"), ("error", "batch_size", "got '128'")),
    Case("batches of True", asked(True), ("error", "batch_size", "got True")),
    Case("a negative seed", asked(2, seed=-1), ("error", "seed", "from 0 on", "got -1")),
    Case("a seed of 0.5", asked(2, seed=0.5), ("error", "seed", "got 0.5")),
    Case("epoch -1", asked(2, seed=0, epoch=-1), ("error", "epoch", "got -1")),
    Case("an epoch, but no seed", asked(2, epoch=3), ("error", "epoch 3 without a seed", "give a seed")),
    Case("drop_last with batches larger than the split", asked(7, seed=0, drop_last=True),
         ("error", "batch_size 7", "6 examples", "keep the last")),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_batches_that_cannot_be(case, tmp_path):
    check(case, tmp_path)
