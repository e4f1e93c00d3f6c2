"""A run's folder: which experiment's it is, what may still change in it, and that all processes share it."""

import pathlib
import time
import uuid
from collections.abc import Callable, Collection

import jax

from .. import config, files
from ..config import Experiment
from ..errors import InputError
from ..parallel import processes
from . import lock

LOCAL = ("data.dir", "data.threads")
"""Settings that may differ from machine to machine, and change no result."""
ANY_TIME = ("parallel.", "ann.accumulate", "snn.accumulate")
"""Prefixes of settings of devices and memory, which may change whenever a run is resumed."""
AFTER_THE_ANN = ("snn.", "conversion.", "neuron.", "timesteps", "chunk", "truncate", "encoder")
"""Prefixes of settings that may change until the SNN has been saved: a trained ANN serves several conversions."""
SHARED_WITHIN = 60
"""Seconds in which every process must see a file of process 0's: network file systems show new ones late."""


def check(experiment: Experiment, workdir: pathlib.Path,
          check_names: Callable[[Experiment, Collection[str]], None] = lambda *_: None) -> None:
    """Refuse a folder that holds something else, before anything is loaded.

    check_names: refuses those of the settings that differ which name nothing; called before they are told.

    Raises:
        InputError: it holds another experiment's run, naming every setting that differs and may not; or other files.
    """
    path = workdir / "config.json"
    if path.exists():
        begun = any((workdir / "checkpoints" / "snn").glob("*"))
        # an ANN saw the frames that events were cut into
        later = tuple(key for key in AFTER_THE_ANN if key != "timesteps" or not experiment.data.of_events)
        different = {key: said for key, said in _differences(experiment, path).items()
                     if begun or not key.startswith(later)}
        if different:
            check_names(experiment, different)
            raise InputError(f"{workdir} holds another experiment's run ({'; '.join(different.values())}); "
                             "nothing was changed. Choose another --workdir, or ask for that experiment")
    elif workdir.exists() and not (workdir.is_dir() and all(
            f.name == lock.NAME or files.is_temporary(f, path) for f in workdir.iterdir())):
        raise InputError(f"{workdir} is no run of dietjax and not empty; nothing was changed. Choose another --workdir")


def claim(experiment: Experiment, workdir: pathlib.Path) -> None:
    """Make the folder the experiment's; on process 0 alone.

    Raises:
        InputError: it cannot be written.
    """
    if not processes.is_main():
        return
    path = workdir / "config.json"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if path.exists() and _differences(experiment, path):  # of what comes after the ANN, see `check`
            (workdir / "converted.json").unlink(missing_ok=True)
        files.write_json(path, config.as_stored(experiment))
    except OSError as error:
        raise InputError(f"workdir {workdir} cannot be written: {error.strerror}; choose another --workdir") from error


def check_shared(workdir: pathlib.Path) -> None:
    """Refuse a folder that the processes do not share: each would restore a step of its own.

    Raises:
        InputError: in every process, naming those that do not see what process 0 writes.
    """
    if jax.process_count() == 1:
        return
    # a new name, so that no cache can know that it is not there
    name = processes.broadcast(f".config.json.{uuid.uuid4().hex}")
    with processes.raise_on_all():
        if processes.is_main():
            (workdir / name).touch()
    with processes.raise_on_all():
        limit = time.monotonic() + SHARED_WITHIN
        while not (workdir / name).exists():
            if time.monotonic() > limit:
                raise InputError(f"it does not see in {workdir} what process 0 writes there; --workdir must be on a "
                                 "file system that all processes share, at one path")
            time.sleep(0.1)
    if processes.is_main():
        (workdir / name).unlink()


def settings(experiment: Experiment) -> dict:
    """All that a run's processes must agree on, flat: {"snn.epochs": 20, ...}."""
    return {key: value for key, value in config.flat(config.as_stored(experiment)).items() if key not in LOCAL}


def _differences(experiment, path):
    """{setting: what is stored and what is asked for} of those that change a run's results, None for what it means."""
    stored, wanted = (config.flat(config.as_stored(config.resolved(e))) for e in (config.read_stored(path), experiment))
    return {key: f"{key}: there {stored.get(key)!r}, asked for {wanted.get(key)!r}"
            for key in sorted(stored.keys() | wanted)
            if key not in LOCAL and not key.startswith(ANY_TIME) and stored.get(key) != wanted.get(key)}
