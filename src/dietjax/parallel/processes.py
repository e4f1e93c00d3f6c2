"""Several processes that run one experiment: how they find each other, and what they must agree on.

With one process every function here is a plain no-op: nothing waits for anybody.
"""

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from ..config import Hosts
from ..errors import InputError

PACKAGES = ("dietjax", "jax", "jaxlib", "flax", "optax")
"""Those that decide which program is compiled: processes with different ones would wait for each other for ever."""
LAUNCHERS = {"srun": "SLURM_STEP_NUM_TASKS", "mpirun": "OMPI_COMM_WORLD_SIZE"}
"""What starts many processes at once -> where it says how many."""
JOIN_TIMEOUT = 300
"""Seconds in which all processes must have started."""


def start(hosts: Hosts) -> None:
    """Join the run's other processes. Comes before anything that asks jax for its devices.

    A process from which nothing is heard for `peer_timeout` seconds ends all the others (JAX aborts them, naming it);
    one that exits early with an error is waited for just as long.

    Raises:
        InputError: settings that do not go together, no cluster found, or many processes started that were not told to
            run together. (Others that cannot be reached make JAX abort this process after JOIN_TIMEOUT seconds.)
    """
    explicit = {"--coordinator": hosts.coordinator, "--processes": hosts.processes, "--process": hosts.process}
    missing = [flag for flag, value in explicit.items() if value is None]
    if hosts.distributed and len(missing) < len(explicit):
        raise InputError("--distributed takes the processes from the cluster; leave out --coordinator, --processes and "
                         "--process, or leave out --distributed")
    if missing and len(missing) < len(explicit):
        raise InputError(f"{', '.join(missing)} missing: several processes without a cluster need "
                         "--coordinator HOST:PORT --processes N --process I")
    if hosts.peer_timeout < 1:
        raise InputError(f"--peer-timeout must be at least 1 second, got {hosts.peer_timeout}")
    if hosts.process is not None and hosts.processes is not None and not 0 <= hosts.process < hosts.processes:
        raise InputError(f"--process must be one of 0 ... {hosts.processes - 1} (--processes {hosts.processes}), "
                         f"got {hosts.process}")
    if hosts.coordinator and not re.search(r".:\d+$", hosts.coordinator):
        raise InputError(f"--coordinator must be HOST:PORT, got {hosts.coordinator!r}")
    if missing and not hosts.distributed:
        for launcher, name in LAUNCHERS.items():
            if int(os.environ.get(name, 1)) > 1:
                raise InputError(f"{launcher} started {os.environ[name]} processes ({name}), and each would run for "
                                 f"itself; add --distributed, or unset {name} if that is what you want")
        return
    if hosts.coordinator:  # JAX's own message, when it gives up, does not say whom it waited for
        print(f"process {hosts.process} of {hosts.processes} joins the others at {hosts.coordinator}, and waits for "
              f"them at most {JOIN_TIMEOUT} seconds", file=sys.stderr, flush=True)
    try:
        jax.distributed.initialize(hosts.coordinator, hosts.processes, hosts.process,
                                   initialization_timeout=JOIN_TIMEOUT,
                                   heartbeat_timeout_seconds=hosts.peer_timeout,
                                   shutdown_timeout_seconds=hosts.peer_timeout)
    except (ValueError, RuntimeError) as error:
        raise InputError(f"the processes could not be joined: {error}. Without a cluster that JAX knows, give every "
                         "process --coordinator HOST:PORT --processes N --process I") from error


def is_main() -> bool:
    """Whether this process writes the run's files and talks to the terminal."""
    return jax.process_index() == 0


def broadcast(text: str) -> str:
    """Process 0's text in every process, so that all decide by the same one."""
    return gather(text)[0]


@contextlib.contextmanager
def raise_on_all() -> Iterator[None]:
    """Turn an InputError that one process raises inside into one of all; in the others it names that process."""
    refusal = None
    try:
        yield
    except InputError as error:
        refusal = error
    for process, said in enumerate(gather("" if refusal is None else str(refusal))):
        if said and process != jax.process_index() and refusal is None:
            refusal = InputError(f"process {process}: {said}")
    if refusal is not None:
        raise refusal


def check_agreement(settings: dict[str, Any]) -> None:
    """Compare a flat {name: plain value}, and the installed packages, across processes.

    Raises:
        InputError: in every process, naming each that differs with everybody's value.
    """
    mine = settings | {f"installed {name}": metadata.version(name) for name in PACKAGES}
    everybody = [json.loads(text) for text in gather(json.dumps(mine))]
    different = []
    for name in sorted(set().union(*everybody)):
        values = [process.get(name, "nothing") for process in everybody]
        if any(value != values[0] for value in values):
            different.append(f"{name}: " + ", ".join(f"process {i} has {value!r}" for i, value in enumerate(values)))
    if different:
        raise InputError(f"the processes of this run do not agree ({'; '.join(different)}); start every one with the "
                         "same command, file and environment")


def gather(text: str) -> list[str]:
    """Every process's text, by process; all must call it."""
    if jax.process_count() == 1:
        return [text]
    mine = np.frombuffer(text.encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.array(len(mine)))
    padded = np.zeros(max(lengths.max(), 1), np.uint8)
    padded[:len(mine)] = mine
    texts = np.asarray(multihost_utils.process_allgather(padded))
    return [row[:length].tobytes().decode() for row, length in zip(texts, lengths, strict=True)]
