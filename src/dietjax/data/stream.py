"""A split decoded when it is read, in threads, ahead of time."""

import copy
import functools
import os
import threading
import warnings
from collections.abc import Callable, Iterator

import numpy as np

from . import crops, images
from .order import batch_indices, epoch_batches
from .source import Chosen, CorruptImage, CorruptImageWarning, DataError, DataWarning, DeepImage, Source
from .survey import grey_among_colour

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
        resized: training images are random resized crops, others central crops; False: images as stored.
        num_classes: labels are below it.
        converted: files are converted to grey or RGB, as `image_shape` says; so they are wherever they are resized.
        bits: range of images of 16 bits: 0..2^bits - 1 becomes 0..255; None: there are to be none.
        skip_corrupt: a corrupt image is replaced by the next readable one in the order stored, with a warning; False:
            an error.
        held_out: it is what accuracies are of: none of its images is ever skipped, and an error says so.
        threads: how many decode; None: one per CPU core that this process may use.
        frames: T of examples that have a frame for each timestep, [T, H, W, C], which are not resized; None: images.
    """

    def __init__(self, source: Source, image_shape: tuple[int, int, int], *, resized: bool, num_classes: int,
                 converted: bool = False, bits: int | None = None, skip_corrupt: bool = False, held_out: bool = False,
                 threads: int | None = None, frames: int | None = None):
        self.source, self.image_shape, self._resized, self._num_classes = source, image_shape, resized, num_classes
        self.frames = frames
        self._shape = image_shape if frames is None else (frames, *image_shape)
        self._channels, self._bits = image_shape[2] if resized or converted else None, bits
        self._skip_corrupt, self._held_out = skip_corrupt and not held_out, held_out
        self._threads = threads or usable_cores()
        self._reported: set[int | str] = set()

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

    def subset(self, indices: np.ndarray) -> "Stream":
        """A split of these examples, in this order, read and augmented as this one is."""
        part = copy.copy(self)
        part.__dict__.pop("labels", None)  # cached
        part.source, part._reported = Chosen(self.source, indices), set()
        return part

    def batches(self, batch_size: int, rows: Callable[[int], np.ndarray] = np.arange, *, seed: int | None = None,
                epoch: int = 0, drop_last: bool = False) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(images, labels) of every example once, not augmented; the last batch may be smaller.

        Args:
            batch_size: examples of a batch.
            rows: size of a batch -> which of its rows are wanted (a host's share), and decoded.
            seed: of the order, that in which training reads this epoch; None: the order stored.
            epoch: with a seed, each has an order of its own.
            drop_last: leave out a last batch that is smaller.
        """
        count, batch = epoch_batches(self.num_examples, batch_size, seed=seed, epoch=epoch, drop_last=drop_last)

        def plan(step):
            indices = batch(step)
            return indices[rows(len(indices))], None

        return self._read(plan, batch_size, range(count))

    def training_batches(self, seed: int, batch_size: int, step: int, rows: np.ndarray | None = None
                         ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(images, labels) of training step `step` and those after it, without end, in the order of `batch_indices`.

        rows: which of the batch's rows are wanted (a host's share); None: all. A row's images
            do not depend on which rows are asked for.
        """
        rows = np.arange(batch_size) if rows is None else rows

        def plan(step):
            indices = batch_indices(seed, self.num_examples, batch_size, step)
            draws = np.random.default_rng((seed, step, AUGMENTATION)).random((batch_size, crops.DRAWS))
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
        """Decode a few examples into these arrays -> what is to be said of them: [(what is said once, warning)]."""
        said: list[tuple[int | str, DataWarning]] = []
        for i, index in enumerate(indices):
            used, wrong = index, None
            while True:
                try:
                    labels[i] = self._example(used, draws and draws[i], pictures[i], said)
                    break
                except CorruptImage as error:
                    wrong = wrong or error
                    used = (used + 1) % self.num_examples
                    if not self._skip_corrupt or used == index:
                        raise CorruptImage(f"{wrong}; {self._remedy()}") from error
            if wrong:
                said.append((index, CorruptImageWarning(f"{wrong}; in its place: {self.source.where(used)}")))
        return said

    def _remedy(self):
        if self._held_out:
            return "test images are never skipped, for an accuracy over fewer is another accuracy: mend or remove it"
        if self._skip_corrupt:
            return "no other image of the split can be read either"
        return ("mend or remove it, or set data.skip_corrupt (--data.skip-corrupt), which trains on the next readable "
                "image in its place")

    def _example(self, index, draws, picture, said):
        """The label of an example, whose pixels are written into `picture`; what is to be said of it goes to `said`."""
        stored = self._labelled(index)
        image = stored.image() if callable(stored.image) else stored.image
        image = self._decoded(index, image, said) if isinstance(image, bytes) else image
        height, width, _ = self.image_shape
        if not self._resized:
            if image.shape != self._shape:
                raise self._other_shape(index, image.shape)
            picture[...] = image
        elif draws is None:
            picture[...] = crops.centre_crop(image, height, width)
        else:
            crops.random_resized_crop(draws, image, height, width, picture)
        return stored.label

    def _decoded(self, index, encoded, said):
        """uint8 [H, W, C] of a file."""
        name = self.source.where(index)
        image, mended, transparent = images.read(encoded, name, self._channels)
        if mended:
            said.append((index, DataWarning(mended)))
        if transparent:
            said.append(("transparent", DataWarning(f"{transparent}. Others of the split are not named")))
        if image.dtype != np.uint16:
            return image
        if self._bits is None:
            raise DeepImage(f"{name} is of 16 bits, and the images that were looked at are of 8: convert it to 8 bits")
        if image.max() >= 2**self._bits:
            raise DataError(f"{name} reaches {image.max()}, and the images that were looked at have {self._bits} bits, "
                            f"0..{2**self._bits - 1}: convert all of them to 8 bits in one way")
        return images.eight_bits(image, self._bits)

    def _other_shape(self, index, shape):
        name = self.source.where(index)
        if shape[2] != self.image_shape[2]:
            return DataError(grey_among_colour(self.source, name, shape[2], self.image_shape[2]))
        return DataError(f"{name} has shape {shape}, others have {self.image_shape}: set data.image_size, which "
                         "resizes every image, or prepare the set again with images of one size")

    def _labelled(self, index):
        example = self.source[index]
        if not 0 <= example.label < self._num_classes:
            raise DataError(
                f"{self.source.where(index)} has label {example.label}, classes are 0..{self._num_classes - 1}: "
                "the split is not labelled, or not with these classes"
            )
        return example

    def _report(self, said):
        for once, warning in said:
            if once not in self._reported:
                self._reported.add(once)
                warnings.warn(warning, stacklevel=3)
