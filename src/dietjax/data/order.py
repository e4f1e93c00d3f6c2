"""The order in which training reads examples: a function of the seed and the step alone."""

import functools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from .source import DataError


def batch_indices(seed: int, num_examples: int, batch_size: int, step: int) -> np.ndarray:
    """The examples of training step `step`: int32 [batch_size].

    Positions step·B .. (step+1)·B - 1 of an endless row of permutations, one per epoch: each epoch reads every example
    once, a batch may straddle epochs, nothing is dropped, and the order depends only on seed and step, so that
    training resumes at any step.
    """
    if num_examples < 1 or batch_size < 1 or step < 0:
        raise ValueError(
            f"num_examples and batch_size must be at least 1 and step at least 0, got {num_examples}, {batch_size}, "
            f"{step}"
        )
    epochs, positions = np.divmod(np.arange(step * batch_size, (step + 1) * batch_size), num_examples)
    return np.concatenate(
        [_permutation(seed, num_examples, epoch)[positions[epochs == epoch]] for epoch in np.unique(epochs).tolist()]
    )


def alternate_sides(seed: int, num_examples: int, batch_size: int, step: int) -> np.ndarray:
    """Which examples of training step `step` are flipped where an example is flipped at every other epoch, whether at
    even or at odd ones by a draw of its own: bool [batch_size], beside `batch_indices`.
    """
    epochs = np.arange(step * batch_size, (step + 1) * batch_size) // num_examples
    return _sides(seed, num_examples)[batch_indices(seed, num_examples, batch_size, step)] ^ (epochs % 2 == 1)


def epoch_batches(num_examples: int, batch_size: int, *, seed: int | None = None, epoch: int = 0,
                  drop_last: bool = False) -> tuple[int, Callable[[int], np.ndarray]]:
    """(How many batches one epoch has, batch number -> its examples int [b]): every example once.

    Args:
        num_examples: of the split.
        batch_size: b of all batches but the last, which has the rest.
        seed: of the order, that of training in this epoch; None: the order stored.
        epoch: from 0; each has an order of its own.
        drop_last: leave out a last batch that is smaller.

    Raises:
        DataError: no such batches.
    """
    batch_size, epoch = _whole("batch_size", batch_size, 1), _whole("epoch", epoch, 0)
    if seed is None and epoch:
        raise DataError(f"epoch {epoch} without a seed: the order stored is the same in every epoch; give a seed to "
                        "shuffle, a new order each epoch")
    if drop_last and batch_size > num_examples:
        raise DataError(f"batch_size {batch_size} is more than the {num_examples} examples, and drop_last leaves out "
                        "a smaller batch: none is left; make it smaller, or keep the last")
    order = np.arange(num_examples) if seed is None else _permutation(_whole("seed", seed, 0), num_examples, epoch)
    count = num_examples // batch_size if drop_last else -(-num_examples // batch_size)
    return count, lambda number: order[number * batch_size : (number + 1) * batch_size]


def _whole(name: str, given: Any, least: int) -> int:
    """A whole number that is not below the least."""
    try:
        if not isinstance(given, bool) and operator.index(given) >= least:
            return operator.index(given)
    except TypeError:
        pass
    raise DataError(f"{name} must be a whole number from {least} on, got {given!r}")


@functools.lru_cache(maxsize=1)
def _sides(seed: int, num_examples: int) -> np.ndarray:
    # three numbers: another stream than any epoch's permutation
    return np.random.default_rng([seed, 0, 1]).random(num_examples) < 0.5


@functools.lru_cache(maxsize=2)  # a batch straddles two epochs
def _permutation(seed: int, num_examples: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(num_examples).astype(np.int32)
