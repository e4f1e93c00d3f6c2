"""What a set consists of, from its examples as they are stored: classes, sizes, formats, contents."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ..data import DataError, survey
from ..data.event_folder import EventFiles
from ..data.images import read
from ..data.source import Source, StoredImages
from ..data.stream import usable_cores

TOGETHER = 64
"""Examples that a thread looks at in one go."""
SIZES_LISTED = 3
"""Different sizes that are listed one by one."""
SIGNATURES = ((b"\xff\xd8\xff", "JPEG"), (b"\x89PNG", "PNG"), (b"BM", "BMP"), (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"),
              (b"GIF8", "GIF"), (b"RIFF", "WebP"))
"""How files begin."""

Progress = Callable[[str, int, int], None]
"""(What is done, examples done, of how many)."""


class Look(NamedTuple):
    """What is found in one example."""

    number: int
    """Of the example in its split."""
    format: str
    """Of the file (of a recording of events its ending), or "array"."""
    size: int
    """Bytes as stored."""
    shape: tuple[int, ...] | None
    """[H, W, C] or [T, H, W, C]; None: it cannot be read."""
    content: bytes | None
    """A hash of shape, dtype and pixels."""
    constant: bool
    """Whether all pixels are alike."""
    wrong: str | None
    """Why it cannot be read."""


@dataclasses.dataclass(frozen=True)
class SplitFacts:
    """One split as it is stored."""

    name: str
    labels: np.ndarray
    """int [N], of every example."""
    looks: tuple[Look, ...]
    """At all examples, or at a sample of them, evenly spaced."""
    where: Callable[[int], str]
    """What an example is called."""

    @property
    def formats(self) -> collections.Counter:
        """{format: how many}."""
        return collections.Counter(look.format for look in self.looks)

    @property
    def shapes(self) -> collections.Counter:
        """{shape: how many} of those that can be read."""
        return collections.Counter(look.shape for look in self.looks if look.shape is not None)

    def counts(self, classes: int) -> np.ndarray:
        """Examples of each class: int [K]."""
        return np.bincount(self.labels[(self.labels >= 0) & (self.labels < classes)], minlength=classes)


@dataclasses.dataclass(frozen=True)
class DataFacts:
    """A set as it is stored."""

    name: str
    class_names: tuple[str, ...]
    train: SplitFacts
    test: SplitFacts

    @property
    def splits(self) -> tuple[SplitFacts, SplitFacts]:
        """Training first."""
        return self.train, self.test


def examine(stored: StoredImages, sample: int, channels: int | None = None,
            progress: Progress = lambda *_: None) -> DataFacts:
    """Look at a set.

    Args:
        stored: from `data.open_stored`.
        sample: examples of each split that are decoded at most, evenly spaced. Labels are read of all.
        channels: what files are converted to, 1 or 3; None: they are looked at as stored.
        progress: told how far it is.
    """
    return DataFacts(stored.name, stored.class_names, *(
        SplitFacts(name, _labels(name, source, progress), tuple(_looks(name, source, sample, channels, progress)),
                   source.where) for name, source in (("train", stored.train), ("test", stored.test))))


def describe(facts: DataFacts) -> dict[str, str]:
    """{what: in words}: of how many examples the rest is said, formats, sizes as stored, images of a class."""
    formats, shapes = facts.train.formats + facts.test.formats, facts.train.shapes + facts.test.shapes
    seen, classes = [], []
    for split in facts.splits:
        looks, count = len(split.looks), len(split.labels)
        seen.append(f"all {count:,} {split.name} images" if looks == count else
                    f"{looks:,} of {count:,} {split.name} images, evenly spaced")
        counts = split.counts(len(facts.class_names))
        upto = f" to {counts.max():,}" if counts.min() < counts.max() else ""
        classes.append(f"{split.name} {counts.min():,}{upto}")
    return {
        "looked at": " and ".join(seen),
        "classes": f"{len(facts.class_names):,}",
        "images of a class": ", ".join(classes),
        "format": ", ".join(f"{name} {count:,}" for name, count in formats.most_common()),
        "size, [frames ×] height × width × channels": _sizes(shapes),
        "as stored": _bytes(sum(look.size for split in facts.splits for look in split.looks)),
    }


def _bytes(count: int) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count} bytes"


def _sizes(shapes: collections.Counter) -> str:
    """Each size with its number of examples, if they are few; else the range of each side."""
    if not shapes:
        return "none could be read"
    if len(shapes) <= SIZES_LISTED:
        return ", ".join(f"{' × '.join(map(str, shape))}: {count:,}" for shape, count in shapes.most_common())
    sides = np.array([shape[-3:] for shape in shapes.elements()])
    ranges = (f"{low} to {high} (median {middle:.0f})" if low < high else f"{low}" for low, high, middle in
              zip(sides.min(0).tolist(), sides.max(0).tolist(), np.median(sides, 0).tolist(), strict=True))
    return " × ".join(ranges)


def _labels(name: str, source: Source, progress: Progress) -> np.ndarray:
    known = getattr(source, "labels", None)
    if known is not None:
        return np.asarray(known)
    labels = np.full(len(source), -1)
    for index in range(len(source)):
        with contextlib.suppress(DataError):  # named by `_look`, if it is in the sample
            labels[index] = source[index].label
        progress(f"labels of {name}", index + 1, len(source))
    return labels


def _looks(name: str, source: Source, sample: int, channels: int | None, progress: Progress) -> Iterator[Look]:
    """In the order stored, decoded by all cores."""
    chosen = survey.sample(len(source), sample).tolist()
    groups = [chosen[start : start + TOGETHER] for start in range(0, len(chosen), TOGETHER)]
    done = 0
    with concurrent.futures.ThreadPoolExecutor(usable_cores()) as threads:
        for looks in threads.map(lambda group: [_look(source, index, channels) for index in group], groups):
            done += len(looks)
            progress(f"images of {name}", done, len(chosen))
            yield from looks


def _look(source: Source, index: int, channels: int | None) -> Look:
    kind, size = "unknown", 0
    try:
        image: Any = source[index].image
        if isinstance(image, bytes):
            kind, size = _format(image), len(image)
            image = read(image, source.where(index), channels).image
        else:
            image = image() if callable(image) else image  # a source may make its arrays when they are needed
            kind, size = _recording(source, index) if isinstance(source, EventFiles) else ("array", image.nbytes)
    except DataError as error:
        return Look(index, kind, size, None, None, False, str(error))
    pixels = np.ascontiguousarray(image)
    content = hashlib.blake2b(f"{pixels.shape} {pixels.dtype}".encode(), digest_size=16)
    content.update(pixels.tobytes())
    constant = bool((pixels == pixels[..., :1, :1, :]).all())  # of colour: every channel for itself
    return Look(index, kind, size, pixels.shape, content.digest(), constant, None)


def _recording(source: EventFiles, index: int) -> tuple[str, int]:
    """(Ending, bytes) of the file of a recording."""
    path = pathlib.Path(source.where(index))
    return path.suffix, path.stat().st_size


def _format(encoded: bytes) -> str:
    return next((name for start, name in SIGNATURES if encoded.startswith(start)), "unknown")
