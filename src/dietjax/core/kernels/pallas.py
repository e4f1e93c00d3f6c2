"""LIF over a block of time as two Pallas kernels, forward and backward, each of which reads every current once.

The forward kernel writes every spike once, the backward kernel every current's gradient; membranes live in registers.
They are found again from the currents (equations: `rule`), `tile.BLOCK` timesteps at a time: longer blocks of time
also write the state before each `BLOCK` and read it back.

Neurons are viewed as rows of 128 lanes, padded with zeros to whole tiles. One tile runs through all its timesteps, and
through several members of the batch, over which it adds up its share of the gradients of leak and threshold. So there
are no atomics, and XLA sums over the rest of the batch. Neurons do not depend on one another, so one body (`tile`)
serves every machine and only what surrounds it differs: blocks in VMEM by `pallas_call` on TPU, registers filled
straight from device memory by Mosaic GPU on Hopper (Pallas' Triton backend is deprecated since jax 0.11).

GSPMD cannot cut a kernel; `custom_partitioning` says how: the batch may be sharded, all else is replicated. It has
neither a derivative nor a batching rule: `dispatch` gives both.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.custom_partitioning import custom_partitioning

from ...types import Array
from ..dropout import Dropout
from . import tile
from .launch import cut_by_batch, on_hopper
from .rule import Parameters, Rule

LONGEST = 128
"""Timesteps of one kernel, so that their tiles fit the VMEM of a TPU; more are several kernels."""
LANES = 128
ROWS = {"tpu": 16, "gpu": 2, "interpret": 16}
"""Rows of neurons in one tile: a bfloat16 register tile of a TPU; two neurons per thread of a warpgroup."""


def forward(platform: str, rule: Rule, timesteps: int, current: Array, leak: Array, threshold: Array, membrane: Array,
            elapsed: Array | None) -> tuple[Any, Any]:
    """LIF over T timesteps; arguments and results as of `xla.forward`, and

    Args:
        platform: "tpu", "gpu" (Hopper) or "interpret" (the TPU's kernel as plain XLA operations, on any machine).
    """
    view = _View(platform, current, threshold, membrane)
    leak, threshold = view.shared(leak), view.shared(threshold, 1)
    current = view.rows(current)
    state = jax.tree.map(view.rows, (membrane, elapsed))
    spikes, starts = [], []
    parts = _parts(timesteps)
    for first, count in parts:
        before = state if first else None  # the first is among the arguments
        inputs = tile.Inputs(_between(current, first, count), leak, threshold, state)
        if membrane is None and len(parts) == 1:
            # Who starts at rest seldom asks for the state after it: a kernel of its own, which XLA drops where it is
            # not asked for.
            fired, _, within, _ = _call(tile.forward, rule, count, platform, ("spikes", "starts"), None, inputs)
            state = _call(tile.forward, rule, count, platform, ("state",), None, inputs)[1]
        else:
            fired, state, within, _ = _call(tile.forward, rule, count, platform, ("spikes", "state", "starts"), None,
                                            inputs)
        spikes.append(fired)
        starts.append(jax.tree.map(view.neurons, (before, within)))
    return (*jax.tree.map(view.neurons, state), view.neurons(jnp.concatenate(spikes, axis=1))), starts


def backward(platform: str, rule: Rule, timesteps: int, arguments: tuple[Any, ...], starts: Any,
             cotangents: tuple[Any, ...]) -> tuple[Any, ...]:
    """Cotangents of `forward`'s arguments, in their order; as of `xla.backward`."""
    current, leak, threshold, membrane, elapsed = arguments
    view = _View(platform, current, threshold, membrane)
    g_after, _, g_spikes = cotangents
    g_after, g_spikes, seen = jax.tree.map(view.rows, (g_after, g_spikes, current))
    wide = view.shared(leak), view.shared(threshold, 1)
    parameters = Parameters.of(current, leak, threshold)
    g_currents, g_shared = [], [0.0, 0.0]
    for (first, count), (before, within) in reversed(list(zip(_parts(timesteps), starts, strict=True))):
        state = jax.tree.map(view.rows, (membrane, elapsed) if before is None else before)
        inputs = tile.Inputs(_between(seen, first, count), *wide, state, starts=jax.tree.map(view.rows, within),
                             g_spikes=g_spikes[:, first:first + count], g_last=g_after)
        g_current, *more, g_after = _call(tile.backward, rule, count, platform, (), parameters, inputs)
        g_currents.append(g_current)
        g_shared = [total + part for total, part in zip(g_shared, more, strict=True)]
    g_current = sum(g_currents) if current.shape[1] == 1 else jnp.concatenate(g_currents[::-1], axis=1)
    g_leak, g_threshold = parameters.shaped(g_shared, leak, threshold)
    # a counter has no gradient
    g_membrane = None if membrane is None else view.neurons(g_after)
    return view.neurons(g_current), g_leak, g_threshold, g_membrane, jax.tree.map(jnp.zeros_like, elapsed)


def sent(platform: str, rule: Rule, timesteps: int, current: Array, leak: Array, threshold: Array,
         dropout: Dropout | None) -> tuple[Array, Array]:
    """(what dropout leaves of the spikes, how many there were before it), from rest; arguments as of
    `sending.lif_sent`.

    All timesteps are in registers: at most `tile.BLOCK`.
    """
    view, inputs = _from_rest(platform, current, leak, threshold, dropout)
    spikes, *_, events = _call(tile.forward, rule, timesteps, platform, ("spikes", "counts"), None, inputs)
    return view.neurons(spikes), events[0]


def sent_back(platform: str, rule: Rule, timesteps: int,
              arguments: tuple[Array, Array, Array, Dropout | None], g_sent: Array, g_events: Array | None
              ) -> tuple[Array, ...]:
    """Cotangents of `sent`'s arguments but dropout; those of its results, None: zero."""
    current, leak, threshold, _ = arguments
    view, inputs = _from_rest(platform, *arguments)
    inputs = inputs._replace(g_spikes=view.rows(g_sent), g_events=None if g_events is None else view.shared(g_events))
    parameters = Parameters.of(current, leak, threshold)
    g_current, *sums, _ = _call(tile.backward, rule, timesteps, platform, (), parameters, inputs)
    return view.neurons(g_current), *parameters.shaped(sums, leak, threshold)


def _from_rest(platform, current, leak, threshold, dropout):
    view = _View(platform, current, threshold, None)
    return view, tile.Inputs(view.rows(current), view.shared(leak), view.shared(threshold, 1),
                             dropout=jax.tree.map(view.rows, dropout))


class _View:
    """Neurons [..., N] as whole tiles of rows of 128 lanes [..., rows, 128], and back."""

    def __init__(self, platform, current, threshold, membrane):
        self._neurons, self._dtype = current.shape[2:], (threshold if membrane is None else membrane).dtype
        self._size = math.prod(self._neurons)
        self._padding = -self._size % (ROWS[platform] * LANES)

    def rows(self, x, fill=0):
        leading = x.shape[:x.ndim - len(self._neurons)]
        x = jnp.pad(x.reshape(*leading, self._size), [(0, 0)] * len(leading) + [(0, self._padding)],
                    constant_values=fill)
        return x.reshape(*leading, -1, LANES)

    def neurons(self, x):
        return x.reshape(*x.shape[:-2], -1)[..., :self._size].reshape(*x.shape[:-2], *self._neurons)

    def shared(self, parameter, fill=0):
        """A parameter for each neuron; padding with a threshold of 1 never spikes, and divides by 1."""
        return self.rows(jnp.broadcast_to(parameter, self._neurons).astype(self._dtype), fill)


def _parts(timesteps):
    """(first timestep, how many) of each kernel."""
    return [(first, min(timesteps - first, LONGEST)) for first in range(0, timesteps, LONGEST)]


def _between(current, first, count):
    return current if current.shape[1] == 1 else current[:, first:first + count]


@functools.partial(custom_partitioning, static_argnums=(0, 1, 2, 3, 4, 5))
def _call(body: Callable, rule: Rule, steps: int, platform: str, wanted: tuple[str, ...],
          parameters: Parameters | None, inputs: Any) -> Any:
    """Run a kernel body over all tiles of arrays [B, T, rows, 128], [B, rows, 128] and [rows, 128].

    wanted: of what the forward body puts out, "spikes", "state" (after the last step), "starts" (states before each
        BLOCK) and "counts", whose sum is given; the rest is None.
    parameters: of the backward body.
    """
    current, leak, (membrane, elapsed) = inputs.current, inputs.leak, inputs.state
    batch, _, rows, _ = current.shape
    state = jax.tree.map(lambda x: _like((batch, rows, LANES), x), (leak if membrane is None else membrane, elapsed))
    members = max(d for d in range(1, min(8, max(LONGEST // steps, 1)) + 1) if batch % d == 0)
    groups = batch // members
    if body is tile.forward:
        _, blocks = tile.split(steps)
        kept = jax.tree.map(lambda x: _like((batch, blocks, rows, LANES), x), state) if blocks else None
        forwards = {"spikes": _like((batch, steps, rows, LANES), current), "state": state, "starts": kept,
                    "counts": _like((groups, rows, LANES), leak)}
        outputs: tuple[Any, ...] = tuple(x if name in wanted else None for name, x in forwards.items())
    else:
        shared = _like((groups, rows, LANES), leak)
        outputs = _like(current.shape, current), shared, shared, None if membrane is None else state[0]
    flat_inputs, tree = jax.tree.flatten(inputs)
    flat_outputs, out_tree = jax.tree.flatten(outputs)

    def kernel(place, *refs):
        given = len(flat_inputs)
        body(rule, steps, members, place, jax.tree.unflatten(tree, refs[:given]),
             jax.tree.unflatten(out_tree, refs[given:]))

    if platform == "gpu":
        results = _gpu(kernel, members, groups, flat_inputs, flat_outputs)
    else:
        results = _tpu(kernel, members, groups, steps, flat_inputs, flat_outputs, platform == "interpret")
    results = jax.tree.unflatten(out_tree, results)
    if parameters is not None:
        g_current, *g_shared, g_membrane = results
        return g_current, *parameters.sums(g_shared), g_membrane
    *results, counts = results
    return *results, None if counts is None else counts.sum().reshape(1)


def _like(shape, x):
    return jax.ShapeDtypeStruct(shape, x.dtype)


def _tpu(kernel, members, groups, steps, inputs, outputs, interpret):
    from jax.experimental.pallas import tpu as pltpu

    dtypes = [x.dtype for x in outputs]
    inputs, outputs = [x.astype(_loaded(x.dtype)) for x in inputs], [x.update(dtype=_loaded(x.dtype)) for x in outputs]
    height = ROWS["tpu"]
    total = inputs[0].shape[-2]
    rows = min(total, max(2048 // (members * steps) // height * height, height))  # about 1 MB per array of currents

    def spec(x):
        *leading, _, lanes = x.shape
        leading = [leading[0] // groups, *leading[1:]] if leading else []
        return pl.BlockSpec((*leading, rows, lanes),
                            lambda g, j: (*([g] + [0] * (len(leading) - 1) if leading else []), j, 0))

    def block(*refs):
        def piece(j, _):
            kernel(tile.Tile(0, 0, (pl.ds(pl.multiple_of(j * height, height), height),)), *refs)
            return _

        jax.lax.fori_loop(0, rows // height, piece, 0)

    results = pl.pallas_call(
        block, outputs, grid=(groups, pl.cdiv(total, rows)), in_specs=[spec(x) for x in inputs],
        out_specs=[spec(x) for x in outputs], interpret=interpret,
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel")))(*inputs)
    return [x.astype(dtype) for x, dtype in zip(results, dtypes, strict=True)]


def _loaded(dtype):
    """What a TPU's kernel reads it as: its vector unit has no float16, and tiles of int8 are of another height."""
    return jnp.dtype(jnp.float32) if dtype in (jnp.float16, jnp.int8) else dtype


def _gpu(kernel, members, groups, inputs, outputs):
    height = ROWS["gpu"]

    def block(group, j, *refs):
        kernel(tile.Tile(group * members, group, (pl.ds(j * height, height),)), *refs)

    return on_hopper(block, (groups, inputs[0].shape[-2] // height), inputs, outputs)


def _factors(own, rank):  # arrays differ in their number of timesteps, parameters in their size
    return {1: f"{own}p", 2: "r l", 3: "b r l", 4: f"b {own} r l"}[rank]


cut_by_batch(_call, 2, _factors)
