"""Sets in a tensorflow-datasets directory, as array_record, read without tensorflow."""

import bisect
import difflib
import importlib.util
import itertools
import os
import re
import threading
from pathlib import Path

import numpy as np

from .dataset import STATISTICS
from .source import CorruptImage, DataError, Example, StoredImages

READER = "readahead_buffer_size:0,max_parallelism:0"
"""Options of array_record for random access; with its thread pool a record takes four times as long."""
READER_BYTES = 2**15
"""Buffer of each open file, as in array_record's own data source: a set may have a thousand files, and the default is
16 MB for each."""
OTHER_FILES = 256
"""Files that the rest of a process may have open beside a set's."""
OFFICIAL = re.compile(r"tensorflow_datasets\.|dietjax\.(data\.)?digits$")
"""Modules of the builders that STATISTICS belong to. A stored set names its builder's module; sets of one's own have
another."""


class Records:
    """A split's examples. A record with a flipped byte is found by its checksum."""

    def __init__(self, builder, split: str):
        import tensorflow_datasets as tfds

        info = builder.info.splits[split]
        self._where = f"split {split} of {builder.data_dir}"
        self._features, self._split = builder.info.features, split
        self._encoded = isinstance(self._features["image"], tfds.features.Image)
        missing = [path.name for path in info.filepaths if not path.exists()]
        if missing:
            raise DataError(f"{builder.data_dir} lacks {', '.join(missing)}: remove it and prepare the set again.")
        self._paths = info.filepaths
        self._readers = [_open(path) for path in self._paths]
        self._locks = [threading.Lock() for _ in self._readers]
        # dataset_info.json only declares: count what the files hold
        counts = [reader.num_records() for reader in self._readers]
        self._ends = list(itertools.accumulate(counts))
        if counts != list(info.shard_lengths):
            raise DataError(
                f"{self._where} declares {info.num_examples} examples and its files hold {len(self)}: remove the "
                "directory and prepare the set again."
            )

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Example:
        from tensorflow_datasets.proto import tf_example_pb2

        record = self._record(index)
        if self._encoded:
            features = tf_example_pb2.Example.FromString(record).features.feature
            return Example(features["image"].bytes_list.value[0], features["label"].int64_list.value[0])
        example = self._features.deserialize_example_np(record)
        return Example(example["image"], int(example["label"]))

    def where(self, index: int) -> str:
        """What an example is called in a message."""
        return f"example {index} of {self._where}"

    def _record(self, index: int) -> bytes:
        file = bisect.bisect_right(self._ends, index)
        start = self._ends[file - 1] if file else 0
        with self._locks[file]:
            try:
                self._readers[file].seek(index - start)
                return self._readers[file].read()
            except (RuntimeError, IndexError) as error:  # a chunk that fails its checksum
                self._readers[file] = _open(self._paths[file])  # a reader repeats its first error for ever
                raise CorruptImage(f"{self.where(index)} is corrupt: {error}") from error


def _open(path):
    from array_record.python.array_record_module import ArrayRecordReader

    try:
        return ArrayRecordReader(os.fspath(path), options=READER, file_reader_buffer_size=READER_BYTES)
    except RuntimeError as error:
        raise DataError(f"{path} is damaged ({error}): remove the directory and prepare the set again.") from error


def data_directory(data_dir: str | os.PathLike | None) -> Path:
    """The tensorflow-datasets directory that is meant, local or gs://."""
    from etils import epath

    directory = epath.Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    if str(directory).startswith("gs://") and importlib.util.find_spec("gcsfs") is None:
        raise DataError(f"listing {directory} needs gcsfs: pip install gcsfs, then the same command again")
    return directory


