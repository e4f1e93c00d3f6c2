"""A benchmark's result as a table, as JSON, and as a plot."""

import dataclasses
import json
import pathlib
import textwrap

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from ..report import terminal
from .measure import Result

FORMATS = {"ms": "{:.3f}", "q25": "{:.3f}", "q75": "{:.3f}", "ratio": "{:.3f}", "temporary MB": "{:.1f}",
           "launch ms": "{:.3f}", "GB/s": "{:.1f}",
           "predicted MB": "{:.1f}", "peak MB": "{:.1f}", "memory ratio": "{:.2f}", "share": "{:.2f}",
           "GFLOP/s": "{:.1f}", "of matmul": "{:.2f}",
           "best accuracy": "{:.2%}", "to accuracy, s": "{:.1f}", "bare images/s": "{:.1f}",
           "images/s": "{:.1f}", "images/s/core": "{:.0f}", "efficiency": "{:.2f}",
           "MB": "{:.3f}", "sent MB": "{:.3f}", "ring MB": "{:.3f}", "state MB": "{:.1f}",
           "map MB": "{:.1f}", "products MB": "{:.1f}", "weights MB": "{:.1f}", "others MB": "{:.1f}",
           "forward": "{:.2f}", "backward": "{:.2f}", "passes": "{:.2f}", "floor": "{:.2f}",
           "copies MB": "{:.1f}", "float32 MB": "{:.1f}"}

TITLE_WIDTH = 80
"""Characters that fit across a plot."""


def table(result: Result) -> None:
    """Print it with its environment and notes."""
    columns = list(dict.fromkeys(name for row in result.rows for name in row))
    right = [i for i, name in enumerate(columns)
             if any(isinstance(row.get(name), int | float) for row in result.rows)]
    rows = [["-" if row.get(name) is None else FORMATS.get(name, "{}").format(row[name]) for name in columns]
            for row in result.rows]
    terminal.print_table(result.title, columns, rows, right)
    for note in result.notes:
        print(note)
    print("; ".join(f"{name} {value}" for name, value in result.environment.items()))


def as_json(result: Result) -> str:
    """Everything, for a program."""
    return json.dumps(dataclasses.asdict(result), indent=1, default=str)  # a path


def plot(result: Result, path: pathlib.Path) -> None:
    """Draw the medians with their quartiles (or, without timings, the memory) and write PNG, SVG or PDF by the suffix.

    Over T where T varies, else as bars.
    """
    value = next(name for name in ("ms", "peak MB", "temporary MB") if name in result.rows[0])
    name = next(iter(result.rows[0]))
    series: dict[str, list[dict]] = {}
    for row in result.rows:
        label = str(row[name])
        label = label.split(",")[0] if label.startswith("ANN") else label  # its image count grows with T
        label += f", {row['dtype']}" if "dtype" in row else ""
        series.setdefault(label, []).append(row)
    over_time = len({row.get("T") for row in result.rows}) > 1
    figure = Figure(figsize=(7, 4) if over_time else (7, 0.8 + 0.45 * len(result.rows)), layout="constrained")
    axes = figure.add_subplot()
    if over_time:
        for (label, rows), marker in zip(series.items(), "osD^v<>PX*h" * len(series), strict=False):
            axes.plot([row["T"] for row in rows], [row[value] for row in rows], marker=marker, label=label)
        axes.set(xlabel="timesteps T", ylabel=value, xscale="log", yscale="log")
        ticks = sorted({row["T"] for row in result.rows})
        axes.set_xticks(ticks, map(str, ticks))
        axes.xaxis.set_minor_locator(NullLocator())  # of T alone: memory may lie within one power of ten
        axes.legend(fontsize="small")
    else:
        rows = result.rows[::-1]
        spread = [[row[value] - row["q25"] for row in rows], [row["q75"] - row[value] for row in rows]] \
            if value == "ms" else None
        bars = axes.barh(range(len(rows)), [row[value] for row in rows], xerr=spread, color="#0072b2")
        axes.bar_label(bars, [FORMATS[value].format(row[value]) for row in rows], padding=4, fontsize="small")
        axes.set_yticks(range(len(rows)), [", ".join(v if isinstance(v, str) else f"{k} {v}" for k, v in row.items()
                                                     if k in (name, "dtype", "n", "map", "T")) for row in rows])
        axes.margins(x=0.15)
        axes.set_xlabel(value)
    figure.suptitle(textwrap.fill(result.title, TITLE_WIDTH), fontsize="medium", x=0.01, horizontalalignment="left")
    figure.savefig(path, dpi=150)
