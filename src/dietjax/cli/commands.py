"""The commands on runs and data: their arguments, what they call, how they answer."""

import dataclasses
import json
import math
import pathlib
import re
from typing import Annotated

from tyro.conf import Positional, arg

from ..bench.options import positive
from ..config import Conversion, Experiment, Hosts, check, doubts, read_run
from ..errors import InputError
from .table import print_table, print_warnings, unfinished

# jax, flax and the rest load inside the commands: `dietjax --help` answers at once


@dataclasses.dataclass(frozen=True)
class Train:
    """Run an experiment to its end: ANN, conversion, SNN, report; with --ann.epochs 0 an SNN from scratch. The same
    command again resumes it.
    """

    file: Positional[pathlib.Path]
    """Python file that defines `experiment`, such as experiments/digits_vgg.py."""
    workdir: pathlib.Path
    """Folder of the run, on a file system."""
    hosts: Annotated[Hosts, arg(name="")] = Hosts()
    experiment: Annotated[Experiment, arg(name="")] = Experiment(name="")

    def __call__(self) -> None:
        """Train, then write the report."""
        self._check()
        from ..analysis import activity
        from ..parallel import processes
        from ..report import page
        from ..run import recipe
        from ..run.console import Console

        processes.start(self.hosts)
        console = Console(quiet=not processes.is_main())
        summary = recipe.run(self.experiment, self.workdir, console)
        report = self.workdir / "report.html"
        with processes.raise_on_all():  # at exit a process waits for others, no longer than the peer timeout
            if processes.is_main() and not report.exists():
                page.write(self.workdir)
        before = (f"ANN {summary['ann']['accuracy']:.2%}, converted {summary['converted']['accuracy']:.2%}, "
                  if summary["ann"] else "trained from scratch: ")
        console.say(f"{before}SNN {summary['snn']['accuracy']:.2%} at {summary['snn']['timesteps']} timesteps, "
                    f"{summary['energy']['ratio']:.2f} times less energy than "
                    f"{'the ANN' if summary['ann'] else 'an ANN of the same layers'}")
        for finding in activity.find_in_summary(summary):  # beside a ratio of energies that they make meaningless
            console.warn("snn", finding.sentence)
        console.say(f"report: {report}")

    def _check(self):
        if self.file.suffix != ".py":  # else it has been loaded, see main._run
            raise InputError(f"{self.file} is no Python file; an experiment is one, such as experiments/digits_vgg.py")
        if re.match("[A-Za-z][A-Za-z0-9+.-]+:/", str(self.workdir)):  # a Path has one slash left of gs://
            raise InputError(f"--workdir {self.workdir} is an address, and a run's folder is on a file system: mount "
                             "it, or give a local path, or a shared one for several hosts")
        check(self.experiment)


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Accuracy of a run's networks on its test set, over timesteps 1..T."""

    run: Positional[pathlib.Path]
    """Folder of the run."""
    timesteps: int | None = None
    """T; default: the run's. Recordings of events are cut into as many frames."""
    margin: tuple[float, ...] = ()
    """Also show early exit: accuracy and mean timesteps if the SNN stops where its best class leads by this much
    (log-odds; 0 stops after one timestep)."""
    batch_size: int = 1
    """Images that exit together, with --margin; 1: each leaves on its own."""
    test_batch: int | None = None
    """Test examples in memory at once; default: as many as the run trained on. Only random spikes and noise depend on
    it."""
    json: bool = False
    """Print JSON instead of a table."""

    def __call__(self) -> None:
        """Measure and print."""
        positive(timesteps=self.timesteps, test_batch=self.test_batch)
        if not all(0 <= m < math.inf for m in self.margin) or self.batch_size < 1:
            raise InputError("--margin must be >= 0 and finite, --batch-size at least 1, got "
                             f"{', '.join(map(str, self.margin))} and {self.batch_size}")
        read_run(self.run)  # what is no run is refused before anything is loaded
        from ..analysis import activity
        from ..run import assemble

        experiment, dataset, networks = assemble.open_run(self.run, self.timesteps)
        if self.margin and "snn" not in networks:
            raise InputError(f"{self.run} has no spiking network yet; run dietjax train again, it goes on")
        timesteps = experiment.timesteps if self.timesteps is None else self.timesteps
        results = self._measure(experiment, dataset, networks, timesteps)
        rates = results.get("snn", {}).get("spike_rate", {})
        print_warnings(found.sentence for found in activity.find(rates, timesteps))
        reached = assemble.progress(self.run, experiment, dataset)
        print_warnings(unfinished(reached, experiment))
        for phase, result in results.items():
            result["step"], result["total_steps"] = reached[phase]
        if self.json:
            print(json.dumps(results))
        else:
            without = "; no ANN, the SNN was trained from scratch" if experiment.from_scratch else ""
            self._print(results, f"{dataset.name}: {dataset.test.num_examples} test images{without}", timesteps)

    def _measure(self, experiment, dataset, networks, timesteps):
        """{phase: metrics on the test set}; the SNN's with "early_exit", where margins were given."""
        from ..analysis import early_exit
        from ..run import summary

        results = {}
        for phase, (net, variables) in networks.items():
            steps = timesteps if phase == "snn" else 1
            results[phase], _ = summary.measure(net, variables, dataset, experiment, steps, self.test_batch)
        if self.margin:
            results["snn"]["early_exit"] = early_exit.measure(
                *networks["snn"], dataset, self.margin, timesteps, self.batch_size, experiment.seed)
        return results

    def _print(self, results, title, timesteps):
        names = {phase: phase.upper() if result["step"] >= result["total_steps"] else
                 f"{phase.upper()} at step {result['step']} of {result['total_steps']}"
                 for phase, result in results.items()}
        rows = [(names[phase], t if phase == "snn" else "-", f"{accuracy:.2%}") for phase, result in results.items()
                for t, accuracy in enumerate(result["accuracy_by_timestep"], 1)]
        print_table(title, ("network", "timesteps", "accuracy"), rows)
        if self.margin:
            rows = [(f"{e['margin']:g}", f"{e['timesteps']:.2f}", f"{e['accuracy']:.2%}")
                    for e in results["snn"]["early_exit"]]
            print_table(f"early exit, {self.batch_size} image(s) at a time, at most {timesteps} timesteps",
                         ("margin", "mean timesteps", "accuracy"), rows)


