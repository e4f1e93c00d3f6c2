"""The README's results, from the summaries in experiments/results: `python docs/results_table.py` writes the table
between its two marks in README.md, and prints what the section Obtained of each experiment's file has to say.

NAME.json there is the summary.json of a run. Beside it may lie what `dietjax convert RUN --timesteps 8 --json` printed,
as NAME.converted.json, and what `dietjax evaluate RUN --timesteps 8 --json` did, as NAME.evaluated.json: more timesteps
than the run has. Runs that differ in nothing but the seed share a row.
"""

import dataclasses
import json
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from dietjax.config import Experiment, flat, from_dict, load_experiment
from dietjax.errors import InputError
from dietjax.report.elements import duration

PROJECT = pathlib.Path(__file__).parents[1]
BEGIN, END = "<!-- results: python docs/results_table.py writes them -->", "<!-- end of results -->"
HEADER = ("experiment", "T", "ANN", "converted", "SNN", "at other T: converted, SNN", "spikes per neuron and step",
          "energy", "time", "machine")
NO_OPTIONS = ("name", "seed", "data.dir", "data.threads")
"""Settings that tell no row from another."""
FURTHER = (".converted", ".evaluated")
"""What the name of a file ends in that belongs to the summary of the name before it."""
NOTHING = "–"


@dataclasses.dataclass(frozen=True)
class Result:
    """One run's summary, beside the file of its experiment as it is today."""

    summary: Mapping[str, Any]
    options: tuple[str, ...]
    """What the command line has to say besides the file, to get the settings of this run."""
    seed: int
    width: float
    by_timestep: Mapping[str, tuple[float, ...]]
    """{"converted", "snn": accuracy after each timestep, as far as is known}."""

    def accuracy(self, phase: str) -> float | None:
        """Of "ann", "converted" or "snn"; None of an ANN that a run from scratch has not."""
        return (self.summary[phase] or {}).get("accuracy")

    def rates(self) -> tuple[float, float, float]:
        """Spikes per neuron and timestep: the mean over all neurons, the least and the largest layer's."""
        layers, timesteps = self.summary["layers"], self.summary["snn"]["timesteps"]
        each = [layer["spike_rate"] / timesteps for layer in layers]
        neurons = [layer["neurons"] for layer in layers]
        return sum(n * rate for n, rate in zip(neurons, each, strict=True)) / sum(neurons), min(each), max(each)


def read(project: pathlib.Path = PROJECT) -> list[list[Result]]:
    """The results of each row, by seed.

    Raises:
        InputError: a summary is of an earlier version, which did not keep its settings; or its experiment has no file.
    """
    rows: dict[tuple, list[Result]] = {}
    for path in sorted((project / "experiments/results").glob("*.json")):
        if path.stem.endswith(FURTHER):
            continue
        summary = json.loads(path.read_text(encoding="utf-8"))
        if "settings" not in summary:
            raise InputError(f"{path} does not say its settings: it is no summary.json, or one of an earlier version; "
                             "train again")
        run = from_dict(Experiment, summary["settings"])
        file = project / "experiments" / f"{run.name}.py"
        asked = options(load_experiment(file), run)
        result = Result(summary, asked, run.seed, run.model.width, _by_timestep(path, summary))
        rows.setdefault((run.name, result.options), []).append(result)
    return [sorted(found, key=lambda result: result.seed) for _, found in sorted(rows.items())]


def options(file: Experiment, run: Experiment) -> tuple[str, ...]:
    """The options that make of a file's experiment the one that ran, but for its seed."""
    given, wanted = (flat(dataclasses.asdict(experiment)) for experiment in (file, run))
    return tuple(_option(key, value) for key, value in wanted.items() if key not in NO_OPTIONS and value != given[key])


def _option(key: str, value: Any) -> str:
    *group, name = key.replace("_", "-").split(".")
    if isinstance(value, bool):
        return "--" + ".".join([*group, name if value else f"no-{name}"])
    values = value if isinstance(value, tuple) else (value,)
    return " ".join(["--" + ".".join([*group, name]), *map(str, values)])


def _by_timestep(path: pathlib.Path, summary: Mapping) -> dict[str, tuple[float, ...]]:
    known = {phase: tuple((summary[phase] or {}).get("accuracy_by_timestep", ())) for phase in ("converted", "snn")}
    for phase, ending in zip(known, FURTHER, strict=True):
        more = path.with_name(f"{path.stem}{ending}.json")
        if more.exists():
            found = json.loads(more.read_text(encoding="utf-8"))
            known[phase] = tuple(found.get(phase, found)["accuracy_by_timestep"])
    return known


