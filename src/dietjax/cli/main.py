"""The command line, `dietjax train | status | evaluate | convert | energy | report | ...`: arguments -> calls."""

import dataclasses
import logging
import os
import pathlib
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated

import tyro
from tyro.conf import subcommand

from .. import __version__
from ..bench.main import Bench
from ..config import load_experiment, read_stored
from ..errors import InputError, Stopped
from .commands import Convert, Evaluate, Prepare, Report, Status, Train
from .data import DataOf
from .energy import EnergyOf


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status: 0, 2 for a user's mistake, 1 for the machine's, 128 + a signal's number."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _say
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
        print("stopped; the same command begins again", file=sys.stderr)
        return 130


def _say(message, category, filename, lineno, file=None, line=None):
    """A warning as a sentence: whoever types a command has no use for a line of our source."""
    print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)


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

    # tensorflow-datasets and orbax advise on what a user here cannot act on, and log with a traceback what they raise;
    # asyncio tells page after page what a save that failed has left undone
    absl.logging.set_verbosity("fatal")
    logging.getLogger("asyncio").setLevel(logging.CRITICAL + 1)
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # of a corrupt image we say which it is
    command()
    return 0
