"""Timing: ratios between things that ran in turn, in one process.

Everything is compiled first, every measurement is waited for, each thing runs many times, one after the other in turn
(so that a slow minute of the machine hits all alike), and the median stands between the quartiles. A measurement is one
call on a CPU, and on an accelerator as many as `amortise` repeats.
"""

import dataclasses
import os
import platform
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..errors import InputError
from ..train.step import compiler_options
from . import amortise, machine

CALLS = "repeated inside one program; those of peers on torch made from Python between two synchronisations"
"""How short ones are timed on an accelerator."""

MATRIX_SIDE = 2048
"""Of the matrices whose product says how fast the device multiplies."""


@dataclasses.dataclass(frozen=True)
class Call:
    """Something to be timed."""

    labels: dict[str, Any]
    """What it is: the first columns of its row, such as {"network": "SNN", "T": 5}."""
    run: Callable[[], Any]
    """Does it once. May return before jax has finished."""
    temporary: int | None = None
    """Bytes of temporaries that XLA's compiler plans for; None if unknown."""
    prepare: Callable[[], Any] = lambda: None
    """Done before every run, not timed."""
    base: bool = False
    """Whether the calls after it, up to the next base, are compared with it."""
    operations: int | None = None
    """Multiplications and additions that it is asked for, by definition, however it computes them."""
    yardstick: bool = False
    """Whether the calls after it, up to the next yardstick, say what share of its operations per second they reach."""


@dataclasses.dataclass(frozen=True)
class Result:
    """A table of a benchmark, with what is needed to read and to repeat it."""

    title: str
    rows: list[dict[str, Any]]
    environment: dict[str, str]
    notes: tuple[str, ...] = ()
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    """The command and its arguments."""
    command: str = ""
    """The same as it is typed, without what is a default."""


def compiled(function: Callable, *arguments: Any) -> tuple[amortise.Repeatable, int | None]:
    """(a call without arguments, bytes of one call's temporaries), compiled as dietjax compiles its training steps."""
    options = {"compiler_options": compiler_options(jax.default_backend())}
    program = jax.jit(function, **options).lower(*arguments).compile()
    run = amortise.in_one_program(lambda: program(*arguments), function, *arguments, **options)
    return run, temporary_bytes(program)


def matrix_product(**labels: Any) -> Call:
    """The yardstick of operations per second: a product of two square matrices.

    Args:
        **labels: its row's first columns; "dtype" is that of the matrices.
    """
    a = jax.random.normal(jax.random.key(0), (MATRIX_SIDE, MATRIX_SIDE), labels["dtype"])
    run, _ = compiled(jnp.matmul, a, a)
    return Call(labels, run, operations=2 * MATRIX_SIDE**3, yardstick=True)


def temporary_bytes(program: Any) -> int | None:
    """Temporaries of a compiled program on one device, where its backend says."""
    memory = program.memory_analysis()
    return None if memory is None else memory.temp_size_in_bytes


def alternate(calls: Sequence[Call], runs: int) -> list[dict[str, Any]]:
    """Time every call `runs` times, in turn, after one turn that does not count; of short calls on an accelerator many
    at once.

    Returns:
        Rows: the call's labels, "ms" (median), "q25" and "q75", "ratio" (median over the base's), "temporary MB" and
        "memory ratio" where known; of calls whose operations are known "GFLOP/s" and, after a yardstick, "of matmul";
        on an accelerator "calls" in a measurement and "launch ms", what starting a program takes and is not in "ms", or
        is only once in so many calls.
    """
    if runs < 1:
        raise InputError(f"runs must be at least 1, got {runs}")
    timed = [amortise.amortised(call.run) for call in calls]
    times: list[list[float]] = [[] for _ in calls]
    for turn in range(runs + 1):
        for call, what, measured in zip(calls, timed, times, strict=True):
            call.prepare()
            start = time.perf_counter()
            jax.block_until_ready(what.run())
            if turn:
                measured.append(1e3 * (time.perf_counter() - start) / what.count)
    rows, base, best = [], None, None
    for call, what, measured in zip(calls, timed, times, strict=True):
        low, median, high = np.percentile(measured, (25, 50, 75)).tolist()
        row = {**call.labels, "ms": median, "q25": low, "q75": high}
        if amortise.amortises():
            row |= {"calls": what.count, "launch ms": what.launch}
        if call.operations is not None:
            row["GFLOP/s"] = call.operations / median / 1e6
            best = row["GFLOP/s"] if call.yardstick else best
        rows.append(row)
        if call.yardstick:
            continue
        base = (median, call.temporary) if call.base or base is None else base
        row["ratio"] = median / base[0]
        if best is not None and call.operations is not None:
            row["of matmul"] = row["GFLOP/s"] / best
        if call.temporary is not None:
            row["temporary MB"] = call.temporary / 1e6
            row["memory ratio"] = call.temporary / base[1] if base[1] else None
    return rows


def environment(*peers: str) -> dict[str, str]:
    """What the figures were measured on and when, with the versions of these peers besides our own."""
    on_torch = ("torch",) if set(peers) - {"spyx"} else ()
    kinds = sorted({device.device_kind for device in jax.devices()})
    versions = {name: metadata.version(name) for name in ("jax", "jaxlib", *peers, *on_torch)}
    timing = {"calls": CALLS} if amortise.amortises() else {}
    return {"device": f"{jax.device_count()} × {', '.join(kinds)}", **machine.accelerator(jax.default_backend()),
            "CPU": machine.cpu(), "CPU cores": str(os.cpu_count()),
            "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
            "dietjax": machine.version(), **versions,
            "matmul precision": str(jax.config.jax_default_matmul_precision or "default"), **timing,
            **({"XLA_FLAGS": os.environ["XLA_FLAGS"]} if os.environ.get("XLA_FLAGS") else {}),
            "date": time.strftime("%Y-%m-%d")}
