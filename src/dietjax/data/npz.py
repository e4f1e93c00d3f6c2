"""A set in one .npz file of NumPy arrays: read whole, checked, and held in memory as it is."""

from pathlib import Path
from typing import Any

import numpy as np

from .archive import read_arrays
from .framing import COUNTS
from .source import DataError, Example, StoredImages

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
"""What the file holds: uint8 images [N, H, W] or [N, H, W, 1 or 3], or frames [N, T, H, W, 1, 2 or 3], and the classes
[N] as integers 0..K-1. Frames of two channels are counts of events, darker and brighter, and are not normalised."""
CHANNELS = {4: (1, 3), 5: (1, 2, 3)}
"""Axes of images, of frames -> channels that they may have."""
NAMES = "class_names"
"""Optional: the K classes' names, as strings; without it they are called by their numbers."""
LISTED = 100
"""Letters of the names of other arrays that a sentence lists."""


class Arrays:
    """A split's examples in memory."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, name: str):
        self.images, self.labels, self._name = images, labels, name

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Example:
        return Example(self.images[index], int(self.labels[index]))

    def where(self, index: int) -> str:
        """What an example is called in a message."""
        return f"{self._name}[{index}]"


def open_npz(path: Path) -> StoredImages:
    """The set in a file of the arrays ARRAYS, and NAMES where the classes have any; other arrays in it do not matter.

    Raises DataError where the file is no .npz, is damaged, lacks an array, or an array is not what it must be.
    """
    arrays, held = read_arrays(path, (*ARRAYS, NAMES))
    missing = [key for key in ARRAYS if key not in arrays]
    if missing:
        listed = ", ".join(name for name in held if name not in arrays)[:LISTED]
        raise DataError(f"{path} lacks {', '.join(missing)}{f' and has {listed}' if listed else ''}: np.savez(path, "
                        f"{', '.join(f'{key}=...' for key in ARRAYS)}) writes all that is needed, {NAMES} beside it "
                        "if you like")
    train, test = (_split(path, split, arrays) for split in ("train", "test"))
    if train.images.shape[1:] != test.images.shape[1:]:
        raise DataError(f"{path}: training images are {train.images.shape[1:]}, test images {test.images.shape[1:]}; "
                        "both need one size, the same channels and as many frames")
    names = _names(path, arrays[NAMES]) if NAMES in arrays else _numbers(path, train.labels, test.labels)
    for split, labels in (("train", train.labels), ("test", test.labels)):
        if labels.min() < 0 or labels.max() >= len(names):
            raise DataError(f"{path}: labels of {split} span {labels.min()}..{labels.max()}, but there are "
                            f"{len(names)} classes, 0..{len(names) - 1}: number them from 0, as in {NAMES}")
    shape, frames = train.images.shape[-3:], train.images.shape[1] if train.images.ndim == 5 else None
    return StoredImages(path.stem, train, test, names, shape, COUNTS if shape[2] == 2 else None, frames)


def _split(path: Path, split: str, arrays: dict[str, np.ndarray]) -> Arrays:
    """Its images [N, H, W, C] or frames [N, T, H, W, C], and labels int32 [N]."""
    images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
    images = images[..., None] if images.ndim == 3 else images
    if images.dtype != np.uint8 or images.shape[-1] not in CHANNELS.get(images.ndim, ()) or not images.size:
        raise DataError(f"{split}_images of {path} are {images.dtype.name} of shape {images.shape}; needed are "
                        f"uint8 [N, H, W] or [N, H, W, 1 or 3], of frames [N, T, H, W, 1, 2 or 3]"
                        f"{_remedy_for_images(images)}")
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != images.shape[:1]:
        raise DataError(f"{split}_labels of {path} are {labels.dtype.name} of shape {labels.shape}; needed are "
                        f"{len(images)} integers{_remedy_for_labels(labels, len(images))}")
    limit = np.iinfo(np.int32).max
    return Arrays(images, np.clip(labels.astype(np.int64), -1, limit).astype(np.int32), f"{path}: {split}_images")


def _remedy_for_images(images: np.ndarray) -> str:
    if not images.size:
        return ": there are none"
    remedies = []
    if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[3] not in (1, 3):
        remedies.append("channels come last: np.moveaxis(images, 1, -1)")
    elif images.ndim == 4 and images.shape[3] == 4:
        remedies.append("without transparency: images[..., :3]")
    elif images.ndim == 2:
        remedies.append("rows of pixels: images.reshape(N, H, W, C)")
    if np.issubdtype(images.dtype, np.floating):
        remedies.append("pixels are 0..255: where yours are 0..1, np.round(255 * images).astype(np.uint8)")
    elif images.dtype.kind in "iu" and images.min() >= 0 and images.max() <= 255:
        remedies.append("all are 0..255: images.astype(np.uint8)")
    elif images.dtype != np.uint8:
        remedies.append("pixels are 0..255: np.round(images * (255 / most)).astype(np.uint8), most: the largest value "
                        "of both splits")
    return "".join(f"; {remedy}" for remedy in remedies)


def _remedy_for_labels(labels: np.ndarray, count: int) -> str:
    if labels.shape == (count, 1):
        return ": labels.ravel()"
    if labels.ndim == 2 and len(labels) == count:
        return ": one-hot rows become them by labels.argmax(1)"
    if labels.dtype.kind in "US":
        return f": {NAMES}, labels = np.unique(labels, return_inverse=True) on the labels of both splits together"
    if labels.shape == (count,):
        return ": labels.astype(int), if they are whole numbers"
    return ", one for each image"


def _names(path: Path, names: np.ndarray) -> tuple[str, ...]:
    if names.ndim != 1 or names.dtype.kind not in "US" or not names.size:
        raise DataError(f"{NAMES} of {path} are {names.dtype.name} of shape {names.shape}; needed are strings, one for "
                        "each class: np.array(names, str), or leave them out")
    spelled: Any = np.char.decode(names, "utf-8", "replace") if names.dtype.kind == "S" else names
    found, counts = np.unique(spelled, return_counts=True)
    if (counts > 1).any():
        raise DataError(f"{NAMES} of {path} hold {', '.join(map(repr, found[counts > 1].tolist()))} more than once: "
                        "give each class a name of its own, or join their labels")
    return tuple(spelled.tolist())


def _numbers(path: Path, train: np.ndarray, test: np.ndarray) -> tuple[str, ...]:
    """Classes 0..K-1, as far as the training labels go."""
    count = int(train.max()) + 1
    if min(train.min(), test.min()) > 0:
        raise DataError(f"{path}: labels span {train.min()}..{train.max()}, and none is 0: classes are numbered from "
                        f"0, labels - {train.min()}; or give {NAMES}, if class 0 is to have no images")
    if count > len(train):
        raise DataError(f"{path}: labels of train reach {train.max()}, with {len(train)} images: number the classes "
                        "0, 1, 2, ..., as np.unique(labels, return_inverse=True)[1] does")
    return tuple(map(str, range(count)))
