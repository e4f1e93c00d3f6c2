"""Results on the terminal: tables, and warnings beside them."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any


def print_table(title: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A title over the columns that `header` names; the first is aligned left, the others right."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for i, name in enumerate(header):
        table.add_column(name, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*map(str, row))
    console = Console(highlight=False)
    console.print(title, markup=False, soft_wrap=True)
    console.print(table)


def print_warnings(sentences: Iterable[str]) -> None:
    """A line for each, on stderr, so that a table or JSON on stdout stays what it is."""
    for sentence in sentences:
        print(f"warning: {sentence}", file=sys.stderr)
