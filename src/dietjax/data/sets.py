"""A set by its name: in memory where it is small, else decoded as it is read."""

import math
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import records, survey
from .build import prepare
from .dataset import Dataset, Split
from .event_folder import open_events
from .folder import open_folder
from .framing import Framing
from .npz import Arrays, open_npz
from .saccade_digits import open_saccade_digits
from .source import DataError, DataWarning, DeepImage, Source, StoredImages
from .stream import Stream

RESIDENT_BYTES = 10**9
"""A set of at most this size, decoded, is held in memory and on the device."""
TRIED = 16
"""Test images that are read when a set is opened: what is wrong with all of them should not show after an epoch."""
NAMED = 5
"""Classes that a sentence names."""


def load(name: str, data_dir: str | os.PathLike | None = None, *, image_size: int | tuple[int, int] | None = None,
         channels: int | None = None, holdout: float = 0.0, holdout_seed: int = 0, skip_corrupt: bool = False,
         threads: int | None = None, framing: Framing | None = None) -> Dataset:
    """Open a set; nothing is downloaded.

    Args:
        name: as in `tfds.load` ("cifar10", "imagenet2012", "imagenet_resized/32x32", "cifar10:3.0.2"), prepared as
            array_record; "digits", which comes with scikit-learn and is built on first use; "folder:PATH", with image
            files in PATH/{train,test}/CLASS, see `folder`; or "npz:PATH", a file of NumPy arrays, see `npz`: read
            whole, as it is, with NumPy alone. Its examples may have a frame for each timestep. "events:PATH" is a
            folder of recordings of events, laid out alike, see `event_files`; "saccade_digits" are events of
            scikit-learn's digits, made in seconds.
        data_dir: a tensorflow-datasets directory; None: $TFDS_DATA_DIR, else ~/tensorflow_datasets. gs:// works (gcsfs
            lists it, array_record reads it, with Google's default credentials), at one request for each example: a
            set that is read often is better copied, or mounted.
        image_size: (height, width), or one number for both, that images get when they are read: random resized crops
            for training, central crops otherwise; as RGB, unless the set says that it is grey. None: as stored, which
            needs one size.
        channels: 1 or 3, grey or RGB, that every file is converted to; None: as stored.
        holdout: share of each class that is held out as the test split, of a folder that has none.
        holdout_seed: which images these are.
        skip_corrupt: train on the next readable image in the place of a corrupt one, with a CorruptImageWarning. Test
            images are never skipped: an accuracy over fewer images is another accuracy.
        threads: how many decode images; None: one per CPU core that this process may use.
        framing: how recordings of events become frames; other sets have none to cut, and do not use it.

    The test split is "test", or "validation" where there is none or it is not labelled. Mean and standard deviation
    are those of STATISTICS for the official sets named there, else measured on the training images: on all where the
    set is held in memory, else on `survey.SAMPLE` of them, evenly spaced. Images of 16 bits become 8, all of a set
    alike.

    Raises DataError where the set is not prepared, has another file format, is no image classification set, does not
    hold the examples it declares, has images that cannot be decoded, or a single class. What is not as it seems and is
    read all the same is a DataWarning.
    """
    resized = image_size is not None
    height_width: Any = image_size if isinstance(image_size, Sequence | None) else (image_size, image_size)
    _check_arguments(name, height_width, image_size, holdout)
    stored = open_stored(name, data_dir, image_size=image_size, channels=channels, holdout=holdout,
                         holdout_seed=holdout_seed, framing=framing)
    height, width = height_width or stored.shape[:2]
    if height is None or width is None:
        raise DataError(f"images of {name} differ in size: set data.image_size (ImageNet: 224), which resizes them")
    if isinstance(stored.train, Arrays) or stored.frames is not None:
        _check_arrays(name, stored, image_size, channels)
    dataset = _dataset(name, stored, (height, width, channels or stored.shape[2]), resized=resized,
                       converted=channels is not None, skip_corrupt=skip_corrupt, threads=threads)
    _check_classes(name, dataset)
    if 0 in dataset.std:
        raise DataError(
            f"channel {dataset.std.index(0)} of the training images of {name} is constant and cannot be normalised: "
            "prepare the set without that channel."
        )
    return dataset


def open_stored(name: str, data_dir: str | os.PathLike | None = None, *,
                image_size: int | tuple[int, int] | None = None, channels: int | None = None, holdout: float = 0.0,
                holdout_seed: int = 0, framing: Framing | None = None) -> StoredImages:
    """A set as it is stored, nothing decoded; what `load` reads with the same arguments. It may be one that `load`
    refuses.
    """
    kind, colon, path = name.partition(":")
    if colon and not path:
        raise DataError(f"{name} is no whole name: {kind}:PATH, with the path of the data behind the colon")
    if kind == "events" or name == "saccade_digits":
        if framing is None:
            raise DataError(f"{name} is of events, which become frames: pass framing=dietjax.data.Framing(frames=T)")
        if kind == "events":
            return open_events(Path(path).expanduser(), framing, holdout, holdout_seed)
    if kind == "folder":
        return open_folder(Path(path).expanduser(), image_size is not None, channels, holdout, holdout_seed)
    if holdout:
        raise DataError("data.holdout makes a test split of a folder's files (folder:PATH, events:PATH), and "
                        f"{name} is no folder: leave it out")
    if name == "saccade_digits":
        assert framing is not None
        return open_saccade_digits(framing)
    if kind == "npz":
        return open_npz(Path(path).expanduser())
    if name.endswith(".npz"):
        raise DataError(f"{name} is no name of a set: a file of arrays is called npz:{name}")
    directory = records.data_directory(data_dir)
    if name == "digits":
        prepare("digits", directory)
    return records.open_prepared(name, directory)


