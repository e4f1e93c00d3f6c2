"""Training batches: where they come from, and what is done to them inside the compiled step."""

import functools
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ..config import Data
from ..data import Dataset, Split, alternate_sides, batch_indices, cutout, drop_events, normalise, random_crop_flip
from ..models import Network
from ..parallel.mesh import assemble, batch_sharding, batches_sharding, distribute, place, replicated, rows_here
from ..types import Array


class Teacher(NamedTuple):
    """A trained network that a phase learns from: its logits on the training images are targets beside the labels."""

    net: Network
    variables: dict
    """Whole, in every process."""


class Batches(Protocol):
    """Batches without end, each a function of the seed and the step alone, so that a run resumes anywhere."""

    def arguments(self, step: int) -> tuple[Array, ...]:
        """What the step with this number gets, placed on the mesh."""

    def several(self, step: int, count: int, room: int) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """What `count` steps from this one on get, if one program does them: (what is the same for all of them, what
        changes, stacked [room, ...]; what lies beyond `count` is not used). Only of a set in memory.
        """

    def fetch(self, key: Array, *arguments: Array) -> tuple[Array, ...]:
        """(images [B, H, W, C] normalised, labels [B]) from those arguments, and with a teacher its logits [B, K];
        pure, compiled into the step.
        """


def make_batches(dataset: Dataset, augment: Data, seed: int, batch_size: int, mesh: Mesh,
                 teacher: Teacher | None = None) -> Batches:
    """A set's training batches: of one in memory they are gathered on the device, else streamed.

    Args:
        dataset: from `data.load`.
        augment: how its images are cropped, flipped and cut out.
        seed: of the order of examples, and of crops on the host.
        batch_size: B, over all hosts.
        mesh: which devices.
        teacher: whose logits come with the labels.
    """
    kind = ResidentBatches if isinstance(dataset.train, Split) else StreamedBatches
    batches = kind(dataset, augment, seed, batch_size, mesh)
    return batches if teacher is None else TaughtBatches(batches, teacher, mesh)


class ResidentBatches:
    """Of a set that lives on the device as uint8: they are gathered, augmented and normalised inside the step."""

    def __init__(self, dataset: Dataset, augment: Data, seed: int, batch_size: int, mesh: Mesh):
        self._sharded, self._several = batch_sharding(mesh), batches_sharding(mesh)
        self._set = place(tuple(dataset.train), replicated(mesh))
        self._indices = functools.partial(batch_indices, seed, dataset.train.num_examples, batch_size)
        self._sides = _sides(augment, seed, dataset.train.num_examples, batch_size)
        self._prepared = functools.partial(_prepared, augment, dataset)

    def arguments(self, step: int) -> tuple[Array, ...]:
        """(images uint8 [N, H, W, C], labels [N], indices [B]; where flips alternate, which are flipped [B])."""
        return *self._set, *place(self._moving(step), self._sharded)

    def several(self, step: int, count: int, room: int) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """((images, labels), (indices [room, B]; where flips alternate, which are flipped [room, B]))."""
        rows = [self._moving(step + min(i, count - 1)) for i in range(room)]
        return self._set, place(tuple(np.stack(column) for column in zip(*rows, strict=True)), self._several)

    def _moving(self, step):
        return self._indices(step), *self._sides(step)

    def fetch(self, key: Array, images: Array, labels: Array, indices: Array, *sides: Array) -> tuple[Array, Array]:
        """The examples at these indices, cropped, flipped and normalised."""
        batch = jax.lax.with_sharding_constraint(images[indices], self._sharded)
        return self._prepared(key, batch, *sides), labels[indices]


class StreamedBatches:
    """Of a set of any size: each host decodes its rows of a batch ahead of time; the step flips and normalises them."""

    def __init__(self, dataset: Dataset, augment: Data, seed: int, batch_size: int, mesh: Mesh):
        self._sharded, self._batch_size = batch_sharding(mesh), batch_size
        self._rows = rows_here(self._sharded, batch_size)
        self._batches_from = functools.partial(dataset.train.training_batches, seed, batch_size, rows=self._rows)
        self._sides = _sides(augment, seed, dataset.train.num_examples, batch_size)
        self._batches, self._next = None, None
        self._prepared = functools.partial(_prepared, augment, dataset)

    def arguments(self, step: int) -> tuple[Array, ...]:
        """(images uint8 [B, H, W, C], labels [B]; where flips alternate, which are flipped [B]); waits for them.
        Decodes ahead while steps follow one another.
        """
        if step != self._next:
            self._batches = self._batches_from(step)
        self._next = step + 1
        sides = [sides[self._rows] for sides in self._sides(step)]
        return assemble((*next(self._batches), *sides), self._sharded, self._batch_size)

    def fetch(self, key: Array, images: Array, labels: Array, *sides: Array) -> tuple[Array, Array]:
        """The same examples, cropped, flipped and normalised."""
        return self._prepared(key, images, *sides), labels


class TaughtBatches:
    """Others' batches with a teacher's logits on the same images, cropped and flipped as they are."""

    def __init__(self, batches: Batches, teacher: Teacher, mesh: Mesh):
        self._batches, self._net, self._replicated = batches, teacher.net, replicated(mesh)
        self._variables = distribute(teacher.variables, mesh)

    def arguments(self, step: int) -> tuple:
        """(the teacher's variables, what the others need); closed over, they would be constants in the program."""
        return self._variables, *self._batches.arguments(step)

    def several(self, step: int, count: int, room: int) -> tuple[tuple, tuple[Array, ...]]:
        """The same, of several steps."""
        constant, moving = self._batches.several(step, count, room)
        return (self._variables, *constant), moving

    def fetch(self, key: Array, variables: dict, *arguments: Array) -> tuple[Array, Array, Array]:
        """(images, labels, the teacher's logits [B, K])."""
        images, labels = self._batches.fetch(key, *arguments)
        whole = jax.lax.with_sharding_constraint(variables, self._replicated)
        return images, labels, self._net.apply(whole, images)[0]


def _sides(augment, seed, num_examples, batch_size):
    """From a step to (which of its examples are flipped [B],) where flips alternate, else to ()."""
    if not augment.flip_alternates:
        return lambda step: ()
    return lambda step: (alternate_sides(seed, num_examples, batch_size, step),)


def _prepared(augment, dataset, key, batch, mirrored=None):
    """What the network sees of a batch of raw images: float32."""
    if augment.cutout:
        key, cutout_key = jax.random.split(key)
    if augment.drop_events:
        key, drop_key = jax.random.split(key)
        batch = drop_events(drop_key, batch, augment.drop_events)
    batch = random_crop_flip(key, batch, augment.crop_padding, augment.flip, fill=augment.crop_fill, mirrored=mirrored)
    batch = normalise(batch, dataset.mean, dataset.std, jnp.float32)
    return cutout(cutout_key, batch, augment.cutout) if augment.cutout else batch
