"""A user's own images: PATH/{train,test}/CLASS/*.{png,jpg,jpeg}."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .images import decode
from .source import CorruptImage, DataError, Example, StoredImages

SUFFIXES = (".png", ".jpg", ".jpeg")
LAYOUT = "folder:PATH needs PATH/{train,test}/CLASS/*.{png,jpg,jpeg}"


class Files:
    """A split's examples, class by class, each in the order of names."""

    def __init__(self, classes: Sequence[Sequence[Path]]):
        self._files = [(path, label) for label, paths in enumerate(classes) for path in paths]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Example:
        path, label = self._files[index]
        return Example(path.read_bytes(), label)

    @property
    def labels(self) -> np.ndarray:
        """int32 [N], without reading a file."""
        return np.array([label for _, label in self._files], np.int32)

    def where(self, index: int) -> str:
        """What an example is called in a message."""
        return str(self._files[index][0])


def open_folder(path: Path, resized: bool = False) -> StoredImages:
    """The set in a folder; class names are those of its subfolders, in order.

    resized: its images may be of any size and colour; else all must have the shape of the first.
    """
    splits = {}
    for split in ("train", "test"):
        if not (path / split).is_dir():
            raise DataError(f"{path / split} is no directory: {LAYOUT}")
        splits[split] = {entry.name: _images(entry) for entry in sorted((path / split).iterdir())
                         if entry.is_dir() and not entry.name.startswith(".")}
        if not splits[split]:
            raise DataError(f"{path / split} holds no class folders: {LAYOUT}")
    train, test = splits["train"], splits["test"]
    only = {split: sorted(set(mine) - set(other)) for split, mine, other in
            (("train", train, test), ("test", test, train))}
    if any(only.values()):
        raise DataError(
            f"{path}: train has {len(train)} classes, test has {len(test)}; "
            + "; ".join(f"only in {split}: {', '.join(names)}" for split, names in only.items() if names)
            + ". Both need the same class folders"
        )
    shape = (None, None, 3) if resized else _first_shape([image for images in train.values() for image in images])
    return StoredImages(path.name, Files(list(train.values())), Files(list(test.values())), tuple(train), shape)


def _first_shape(paths: Sequence[Path]) -> tuple[int, int, int]:
    for path in paths:
        with contextlib.suppress(CorruptImage):  # whoever reads it decides what to do about it
            return decode(path.read_bytes(), str(path)).shape
    raise DataError(f"no image can be decoded, from {paths[0]} on")


def _images(folder: Path) -> list[Path]:
    entries = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")]
    images = [entry for entry in entries if entry.suffix.lower() in SUFFIXES]
    if not images:
        raise DataError(f"class folder {folder} holds no images: put some there or remove it (in train and test)")
    if len(images) < len(entries):
        other = next(entry for entry in entries if entry not in images)
        raise DataError(f"{other} is no image with one of the endings {', '.join(SUFFIXES)}: move it away")
    return images
