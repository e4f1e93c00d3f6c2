"""The command line, `dietjax train | status | evaluate | convert | energy | report | ...`: arguments -> calls."""

import dataclasses
import os
import pathlib
import re
import sys
from collections.abc import Sequence
from typing import Annotated

import tyro
from tyro.conf import subcommand

from .. import __version__, config
from ..bench.commands import Bench
from ..config import Experiment, check, read_stored
from ..errors import InputError, Stopped, unknown
from .commands import Convert, Evaluate, Prepare, Report, Status, Train
from .data import DataOf
from .energy import EnergyOf


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status: 0, 2 for a user's mistake, 1 for the machine's, 128 + a signal's number."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(argv)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `dietjax ... | head`: nobody reads on, and Python's last flush must not complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # the machine's: no permission, disk full
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Stopped as stopped:
        print(f"stopped: {stopped}", file=sys.stderr)
        return 128 + stopped.signal
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130


def _run(argv: list[str]) -> int:
    if argv == ["--version"]:
        print(f"dietjax {__version__}")
        return 0
    train, convert, look = Train(tyro.MISSING, tyro.MISSING), Convert(tyro.MISSING), DataOf(tyro.MISSING)
    named = next((a for a in argv if a.endswith(".py")), None)
    if argv[:1] in (["train"], ["data"]) and named is not None:  # the file's experiment gives every option its default
        experiment = load_experiment(pathlib.Path(named))
        train, look = dataclasses.replace(train, experiment=experiment), dataclasses.replace(
            look, data=experiment.data, timesteps=experiment.timesteps)
    if argv[:1] == ["convert"]:  # the run's settings are the defaults for converting it again
        stored = next((path for path in (pathlib.Path(a) / "config.json" for a in argv[1:]) if path.is_file()), None)
        if stored is not None:
            convert = dataclasses.replace(convert, conversion=read_stored(stored).conversion)
    command = tyro.cli(
        Annotated[Train, subcommand("train", default=train)]
        | Annotated[Status, subcommand("status")]
        | Annotated[Evaluate, subcommand("evaluate")]
        | Annotated[Convert, subcommand("convert", default=convert)]
        | Annotated[EnergyOf, subcommand("energy")]
        | Annotated[Report, subcommand("report")]
        | Annotated[DataOf, subcommand("data", default=look)]
        | Annotated[Prepare, subcommand("prepare")]
        | Annotated[Bench, subcommand("bench")],
        args=argv, prog="dietjax",
        description="DIET-SNN in JAX: deep spiking networks of few timesteps, with trained leaks and thresholds. "
                    "`dietjax --version` says which dietjax this is.")
    import absl.logging

    # tensorflow-datasets and orbax advise on what a user here cannot act on, and log with a traceback what they raise
    absl.logging.set_verbosity("fatal")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # of a corrupt image we say which it is
    command()
    return 0


def load_experiment(path: pathlib.Path) -> Experiment:
    """The `experiment` that a Python file defines.

    Raises:
        InputError: no such file, it fails, or it defines no experiment, or one that cannot run.
    """
    import runpy
    import traceback

    if not path.exists():
        raise InputError(f"no experiment file {path}")
    try:
        found = runpy.run_path(str(path)).get("experiment")
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        where = f"{path} line {lines[-1]}" if lines else str(path)
        misspelt = re.match(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
        kind = getattr(config, misspelt[1], None) if misspelt else None
        if dataclasses.is_dataclass(kind):
            fields = [field.name for field in dataclasses.fields(kind)]
            raise unknown(f"{misspelt[1]} field in {where}:", misspelt[2], fields) from error
        raise InputError(f"{where} cannot be run: {type(error).__name__}: {error}") from error
    if not isinstance(found, Experiment):
        raise InputError(f"{path} defines no experiment; it needs a line like: "
                         "experiment = dietjax.config.Experiment(name=\"...\", ...)")
    check(found)
    return found


if __name__ == "__main__":
    sys.exit(main())
