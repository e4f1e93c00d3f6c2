"""Checkpoints on disk: saved in the background, all or nothing, and never restored damaged.

Orbax writes the arrays, each process its own shards. What is added here:

- Orbax restores a flipped byte and casts another dtype without a word. So every leaf is saved with its dtype, shape and
  checksum, and a restore checks them.
- Orbax trusts its file of metrics, and one bad byte there keeps it from opening the directory. So the metric is kept in
  a JSON of our own, with a checksum.
- Once a step is complete its files are listed with their checksums, in the background too. A step whose writer was
  killed just before that is as good, and lacks only this check.

Nothing is ever unpickled: a checkpoint consists of tensorstore's arrays and JSON.
"""

import contextlib
import errno
import json
import math
import operator
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from ..errors import InputError
from ..parallel import processes
from . import manifest
from .step import DamageError, make_record, read, read_record, with_elements
from .tree import CheckpointError, PyTree, by_path, place

REMOVED_WITHIN = 10
"""Seconds in which the remains of a failed save are removed; what is left then goes with the next save."""


class SaveError(OSError):
    """The machine could not write a checkpoint: disk full, no permission. The earlier ones are as they were."""


@dataclass(frozen=True)
class _LatestAndBest:
    """Preservation policy, in place of orbax's BestN, which reads the file of metrics that is not used here."""

    keep: int
    best: Callable[[Iterable[int]], int | None]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        steps = [checkpoint.step for checkpoint in checkpoints]
        preserved = {*steps[-self.keep :], self.best(steps)}
        return [step in preserved for step in steps]


