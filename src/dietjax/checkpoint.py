"""Checkpoints on disk: saved in the background, all or nothing, and never restored damaged.

Orbax writes the arrays; what it leaves open is added here. It restores a flipped byte without a word and casts dtypes
that differ, so every leaf is saved with its dtype, shape and CRC-32, and these are checked. It keeps metrics in a file
that it trusts, and one bad byte there stops it from opening the directory; so the metric lies in our checked JSON.
"""

import json
import math
import operator
import warnings
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from .errors import InputError

PyTree = Any

SHOWN_DIFFERENCES = 5  # paths named when a checkpoint is of another network


class CheckpointError(InputError):
    """A checkpoint that cannot be saved, is damaged, or is of another network than its target."""


@dataclass(frozen=True)
class _LatestAndBest:
    """Preservation policy: orbax's own BestN reads the metrics file that is not used here."""

    keep: int
    best: Callable[[Iterable[int]], int | None]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        steps = [checkpoint.step for checkpoint in checkpoints]
        preserved = {*steps[-self.keep :], self.best(steps)}
        return [step in preserved for step in steps]


class Checkpoints:
    """The checkpoints of one run in one directory, which the first save creates.

    Keeps the `keep` latest steps and the one with the highest metric. On several hosts every process calls each method,
    and the state is replicated. `close()`, or leaving the `with` block, waits for the last save.
    """

    def __init__(self, directory: str | Path, keep: int = 2):
        if keep < 1:
            raise ValueError(f"keep is {keep}; at least the latest checkpoint must be kept")
        self.directory = Path(directory).absolute()
        self.keep = keep
        self._manager: ocp.CheckpointManager | None = None
        self._may_save = False
        self._metrics: dict[int, float | None] = {}
        self._damaged: list[int] = []  # steps that restore() went past; the next save removes them

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def save(self, step: int, state: PyTree, metadata: dict[str, Any], *, metric: float | None = None) -> None:
        """Copy `state` and write it in the background; an error there is raised by the next call.

        state: arrays, Python numbers and `jax.random.key_data` in any pytree. metadata: what JSON can hold (tuples come
        back as lists). metric: the higher, the better. Steps must increase.
        """
        step = operator.index(step)
        if metric is not None and not math.isfinite(metric):
            raise CheckpointError(f"the metric of step {step} is {metric}; pass None where there is none")
        self.wait()
        manager = self._open(for_saving=True)
        while self._damaged:
            manager.delete(self._damaged.pop())
        latest = manager.latest_step()
        if latest is not None and step <= latest:
            raise CheckpointError(f"step {step} is not after step {latest} in {self.directory}; use another directory")

        leaves = _by_path(state)
        described = {path: _describe(path, leaf) for path, leaf in leaves.items()}
        # A copy, because the caller may donate or overwrite its arrays while the bytes are still being written.
        arrays = {path: np.array(leaf, order="C") for path, leaf in jax.device_get(leaves).items()}
        record = {
            "metadata": metadata,
            "metric": None if metric is None else float(metric),
            "leaves": {path: [*described[path], _checksum(array)] for path, array in arrays.items()},
        }
        text = json.dumps(record)
        self._metrics[step] = record["metric"]
        saved = manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(_with_elements(arrays)),
                metadata=ocp.args.JsonSave({"crc32": zlib.crc32(text.encode()), "record": json.loads(text)}),
            ),
        )
        if not saved:  # orbax declines without an exception
            raise CheckpointError(f"orbax declined to save step {step} in {self.directory}")

    def restore(self, target: PyTree, step: int | None = None) -> tuple[PyTree, dict[str, Any], int] | None:
        """Return (state, metadata, step) of the latest good checkpoint, or None where there is none at all.

        target: arrays or `jax.ShapeDtypeStruct`s in the structure to return; a leaf with a sharding is placed by it.
        A damaged checkpoint is named in a warning, the one before it is used, and the next save removes the damaged
        one. With `step` given only that one will do. A checkpoint of another network is always a CheckpointError.
        """
        self.wait()
        steps = sorted(self._open().all_steps(), reverse=True)
        if step is not None and step not in steps:
            raise CheckpointError(f"there is no step {step} in {self.directory}, only {steps[::-1]}")
        leaves = _by_path(target)
        wanted = {path: _describe(path, leaf) for path, leaf in leaves.items()}
        damaged: dict[int, str] = {}
        for candidate in steps if step is None else [step]:
            try:
                record = self._record(candidate)
                self._check_structure(candidate, record["leaves"], wanted)
                arrays = self._arrays(candidate, record["leaves"], leaves)
            except CheckpointError:
                raise
            except Exception as error:  # a damaged file may raise nearly anything in tensorstore, json or orbax
                damaged[candidate] = f"step {candidate} in {self.directory} is damaged: {type(error).__name__}: {error}"
                continue
            state = [_place(path, arrays[path], leaf) for path, leaf in leaves.items()]
            self._damaged = list(damaged)
            for message in damaged.values():
                warnings.warn(f"{message}; step {candidate} is used instead", stacklevel=2)
            return jax.tree.unflatten(jax.tree.structure(target), state), record["metadata"], candidate
        if damaged:
            raise CheckpointError("no usable checkpoint: " + "; ".join(damaged.values()))
        return None

    def latest_step(self) -> int | None:
        """Return the last step saved, after waiting for it."""
        self.wait()
        return self._open().latest_step()

    def best_step(self) -> int | None:
        """Return the step with the highest metric (the later of equals), None if no step has one."""
        self.wait()
        return self._best(self._open().all_steps())

    def wait(self) -> None:
        """Wait for the save in progress and raise its error, if it had one."""
        if self._manager is not None:
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Wait for the save in progress and release orbax's threads."""
        try:
            self.wait()
        finally:
            manager, self._manager = self._manager, None
            if manager is not None:
                manager.close()

    def _open(self, for_saving: bool = False) -> ocp.CheckpointManager:
        # A reader must neither create the directory nor clean up what another process is still writing.
        if self._manager is None or (for_saving and not self._may_save):
            self.close()
            self._may_save = for_saving
            self._manager = ocp.CheckpointManager(
                self.directory,
                item_handlers={"state": ocp.StandardCheckpointHandler(), "metadata": ocp.JsonCheckpointHandler()},
                options=ocp.CheckpointManagerOptions(
                    create=for_saving,
                    cleanup_tmp_directories=for_saving,
                    preservation_policy=_LatestAndBest(self.keep, self._best),
                    lightweight_initialize=True,
                ),
            )
            self._metrics = {step: self._metric(step) for step in self._manager.all_steps()}
        return self._manager

    def _best(self, steps: Iterable[int]) -> int | None:
        scored = [(self._metrics[step], step) for step in steps if self._metrics[step] is not None]
        return max(scored)[1] if scored else None

    def _metric(self, step: int) -> float | None:
        try:
            return self._record(step)["metric"]
        except Exception:  # damaged: restore() says so if this step is asked for
            return None

    def _record(self, step: int) -> dict[str, Any]:
        saved = self._manager.restore(step, args=ocp.args.Composite(metadata=ocp.args.JsonRestore()))["metadata"]
        if zlib.crc32(json.dumps(saved["record"]).encode()) != saved["crc32"]:
            raise ValueError("its metadata do not match their checksum")
        return saved["record"]

    def _arrays(self, step: int, saved: dict[str, list[Any]], leaves: dict[str, Any]) -> dict[str, np.ndarray]:
        arrays = {path: np.empty(np.shape(leaf), _dtype(leaf)) for path, leaf in leaves.items()}
        args = ocp.args.StandardRestore(_with_elements(arrays))
        arrays |= self._manager.restore(step, args=ocp.args.Composite(state=args))["state"]
        for path, array in arrays.items():
            if [list(array.shape), _checksum(array)] != saved[path][1:]:
                raise ValueError(f"the values of {path} do not match their checksum")
        return arrays

    def _check_structure(self, step: int, saved: dict[str, list[Any]], wanted: dict[str, list[Any]]) -> None:
        found = {path: leaf[:2] for path, leaf in saved.items()}
        differences = [
            f"{path or 'the state'} is {_show(found.get(path))} in the checkpoint,"
            f" {_show(wanted.get(path))} in the target"
            for path in wanted | found
            if found.get(path) != wanted.get(path)
        ]
        if differences:
            raise CheckpointError(
                f"step {step} in {self.directory} is of another network ({len(differences)} leaves differ): "
                + "; ".join(differences[:SHOWN_DIFFERENCES])
            )


