"""The tables of docs/performance.md and docs/scaling.md, from docs/measured: `python docs/performance.py` writes each
between its two marks, with the command, the machine and the date of its figures below it.

NAME.json there is what `dietjax bench SUITE --json` printed, or a file of `dietjax bench all`, as it is. Figures of
which no such file was kept are written into one by hand, and its environment says so under "source".
"""

import dataclasses
import json
import pathlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from dietjax.errors import InputError

DOCS = pathlib.Path(__file__).parent
MARKS = r"^<!-- {kind}: (\S+) -->\n(.*?)^<!-- end of \1 -->$"
"""Of a table that is "measured" (here) or "modelled" (scaling.py)."""
HEADINGS = {"network": "", "what": "", "ms": "ms (quartiles)", "ratio": "times the base's",
            "share": "share of the copy's", "of matmul": "share of a matrix product's",
            "temporary MB": "temporaries, MB", "predicted MB": "predicted, MB", "peak MB": "peak, MB",
            "state MB": "state, MB", "types": "MB of each type", "sent MB": "sent, MB", "ring MB": "sent by hand, MB",
            "number": "collectives"}
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
    page: str = "performance.md"
    only: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Values that a row must have to be shown."""

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


TRAFFIC = ("layer", "map MB", "products MB", "weights MB", "others MB", "forward", "backward", "passes", "floor",
           "copies MB", "float32 MB")
SENT = ("target", "devices", "fsdp", "kind", "number", "types", "sent MB", "ring MB")
"""What `bench collectives` says of a step."""
TABLES: dict[str, Table] = {
    "step_vgg9_cpu": Table(("step_vgg9_cpu", "step_vgg9_spyx_cpu"), ("network", "ms", "ratio", "temporary MB")),
    "step_vgg16_cpu": Table(("step_vgg16_cpu",), ("network", "ms", "ratio", "temporary MB")),
    "step_vgg16_quarter_cpu": Table(("step_vgg16_quarter_cpu",),
                                    ("network", "ms", "ratio", "GFLOP/s", "of matmul", "temporary MB")),
    "step_xeon": Table(("step_vgg9_xeon", "step_vgg9_spyx_xeon", "step_vgg16_quarter_xeon"),
                       ("network", "ms", "ratio", "GFLOP/s", "of matmul", "temporary MB")),
    "inference_vgg9_cpu": Table(("inference_vgg9_cpu",), ("network", "ms", "ratio", "temporary MB")),
    "neuron_cpu": Table(("neuron_cpu",), ("what", "T", "ms", "GB/s", "share", "temporary MB")),
    "neuron_h100": Over(("neuron_h100",), ("T", "what")),
    "step_vgg16_h100": Table(("step_vgg16_h100",), ("network", "dtype", "ms", "ratio", "temporary MB")),
    "traffic_vgg16_h100": Table(("traffic_vgg16_h100",), TRAFFIC),
    "traffic_vgg16_h100_pallas": Table(("traffic_vgg16_h100_pallas",), TRAFFIC),
    "traffic_vgg16_v5e": Table(("traffic_vgg16_v5e",), (*TRAFFIC, "Mcycles")),
    **{f"collectives_{network}": Table(
        tuple(f"collectives_{network}_{where}" for where in ("cpu8", "h100", "v5e")), SENT, "scaling.md")
       for network in ("vgg16", "resnet34")},
    **{f"collectives_{network}_devices": Table(
        tuple(f"collectives_{network}_cpu{count}" for count in (8, 16, 32, 64)),
        ("devices", "fsdp", "number", "sent MB", "ring MB", "state MB"), "scaling.md", {"kind": "all"})
       for network in ("vgg16", "resnet34")},
    **{f"collectives_{network}_batch4": Table(
        (f"collectives_{network}_h100", f"collectives_{network}_batch4_h100"),
        ("fsdp", "number", "types", "sent MB", "temporary MB"), "scaling.md", {"kind": "all"})
       for network in ("vgg16", "resnet34")},
    "collectives_resnet34_norm": Table(("collectives_resnet34_norm_h100",), SENT, "scaling.md"),
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
    few = name in ("ratio", "share", "of matmul", *TRAFFIC[5:9])
    return figure(value, 3 if few else 4) if isinstance(value, float) else str(value)


def figure(value: float, digits: int = 4) -> str:
    """So many digits: 0.0412, 1.234, 281.1; from a thousand on whole numbers: 12,171; what is next to nothing: ~0."""
    if 0 < abs(value) < 1e-4:
        return "~0"
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
    only = TABLES[name].only
    head, *rows = TABLES[name].lines([row for result in results for row in result["rows"]
                                      if all(row.get(key) == value for key, value in only.items())])
    said = {f"`{result['command']}`: {machine(result['environment'])}.\n": None for result in results}
    return "\n" + markdown([head, *rows]) + "\n" + "\n".join(said) + "\n"


def machine(environment: Mapping[str, str]) -> str:
    """One line of an environment."""
    named = {"device": "", "CPU": "", "source": "", "date": "", "CPU cores": "cores "}
    return ", ".join(f"{named.get(key, key + ' ')}{environment[key]}" for key in MACHINE if environment.get(key))


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A table of cells, the first line its heading."""
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (lines[0], ["---"] * len(lines[0]), *lines[1:]))


def filled(page: str, names: Collection[str], make: Callable[[str], str], kind: str = "measured") -> str:
    """The page with each table between its marks.

    Raises:
        InputError: it has marks of a table that is not known, or a table's marks not once.
    """
    marks = re.compile(MARKS.format(kind=kind), re.MULTILINE | re.DOTALL)
    found = [match[1] for match in marks.finditer(page)]
    if sorted(found) != sorted(names):
        raise InputError(f"the page has marks of {', '.join(sorted(found))}, and the tables are "
                         f"{', '.join(sorted(names))}; each needs the lines <!-- {kind}: NAME --> and <!-- end of NAME "
                         "--> once")
    return marks.sub(lambda match: f"<!-- {kind}: {match[1]} -->\n{make(match[1])}<!-- end of {match[1]} -->", page)


def names_on(page: str) -> list[str]:
    """Tables of a page."""
    return [name for name, shown in TABLES.items() if shown.page == page]


if __name__ == "__main__":
    for page in (DOCS / name for name in sorted({shown.page for shown in TABLES.values()})):
        names = names_on(page.name)
        page.write_text(filled(page.read_text(encoding="utf-8"), names, lambda name: table(name, DOCS / "measured")),
                        "utf-8")
        print(f"{page}: {len(names)} tables")
