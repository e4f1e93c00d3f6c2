"""An experiment's file."""

import dataclasses
import pathlib
import re

from ..errors import InputError, unknown
from . import experiment
from .experiment import Experiment
from .limits import check

EXAMPLE = 'experiment = dietjax.config.Experiment(name="...", ...)'


def load_experiment(path: pathlib.Path) -> Experiment:
    """The `experiment` that a Python file defines.

    Raises:
        InputError: no such file, it fails or ends the program, or it defines no experiment, or one that cannot run.
    """
    import runpy

    if not path.exists():
        raise InputError(f"no experiment file {path}")
    if path.is_dir():
        raise InputError(f"{path} is a folder; an experiment is a Python file, such as experiments/digits_vgg.py")
    try:
        found = runpy.run_path(str(path)).get("experiment")
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # the last two are the file's own, not the user's
        raise _failure(path, error) from error
    if found is None:
        raise InputError(f"{path} defines no experiment; it needs a line like: {EXAMPLE}")
    if not isinstance(found, Experiment):
        what = "a class" if isinstance(found, type) else "a function" if callable(found) else f"{type(found).__name__}"
        raise InputError(f"`experiment` in {path} is {what}, and has to be an Experiment, as in: {EXAMPLE}")
    check(found)
    return found


def _failure(path: pathlib.Path, error: BaseException) -> InputError:
    """What a file that cannot be run did, and where."""
    import traceback

    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    where = f"{path} line {lines[-1]}" if lines else str(path)
    misspelt = re.match(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
    kind = getattr(experiment, misspelt[1], None) if misspelt else None
    if misspelt and isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return unknown(f"{misspelt[1]} field in {where}:", misspelt[2], [f.name for f in dataclasses.fields(kind)])
    if isinstance(error, SystemExit):
        return InputError(f"{where} ends the program (SystemExit: {error}); all it has to do is to define `experiment`")
    said = " ".join(str(error).split())
    return InputError(f"{where} cannot be run: {type(error).__name__}{': ' if said else ''}{said}")
