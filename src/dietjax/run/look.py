"""A set looked at before a run: what it consists of, what is odd, and examples as the networks would see them."""

import dataclasses
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .. import config, data
from ..analysis import data_facts, data_oddities
from ..analysis.data_facts import DataFacts, Progress
from ..data import survey
from ..data.framing import COUNTS
from ..errors import InputError
from ..train import plan, preview
from . import assemble

CLASSES = 20
"""Classes of which examples are shown, evenly spaced."""
OF_A_CLASS = 8
"""Examples that are shown of a class."""
AUGMENTED_CLASSES = 12
"""Classes of which an example is shown as training sees it, in OF_A_CLASS - 1 epochs."""

Strips = Sequence[tuple[str, np.ndarray]]
"""(Class, its images uint8 [n, H, W, C] or frames [n, T, H, W, C])."""


class Found(NamedTuple):
    """What was seen."""

    facts: DataFacts
    lines: dict[str, str]
    """{what: in words}."""
    oddities: list[str]
    examples: Strips
    """Not augmented."""
    augmented: Strips
    """Of each strip the first is not augmented."""
    words: str
    """What augmentation there is."""


def look(settings: config.Data, sample: int, progress: Progress = lambda *_: None, timesteps: int = 1) -> Found:
    """Look at the set that these settings name; what training would refuse is said and not raised.

    Args:
        settings: the set, its size, augmentation.
        sample: images of each split that are decoded at most, evenly spaced.
        progress: told how far it is.
        timesteps: frames that a recording of events is cut into.

    Raises:
        DataError: there is no such set, or it cannot be opened.
    """
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        stored = assemble.open_stored(settings, timesteps)
        channels = settings.channels or (stored.shape[2] if settings.image_size else None)
        facts = data_facts.examine(stored, sample, channels, progress)
        found = _shown(settings, facts, timesteps)
    # a corrupt image has been named
    others = [str(w.message) for w in said if not issubclass(w.category, data.CorruptImageWarning)]
    others += config.doubts(config.Experiment("data", data=settings, timesteps=timesteps))
    return found._replace(oddities=[*found.oddities, *dict.fromkeys(others)])


def _shown(settings: config.Data, facts: DataFacts, timesteps: int) -> Found:
    lines, oddities = data_facts.describe(facts), data_oddities.find(facts)
    try:
        # without the images that cannot be read, rather than nothing
        dataset = assemble.open_data(dataclasses.replace(settings, skip_corrupt=True), timesteps)
        plan.check_augmentation(dataset, settings)
        examples, augmented = _examples(dataset, facts), _augmented(dataset, settings, facts)
    except InputError as error:
        return Found(facts, lines, [f"training would refuse this set: {error}", *oddities], (), (),
                     "Nothing is shown: training would refuse this set.")
    height, width, channels = dataset.image_shape
    lines["as the network sees them"] = \
        f"{f'{dataset.frames} frames of ' if dataset.frames else ''}{height} × {width} × {channels}"
    if (dataset.mean, dataset.std) == COUNTS:
        lines["counts of events"] = "as they are, not normalised"
    else:
        lines["mean and deviation of pixels in 0..1"] = "; ".join(
            f"{mean:.4f} ± {std:.4f}" for mean, std in zip(dataset.mean, dataset.std, strict=True))
    return Found(facts, lines, oddities, examples, augmented, _words(settings))


def _examples(dataset: data.Dataset, facts: DataFacts) -> Strips:
    shown = [(name, numbers) for name, numbers in _by_class(facts, CLASSES, OF_A_CLASS) if len(numbers)]
    images, _ = dataset.train.take(np.concatenate([numbers for _, numbers in shown]))
    ends = np.cumsum([len(numbers) for _, numbers in shown])[:-1]
    return [(name, part) for (name, _), part in zip(shown, np.split(images, ends), strict=True)]


def _augmented(dataset: data.Dataset, settings: config.Data, facts: DataFacts) -> Strips:
    if not _augmentations(settings):
        return ()
    shown = [(name, numbers[0]) for name, numbers in _by_class(facts, AUGMENTED_CLASSES, 1) if len(numbers)]
    indices = np.array([number for _, number in shown])
    images, _ = dataset.train.take(indices)
    seen = preview.augmented(dataset, settings, indices, OF_A_CLASS - 1)
    return [(name, np.concatenate([images[i : i + 1], seen[:, i]])) for i, (name, _) in enumerate(shown)]


def _by_class(facts: DataFacts, classes: int, of_each: int) -> list[tuple[str, np.ndarray]]:
    """(Name, training examples), evenly spaced, of evenly spaced classes; of those that can be read, if looked at."""
    broken = [look.number for look in facts.train.looks if look.wrong]
    readable = np.setdiff1d(np.arange(len(facts.train.labels)), broken)
    found = []
    for label in survey.sample(len(facts.class_names), classes).tolist():
        numbers = readable[facts.train.labels[readable] == label]
        found.append((facts.class_names[label], numbers[survey.sample(len(numbers), of_each)]))
    return found


def _augmentations(settings: config.Data) -> list[str]:
    """What training does to images with these settings, in words."""
    found = ["random crops of all sizes (data.image_size)"] if settings.image_size else []
    if settings.crop_padding:
        found.append(f"crops after padding (data.crop_padding {settings.crop_padding})")
    if settings.flip:
        found.append(f"flips{', at every other epoch' if settings.flip_alternates else ''} (data.flip)")
    if settings.cutout:
        found.append(f"a square of the mean colour (data.cutout {settings.cutout})")
    if settings.drop_events:
        found.append(f"a share of the events left out, up to {settings.drop_events:g} (data.drop_events)")
    return found


def _words(settings: config.Data) -> str:
    done = _augmentations(settings)
    if not done:
        return "No augmentation is set: training sees the images as they are above."
    return (f"Of each strip the first picture is not augmented, the others are what training sees in {OF_A_CLASS - 1} "
            f"epochs: {', '.join(done)}.")
