"""What can only be said of a set's images together: whether some are grey, how much of 16 bits they use."""

import contextlib
from collections.abc import Iterator

import numpy as np

from . import images
from .source import CorruptImage, Source

SAMPLE = 1000
"""Images, evenly spaced, that stand for a split that may not fit into memory."""
NAMED = 3
"""Files that a sentence names."""


def sample(count: int, most: int) -> np.ndarray:
    """Indices of at most `most` of a split's examples, evenly spaced."""
    return np.linspace(0, count - 1, min(most, count)).astype(int)


def bits_in_use(splits: tuple[Source, ...], most: int) -> tuple[int, str]:
    """(Bits that images of 16 bits use, at least 8; the sentence that says so), over at most `most` of each split.

    The range is one for the whole set, because brightness is to mean the same in all of its images. It is one of whole
    bits, as cameras have them (10, 12, 14, 16), so that a sample tells it.
    """
    deepest, deep, looked = 0, 0, 0
    for source in splits:
        for _, image in _decoded(source, most):
            looked += 1
            if image.dtype == np.uint16:
                deep, deepest = deep + 1, max(deepest, int(image.max()))
    bits = max(8, deepest.bit_length())
    return bits, (f"{deep} of {looked} images are of 16 bits and reach {deepest}: they are read as {bits} bits, "
                  f"0..{2**bits - 1} scaled to 0..255, all of them alike")


def grey_among_colour(source: Source, name: str, channels: int, others: int) -> str:
    """What is said of a split whose images have not all the same channels: which are grey, and what to set.

    name: of an image that has `channels`, while the set was taken to have `others`.
    """
    kinds = {1: "grey", 3: "in colour"}
    found: dict[int, list[str]] = {1: [], 3: []}
    for where, image in _decoded(source, SAMPLE):
        found[image.shape[2]].append(where)
    grey, looked = found[1], sum(map(len, found.values()))
    which = f" ({', '.join(grey[:NAMED])}{', ...' if len(grey) > NAMED else ''})" if grey else ""
    return (f"{name} is {kinds[channels]}, others are {kinds[others]}: grey are {len(grey)} of {looked} images{which}. "
            "Set data.channels 3, which reads every image as RGB, or 1, as grey")


def _decoded(source: Source, most: int) -> Iterator[tuple[str, np.ndarray]]:
    """(Its name, its pixels) of each image that is looked at and can be decoded; who trains on it deals with others."""
    for index in sample(len(source), most).tolist():
        with contextlib.suppress(CorruptImage):
            stored, name = source[index].image, source.where(index)
            assert not callable(stored)  # of events, which have neither colours nor 16 bits
            yield name, images.read(stored, name).image if isinstance(stored, bytes) else stored
