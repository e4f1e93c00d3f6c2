"""Image classification sets: read whole from a tensorflow-datasets directory, without tensorflow; ordered; augmented.

tensorflow-datasets is imported where data is read, so `import dietjax` does not need it.
"""

import contextlib
import dataclasses
import difflib
import functools
import io
import os
import re
import tempfile
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .errors import InputError
from .types import Array

STATISTICS = {
    # per channel, of pixels in [0, 1]: CIFAR and ImageNet as in the authors' code (and most of the literature)
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "imagenet2012": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "mnist": ((0.1307,), (0.3081,)),
    # measured on the training split as stored (15 times the counts of 0..16)
    "digits": ((0.2874,), (0.3540,)),
}
"""Set -> (mean, std); a set that is not here is measured when it is loaded."""


class DataError(InputError):
    """A set that cannot be read, and what to do about it."""


class Split(NamedTuple):
    """Examples in the order they are stored."""

    images: np.ndarray
    """uint8 [N, H, W, C]."""
    labels: np.ndarray
    """int32 [N]."""


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """An image classification set, whole in memory."""

    name: str
    train: Split
    test: Split
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
        return self.train.images.shape[1:]


def load(name: str, data_dir: str | os.PathLike | None = None) -> Dataset:
    """Read a set that tensorflow-datasets has prepared as array_record; nothing is downloaded.

    name: as in `tfds.load` ("cifar10", "imagenet_resized/32x32", "cifar10:3.0.2"), or "digits", which comes with
        scikit-learn and is built on first use.
    data_dir: a tensorflow-datasets directory; None: $TFDS_DATA_DIR, else ~/tensorflow_datasets.

    The test split is "test", or "validation" where there is none. Raises DataError where the set is not prepared, has
    another file format, is no image classification set, or does not hold the examples it declares.
    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.read_only_builder import builder_from_files

    directory = Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    if name == "digits":
        _build_digits(directory)
    try:
        builder = builder_from_files(name, data_dir=directory)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:  # ValueError: no valid name, such as cifar-10
        raise _not_prepared(name, directory) from error

    formats = {file_format.value for file_format in builder.info.available_file_formats()}
    if "array_record" not in formats:
        raise DataError(
            f"{name} in {builder.data_dir} is stored as {', '.join(sorted(formats))}; only array_record can be read. "
            f"Remove that directory and run {_command(name, directory)}."
        )
    shape, class_names = _check_features(name, builder.info.features)
    splits = list(builder.info.splits)
    held_out = next((split for split in ("test", "validation") if split in splits), None)
    if "train" not in splits or held_out is None:
        raise DataError(f"{name} needs the splits train and test (or validation), {builder.data_dir} has {splits}.")
    train, test = (_read(builder, split, shape, len(class_names)) for split in ("train", held_out))
    mean, std = STATISTICS.get(builder.name) or _statistics(train.images)
    if 0 in std:
        raise DataError(
            f"channel {std.index(0)} of the training images of {name} is constant and cannot be normalised: "
            "prepare the set without that channel."
        )
    return Dataset(name, train, test, class_names, mean, std)


def _build_digits(directory: Path) -> None:
    """Prepare digits in `directory` unless it is there."""
    import tensorflow_datasets as tfds

    from .digits import Digits

    prepared = directory / "digits" / str(Digits.VERSION)
    if prepared.is_dir():
        return
    directory.mkdir(parents=True, exist_ok=True)
    # Built aside and renamed, so that processes that do this at the same time see the whole set or none.
    with tempfile.TemporaryDirectory(dir=directory, prefix="incomplete.digits_") as aside:
        builder = Digits(data_dir=aside, file_format="array_record")
        # tensorflow-datasets prints of a download, and there is none
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
        prepared.parent.mkdir(exist_ok=True)
        try:
            os.rename(builder.data_dir, prepared)
        except OSError:
            if not prepared.is_dir():  # else another process was first, with the same content
                raise


def _command(name: str, directory: Path) -> str:
    """What prepares a set. Not `tfds build`: its command line needs Beam and Croissant besides tensorflow."""
    builder = f"tfds.builder('{name}', data_dir='{directory}', file_format='array_record')"
    return (
        f'`python -c "import tensorflow_datasets as tfds; {builder}.download_and_prepare()"` '
        "(which, unlike reading, needs `pip install tensorflow`)"
    )


def _not_prepared(name: str, directory: Path) -> DataError:
    """What to do about a set that is not in `directory`."""
    import tensorflow_datasets as tfds

    present = [path.name for path in directory.iterdir() if path.is_dir()] if directory.is_dir() else []
    known = {"digits", *tfds.list_builders(with_community_datasets=False), *present}
    base = re.split("[/:]", name)[0]
    if base in known:
        return DataError(f"{name} is not prepared in {directory}. Run {_command(name, directory)}.")
    near = difflib.get_close_matches(base.lower(), sorted(known), n=1, cutoff=0.7)
    hint = f"Did you mean {near[0]!r}?" if near else f"Other sets are prepared by {_command('NAME', directory)}."
    return DataError(f"{name!r} is not in {directory} and tensorflow-datasets knows no such set. {hint}")


def _check_features(name: str, features) -> tuple[tuple[int, int, int], tuple[str, ...]]:
    """(H, W, C) and class names of an image classification set."""
    import tensorflow_datasets as tfds

    if not {"image", "label"} <= set(features) or not isinstance(features["label"], tfds.features.ClassLabel):
        raise DataError(
            f"{name} is no image classification set: it needs an `image` and a `label` (ClassLabel), and has "
            + ", ".join(f"{key} ({type(feature).__name__})" for key, feature in features.items()) + "."
        )
    shape, dtype = features["image"].shape, features["image"].np_dtype
    if dtype != np.uint8 or len(shape) != 3 or None in shape:
        raise DataError(
            f"images of {name} are {np.dtype(dtype).name} of shape {shape}; needed are uint8 [H, W, C], all of one "
            "size: use a resized version of the set (such as imagenet_resized/64x64)."
        )
    return shape, tuple(features["label"].names)


def _read(builder, split: str, shape: tuple[int, int, int], num_classes: int) -> Split:
    """Every example of a split, in the order stored."""
    from array_record.python.array_record_module import ArrayRecordReader

    source = builder.as_data_source(split=split, file_format="array_record")
    declared = builder.info.splits[split]
    missing = [path.name for path in declared.filepaths if not path.exists()]
    if missing:
        raise DataError(f"{builder.data_dir} lacks {', '.join(missing)}: remove it and prepare the set again.")
    # len(source) only repeats what dataset_info.json declares: count what the files hold
    stored = sum(ArrayRecordReader(os.fspath(path)).num_records() for path in declared.filepaths)
    if not stored == len(source) == declared.num_examples:
        raise DataError(
            f"split {split} of {builder.data_dir} declares {declared.num_examples} examples and its files hold "
            f"{stored}: remove the directory and prepare the set again."
        )
    images, labels = np.empty((stored, *shape), np.uint8), np.empty(stored, np.int32)
    for index, example in enumerate(source):
        if example["image"].shape != shape:
            raise DataError(
                f"image {index} of split {split} in {builder.data_dir} has shape {example['image'].shape}, "
                f"declared is {shape}: prepare the set again."
            )
        images[index], labels[index] = example["image"], example["label"]
    if labels.min() < 0 or labels.max() >= num_classes:
        raise DataError(
            f"labels of split {split} in {builder.data_dir} span {labels.min()}..{labels.max()}, classes are "
            f"0..{num_classes - 1}: the split is not labelled."
        )
    return Split(images, labels)


def _statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of pixels in [0, 1]."""
    mean = images.mean((0, 1, 2))
    # E[x²] - E[x]² over uint16 squares: a quarter of the memory that images.std takes
    std = np.sqrt(np.square(images, dtype=np.uint16).mean((0, 1, 2)) - mean**2)
    return tuple((mean / 255).tolist()), tuple((std / 255).tolist())


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


