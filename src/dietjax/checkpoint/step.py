"""One saved step, read back and checked: by every process, or by none.

Without orbax's manager, whose barriers would leave the other processes waiting for one that cannot read.
"""

import contextlib
import errno
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from ..errors import InputError, ran_out
from ..parallel import processes
from . import manifest
from .checksum import checksums
from .tree import CheckpointError, blank, describe, show

SHOWN_DIFFERENCES = 5  # paths named when a checkpoint is of another network
OF_THE_FILES = (None, errno.EIO, errno.ENOENT, errno.EISDIR, errno.ENOTDIR)
"""Error numbers that mean damaged or missing files. All others (too many open files, no permission, a server that is
away) may pass, and a good checkpoint must not be given up for them."""


class DamageError(Exception):
    """What is wrong with a checkpoint, the same on every process."""


def make_record(leaves: dict[str, Any], arrays: dict[str, Any], metadata: dict[str, Any],
                metric: float | None) -> dict[str, Any]:
    """What is kept as JSON beside the arrays: {"crc32", "record": {"metadata", "metric", "leaves"}}.

    Raises:
        CheckpointError: a leaf that cannot be saved.
    """
    described = {path: describe(path, leaf) for path, leaf in leaves.items()}
    sums = checksums(arrays.values())
    record = {"metadata": metadata, "metric": None if metric is None else float(metric),
              "leaves": {path: [*described[path], total] for path, total in zip(leaves, sums, strict=True)}}
    text = json.dumps(record)
    return {"crc32": zlib.crc32(text.encode()), "record": json.loads(text)}


def read_record(folder: Path) -> dict[str, Any]:
    """The record of one step.

    Raises:
        ValueError: it is damaged; so may be nearly any other exception.
    """
    saved = json.loads((folder / "metadata" / "metadata").read_bytes())
    if zlib.crc32(json.dumps(saved["record"]).encode()) != saved["crc32"]:
        raise ValueError("its metadata do not match their checksum")
    return saved["record"]


def read(folder: Path, leaves: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """({path: array, sharded as the target's leaf}, metadata) of one step, all of it checked.

    Every process must ask for it; each checks its share of the files, and the values that it reads.

    Raises:
        DamageError: in every process, with the message of the first one that found damage.
        CheckpointError: the step is of another network, or the machine could not read it now.
    """
    listed = _on_all_processes(folder, _check_files, folder)
    record = _on_all_processes(folder, read_record, folder)
    _check_structure(folder, record["leaves"], leaves)
    # where the files are as they were written, an error is not theirs
    arrays = _on_all_processes(folder, _read_arrays, folder, leaves, of_files=not listed)
    _on_all_processes(folder, _check_sums, arrays, record["leaves"])
    return arrays, record["metadata"]


def with_elements(arrays: dict[str, Any]) -> dict[str, Any]:
    """The arrays without the empty ones, which orbax refuses."""
    return {path: array for path, array in arrays.items() if array.size}


def _on_all_processes(folder: Path, reads: Callable[..., Any], *arguments: Any, of_files: bool = True) -> Any:
    """What `reads` returns. If it fails on one process it fails on all, so that all go to the checkpoint before it.

    of_files: whether an error may come from damaged files; False: they are known to be good.
    """
    result, problem = None, None
    try:
        result = reads(*arguments)
    except Exception as error:  # a damaged file may raise nearly anything in tensorstore, json or orbax
        problem = f"{type(error).__name__}: {error}", of_files and _is_damage(error)
    said = [found for found in map(json.loads, processes.gather(json.dumps(problem))) if found]
    for text, damage in said:
        if not damage:
            raise CheckpointError(f"step {folder.name} in {folder.parent} could not be read: {text}. It may be good: "
                                  "nothing was removed. Mend that, and give the same command again")
    if said:
        raise DamageError(said[0][0])
    return result


def _is_damage(error):
    if isinstance(error, OSError):
        return error.errno in OF_THE_FILES
    return not isinstance(error, InputError) and not ran_out(error)


def _check_files(folder):
    if not folder.is_dir():  # the first process listed it
        raise CheckpointError(f"process {jax.process_index()} does not see it: all need the one directory, at one path")
    return manifest.check(folder, jax.process_index(), jax.process_count())


def _read_arrays(folder, leaves):
    arrays = {path: blank(leaf) for path, leaf in leaves.items()}
    with contextlib.closing(ocp.StandardCheckpointHandler()) as handler:
        args = ocp.args.StandardRestore(with_elements(arrays))
        return arrays | handler.restore(folder / "state", args=args)


def _check_structure(folder, saved, leaves):
    found = {path: leaf[:2] for path, leaf in saved.items()}
    wanted = {path: describe(path, leaf) for path, leaf in leaves.items()}
    differences = [
        f"{path or 'the state'} is {show(found.get(path))} in the checkpoint, {show(wanted.get(path))} in the target"
        for path in wanted | found if found.get(path) != wanted.get(path)]
    if differences:
        raise CheckpointError(f"step {folder.name} in {folder.parent} is of another network ({len(differences)} leaves "
                              "differ): " + "; ".join(differences[:SHOWN_DIFFERENCES]))


def _check_sums(arrays, saved):
    for (path, array), total in zip(arrays.items(), checksums(arrays.values()), strict=True):
        if [list(array.shape), total] != saved[path][1:]:
            raise ValueError(f"the values of {path} do not match their checksum")
