"""A set by its name: in memory where it is small, else decoded as it is read."""

import functools
import os
from pathlib import Path

import numpy as np

from . import records
from .build import prepare
from .dataset import Dataset, Split
from .event_folder import open_events
from .folder import open_folder
from .framing import Framing
from .npz import Arrays, open_npz
from .saccade_digits import open_saccade_digits
from .source import DataError, Source, StoredImages
from .stream import Stream

RESIDENT_BYTES = 10**9
"""A set of at most this size, decoded, is held in memory and on the device."""
STATISTICS_SAMPLE = 1000
"""Images, evenly spaced, from which mean and deviation of an unknown set are measured where it does not fit."""


def load(name: str, data_dir: str | os.PathLike | None = None, *, image_size: int | None = None,
         skip_corrupt: bool = False, threads: int | None = None, framing: Framing | None = None) -> Dataset:
    """Open a set; nothing is downloaded.

    Args:
        name: as in `tfds.load` ("cifar10", "imagenet2012", "imagenet_resized/32x32", "cifar10:3.0.2"), prepared as
            array_record; "digits", which comes with scikit-learn and is built on first use; "folder:PATH", with
            PATH/{train,test}/CLASS/*.{png,jpg,jpeg}; or "npz:PATH", a file of NumPy arrays, see `npz`: read whole, as
            it is, with NumPy alone. Its examples may have a frame for each timestep. "events:PATH" is a folder of
            recordings of events, PATH/{train,test}/CLASS/*.{npy,npz,bin,aedat4}, see `event_files`; "saccade_digits"
            are events of scikit-learn's digits, made in seconds.
        data_dir: a tensorflow-datasets directory; None: $TFDS_DATA_DIR, else ~/tensorflow_datasets. gs:// works (gcsfs
            lists it, array_record reads it, with Google's default credentials), at one request for each example: a
            set that is read often is better copied, or mounted.
        image_size: images become squares of this side when they are read: random resized crops for training, central
            crops otherwise; as RGB, unless the set says that it is grey. None: as stored, which needs one size.
        skip_corrupt: train on the next readable image in the place of a corrupt one, with a CorruptImageWarning. Test
            images are never skipped: an accuracy over fewer images is another accuracy.
        threads: how many decode images; None: one per CPU core that this process may use.
        framing: how recordings of events become frames; other sets have none to cut, and do not use it.

    The test split is "test", or "validation" where there is none or it is not labelled. Mean and standard deviation
    are those of STATISTICS for the official sets named there, else measured on the training images: on all where the
    set is held in memory, else on STATISTICS_SAMPLE of them, evenly spaced.

    Raises DataError where the set is not prepared, has another file format, is no image classification set, does not
    hold the examples it declares, or has images that cannot be decoded.
    """
    stored = _open(name, data_dir, image_size is not None, framing)
    height, width, channels = stored.shape if image_size is None else (image_size, image_size, stored.shape[2])
    if height is None or width is None:
        raise DataError(f"images of {name} differ in size: set data.image_size (ImageNet: 224), which resizes them")
    stream = functools.partial(Stream, image_shape=(height, width, channels), resized=image_size is not None,
                               num_classes=len(stored.class_names), threads=threads, frames=stored.frames)
    train: Split | Stream = stream(stored.train, skip_corrupt=skip_corrupt)
    test: Split | Stream = stream(stored.test)
    if stored.frames is not None and image_size is not None:
        raise DataError(f"{name} has frames, which are taken as they are: leave out data.image_size ({image_size}), or "
                        "resize them before they are written")
    size = (train.num_examples + test.num_examples) * (stored.frames or 1) * height * width * channels
    if image_size is None and size <= RESIDENT_BYTES:
        train, test = _in_memory(stored.train, train), _in_memory(stored.test, test)
    mean, std = stored.statistics or _statistics(_sample(train))
    if 0 in std:
        raise DataError(
            f"channel {std.index(0)} of the training images of {name} is constant and cannot be normalised: "
            "prepare the set without that channel."
        )
    return Dataset(stored.name, train, test, stored.class_names, mean, std)


def _open(name: str, data_dir: str | os.PathLike | None, resized: bool, framing: Framing | None) -> StoredImages:
    kind, _, path = name.partition(":")
    if kind == "events" or name == "saccade_digits":
        if framing is None:
            raise DataError(f"{name} is of events, which become frames: pass framing=dietjax.data.Framing(frames=T)")
        return open_events(Path(path).expanduser(), framing) if kind == "events" else open_saccade_digits(framing)
    if kind == "folder":
        return open_folder(Path(path).expanduser(), resized)
    if kind == "npz":
        return open_npz(Path(path).expanduser())
    if name.endswith(".npz"):
        raise DataError(f"{name} is no name of a set: a file of arrays is called npz:{name}")
    directory = records.data_directory(data_dir)
    if name == "digits":
        prepare("digits", directory)
    return records.open_prepared(name, directory)


def _in_memory(stored: Source, split: Split | Stream) -> Split:
    """All of a split; what is in memory already stays there, uncopied, and needs none of what a stream needs."""
    if isinstance(stored, Arrays):
        return Split(stored.images, stored.labels)
    return Split(*split.take(np.arange(split.num_examples)))


def _sample(split: Split | Stream) -> np.ndarray:
    """Images that the statistics are measured on: all that are in memory, else STATISTICS_SAMPLE of them."""
    if isinstance(split, Split):
        return split.images
    chosen = np.linspace(0, split.num_examples - 1, min(STATISTICS_SAMPLE, split.num_examples)).astype(int)
    return split.take(chosen)[0]


def _statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of pixels in [0, 1]."""
    axes = tuple(range(images.ndim - 1))
    mean = images.mean(axes)
    # E[x²] - E[x]² over uint16 squares: a quarter of the memory that images.std takes
    std = np.sqrt(np.square(images, dtype=np.uint16).mean(axes) - mean**2)
    return tuple((mean / 255).tolist()), tuple((std / 255).tolist())
