"""The tables of docs/performance.md, from docs/measured: `python docs/performance.py` writes each between its two
marks, with the command, the machine and the date of its figures below it.

NAME.json there is what `dietjax bench SUITE --json` printed, or a file of `dietjax bench all`, as it is. Figures of
which no such file was kept are written into one by hand, and its environment says so under "source".
"""

import dataclasses
import json
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dietjax.errors import InputError

DOCS = pathlib.Path(__file__).parent
MARKS = re.compile(r"^<!-- measured: (\S+) -->\n(.*?)^<!-- end of \1 -->$", re.MULTILINE | re.DOTALL)
HEADINGS = {"network": "", "what": "", "ms": "ms (quartiles)", "ratio": "times the base's",
            "share": "share of the copy's", "of matmul": "share of a matrix product's",
            "temporary MB": "temporaries, MB", "predicted MB": "predicted, MB", "peak MB": "peak, MB"}
SHARES = "ratio", "share", "of matmul"
NOTHING = "–"
MACHINE = ("device", "CPU", "CPU cores", "driver", "runtime", "dietjax", "jax", "torch", "source", "date")
"""What is said of an environment, in this order."""


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows as they were measured."""

    files: tuple[str, ...]
    """Stems of JSON files; their rows follow one another."""
    columns: tuple[str, ...]
    """Names of a row's values."""

    def lines(self, rows: Sequence[Mapping]) -> list[list[str]]:
        """Heading and rows, in cells."""
        return [[HEADINGS.get(name, name) for name in self.columns],
                *([cell(row, name) for name in self.columns] for row in rows)]


@dataclasses.dataclass(frozen=True)
class Over(Table):
    """One value of theirs, a line for each of the first column's, a column for each of the second's."""

    value: str = "ms"

    def lines(self, rows: Sequence[Mapping]) -> list[list[str]]:
        """Heading and rows, in cells."""
        down, across = self.columns
        found = {(row[down], label(row[across])): row for row in rows}
        names = list(dict.fromkeys(name for _, name in found))
        return [[down, *names], *([str(key), *(cell(found.get((key, name), {}), self.value) for name in names)]
                                  for key in dict.fromkeys(row[down] for row in rows))]


TABLES: dict[str, Table] = {
    "step_vgg9_cpu": Table(("step_vgg9_cpu", "step_vgg9_spyx_cpu"), ("network", "ms", "ratio", "temporary MB")),
    "step_vgg16_cpu": Table(("step_vgg16_cpu",), ("network", "ms", "ratio", "temporary MB")),
    "step_vgg16_quarter_cpu": Table(("step_vgg16_quarter_cpu",),
                                    ("network", "ms", "ratio", "GFLOP/s", "of matmul", "temporary MB")),
    "inference_vgg9_cpu": Table(("inference_vgg9_cpu",), ("network", "ms", "ratio", "temporary MB")),
    "neuron_cpu": Table(("neuron_cpu",), ("what", "T", "ms", "GB/s", "share", "temporary MB")),
    "neuron_h100": Over(("neuron_h100",), ("T", "what")),
    "step_vgg16_h100": Table(("step_vgg16_h100",), ("network", "dtype", "ms", "ratio", "temporary MB")),
}
"""{name in the page: what it shows}."""


def label(name: Any) -> str:
    """A column's name: an ANN's number of images grows with T."""
    return name.partition(",")[0] if str(name).startswith("ANN") else str(name)


def cell(row: Mapping[str, Any], name: str) -> str:
    """A value as text, times with their quartiles where there are some."""
    value = row.get(name)
    if value is None:
        return NOTHING
    if name == "ms" and "q25" in row:
        return f"{figure(value)} ({figure(row['q25'])}–{figure(row['q75'])})"
    return figure(value, 3 if name in SHARES else 4) if isinstance(value, float) else str(value)


def figure(value: float, digits: int = 4) -> str:
    """So many digits: 0.0412, 1.234, 281.1, and from a thousand on whole numbers: 12,171."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"


def read(name: str, folder: pathlib.Path) -> dict[str, Any]:
    """A result.

    Raises:
        InputError: there is none, or it does not say its command, its machine and its date.
    """
    path = folder / f"{name}.json"
    if not path.exists():
        raise InputError(f"there is no {path}: `dietjax bench ... --json` prints it")
    found = json.loads(path.read_text(encoding="utf-8"))
    lacking = [key for key in ("rows", "command", "environment") if not found.get(key)]
    lacking += [key for key in ("device", "date") if not found.get("environment", {}).get(key)]
    if lacking:
        raise InputError(f"{path} lacks {', '.join(lacking)}: measure again")
    return found


def table(name: str, folder: pathlib.Path) -> str:
    """A table in Markdown, and below it what it was measured with, on what, and when."""
    results = [read(file, folder) for file in TABLES[name].files]
    head, *rows = TABLES[name].lines([row for result in results for row in result["rows"]])
    lines = [head, ["---"] * len(head), *rows]
    said = {f"`{result['command']}`: {machine(result['environment'])}.\n": None for result in results}
    return "\n" + "".join(f"| {' | '.join(cells)} |\n" for cells in lines) + "\n" + "\n".join(said) + "\n"


def machine(environment: Mapping[str, str]) -> str:
    """One line of an environment."""
    named = {"device": "", "CPU": "", "source": "", "date": "", "CPU cores": "cores "}
    return ", ".join(f"{named.get(key, key + ' ')}{environment[key]}" for key in MACHINE if environment.get(key))


def filled(page: str, make: Callable[[str], str]) -> str:
    """The page with each table between its marks.

    Raises:
        InputError: it has marks of a table that is not known, or a table's marks not once.
    """
    names = [match[1] for match in MARKS.finditer(page)]
    if sorted(names) != sorted(TABLES):
        raise InputError(f"docs/performance.md has marks of {', '.join(sorted(names))}, and the tables are "
                         f"{', '.join(sorted(TABLES))}; each needs the lines <!-- measured: NAME --> and <!-- end of "
                         "NAME --> once")
    return MARKS.sub(lambda match: f"<!-- measured: {match[1]} -->\n{make(match[1])}<!-- end of {match[1]} -->", page)


if __name__ == "__main__":
    page = DOCS / "performance.md"
    page.write_text(filled(page.read_text(encoding="utf-8"), lambda name: table(name, DOCS / "measured")), "utf-8")
    print(f"{page}: {len(TABLES)} tables")