class Checkpoints:
    """The checkpoints of one run in one directory, which the first save creates.

    Keeps the `keep` latest steps and the one with the highest metric. Where there are several processes each calls
    every method, with the same arguments, on a directory that all of them see; a leaf may be sharded over all their
    devices, and whoever restores it may have others. `close()`, or leaving the `with` block, waits for the last save.
    """

    def __init__(self, directory: str | Path, keep: int = 2):
        if keep < 1:
            raise ValueError(f"keep is {keep}; at least the latest checkpoint must be kept")
        self.directory = Path(directory).absolute()
        self.keep = keep
        # the manager, and the thread that lists its files; only a save opens them: the manager creates and cleans up
        self._opened: tuple[ocp.CheckpointManager, ThreadPoolExecutor] | None = None
        self._saving: int | None = None
        self._listing: Future | None = None  # of the last save's files, on process 0
        self._metrics: dict[int, float | None] = {}
        self._failed = False  # whether a save did
        self._damaged: list[int] = []  # steps that restore() went past; the next save removes them

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def save(self, step: int, state: PyTree, metadata: dict[str, Any], *, metric: float | None = None) -> None:
        """Copy `state` to the host and write it in the background; an error there is raised by the next call.

        state: arrays, Python numbers and `jax.random.key_data` in any pytree. metadata: what JSON can hold (tuples come
        back as lists). metric: the higher, the better. Steps must increase.
        """
        step = operator.index(step)
        if metric is not None and not math.isfinite(metric):
            raise CheckpointError(f"the metric of step {step} is {metric}; pass None where there is none")
        self.wait()
        earlier = [found for found in self._steps() if found not in self._damaged]
        if earlier and step <= earlier[-1]:
            raise CheckpointError(
                f"step {step} is not after step {earlier[-1]} in {self.directory}; use another directory"
            )
        leaves = by_path(state)
        # NumPy arrays are copied, because the caller may overwrite them while they are being written. A jax.Array can
        # only be donated, and that is safe: orbax copies it to the host before it returns, and where host and device
        # share memory (CPU) jax keeps the memory for as long as somebody reads it.
        arrays = {p: leaf if isinstance(leaf, jax.Array) else np.array(leaf, order="C") for p, leaf in leaves.items()}
        record = make_record(leaves, arrays, metadata, metric)
        with self._names_failure(step):
            manager, lister = self._open()
            while self._damaged:
                manager.delete(self._damaged.pop())
            self._metrics[step] = record["record"]["metric"]
            saved = manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(with_elements(arrays)), metadata=ocp.args.JsonSave(record)
                ),
            )
        if not saved:  # orbax declines without an exception
            raise CheckpointError(f"orbax declined to save step {step} in {self.directory}")
        self._saving = step
        if processes.is_main():
            self._listing = lister.submit(_list_files, manager, self.directory / str(step))

    def restore(self, target: PyTree, step: int | None = None) -> tuple[PyTree, dict[str, Any], int] | None:
        """Return (state, metadata, step) of the latest good checkpoint, or None where there is none at all.

        target: arrays or `jax.ShapeDtypeStruct`s in the structure to return; a leaf with a sharding is placed by it,
            and a process reads no more of it than its devices hold.
        A damaged checkpoint is named in a warning, the one before it is used, and the next save removes the damaged
        one. With `step` given only that one will do. A checkpoint of another network is always a CheckpointError; so is
        one that the machine cannot read now (too many open files, no permission), which is no damage.
        """
        self.wait()
        steps = json.loads(processes.broadcast(json.dumps(self._steps())))  # a file system may show others less
        if step is not None and step not in steps:
            raise CheckpointError(f"there is no step {step} in {self.directory}, only {steps}")
        leaves = by_path(target)
        damaged: dict[int, str] = {}
        for candidate in reversed(steps) if step is None else [step]:
            try:
                arrays, metadata = read(self.directory / str(candidate), leaves)
            except DamageError as damage:
                damaged[candidate] = f"step {candidate} in {self.directory} is damaged: {damage}"
                continue
            state = [place(path, arrays[path], leaf) for path, leaf in leaves.items()]
            self._damaged = list(damaged)
            for message in damaged.values():
                warnings.warn(f"{message}; step {candidate} is used instead", stacklevel=2)
            return jax.tree.unflatten(jax.tree.structure(target), state), metadata, candidate
        if damaged:
            raise CheckpointError(
                f"no usable checkpoint: {'; '.join(damaged.values())}. Remove {self.directory} to begin it again"
            )
        return None

    def latest_step(self) -> int | None:
        """Return the last step saved, after waiting for it."""
        self.wait()
        return max(self._steps(), default=None)

    def best_step(self) -> int | None:
        """Return the step with the highest metric (the later of equals), None if no step has one."""
        self.wait()
        self._metrics = {step: self._metric(step) for step in self._steps()}
        return self._best(self._metrics)

    def wait(self) -> None:
        """Wait for the save in progress, and for the list of its files.

        Raises:
            SaveError: it failed; what it had written is removed, the earlier checkpoints are as they were.
        """
        step, self._saving = self._saving, None
        if step is not None:
            with self._names_failure(step):
                manager, _ = self._open()
                manager.wait_until_finished()
                if self._listing is not None:
                    self._listing.result()

    def close(self) -> None:
        """Wait for the save in progress and release all threads."""
        try:
            self.wait()
        finally:
            opened, self._opened = self._opened, None
            if opened is not None:
                manager, lister = opened
                lister.shutdown()
                try:
                    manager.close()
                except Exception:
                    if not self._failed:  # else orbax repeats, without a path, what has been said
                        raise

    def _open(self) -> tuple[ocp.CheckpointManager, ThreadPoolExecutor]:
        if self._opened is None:
            manager = ocp.CheckpointManager(
                self.directory,
                item_handlers={"state": ocp.StandardCheckpointHandler(), "metadata": ocp.JsonCheckpointHandler()},
                options=ocp.CheckpointManagerOptions(
                    create=True,
                    cleanup_tmp_directories=True,
                    preservation_policy=_LatestAndBest(self.keep, self._best),
                    lightweight_initialize=True,
                ),
            )
            self._opened = manager, ThreadPoolExecutor(1)
            self._metrics = {step: self._metric(step) for step in self._steps()}
        return self._opened

    @contextlib.contextmanager
    def _names_failure(self, step):
        try:
            yield
        except InputError:
            raise
        except Exception as error:  # of tensorstore, orbax or the file system, of nearly any type
            self._failed = True
            if processes.is_main():
                self._remove_remains(step)
            full = os.strerror(errno.ENOSPC)  # tensorstore says it at the end of half a page
            reason = full if full in str(error) else f"{type(error).__name__}: {error}"
            steps = self._steps()
            kept = f"step {steps[-1]} is the last good one" if steps else "there is no earlier one"
            raise SaveError(
                f"the checkpoint of step {step} could not be written in {self.directory}: {reason}. Make room there, "
                f"or mend what is named, and give the same command again ({kept})"
            ) from error

    def _remove_remains(self, step: int) -> None:
        # Half a checkpoint must not keep a disk full. Writes that are under way when another one fails create its
        # folders again, so it counts as removed only after it has stayed away for a while.
        away, limit = 0, time.monotonic() + REMOVED_WITHIN
        while away < 3 and time.monotonic() < limit:
            remains = list(self.directory.glob(f"{step}.*"))
            for folder in remains:
                shutil.rmtree(folder, ignore_errors=True)
            away = 0 if remains else away + 1
            time.sleep(0.05)

    def _steps(self) -> list[int]:
        # orbax renames a checkpoint to its step when all of it is written
        found = self.directory.iterdir() if self.directory.is_dir() else ()
        return sorted(int(path.name) for path in found if path.name.isdecimal())

    def _best(self, steps: Iterable[int]) -> int | None:
        scored = [(self._metrics[step], step) for step in steps if self._metrics[step] is not None]
        return max(scored)[1] if scored else None

    def _metric(self, step: int) -> float | None:
        try:
            return read_record(self.directory / str(step))["metric"]
        except Exception:  # damaged: restore() says so if this step is asked for
            return None


def _list_files(manager: ocp.CheckpointManager, folder: Path) -> None:
    manager.wait_until_finished()  # a failed save is raised here and in the thread that calls Checkpoints.wait
    manifest.write(folder)
