"""What a run says on the terminal: a progress bar with images per second and time left, and a line per evaluation."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO

import rich.console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

NAMES = {"ann": "ANN", "converted": "converted SNN", "snn": "SNN"}

WIDE = 130
"""Columns of a terminal that the whole bar needs."""
NOTABLE_WAIT = 0.1
"""Share of the time spent waiting for input from which on the bar says so."""


class Console:
    """Where a run's progress goes. Without a terminal (a log file, CI) there is no bar, only the lines; quiet: nothing.

    When nobody reads on (`| head`, a dropped ssh connection) the run continues, and what it says is discarded.
    """

    def __init__(self, console: rich.console.Console | None = None, quiet: bool = False):
        self.console = console or rich.console.Console(file=_Outlived(sys.stdout), highlight=False, quiet=quiet)

    def say(self, text: str) -> None:
        """One line."""
        self.console.print(text, markup=False, soft_wrap=True)  # a path is neither markup nor to be broken

    def warn(self, phase: str, text: str) -> None:
        """One line about a phase in which something is wrong that does not stop it."""
        self.say(f"warning: {NAMES[phase]}: {text}")

    def epoch(self, phase: str, values: Mapping[str, Any]) -> None:
        """One line for an evaluation on the test set."""
        epoch = f"epoch {values['epoch']:5.1f}  " if "epoch" in values else ""
        top5 = f"  top-5 {values['top5_accuracy']:.2%}" if "top5_accuracy" in values else ""
        measured = f"test accuracy {values['accuracy']:.2%}{top5}  loss {values['loss']:.4f}"
        self.console.print(f"{NAMES[phase]:<13}  {epoch}{measured}", soft_wrap=True)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[Callable[[int, int, Mapping[str, Any]], None]]:
        """A bar over one phase of training; yields `advance(step, total, values)`."""
        named, left = TextColumn(f"{NAMES[name]:<13}"), (TextColumn("left"), TimeRemainingColumn())
        columns = (named, BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[speed]}"), TimeElapsedColumn(),
                   *left)
        if self.console.width < WIDE:  # it would be cut off in the middle of a number
            columns = (named, TaskProgressColumn(), *left)
        bar = Progress(*columns, console=self.console, disable=not self.console.is_terminal, transient=True)
        task = bar.add_task(name, total=None, speed="compiling")

        def advance(step, total, values):
            speed = "compiling"
            if values:
                speed = f"{values['images_per_second']:,.0f} images/s  loss {values['loss']:.4f}"
                if values["input_wait_share"] >= NOTABLE_WAIT:
                    speed += f"  {values['input_wait_share']:.0%} of it waiting for input"
            bar.update(task, completed=step, total=total, speed=speed)

        with bar:
            yield advance


class _Outlived:
    """A file; once it cannot be written any more, what is written to it is discarded."""

    def __init__(self, file: TextIO):
        self._file = file

    def __getattr__(self, name):  # isatty, encoding and the like
        return getattr(self._file, name)

    def write(self, text):
        self._try(self._file.write, text)

    def flush(self):
        self._try(self._file.flush)

    def _try(self, method, *arguments):
        try:
            method(*arguments)
        except OSError:  # its buffer must go nowhere too, or Python's last flush would complain
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._file.fileno())
