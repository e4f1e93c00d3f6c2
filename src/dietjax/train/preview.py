"""Examples as training sees them, as pictures: for looking at data before anything is trained."""

import dataclasses

import jax
import numpy as np

from ..config import Data
from ..data import Dataset, batch_indices
from ..parallel.mesh import make_mesh
from .batches import make_batches


def augmented(dataset: Dataset, settings: Data, indices: np.ndarray, epochs: int, seed: int = 0) -> np.ndarray:
    """What a network is given of these training examples in the first epochs of a training on them alone.

    Returns:
        [epochs, n, H, W, C], of frames [epochs, n, T, H, W, C]: uint8, normalisation undone.
    """
    part = dataclasses.replace(dataset, train=dataset.train.subset(indices))
    batches = make_batches(part, settings, seed, len(indices), make_mesh(devices=jax.devices()[:1]))
    fetch, keys = jax.jit(batches.fetch), jax.random.split(jax.random.key(seed), epochs)
    found = []
    for epoch, key in enumerate(keys):
        images, _ = fetch(key, *batches.arguments(epoch))
        pixels = 255 * (np.asarray(images) * np.asarray(dataset.std) + np.asarray(dataset.mean))
        in_order = np.empty(pixels.shape, np.uint8)
        in_order[batch_indices(seed, len(indices), len(indices), epoch)] = np.clip(np.round(pixels), 0, 255)
        found.append(in_order)
    return np.stack(found)
