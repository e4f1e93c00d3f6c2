"""Short calls, timed many at once: on an accelerator starting a program takes longer than many of them run.

There a program's call is repeated inside one compiled program, as often as fills MILLISECONDS; a peer's on torch is
made as often between two synchronisations. On a CPU neither is: a call there is long, and XLA's convolutions are slow
inside a loop.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

MILLISECONDS = 75
"""That one measurement takes, about."""
MOST = 5000
"""Calls in one measurement at most."""
TRIES = 5
"""Of a single call, to choose how many fill a measurement; the fastest counts."""


@dataclasses.dataclass(frozen=True)
class Repeatable:
    """A call without arguments that can also be made many times for one start, or one wait."""

    once: Callable[[], Any]
    """Makes it. May return before it is done, if it returns arrays of jax."""
    times: Callable[[int], Callable[[], Any]]
    """count -> what makes so many; compiles, where that is to be compiled."""
    launch: Callable[[], float] | None = None
    """-> milliseconds that starting it takes, in which nothing is computed."""

    def __call__(self) -> Any:
        """Make it once."""
        return self.once()


@dataclasses.dataclass(frozen=True)
class Timed:
    """What is timed, how many calls that is, and the milliseconds of a start, where known."""

    run: Callable[[], Any]
    count: int = 1
    launch: float | None = None


def amortised(run: Callable[[], Any]) -> Timed:
    """So many calls of a `Repeatable` that they fill a measurement; of anything else, and on a CPU, one."""
    if not isinstance(run, Repeatable) or not amortises():
        return Timed(run)
    launching = run.launch and run.launch()
    count = calls_for(run, launching or 0)
    return Timed(run.times(count) if count > 1 else run, count, launching)


def amortises() -> bool:
    """Whether what jax runs on starts calls slowly and repeats them fast."""
    return jax.default_backend() != "cpu"


def repeated(function: Callable, count: int) -> Callable:
    """(the function's arguments) -> what the last of `count` calls gives, each made after the one before it.

    All that a call gives goes through a barrier together with the arguments of the next, so XLA can neither take a call
    out of the loop nor leave one out, nor a part of it. The count is a constant of the program: with another one a GPU
    would ask the host before every call whether there is one more.
    """
    def program(*arguments):
        def body(_, carry):
            return jax.lax.optimization_barrier((carry[0], function(*carry[0])))

        shapes = jax.eval_shape(function, *arguments)
        nothing = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
        return jax.lax.fori_loop(0, count, body, (arguments, nothing))[1]

    return program


def in_one_program(once: Callable[[], Any], function: Callable, *arguments: Any, **options: Any) -> Repeatable:
    """`once`, a call of this function with these arguments, repeated by `repeated`; options as of `jax.jit`."""
    def times(count):
        program = jax.jit(repeated(function, count), **options).lower(*arguments).compile()
        return lambda: program(*arguments)

    return Repeatable(once, times, lambda: launch(*arguments))


def launch(*arguments: Any) -> float:
    """Milliseconds from a call to its end of a program that takes these arguments and does nothing."""
    program = jax.jit(lambda *_: jnp.zeros(()), keep_unused=True).lower(*arguments).compile()
    return _fastest(lambda: program(*arguments))


def calls_for(run: Callable[[], Any], launching: float) -> int:
    """How many calls fill a measurement, from what one takes beyond its launch."""
    single = _fastest(run)
    return min(max(round(MILLISECONDS / max(single - launching, MILLISECONDS / MOST)), 1), MOST)


def _fastest(run: Callable[[], Any]) -> float:
    """Milliseconds of a call that is waited for, after one that does not count."""
    times = []
    for _ in range(TRIES + 1):
        start = time.perf_counter()
        jax.block_until_ready(run())
        times.append(1e3 * (time.perf_counter() - start))
    return min(times[1:])
