"""Results on the terminal: tables, and warnings beside them."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..config import Experiment
from ..report import terminal


def print_table(title: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A title over the columns that `header` names; the first is aligned left, the others right."""
    terminal.print_table(title, header, rows, right=range(1, len(header)))


def print_warnings(sentences: Iterable[str]) -> None:
    """A line for each, on stderr, so that a table or JSON on stdout stays what it is."""
    for sentence in sentences:
        print(f"warning: {sentence}", file=sys.stderr)


def unfinished(reached: Mapping[str, tuple[int, int]], experiment: Experiment) -> Iterator[str]:
    """A sentence for each phase of a run that is not at its end; `reached` as of `assemble.progress`."""
    for phase, (step, total) in reached.items():
        epochs = getattr(experiment, phase).epochs
        if step == 0:
            yield f"the {phase.upper()} is not trained yet; dietjax train goes on"
        elif step < total:
            yield (f"the {phase.upper()} is trained for {step:,} of {total:,} steps, epoch {epochs * step / total:.1f} "
                   f"of {epochs}: what it does now is not what it will do at the end; dietjax train goes on")
