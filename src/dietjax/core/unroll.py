"""Time: a neuron over a block of timesteps, and any network over chunks of time.

A network that maps a block of time to a block of time needs one loop only. `over_chunks` picks the schedule with one
integer: chunk = T runs layer by layer, chunk = 1 step by step, anything between trades speed against memory.
"""

import numbers
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ..errors import InputError
from ..types import Array, Neuron, Params, State
from . import kernels
from .dropout import Dropout
from .explicit import run_automatically
from .neurons.checks import check_block
from .scan import checked_step, defined_with_step, scan_steps


def unroll(neuron: Neuron, params: Params, state: State, current: Array, timesteps: int | None = None,
           backend: str = "auto") -> tuple[State, Array]:
    """Run a neuron over a block of time, by the fastest kernel that it has.

    Args:
        neuron: anything with a `step(params, state, current)`; where it has a `run` over blocks too, that is used.
        params: its parameters.
        state: its state before the block, of arrays [B, N]; None: `neuron.initial_state`.
        current: input currents [B, T, N], or [B, 1, N] for a constant input (direct encoding).
        timesteps: T; None: taken from the current.
        backend: one of `kernels.BACKENDS`.

    Returns:
        (state after the block, outputs [B, T, N]; [B, 1, N] of a neuron without memory under a constant input).

    Raises:
        InputError: no timesteps or not those of the current, whole numbers as currents, a state of another batch,
            parameters of other neurons, or a backend that cannot run this neuron.
    """
    timesteps = current.shape[1] if timesteps is None else timesteps
    check_block(current, timesteps)
    kernels.check_backend(backend)

    def run(params, state, current):
        return _unroll(neuron, params, state, current, timesteps, backend), ()

    return run_automatically(run, current, params, state, current)[0]


def unroll_sent(neuron: Neuron, params: Params, current: Array, timesteps: int, dropout: Dropout | None = None,
                pool: bool = False, backend: str = "auto") -> tuple[Array, Array] | None:
    """What leaves a layer of the spikes that `unroll` gives from rest, by a kernel that does not write those.

    Args:
        neuron, params, timesteps, backend: as of `unroll`.
        current: [B, T, N], or [B, 1, N] for a constant one.
        dropout: what they are multiplied by.
        pool: whether `average_pool` follows, of N = [H, W, C].

    Returns:
        ([B, T, N] or [B, T, H/2, W/2, C]; how many spikes there were, before dropout). None where there is no such
        kernel: of this neuron, shape, T, backend or device, or of both dropout and pool.

    Raises:
        InputError: as `unroll`.
    """
    check_block(current, timesteps)
    kernels.check_backend(backend)
    from_rest = getattr(neuron, "starts_at_rest", False) and defined_with_step(neuron, "run")
    if not from_rest or not defined_with_step(neuron, "run_sent", also="run") or (dropout is not None and pool):
        return None
    by_kernel: Any = neuron

    def run(params, current, dropout):
        return by_kernel.run_sent(params, current, timesteps, dropout, pool, backend), ()

    return run_automatically(run, current, params, current, dropout)[0]


def _unroll(neuron, params, state, current, timesteps, backend):
    by_block = backend != "scan" and defined_with_step(neuron, "run")
    if state is None and not (by_block and getattr(neuron, "starts_at_rest", False)):
        state = neuron.initial_state(params, current.shape[:1] + current.shape[2:], current.dtype)
    if state is not None and not jax.tree.leaves(state):  # without memory, the whole block is one step
        return checked_step(neuron, params, state, current)
    if by_block:
        return neuron.run(params, state, current, timesteps, backend)
    if backend not in ("auto", "scan"):
        raise kernels.unable(backend, type(neuron).__name__, "it has no kernel of its own, its steps are scanned",
                             "no kernel")
    return scan_steps(neuron, params, state, current, timesteps)


def over_chunks(
    run_chunk: Callable[[State, Array | int], tuple[State, Any]],
    state: State,
    timesteps: int,
    chunk: int | None = None,
    *,
    truncate: bool = False,
    remat: bool = False,
) -> tuple[State, Any]:
    """Run `run_chunk(state, start) -> (state, outputs)`, which covers timesteps start .. start+chunk-1, over all T.

    Args:
        run_chunk: a pure function of the state and the first timestep of its chunk.
        state: before the first timestep.
        timesteps: T.
        chunk: timesteps at once, a divisor of T; None: T.
        truncate: cut the gradient between chunks (truncated BPTT): what happened in earlier ones is a constant.
        remat: keep only the states between chunks for the backward pass and recompute the inside of each.

    Returns:
        (state after T, outputs with a leading axis of T / chunk chunks).
    """
    chunk = timesteps if chunk is None else chunk
    if not isinstance(chunk, numbers.Integral) or timesteps < 1 or chunk < 1 or timesteps % chunk:
        raise InputError(f"chunk must divide timesteps, both at least 1; got chunk={chunk!r}, "
                         f"timesteps={timesteps!r}")

    def body(state, start):
        return run_chunk(_without_past(state, start) if truncate else state, start)

    if remat:
        body = jax.checkpoint(body)
    if chunk == timesteps:
        state, outputs = body(state, 0)
        return state, jax.tree.map(lambda x: x[None], outputs)
    return jax.lax.scan(body, state, jnp.arange(0, timesteps, chunk))


def _without_past(state, start):
    """The state, whose gradient is cut unless it is the one before the first timestep: no chunk came before that."""
    def cut(x):
        constant = jax.lax.stop_gradient(x)
        if not jnp.issubdtype(x.dtype, jnp.floating):
            return constant
        return constant + jnp.where(start == 0, 1, 0).astype(x.dtype) * (x - constant)  # x − x is 0

    return jax.tree.map(cut, state)