def table(rows: Iterable[list[Result]]) -> str:
    """A table in Markdown of them."""
    lines = [HEADER, ["---"] * len(HEADER), *map(_cells, rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _cells(row: list[Result]) -> list[str]:
    summary = row[0].summary
    name, timesteps, width = summary["experiment"], summary["snn"]["timesteps"], row[0].width
    network = summary["model"] + (f", width {width:g}" if width != 1 else "")
    said = f" `{' '.join(row[0].options)}`" if row[0].options else ""
    seeds = "" if len(row) == 1 else f", {len(row)} seeds: mean (range)"
    return [
        f"[{name}](experiments/{name}.py){said} ({network}, {summary['test_images']:,} test images{seeds})",
        str(timesteps), *(_accuracy(row, phase) for phase in ("ann", "converted", "snn")), _elsewhere(row, timesteps),
        _rates(row), _ratio(row), _span([r.summary.get("seconds_in_all") for r in row], duration, ""),
        "; ".join(dict.fromkeys(f"{r.summary['machine']}, jax {r.summary['versions']['jax']}" for r in row)),
    ]


def _span(values: Sequence[float | None], shown: Callable[[float], str], unit: str = " %") -> str:
    """Their mean, and where there are several the least and the largest; where one is not known, nothing."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return NOTHING
    mean = shown(sum(known) / len(known)) + unit
    return mean if len(known) == 1 else f"{mean} ({shown(min(known))} to {shown(max(known))})"


def _accuracy(row: list[Result], phase: str) -> str:
    return _span([result.accuracy(phase) for result in row], lambda value: f"{100 * value:.2f}")


def _ratio(row: list[Result]) -> str:
    return _span([result.summary["energy"]["ratio"] for result in row], lambda value: f"{value:.2f}", "")


def _rates(row: list[Result]) -> str:
    means, least, largest = zip(*(result.rates() for result in row), strict=True)
    return f"{sum(means) / len(means):.3f} ({min(least):.3f} to {max(largest):.3f})"


def _elsewhere(row: list[Result], timesteps: int) -> str:
    """Both accuracies after 1, 2, 4, ... timesteps, where one is known."""
    def after(phase: str, t: int) -> str:
        known = [result.by_timestep[phase] for result in row]
        return NOTHING if min(map(len, known)) < t else f"{100 * sum(k[t - 1] for k in known) / len(known):.1f}"

    longest = max(len(known) for result in row for known in result.by_timestep.values())
    powers = [2**i for i in range(longest.bit_length())]
    return "; ".join(f"{t}: {after('converted', t)}, {after('snn', t)}" for t in powers if t != timesteps) or NOTHING


def obtained(row: list[Result]) -> str:
    """What the section Obtained of the experiment's file says of a row."""
    said = f"{' '.join(row[0].options)}: " if row[0].options else ""
    measured = [f"{name} {_accuracy(row, phase)}" for phase, name in
                (("ann", "ANN"), ("converted", "converted"), ("snn", "SNN")) if row[0].accuracy(phase) is not None]
    seeds = f"seed{'s' if len(row) > 1 else ''} {', '.join(str(result.seed) for result in row)}"
    return (f"{said}{', '.join(measured)} at {row[0].summary['snn']['timesteps']} timesteps, energy ratio "
            f"{_ratio(row)}, spikes per neuron and step {_rates(row)} ({seeds}).")


def filled(page: str, written: str) -> str:
    """The page with this between its marks.

    Raises:
        InputError: it has not the two marks, each on a line of its own.
    """
    found = re.sub(f"(?s)^{re.escape(BEGIN)}\n.*?^{re.escape(END)}$", lambda _: f"{BEGIN}\n{written}{END}", page,
                   count=1, flags=re.MULTILINE)
    if found.count(f"{BEGIN}\n{written}{END}") != 1:
        raise InputError(f"README.md needs the lines {BEGIN!r} and {END!r} around its table of results")
    return found


if __name__ == "__main__":
    readme, rows = PROJECT / "README.md", read()
    readme.write_text(filled(readme.read_text(encoding="utf-8"), table(rows)), encoding="utf-8")
    print(f"{readme}: {len(rows)} rows")
    for row in rows:
        print(f"experiments/{row[0].summary['experiment']}.py, Obtained: {obtained(row)}")