def open_prepared(name: str, directory: Path) -> StoredImages:
    """The set `name` of a tensorflow-datasets directory."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.read_only_builder import builder_from_files

    try:
        builder = builder_from_files(name, data_dir=directory)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:  # ValueError: no valid name, such as cifar-10
        raise _not_prepared(name, directory) from error
    formats = {file_format.value for file_format in builder.info.available_file_formats()}
    if "array_record" not in formats:
        raise DataError(
            f"{name} in {builder.data_dir} is stored as {', '.join(sorted(formats))}; only array_record can be read. "
            f"Remove that directory and run {command(name, directory)}."
        )
    shape, class_names = _check_features(name, builder.info.features)
    splits = list(builder.info.splits)
    held_out = [split for split in ("test", "validation") if split in splits]
    if "train" not in splits or not held_out:
        raise DataError(f"{name} needs the splits train and test (or validation), {builder.data_dir} has {splits}.")
    for split in ("train", *held_out):
        if not builder.info.splits[split].num_examples:
            raise DataError(f"split {split} of {builder.data_dir} is empty: prepare the set again.")
    _allow_open_files(name, sum(len(builder.info.splits[split].filepaths) for split in ("train", *held_out)))
    tests = [Records(builder, split) for split in held_out]
    # a contest keeps back the labels of its test split (ImageNet: -1); then the validation split is the test set
    test = next((records for records in tests if records[0].label >= 0), tests[0])
    known = STATISTICS.get(builder.name) if OFFICIAL.match(builder.info.module_name) else None
    if known and len(known[0]) != shape[2]:
        known = None
    return StoredImages(builder.name, Records(builder, "train"), test, class_names, shape, known)


def _allow_open_files(name: str, count: int) -> None:
    """Raise this process's limit of open files where a set needs it: reading in random order keeps all of them open."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + OTHER_FILES
    if resource.RLIM_INFINITY not in (soft, hard) and hard < needed:
        raise DataError(f"{name} has {count} files, and this process may open {hard}: raise it, `ulimit -Hn {needed}`")
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def command(name: str, directory: Path) -> str:
    """The command that prepares a set."""
    official = "" if name == "digits" else " (which, unlike reading, needs `pip install 'dietjax[prepare]'`)"
    return f"`dietjax prepare {name} --data-dir {directory}`{official}"


def _not_prepared(name: str, directory: Path) -> DataError:
    """What to do about a set that is not in `directory`."""
    import tensorflow_datasets as tfds

    present = [path.name for path in directory.iterdir() if path.is_dir()] if directory.is_dir() else []
    official = set(tfds.list_builders(with_community_datasets=False))
    base = re.split("[/:]", name)[0]
    if base in official:
        return DataError(f"{name} is not prepared in {directory}. Run {command(name, directory)}.")
    if base in present:
        return DataError(f"{directory / base} holds no prepared set. Remove it and prepare {name} again.")
    if Path(name).expanduser().is_dir():
        return DataError(f"{name!r} is no set of tensorflow-datasets, but a folder: images in it are called "
                         f"folder:{name}, recordings of events events:{name}")
    near = difflib.get_close_matches(base.lower(), sorted({"digits", *official, *present}), n=1, cutoff=0.7)
    hint = f"Did you mean {near[0]!r}?" if near else f"Other sets are prepared by {command('NAME', directory)}."
    return DataError(f"{name!r} is not in {directory} and tensorflow-datasets knows no such set. {hint}")


def _check_features(name: str, features) -> tuple[tuple[int | None, int | None, int], tuple[str, ...]]:
    """(H, W, C) and class names of an image classification set."""
    import tensorflow_datasets as tfds

    if not {"image", "label"} <= set(features) or not isinstance(features["label"], tfds.features.ClassLabel):
        raise DataError(
            f"{name} is no image classification set: it needs an `image` and a `label` (ClassLabel), and has "
            + ", ".join(f"{key} ({type(feature).__name__})" for key, feature in features.items()) + "."
        )
    shape, dtype = features["image"].shape, features["image"].np_dtype
    if dtype != np.uint8 or len(shape) != 3 or shape[2] is None:
        raise DataError(f"images of {name} are {np.dtype(dtype).name} of shape {shape}; needed are uint8 [H, W, C].")
    return shape, tuple(features["label"].names)
