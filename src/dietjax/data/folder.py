"""A user's own images: PATH/{train,test}/CLASS/FILE, or PATH/CLASS/FILE of which a part is held out."""

import contextlib
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from .images import read
from .source import CorruptImage, DataError, DataWarning, Example, StoredImages

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
HELD_OUT = ("test", "val", "validation")
"""What the folder of test images is called; of several the first is taken."""
LITTER = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir")
"""What systems leave in folders, as are names that begin with a dot: nobody put them there as data."""
LAYOUT = f"folder:PATH needs PATH/{{train,test}}/CLASS/*{{{','.join(SUFFIXES)}}}"
NAMED = 3
"""Folders that a sentence names."""

Classes = Mapping[str, Sequence[Path]]
"""{name of a class: its files}, both in the order of names."""


class Files:
    """A split's examples, class by class, each in the order of names."""

    def __init__(self, classes: Sequence[Sequence[Path]]):
        self._files = [(path, label) for label, paths in enumerate(classes) for path in paths]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Example:
        path, label = self._files[index]
        return Example(_content(path), label)

    @property
    def labels(self) -> np.ndarray:
        """int32 [N], without reading a file."""
        return np.array([label for _, label in self._files], np.int32)

    def where(self, index: int) -> str:
        """What an example is called in a message."""
        return str(self._files[index][0])


def open_folder(path: Path, resized: bool = False, channels: int | None = None, holdout: float = 0.0,
                holdout_seed: int = 0) -> StoredImages:
    """The set in a folder; class names are those of its subfolders, in order.

    resized: its images may be of any size and colour; else all must have the shape of the first.
    channels: what they are converted to, 1 or 3; None: those of the first, resized 3.
    holdout: share of each class that becomes the test split, where the folder has none; see `hold_out`.
    """
    train, test = _splits(path, holdout, holdout_seed)
    only = {split: sorted(set(mine) - set(other)) for split, mine, other in
            (("train", train, test), ("test", test, train))}
    if any(only.values()):
        raise DataError(
            f"{path}: train has {len(train)} classes, test has {len(test)}; "
            + "; ".join(f"only in {split}: {', '.join(names)}" for split, names in only.items() if names)
            + ". Both need the same class folders"
        )
    shape: tuple[int | None, int | None, int] = (None, None, channels or 3)
    if not resized:
        shape = _first_shape([image for images in train.values() for image in images], channels)
    return StoredImages(path.name, Files(list(train.values())), Files(list(test.values())), tuple(train), shape)


def hold_out(classes: Classes, share: float, seed: int) -> tuple[Classes, Classes]:
    """(The rest, what is held out): `share` of each class, rounded, but at least one image of it, and not all of them.

    Which ones follows from the seed, from the class's place in the order of names and from how many images it has.
    """
    train, test = {}, {}
    for label, (name, files) in enumerate(classes.items()):
        if len(files) < 2:
            raise DataError(f"class {name} has 1 image, {files[0]}: too few to hold one out; add some, or remove it")
        count = min(max(1, round(share * len(files))), len(files) - 1)
        chosen = set(np.random.default_rng((seed, label)).permutation(len(files))[:count].tolist())
        train[name] = [file for i, file in enumerate(files) if i not in chosen]
        test[name] = [file for i, file in enumerate(files) if i in chosen]
    return train, test


def _splits(path: Path, holdout: float, seed: int) -> tuple[Classes, Classes]:
    """The classes of (train, test)."""
    if not path.is_dir():
        raise DataError(f"{path} is no directory: {LAYOUT}")
    tests = [name for name in HELD_OUT if (path / name).is_dir()]
    train = path / "train"
    if holdout and tests:
        raise DataError(f"{path} has {tests[0]}, which holds its test images: leave out data.holdout, or move "
                        f"{path / tests[0]} away")
    if holdout:
        return hold_out(_classes(train if train.is_dir() else path), holdout, seed)
    if not train.is_dir():
        raise DataError(f"{train} is no directory: {LAYOUT}{_instead_of_train(path)}")
    if not tests:
        raise DataError(f"{path / 'test'} is no directory, nor val nor validation beside it: {LAYOUT}; "
                        "data.holdout 0.1 holds a tenth of every class of train out in its place")
    if tests[0] != "test":
        warnings.warn(DataWarning(f"{path} has no test: {path / tests[0]} stands in its place, so accuracies are on "
                                  "images that you may also choose settings by"), stacklevel=2)
    for name in tests[1:]:
        warnings.warn(DataWarning(f"{path / name} is not used: accuracies are on {path / tests[0]}"), stacklevel=2)
    return _classes(train), _classes(path / tests[0])


def _instead_of_train(path: Path) -> str:
    """What is said where a folder has no train, by what it has."""
    inside = [entry.name for entry in _entries(path) if entry.is_dir()]
    for name in inside:
        if (path / name / "train").is_dir():
            return f"; did you mean folder:{path / name}?"
        if name.lower() in ("train", "training"):
            return f"; rename {path / name}"
    if inside:
        listed = f"{', '.join(inside[:NAMED])}{', ...' if len(inside) > NAMED else ''}"
        return f". If {listed} are its classes, data.holdout 0.1 holds a tenth of each out as test images"
    return "; it holds no folders"


def _classes(split: Path) -> Classes:
    """{class: its files} of a folder of class folders."""
    entries = _entries(split)
    for entry in entries:
        if not entry.is_dir() and entry.suffix.lower() in SUFFIXES:
            raise DataError(f"{entry} lies beside the class folders: move it into that of its class, or away")
    classes = {entry.name: _images(entry) for entry in entries if entry.is_dir()}
    if not classes:
        raise DataError(f"{split} holds no class folders: {LAYOUT}")
    return classes


def _images(folder: Path) -> list[Path]:
    entries = _entries(folder)
    for entry in entries:
        if entry.is_dir():
            raise DataError(f"{entry} is a folder in class folder {folder}: classes are not nested; move its images "
                            f"into {folder}, or make it a class of its own beside it")
    images = [entry for entry in entries if entry.suffix.lower() in SUFFIXES]
    if len(images) < len(entries):
        other = next(entry for entry in entries if entry not in images)
        raise DataError(f"{other} is no image with an ending of {', '.join(SUFFIXES)}: convert it, or move it away")
    if not images:
        raise DataError(f"class folder {folder} holds no images: put some there or remove it (in train and test)")
    return images


def _entries(folder: Path) -> list[Path]:
    return [entry for entry in sorted(folder.iterdir())
            if not entry.name.startswith(".") and entry.name.lower() not in LITTER]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:  # no damage that could be skipped: the next attempt may succeed
        raise DataError(f"{path} cannot be read: {os.strerror(error.errno or 0)}") from error


def _first_shape(paths: Sequence[Path], channels: int | None) -> tuple[int, int, int]:
    for path in paths:
        with contextlib.suppress(CorruptImage):  # whoever reads it decides what to do about it
            return read(_content(path), str(path), channels).image.shape
    raise DataError(f"none of {len(paths)} images can be decoded, from {paths[0]} on: write them again")
