"""A user's own files: PATH/{train,test}/CLASS/FILE, or PATH/CLASS/FILE of which a part is held out."""

import contextlib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .images import read
from .source import CorruptImage, DataError, DataWarning, Example, StoredImages, content

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
HELD_OUT = ("test", "val", "validation")
"""What the folder of test images is called; of several the first is taken."""
LITTER = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir")
"""What systems leave in folders, as are names that begin with a dot: nobody put them there as data."""
NAMED = 3
"""Folders that a sentence names."""

Classes = Mapping[str, Sequence[Path]]
"""{name of a class: its files}, both in the order of names."""


class Kind(NamedTuple):
    """Which files a folder of class folders holds."""

    prefix: str
    """What a set of them is called: folder, for folder:PATH."""
    file: str
    """What one of them is called."""
    suffixes: tuple[str, ...]
    """Endings of their names."""
    train: tuple[str, ...] = ("train",)
    """What the folder of training examples may be called."""
    held_out: tuple[str, ...] = HELD_OUT
    """What that of test examples may be called; of several the first is taken."""

    @property
    def layout(self) -> str:
        """What is needed, as a sentence says it."""
        return f"{self.prefix}:PATH needs PATH/{{train,test}}/CLASS/*{{{','.join(self.suffixes)}}}"


IMAGES = Kind("folder", "image", SUFFIXES)


class Files:
    """A split's examples, class by class, each in the order of names."""

    def __init__(self, classes: Sequence[Sequence[Path]]):
        self._files = [(path, label) for label, paths in enumerate(classes) for path in paths]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Example:
        path, label = self._files[index]
        return Example(content(path), label)

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
    train, test = class_folders(path, IMAGES, holdout, holdout_seed)
    shape: tuple[int | None, int | None, int] = (None, None, channels or 3)
    if not resized:
        shape = _first_shape([image for images in train.values() for image in images], channels)
    return StoredImages(path.name, Files(list(train.values())), Files(list(test.values())), tuple(train), shape)


def class_folders(path: Path, kind: Kind, holdout: float, holdout_seed: int) -> tuple[Classes, Classes]:
    """The classes of (train, test), which are the same."""
    train, test = _splits(path, kind, holdout, holdout_seed)
    only = {split: sorted(set(mine) - set(other)) for split, mine, other in
            (("train", train, test), ("test", test, train))}
    if any(only.values()):
        raise DataError(
            f"{path}: train has {len(train)} classes, test has {len(test)}; "
            + "; ".join(f"only in {split}: {', '.join(names)}" for split, names in only.items() if names)
            + ". Both need the same class folders"
        )
    return train, test


def hold_out(classes: Classes, share: float, seed: int, file: str = "image") -> tuple[Classes, Classes]:
    """(The rest, what is held out): `share` of each class, rounded, but at least one file of it, and not all of them.

    Which ones follows from the seed, from the class's place in the order of names and from how many files it has.
    file: what one is called in a message.
    """
    train, test = {}, {}
    for label, (name, files) in enumerate(classes.items()):
        if len(files) < 2:
            raise DataError(f"class {name} has 1 {file}, {files[0]}: too few to hold one out; add some, or remove it")
        count = min(max(1, round(share * len(files))), len(files) - 1)
        chosen = set(np.random.default_rng((seed, label)).permutation(len(files))[:count].tolist())
        train[name] = [file for i, file in enumerate(files) if i not in chosen]
        test[name] = [file for i, file in enumerate(files) if i in chosen]
    return train, test


def _splits(path: Path, kind: Kind, holdout: float, seed: int) -> tuple[Classes, Classes]:
    """The classes of (train, test)."""
    if not path.is_dir():
        raise DataError(f"{path} is no directory: {kind.layout}")
    there = {entry.name for entry in _entries(path) if entry.is_dir()}
    tests = [name for name in kind.held_out if name in there]
    train = path / next((name for name in kind.train if name in there), "train")
    if holdout and tests:
        raise DataError(f"{path} has {tests[0]}, which holds its test {kind.file}s: leave out data.holdout, or move "
                        f"{path / tests[0]} away")
    if holdout:
        return hold_out(_classes(train if train.is_dir() else path, kind), holdout, seed, kind.file)
    if not train.is_dir():
        raise DataError(f"{train} is no directory: {kind.layout}{_instead_of_train(path, kind)}")
    if not tests:
        for name in sorted(there):
            if name.lower() in ("testing", *HELD_OUT):
                raise DataError(f"{path / 'test'} is no directory: {kind.layout}; rename {path / name}")
        raise DataError(f"{path / 'test'} is no directory, nor val nor validation beside it: {kind.layout}; "
                        "data.holdout 0.1 holds a tenth of every class of train out in its place")
    if tests[0].lower() != "test":
        warnings.warn(DataWarning(f"{path} has no test: {path / tests[0]} stands in its place, so accuracies are on "
                                  f"{kind.file}s that you may also choose settings by"), stacklevel=2)
    for name in tests[1:]:
        warnings.warn(DataWarning(f"{path / name} is not used: accuracies are on {path / tests[0]}"), stacklevel=2)
    return _classes(train, kind), _classes(path / tests[0], kind)


def _instead_of_train(path: Path, kind: Kind) -> str:
    """What is said where a folder has no train, by what it has."""
    inside = [entry.name for entry in _entries(path) if entry.is_dir()]
    for name in inside:
        if (path / name / "train").is_dir():
            return f"; did you mean {kind.prefix}:{path / name}?"
        if name.lower() in ("train", "training"):
            return f"; rename {path / name}"
    if inside:
        listed = f"{', '.join(inside[:NAMED])}{', ...' if len(inside) > NAMED else ''}"
        return f". If {listed} are its classes, data.holdout 0.1 holds a tenth of each out as test {kind.file}s"
    return "; it holds no folders"


def _classes(split: Path, kind: Kind) -> Classes:
    """{class: its files} of a folder of class folders."""
    entries = _entries(split)
    for entry in entries:
        if not entry.is_dir() and entry.suffix.lower() in kind.suffixes:
            raise DataError(f"{entry} lies beside the class folders: move it into that of its class, or away")
    classes = {entry.name: _files(entry, kind) for entry in entries if entry.is_dir()}
    if not classes:
        raise DataError(f"{split} holds no class folders: {kind.layout}")
    return classes


def _files(folder: Path, kind: Kind) -> list[Path]:
    entries = _entries(folder)
    for entry in entries:
        if entry.is_dir():
            raise DataError(f"{entry} is a folder in class folder {folder}: classes are not nested; move its "
                            f"{kind.file}s into {folder}, or make it a class of its own beside it")
    for entry in entries:
        if entry.suffix.lower() not in kind.suffixes:
            raise DataError(f"{entry} is no {kind.file} with an ending of {', '.join(kind.suffixes)}: convert it, or "
                            "move it away")
    if not entries:
        raise DataError(f"class folder {folder} holds no {kind.file}s: put some there or remove it (in train and test)")
    return entries


def _entries(folder: Path) -> list[Path]:
    return [entry for entry in sorted(folder.iterdir())
            if not entry.name.startswith(".") and entry.name.lower() not in LITTER]


def _first_shape(paths: Sequence[Path], channels: int | None) -> tuple[int, int, int]:
    for path in paths:
        with contextlib.suppress(CorruptImage):  # whoever reads it decides what to do about it
            return read(content(path), str(path), channels).image.shape
    raise DataError(f"none of {len(paths)} images can be decoded, from {paths[0]} on: write them again")