def _by_path(tree: PyTree) -> dict[str, Any]:
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _describe(path: str, leaf: Any) -> list[Any]:
    """Return [dtype, shape] as JSON has them. A Python number is not the array of the same value."""
    if hasattr(leaf, "dtype"):
        return [str(leaf.dtype), list(leaf.shape)]
    if isinstance(leaf, bool | int | float):
        return [f"Python {type(leaf).__name__}", []]
    raise CheckpointError(f"{path} is a {type(leaf).__name__}; a checkpoint holds arrays and numbers")


def _show(described: list[Any] | None) -> str:
    return "absent" if described is None else f"{described[0]}{described[1]}"


def _dtype(leaf: Any) -> np.dtype:
    return leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype


def _with_elements(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {path: array for path, array in arrays.items() if array.size}  # orbax refuses the others


def _checksum(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8))


def _place(path: str, array: np.ndarray, leaf: Any) -> Any:
    """Return the array as what the target's leaf is (Python number, NumPy or jax.Array) and where that is."""
    if not hasattr(leaf, "dtype"):
        return array.item()
    if not isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
        return array if isinstance(leaf, np.ndarray) else array[()]
    # Committing an array that was free to move would make the next jitted call compile again, or fail on a mesh.
    free = isinstance(leaf, jax.Array) and not leaf.committed
    placed = jax.device_put(array, None if free else leaf.sharding)
    if placed.dtype != array.dtype:
        raise CheckpointError(
            f"{path} is {array.dtype}, which jax casts to {placed.dtype} unless jax_enable_x64 is set"
        )
    return placed
