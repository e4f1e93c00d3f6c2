"""Training batches: where they come from, and what is done to them inside the compiled step."""

import functools
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from . import data
from .mesh import batch_sharding, place, replicated
from .types import Array


class Feed(Protocol):
    """Endless batches, each a function of the seed and the step alone, so that a run resumes anywhere."""

    def arguments(self, step: int) -> tuple[Array, ...]:
        """What the step with this number gets, placed on the mesh."""

    def fetch(self, key: Array, *arguments: Array) -> tuple[Array, Array]:
        """(images [B, H, W, C] normalised, labels [B]) from those arguments; pure, compiled into the step."""


class Resident:
    """A set that lives on the device as uint8; batches are gathered, augmented and normalised inside the step."""

    def __init__(self, dataset: data.Dataset, augment: Any, seed: int, batch_size: int, mesh: Mesh):
        self._sharded = batch_sharding(mesh)
        self._set = place(tuple(dataset.train), replicated(mesh))
        self._indices = functools.partial(data.batch_indices, seed, len(dataset.train.labels), batch_size)
        self._augment, self._mean, self._std = augment, dataset.mean, dataset.std

    def arguments(self, step: int) -> tuple[Array, Array, Array]:
        """(images uint8 [N, H, W, C], labels [N], indices [B])."""
        return *self._set, place(self._indices(step), self._sharded)

    def fetch(self, key: Array, images: Array, labels: Array, indices: Array) -> tuple[Array, Array]:
        """The examples at these indices, cropped, flipped and normalised."""
        batch = jax.lax.with_sharding_constraint(images[indices], self._sharded)
        batch = data.random_crop_flip(key, batch, self._augment.crop_padding, self._augment.flip)
        return data.normalise(batch, self._mean, self._std, jnp.float32), labels[indices]
