"""The order in which training reads examples: a function of the seed and the step alone."""

import functools

import numpy as np


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


@functools.lru_cache(maxsize=1)
def _sides(seed: int, num_examples: int) -> np.ndarray:
    # three numbers: another stream than any epoch's permutation
    return np.random.default_rng([seed, 0, 1]).random(num_examples) < 0.5


@functools.lru_cache(maxsize=2)  # a batch straddles two epochs
def _permutation(seed: int, num_examples: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(num_examples).astype(np.int32)