@functools.lru_cache(maxsize=2)  # a batch straddles two epochs
def _permutation(seed: int, num_examples: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(num_examples).astype(np.int32)


def random_crop_flip(key: Array, images: Array, padding: int, flip: bool) -> Array:
    """Random crop after zero padding, then random horizontal flip, per example: [B, H, W, C] -> [B, H, W, C].

    For raw images, before `normalise`: the authors, with torchvision, pad with black, not with the mean.
    """
    crop_key, flip_key = jax.random.split(key)
    batch, *shape = images.shape
    if padding:
        padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
        top, left = jax.random.randint(crop_key, (2, batch), 0, 2 * padding + 1)
        crop = jax.vmap(lambda image, top, left: jax.lax.dynamic_slice(image, (top, left, 0), shape))
        images = crop(padded, top, left)
    if flip:
        mirrored = jax.random.bernoulli(flip_key, shape=(batch, 1, 1, 1))
        images = jnp.where(mirrored, images[:, :, ::-1], images)
    return images


def normalise(images: Array, mean: tuple[float, ...], std: tuple[float, ...], dtype=jnp.float32) -> Array:
    """(images / 255 - mean) / std, per channel: uint8 [..., H, W, C] -> dtype [..., H, W, C]."""
    channels = images.shape[-1]
    if not len(mean) == len(std) == channels:
        raise ValueError(f"images have {channels} channels, mean has {len(mean)} and std {len(std)}: give one of each")
    shape = (1,) * (images.ndim - 1) + (channels,)  # explicit, for jax_numpy_rank_promotion="raise"
    mean, std = (jnp.asarray(value, jnp.float32).reshape(shape) for value in (mean, std))
    return ((images.astype(jnp.float32) / 255 - mean) / std).astype(dtype)
