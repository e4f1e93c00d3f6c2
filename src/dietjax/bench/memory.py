"""Memory of a training step: predicted, as XLA compiled it, and what one that runs takes, beside other libraries."""

import concurrent.futures
import ctypes
import gc
import itertools
import multiprocessing
import os
import pathlib
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..analysis import memory
from ..errors import InputError
from .measure import Result, compiled, environment
from .networks import Subject, check_memory, lively, schedules, training

OURS = ("ANN", "SNN")


def sweep(subject: Subject, timesteps: Sequence[int], chunks: Sequence[int], dtypes: Sequence[str],
          peers: Sequence[str] = (), levels: Sequence[int] = (0,)) -> Result:
    """A training step's memory over T: ANN, SNN layer by layer and in every chunk with and without recomputation.

    "predicted MB" is what `dietjax.analysis.memory` says, "temporary MB" the temporaries that XLA plans for, and
    "memory ratio" these over the ANN's. With peers every row also says "peak MB": by how much a second step in a
    process of its own raises that process's resident memory (on a GPU: its allocator's bytes in use).

    Args:
        subject: the network and its batch.
        timesteps: every T.
        chunks: timesteps in a chunk, where they divide T and are less.
        dtypes: of activations.
        peers: other libraries on the same network and weights.
        levels: memory levels of SpikingJelly (`dietjax.bench.peers.build`); other libraries have none.

    Raises:
        InputError: a peer is missing or cannot run so, or the system does not say what a process takes.
    """
    if peers:
        from . import peers as libraries

        libraries.check(*peers)
    rows, notes = [], []
    for chunk in chunks:
        if left_out := [str(steps) for steps in timesteps if steps % chunk or steps == chunk]:
            notes.append(f"no rows of chunk {chunk} at T={', '.join(left_out)}: it must divide T and be less")
    for dtype, steps in itertools.product(dtypes, timesteps):
        labels = {"dtype": dtype, "T": steps}
        theirs = []
        for name, level in ((n, level) for n in peers for level in (levels if n == "spikingjelly" else (0,))):
            options = {"memory_level": level} if level else {}
            mode, peak = _in_its_own_process(subject, name, options, steps, dtype)
            theirs.append({"network": f"{name}{f', level {level}' if level else ''}", **labels, "peak MB": peak})
            notes.append(f"{name}, T={steps}, {dtype}: {mode}")
        wanted = {f"ANN, {subject.batch * steps} images": ("ANN", {})}
        for name, schedule in schedules(steps, [c for c in chunks if steps % c == 0 and c < steps], True).items():
            wanted[f"SNN, {name}"] = "SNN", schedule
        base = None
        for name, (kind, schedule) in wanted.items():
            row = {"network": name, **labels, **_planned(subject, kind, schedule, steps, dtype)}
            base = row["temporary MB"] if base is None else base
            row["memory ratio"] = row["temporary MB"] / base
            if peers:
                _, row["peak MB"] = _in_its_own_process(subject, kind, schedule, steps, dtype)
            rows.append(row)
        rows += theirs
    return Result(f"memory of a training step; {subject}", rows, environment(*peers), tuple(notes))


def _planned(subject, kind, schedule, steps, dtype):
    net, batch, steps = subject.runs(kind, steps, dtype)
    images = jax.ShapeDtypeStruct((batch, *subject.image_shape), jnp.float32)
    variables = jax.eval_shape(net.init, jax.random.key(0), images)
    labels = jax.ShapeDtypeStruct((batch,), jnp.int32)
    _, measured = compiled(training(net, steps, schedule), variables, images, labels)
    if measured is None:
        raise InputError(f"XLA's backend {jax.default_backend()!r} does not say what memory a program takes")
    return {"predicted MB": memory.training_step(net, batch, steps, **schedule) / 1e6, "temporary MB": measured / 1e6}


def _in_its_own_process(*arguments):
    """`_run` in a new process: an allocator keeps what one network freed, and would hide what the next one takes."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context, _leave_memory) as process:
        return process.submit(_run, *arguments).result()


def _leave_memory():
    """Leave a GPU's memory to others: by default JAX takes three quarters of it at once."""
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"


def _run(subject, name, options, steps, dtype):
    """(how it ran, peak MB) of one step of ours or of a peer's."""
    if name in OURS:
        check_memory(subject, name, options, steps, dtype)
        net, batch, steps = subject.runs(name, steps, dtype)
        variables = lively(subject.variables(net))
        run, _ = compiled(training(net, steps, options), variables, *subject.examples(batch))
        return "", _peak(lambda: jax.block_until_ready(run()), _jax_bytes)
    from . import peers

    snn, examples = subject.networks(dtype)[1], subject.examples(subject.batch)
    variables = lively(subject.variables(snn))
    peer = peers.build(name, snn, variables, *map(np.asarray, examples), steps, dtype, **options)
    return peer.mode, _peak(peer.training_step, _jax_bytes if name == "spyx" else _torch_bytes)


def _peak(step: Callable[[], Any], on_device: Callable[[], tuple[int, int]]) -> float:
    """Most MB that a second call holds above what was held before it; the first call also loads and compiles."""
    step()
    gc.collect()
    count = on_device
    if jax.default_backend() == "cpu":
        count = _resident_bytes
        _forget_resident_peak()
    held, _ = count()
    step()
    return (count()[1] - held) / 1e6


def _forget_resident_peak():
    if sys.platform != "linux":
        raise InputError(f"the peak of a process's memory is read from /proc, which {sys.platform} does not have; "
                         "leave --peer away")
    ctypes.CDLL(None).malloc_trim(0)  # freed memory that the heap kept would serve the next step unseen
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # proc(5): the peak starts again from what is resident


def _resident_bytes():
    """(now, at most so far)."""
    status = pathlib.Path("/proc/self/status").read_text()
    return tuple(1024 * int(re.search(rf"{key}:\s+(\d+) kB", status)[1]) for key in ("VmRSS", "VmHWM"))


def _jax_bytes():
    stats = jax.local_devices()[0].memory_stats()
    return stats["bytes_in_use"], stats["peak_bytes_in_use"]


def _torch_bytes():
    import torch

    return torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()