def _dataset(name: str, stored: StoredImages, shape: tuple[int, int, int], bits: int | None = None, *, resized: bool,
             skip_corrupt: bool, **reading: Any) -> Dataset:
    """The set with images of this shape; in memory where it is small and need not be resized.

    bits: see `Stream`, as is the rest; found out where it turns out to be needed.
    """
    def stream(source: Source, **use: bool) -> Stream:
        return Stream(source, shape, resized=resized, bits=bits, num_classes=len(stored.class_names),
                      frames=stored.frames, **use, **reading)

    train: Split | Stream = stream(stored.train, skip_corrupt=skip_corrupt)
    test: Split | Stream = stream(stored.test, held_out=True)
    size = (train.num_examples + test.num_examples) * (stored.frames or 1) * math.prod(shape)
    resident = not resized and size <= RESIDENT_BYTES
    try:
        if resident:
            train, test = _in_memory(stored.train, train), _in_memory(stored.test, test)
        test.take(survey.sample(test.num_examples, TRIED))
        mean, std = stored.statistics or _statistics(_sample(train))
    except DeepImage:
        bits, said = survey.bits_in_use((stored.train, stored.test), sys.maxsize if resident else survey.SAMPLE)
        warnings.warn(DataWarning(f"{name}: {said}"), stacklevel=3)
        return _dataset(name, stored, shape, bits, resized=resized, skip_corrupt=skip_corrupt, **reading)
    return Dataset(stored.name, train, test, stored.class_names, mean, std)


def _check_arguments(name: Any, height_width: Any, image_size: Any, holdout: Any) -> None:
    """What the command line checks by itself, for who calls `load`."""
    if not isinstance(name, str) or not name:
        raise DataError(f"the name of a set is a text, such as digits or folder:PATH, and not {name!r}")
    sides = (1, 1) if height_width is None else height_width
    if len(sides) != 2 or not all(isinstance(side, int | np.integer) and not isinstance(side, bool) and side > 0
                                  for side in sides):
        raise DataError("data.image_size is one number, or height and width, whole and above 0, and not "
                        f"{image_size!r}")
    if isinstance(holdout, bool) or not isinstance(holdout, int | float) or not 0 <= holdout < 1:
        raise DataError(f"data.holdout is a share of every class, from 0 to below 1, and not {holdout!r}")


def _check_arrays(name: str, stored: StoredImages, image_size: int | tuple[int, int] | None, channels: int | None
                  ) -> None:
    """What is asked of files of images alone."""
    if stored.frames is not None and image_size is not None:
        raise DataError(f"{name} has frames, which are taken as they are: leave out data.image_size ({image_size}), or "
                        "resize them before they are written")
    if channels not in (None, stored.shape[2]):
        raise DataError(f"{name} has arrays of {stored.shape[2]} channels, which are taken as they are: leave "
                        f"out data.channels ({channels}), or convert them before they are written")


def _check_classes(name: str, dataset: Dataset) -> None:
    """There is something to tell apart, as far as labels are known without reading every example."""
    names = dataset.class_names
    known = isinstance(dataset.train, Split)
    present = tuple(names[label] for label in np.unique(dataset.train.labels)) if known else names
    if len(present) < 2:
        raise DataError(f"the training images of {name} are all of one class, {present[0]}: there is nothing to tell "
                        "apart, and any network is right; add images of other classes")
    absent = [other for other in names if other not in present]
    if absent:
        listed = f"{', '.join(absent[:NAMED])}{', ...' if len(absent) > NAMED else ''}"
        warnings.warn(DataWarning(
            f"{name}: {len(absent)} of {len(names)} classes have no training images ({listed}) and are never learnt: "
            "add some, or leave these classes out and number the others 0, 1, 2, ..."), stacklevel=3)


def _in_memory(stored: Source, split: Split | Stream) -> Split:
    """All of a split; what is in memory already stays there, uncopied, and needs none of what a stream needs."""
    if isinstance(stored, Arrays):
        return Split(stored.images, stored.labels)
    return Split(*split.take(np.arange(split.num_examples)))


def _sample(split: Split | Stream) -> np.ndarray:
    """Images that the statistics are measured on: all that are in memory, else SAMPLE of them."""
    if isinstance(split, Split):
        return split.images
    return split.take(survey.sample(split.num_examples, survey.SAMPLE))[0]


def _statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of pixels in [0, 1]."""
    axes = tuple(range(images.ndim - 1))
    mean = images.mean(axes)
    # E[x²] - E[x]² over uint16 squares: a quarter of the memory that images.std takes
    std = np.sqrt(np.square(images, dtype=np.uint16).mean(axes) - mean**2)
    return tuple((mean / 255).tolist()), tuple((std / 255).tolist())
