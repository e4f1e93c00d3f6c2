"""Tables on a terminal of any width: no digit of theirs is left out."""

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

NO_EDGE = 10_000
"""Columns of a file or a pipe, which has no edge to break at."""


def print_table(title: str, header: Sequence[str], rows: Iterable[Sequence[Any]], right: Iterable[int]) -> None:
    """A title over the columns that `header` names; those with the numbers `right` are aligned to the right.

    Where the terminal is too narrow for a table each row becomes a few lines, a value each under its column's name.
    """
    from rich.console import Console

    cells = [[str(cell) for cell in row] for row in rows]
    console = Console(highlight=False, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else NO_EDGE)
    console.print(title, markup=False, soft_wrap=True)
    widths = [max(map(len, (*name.split(), *column))) for name, *column in zip(header, *cells, strict=True)]
    if sum(widths) + 3 * len(widths) + 1 <= console.width:
        console.print(_table(header, cells, widths, set(right)))
        return
    longest = max(map(len, header))
    for row in cells:
        for name, cell in zip(header, row, strict=True):
            console.print(f"{name:<{longest}}  {cell}", markup=False, soft_wrap=True)
        console.print()


def _table(header, cells, widths, right):
    """Headings may break between words, cells nowhere."""
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for i, (name, width) in enumerate(zip(header, widths, strict=True)):
        table.add_column(Text(name), justify="right" if i in right else "left", min_width=width)
    for row in cells:
        table.add_row(*map(Text, row))
    return table
