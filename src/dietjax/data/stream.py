"""A split decoded when it is read, in threads, ahead of time."""

import functools
import os
import threading
import warnings
from collections.abc import Callable, Iterator

import numpy as np

from . import images
from .order import batch_indices
from .source import CorruptImage, CorruptImageWarning, DataError, Source

GROUP = 16
"""Examples that one thread decodes at a time: so few that a batch spreads over the threads."""
AHEAD = 2
"""Batches decoded ahead of the one in use."""
AUGMENTATION = 1
"""Keeps the random numbers of crops apart from those of the order, which are drawn from [seed, epoch]."""


def usable_cores() -> int:
    """CPU cores that this process may use: a scheduler or a container often gives it few of the machine's."""
    if hasattr(os, "sched_getaffinity"):  # Linux has it, macOS does not
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Stream:
    """A split of any size: what it yields depends on seed and step alone, not on threads or on who reads which rows.

    Args:
        source: where the examples are stored.
        image_shape: (H, W, C) of the images it yields.
        resized: training images are random resized crops, others central crops, both H = W; False: images as stored.
        num_classes: labels are below it.
        skip_corrupt: a corrupt image is replaced by the next readable one in the order stored, with a warning; False:
            an error.
        threads: how many decode; None: one per CPU core that this process may use.
        frames: T of examples that have a frame for each timestep, [T, H, W, C], which are not resized; None: images.
    """

    def __init__(self, source: Source, image_shape: tuple[int, int, int], *, resized: bool, num_classes: int,
                 skip_corrupt: bool = False, threads: int | None = None, frames: int | None = None):
        self.source, self.image_shape, self._resized, self._num_classes = source, image_shape, resized, num_classes
        self.frames = frames
        self._shape = image_shape if frames is None else (frames, *image_shape)
        self._skip_corrupt, self._threads = skip_corrupt, threads or usable_cores()
        self._reported: set[int] = set()

    @property
    def num_examples(self) -> int:
        """N."""
        return len(self.source)

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """int32 [N]; read, without decoding an image, when first asked for."""
        return np.array([self._labelled(i).label for i in range(self.num_examples)], np.int32)

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(images uint8 [n, H, W, C] or frames [n, T, H, W, C], labels int32 [n]) of these examples, not augmented."""
        return next(self._read(lambda step: (indices, None), len(indices), range(1)))

    def batches(self, batch_size: int, rows: Callable[[int], np.ndarray] = np.arange
                ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(images, labels) of every example once, in order, not augmented; the last batch may be smaller.

        rows: size of a batch -> which of its rows are wanted (a host's share), and decoded.
        """
        def plan(step):
            start = step * batch_size
            return start + rows(min(batch_size, self.num_examples - start)), None

        return self._read(plan, batch_size, range(-(-self.num_examples // batch_size)))

    def training_batches(self, seed: int, batch_size: int, step: int, rows: np.ndarray | None = None
                         ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(images, labels) of training step `step` and those after it, without end, in the order of `batch_indices`.

        rows: which of the batch's rows are wanted (a host's share); None: all. A row's images
            do not depend on which rows are asked for.
        """
        rows = np.arange(batch_size) if rows is None else rows

        def plan(step):
            indices = batch_indices(seed, self.num_examples, batch_size, step)
            draws = np.random.default_rng((seed, step, AUGMENTATION)).random((batch_size, images.DRAWS))
            return indices[rows], draws[rows]

        return self._read(plan, len(rows), range(step, 1 << 40))

    def _read(self, plan: Callable, size: int, steps: range) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """A batch of at most `size` examples per step; `plan(step)`: their indices, and their draws or None."""
        try:
            import grain
        except ModuleNotFoundError as error:
            raise DataError("images that are decoded or resized as they are read need grain and "
                            "opencv-python-headless: pip install them; or make it npz:PATH, of one size and in "
                            "memory, which needs neither") from error

        groups, begun, lock = max(1, -(-size // GROUP)), {}, threading.Lock()

        def batch(step):
            with lock:  # several threads begin a step, and all write into the one batch
                if step not in begun:
                    indices, draws = plan(steps[step])
                    begun[step] = (indices, draws, np.empty((len(indices), *self._shape), np.uint8),
                                   np.empty(len(indices), np.int32))
                return begun[step]

        def decode_group(number):
            step, group = divmod(number, groups)
            here = slice(group * GROUP, (group + 1) * GROUP)
            indices, draws, pictures, labels = batch(step)
            return self._fill(pictures[here], labels[here], indices[here].tolist(),
                              None if draws is None else draws[here].tolist())

        ahead = grain.ReadOptions(num_threads=self._threads, prefetch_buffer_size=max(AHEAD * groups, self._threads))
        decoded = iter(grain.MapDataset.range(len(steps) * groups).map(decode_group).to_iter_dataset(ahead))
        try:
            for step in range(len(steps)):
                for _ in range(groups):
                    self._report(next(decoded))
                with lock:
                    _, _, pictures, labels = begun.pop(step)
                yield pictures, labels
        finally:
            decoded.close()

    def _fill(self, pictures, labels, indices, draws):
        """Decode a few examples into these arrays -> corrupt ones: [(index, what is wrong, its replacement)]."""
        skipped = []
        for i, index in enumerate(indices):
            used, wrong = index, None
            while True:
                try:
                    labels[i] = self._example(used, draws and draws[i], pictures[i])
                    break
                except CorruptImage as error:
                    wrong = wrong or error
                    used = (used + 1) % self.num_examples
                    if not self._skip_corrupt or used == index:
                        raise
            if wrong:
                skipped.append((index, str(wrong), used))
        return skipped

    def _example(self, index, draws, picture):
        """The label of an example, whose pixels are written into `picture`."""
        stored, name = self._labelled(index), self.source.where(index)
        image = stored.image
        if isinstance(image, bytes):
            image = images.decode(image, name, self.image_shape[2] if self._resized else None)
        elif callable(image):
            image = image()
        if not self._resized:
            if image.shape != self._shape:
                raise DataError(
                    f"{name} has shape {image.shape}, others have {self._shape}: set data.image_size, which "
                    "resizes every image, or prepare the set again with images of one size"
                )
            picture[...] = image
        elif draws is None:
            picture[...] = images.centre_crop(image, self.image_shape[0])
        else:
            images.random_resized_crop(draws, image, self.image_shape[0], picture)
        return stored.label

    def _labelled(self, index):
        example = self.source[index]
        if not 0 <= example.label < self._num_classes:
            raise DataError(
                f"{self.source.where(index)} has label {example.label}, classes are 0..{self._num_classes - 1}: "
                "the split is not labelled, or not with these classes"
            )
        return example

    def _report(self, skipped):
        for index, wrong, used in skipped:
            if index not in self._reported:
                self._reported.add(index)
                warnings.warn(CorruptImageWarning(f"{wrong}; in its place: {self.source.where(used)}"), stacklevel=3)
