"""Which training steps a run's log covers: a line of training says how many steps it is the mean of."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

NEEDED = {"phase": str, "split": str, "step": int}
"""What every line has."""
LOG_EVERY = 50
"""Training steps that a line of the log covers; an epoch's last line covers what is left of it."""


def parse(text: str) -> dict[str, Any]:
    """One line of a log.

    Raises:
        ValueError: it is damaged, or of something else.
    """
    line = json.loads(text)
    if not isinstance(line, dict) or not all(isinstance(line.get(name), kind) for name, kind in NEEDED.items()):
        raise ValueError(f"no object with {', '.join(NEEDED)}")
    return line


def lacking(lines: Iterable[Mapping[str, Any]], phase: str, until: int) -> list[tuple[int, int]]:
    """Of the steps 1..`until` of a phase those that no line covers, as ranges (first, last).

    Lines of an earlier version do not say how many steps they cover: all since the line before, as far as one can know.
    """
    found, covered = [], 0
    for line in sorted((line for line in lines if (line["phase"], line["split"]) == (phase, "train")),
                       key=lambda line: line["step"]):
        steps = line.get("steps")
        first = line["step"] - steps + 1 if isinstance(steps, int) else covered + 1
        if first > covered + 1:
            found.append((covered + 1, first - 1))
        covered = max(covered, line["step"])
    if covered < until:
        found.append((covered + 1, until))
    return found


def named(phase: str, ranges: Iterable[tuple[int, int]]) -> str:
    """Those ranges in words: "steps 1 to 46 and 93 to 138 of ann"."""
    return f"steps {' and '.join(f'{first:,} to {last:,}' for first, last in ranges)} of {phase}"
