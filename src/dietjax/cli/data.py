"""The command `dietjax data`."""

import dataclasses
import json
import pathlib
import re
import sys
from typing import Annotated

from tyro.conf import Positional, arg

from ..config import Data, Experiment, check
from ..errors import InputError
from .table import print_table

CLASSES_PRINTED = 20
"""Of more classes the table on the terminal holds those with the most and the fewest training images."""
PAGE = ".html"


@dataclasses.dataclass(frozen=True)
class DataOf:
    """Look at data before training: classes, counts, sizes, formats, what is odd; and a page with examples as the
    network will see them.
    """

    source: Positional[str]
    """What --data.name takes (digits, cifar10, folder:PATH, npz:PATH, events:PATH, ...), or an experiment file, whose
    data it is."""
    out: pathlib.Path | None = None
    """The page, PATH.html, or a folder for it; default: data_NAME.html in this folder."""
    sample: int = 60_000
    """Images of each split that are decoded at most, evenly spaced: what is said of sizes, duplicates and damage is of
    these."""
    timesteps: int = Experiment("").timesteps
    """Frames that a recording of events is cut into."""
    json: bool = False
    """Print JSON instead of a table."""
    data: Annotated[Data, arg(name="data")] = Data(name="")

    def __call__(self) -> None:
        """Look, write the page, print."""
        from ..report import data_page
        from ..run import look

        settings = self._settings()
        if self.sample < 1:
            raise InputError(f"--sample must be at least 1, got {self.sample}")
        found = look.look(settings, self.sample, _progress, self.timesteps)
        classes = len(found.facts.class_names)
        said = {"name": found.facts.name, "lines": found.lines, "class_names": list(found.facts.class_names),
                **{split.name: split.counts(classes).tolist() for split in found.facts.splits}}
        path = self._path(found.facts.name)
        data_page.write(path, said, found.oddities, found.examples, found.augmented, found.words)
        if self.json:
            print(json.dumps({**said, "odd": found.oddities, "page": str(path)}))
            return
        _print(said)
        for sentence in found.oddities or ["nothing"]:
            print(f"odd: {sentence}")
        print(f"page: {path}")

    def _settings(self) -> Data:
        """The settings of the set: the experiment's, or defaults, with the options."""
        from_file = self.source.endswith(".py")
        if not from_file and self.data.name not in ("", self.source):
            raise InputError(f"the set is named twice, {self.source} and --data.name {self.data.name}: leave one out")
        settings = self.data if from_file else dataclasses.replace(self.data, name=self.source)
        check(Experiment("data", data=settings, timesteps=self.timesteps))
        return settings

    def _path(self, name: str) -> pathlib.Path:
        own = f"data_{re.sub(r'[^A-Za-z0-9._-]+', '_', name)}{PAGE}"
        if self.out is None:
            return pathlib.Path(own)
        return self.out if self.out.suffix == PAGE and not self.out.is_dir() else self.out / own


def _print(said: dict) -> None:
    """The table of classes, then one line for each fact."""
    rows = list(zip(said["class_names"], said["train"], said["test"], strict=True))
    if len(rows) > CLASSES_PRINTED:
        rows.sort(key=lambda row: -row[1])
        half = CLASSES_PRINTED // 2
        rows = [*rows[:half], (f"... {len(rows) - 2 * half:,} more", "", ""), *rows[-half:]]
    print_table(said["name"], ("class", "training images", "test images"),
                [(name, *(f"{n:,}" if n != "" else "" for n in counts)) for name, *counts in rows])
    for what, words in said["lines"].items():
        print(f"{what}: {words}")


def _progress(what: str, done: int, count: int) -> None:
    """A line that is written over, on a terminal, while there is much to look at."""
    if sys.stderr.isatty() and (done % 1024 == 0 or done == count):
        print(f"\r\033[Klooking at {what}: {done:,} of {count:,}", end="" if done < count else "\r\033[K",
              file=sys.stderr, flush=True)
