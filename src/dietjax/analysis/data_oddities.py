"""What is odd about a set, and what to do about it: sentences for who is about to train on it."""

import collections
from collections.abc import Iterable, Iterator, Sequence

from .data_facts import DataFacts, Look, SplitFacts

IMBALANCE = 2
"""Times as many images of one class as of another from which on it is said."""
NAMED = 3
"""Examples that a sentence names."""


def find(facts: DataFacts) -> list[str]:
    """Sentences, the most harmful first; none about an ordinary set."""
    return [*_unreadable(facts), *_labels(facts), *_duplicates(facts), *_balance(facts), *_constant(facts),
            *_channels(facts)]


def _unreadable(facts: DataFacts) -> Iterator[str]:
    for split in facts.splits:
        wrong = [look.wrong for look in split.looks if look.wrong]
        if wrong:
            remedy = "mend or remove" if split.name == "test" else \
                "mend or remove, or train on others in their place (data.skip_corrupt)"
            yield f"cannot be read: {_images(len(wrong), split.name)}: {_some(wrong, '; ')}: {remedy}"


def _labels(facts: DataFacts) -> Iterator[str]:
    classes = len(facts.class_names)
    for split in facts.splits:
        outside = int(((split.labels < 0) | (split.labels >= classes)).sum())
        if outside:
            yield f"no label of 0..{classes - 1}: {_images(outside, split.name)}: label or remove"
        empty = [name for name, count in zip(facts.class_names, split.counts(classes), strict=True) if not count]
        if empty:
            effect = "nothing tells how well they are recognised" if split.name == "test" else \
                "the network cannot learn them"
            yield f"{_some(empty)}: no {split.name} images, so {effect}: add some, or leave the classes out"


def _duplicates(facts: DataFacts) -> Iterator[str]:
    """Of equal pixels, whatever their files' format or name."""
    places: dict[bytes, list[tuple[SplitFacts, Look]]] = collections.defaultdict(list)
    for split in facts.splits:
        for look in split.looks:
            if look.content is not None:
                places[look.content].append((split, look))
    several = [group for group in places.values() if len(group) > 1]
    across = [group for group in several if len({split.name for split, _ in group}) == 2]
    if across:
        count = sum(split.name == "test" for group in across for split, _ in group)
        yield (f"both in train and in test, pixel for pixel: {_images(count, 'test')}: {_groups(across)}: an accuracy "
               "on what was trained on says too much, remove from one of the two")
    contrary = [group for group in several if len({int(split.labels[look.number]) for split, look in group}) > 1]
    if contrary:
        yield (f"equal images with different labels, {len(contrary):,} times: {_groups(contrary)}: one label at least "
               "is wrong")
    for split in facts.splits:
        within = [[place for place in group if place[0] is split] for group in several]
        within = [group for group in within if len(group) > 1]
        if within:
            count = sum(len(group) - 1 for group in within)
            yield f"repeated within {split.name}: {_images(count, split.name)}: {_groups(within)}"


def _balance(facts: DataFacts) -> Iterator[str]:
    names, counts = facts.class_names, facts.train.counts(len(facts.class_names))
    present = [(int(count), name) for name, count in zip(names, counts, strict=True) if count]
    if not present:
        return
    (least, rare), (most, frequent) = min(present), max(present)
    if most >= IMBALANCE * least and len(present) > 1:
        test = facts.test.counts(len(names))
        always = test[names.index(frequent)] / max(1, test.sum())
        yield (f"imbalance: {most:,} training images of {frequent}, {least:,} of {rare}, {most / least:.1f} times as "
               f"many; whoever always answers {frequent} is right for {always:.1%} of the test images")


def _constant(facts: DataFacts) -> Iterator[str]:
    for split in facts.splits:
        alike = [split.where(look.number) for look in split.looks if look.constant]
        if alike:
            yield f"one colour all over: {_images(len(alike), split.name)}: {_some(alike)}: nothing to be seen"


def _channels(facts: DataFacts) -> Iterator[str]:
    kinds: collections.Counter = collections.Counter()
    for split in facts.splits:
        kinds.update({shape[-1]: 0 for shape in split.shapes})
        for shape, count in split.shapes.items():
            kinds[shape[-1]] += count
    if len(kinds) > 1:
        listed = ", ".join(f"{count:,} with {channels}" for channels, count in sorted(kinds.items()))
        yield (f"images differ in channels: {listed} (1: grey, 3: colour): data.channels 3 reads all of "
               "them as colour, 1 as grey")


def _groups(groups: Iterable[Sequence[tuple[SplitFacts, Look]]]) -> str:
    """Which examples are equal."""
    return _some((" = ".join(split.where(look.number) for split, look in group[:NAMED])
                  + (" = ..." if len(group) > NAMED else "") for group in groups), "; ")


def _some(found: Iterable[str], between: str = ", ") -> str:
    listed = list(found)
    more = f"{between}and {len(listed) - NAMED:,} more" if len(listed) > NAMED else ""
    return between.join(listed[:NAMED]) + more


def _images(count: int, split: str) -> str:
    return f"{count:,} {split} image{'s' * (count != 1)}"
