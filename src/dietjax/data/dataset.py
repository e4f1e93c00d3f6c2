"""A set as training sees it: its splits, in memory or streamed, its classes, its statistics."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from .order import epoch_batches
from .stream import Stream

STATISTICS = {
    # per channel, of pixels in [0, 1]: CIFAR and ImageNet as in the authors' code (and most of the literature)
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "imagenet2012": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "mnist": ((0.1307,), (0.3081,)),
    # measured on the training split as stored (15 times the counts of 0..16)
    "digits": ((0.2874,), (0.3540,)),
}
"""Official set -> (mean, std). Any other set is measured when it is loaded, even one of the same name; see `load`."""


class Split(NamedTuple):
    """Examples in memory, in the order they are stored. `Stream` has the same methods for a split that does not fit."""

    images: np.ndarray
    """uint8 [N, H, W, C], or frames [N, T, H, W, C]."""
    labels: np.ndarray
    """int32 [N]."""

    @property
    def num_examples(self) -> int:
        """N."""
        return len(self.labels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        return self.images.shape[-3:]

    @property
    def frames(self) -> int | None:
        """T of examples that have a frame for each timestep; None of images."""
        return self.images.shape[1] if self.images.ndim == 5 else None

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(images [n, H, W, C] or frames [n, T, H, W, C], labels [n]) of these examples, not augmented."""
        return self.images[indices], self.labels[indices]

    def subset(self, indices: np.ndarray) -> "Split":
        """A split of these examples, in this order."""
        return Split(self.images[indices], self.labels[indices])

    def batches(self, batch_size: int, rows: Callable[[int], np.ndarray] = np.arange, *, seed: int | None = None,
                epoch: int = 0, drop_last: bool = False) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(images, labels) of every example once, not augmented; the last batch may be smaller.

        Args:
            batch_size: examples of a batch.
            rows: size of a batch -> which of its rows are wanted (a host's share).
            seed: of the order, that in which training reads this epoch; None: the order stored.
            epoch: with a seed, each has an order of its own.
            drop_last: leave out a last batch that is smaller.
        """
        count, batch = epoch_batches(self.num_examples, batch_size, seed=seed, epoch=epoch, drop_last=drop_last)
        return (self.take(indices[rows(len(indices))]) for indices in map(batch, range(count)))


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A classification set, of images or of frames."""

    name: str
    train: Split | Stream
    test: Split | Stream
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    """Per channel, of pixels in [0, 1]."""
    std: tuple[float, ...]
    """Per channel, of pixels in [0, 1]."""

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        return self.train.image_shape

    @property
    def frames(self) -> int | None:
        """T of examples that have a frame for each timestep; None of images."""
        return self.train.frames