@dataclasses.dataclass(frozen=True)
class Status:
    """How far a run is, from its files: from another terminal, while it runs. Changes nothing."""

    run: Positional[pathlib.Path]
    """Folder of the run."""
    json: bool = False
    """Print JSON instead of text."""

    def __call__(self) -> None:
        """Read and print."""
        from ..run import status

        found = status.read(self.run)
        print(json.dumps(found) if self.json else status.describe(found))


@dataclasses.dataclass(frozen=True)
class Convert:
    """Convert a run's trained ANN again, with other settings, and show thresholds and accuracy. Changes nothing."""

    run: Positional[pathlib.Path]
    """Folder of the run."""
    timesteps: int | None = None
    """Timesteps to evaluate at; default: the run's. Recordings of events are cut into as many frames."""
    conversion: Annotated[Conversion, arg(name="conversion")] = Conversion()
    test_batch: int | None = None
    """Test examples in memory at once; default: as many as the run trained on. Only random spikes and noise depend on
    it."""
    json: bool = False
    """Print JSON instead of a table."""

    def __call__(self) -> None:
        """Convert, measure and print."""
        positive(timesteps=self.timesteps, test_batch=self.test_batch)
        experiment = read_run(self.run)
        if experiment.from_scratch:
            raise InputError(f"{self.run} has no ANN to convert: its SNN was trained from scratch (ann.epochs 0); "
                             "train a run with an ANN into another folder")
        experiment = dataclasses.replace(
            experiment, timesteps=experiment.timesteps if self.timesteps is None else self.timesteps,
            conversion=self.conversion)
        check(experiment)
        print_warnings(doubts(experiment))
        from ..analysis import activity
        from ..run import assemble, summary

        stored, dataset, networks = assemble.open_run(self.run, experiment.timesteps)
        print_warnings(unfinished({"ann": assemble.progress(self.run, stored, dataset)["ann"]}, stored))
        ann, variables = networks["ann"]
        snn = assemble.networks(experiment, dataset)[1]
        converted = assemble.convert_ann(experiment, ann, variables, snn, dataset)
        result, _ = summary.measure(snn, converted, dataset, experiment, experiment.timesteps, self.test_batch)
        found = summary.neuron_means(converted)
        result |= found
        print_warnings(finding.sentence for finding in activity.find(result["spike_rate"], experiment.timesteps))
        if self.json:
            print(json.dumps(result))
            return
        rows = [(name, *(f"{means[name]:.4f}" for means in found.values()), f"{rate:.3f}")
                for name, rate in result["spike_rate"].items()]
        print_table(f"converted, {experiment.timesteps} timesteps: {result['accuracy']:.2%}",
                     ("layer", *found, "spikes per neuron"), rows)


@dataclasses.dataclass(frozen=True)
class Report:
    """Write RUN/report.html again: one self-contained page."""

    run: Positional[pathlib.Path]
    """Folder of the run."""

    def __call__(self) -> None:
        """Write and say where."""
        from ..report import page

        print(page.write(self.run))


@dataclasses.dataclass(frozen=True)
class Prepare:
    """Build a data set, once, for reading: tensorflow-datasets array_record. Official sets need `dietjax[prepare]`."""

    source: Positional[str]
    """Name of an official set (cifar10, imagenet2012, ...), folder:PATH, or a file PATH.npz with train_images,
    train_labels, test_images, test_labels."""
    data_dir: str | None = None
    """tensorflow-datasets directory; default: $TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    name: str | None = None
    """Name of the set that is built from a folder or file; default: its own name."""

    def __call__(self) -> None:
        """Build and say where."""
        from .. import data
        from ..parallel.preemption import stopping

        with stopping(lambda: "nothing was built; the same command begins again"):
            print(data.prepare(self.source, self.data_dir, self.name))
