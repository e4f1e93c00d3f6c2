"""LIF over a block of time as two Pallas kernels, forward and backward, each of which reads every current once.

The forward kernel writes every spike once, the backward kernel every current's gradient; membranes live in registers.
They are found again from the currents (equations: `rule`), `tile.BLOCK` timesteps at a time: longer blocks of time
also write the state before each `BLOCK` and read it back.

Neurons are viewed as rows of 128 lanes, padded with zeros to whole tiles. One tile runs through all its timesteps, and
through several members of the batch, over which it adds up its share of the gradients of leak and threshold. So there
are no atomics, and XLA sums over the rest of the batch. Neurons do not depend on one another, so one body (`tile`)
serves every machine and only what surrounds it differs: blocks in VMEM by `pallas_call` on TPU, registers filled
straight from device memory by Mosaic GPU on Hopper (Pallas' Triton backend is deprecated since jax 0.11).

GSPMD cannot cut a kernel; `custom_partitioning` says how: the batch may be sharded, all else is replicated. It has no
batching rule, so `jax.vmap` over this backend is an error of JAX's; give the neuron a batch instead.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec

from ...types import Array
from . import tile
from .rule import Rule

LONGEST = 128
"""Timesteps of one kernel, so that their tiles fit the VMEM of a TPU; more are several kernels."""
LANES = 128
ROWS = {"tpu": 16, "gpu": 2, "interpret": 16}
"""Rows of neurons in one tile: a bfloat16 register tile of a TPU; two neurons per thread of a warpgroup."""


def lif(rule: Rule, current: Array, leak: Array, threshold: Array, membrane: Array, elapsed: Array | None,
        timesteps: int, platform: str) -> tuple[Array, Array | None, Array]:
    """LIF over T timesteps; arguments and results as in `xla.lif`, and

    Args:
        platform: "tpu", "gpu" (Hopper) or "interpret" (the TPU's kernel as plain XLA operations, on any machine).
    """
    neurons = membrane.shape[1:]
    size = math.prod(neurons)
    multiple = ROWS[platform] * LANES
    padding = -size % multiple

    def view(x, leading, fill=0):
        """[..., N] -> [..., rows, 128]."""
        x = jnp.pad(x.reshape(*leading, size), [(0, 0)] * len(leading) + [(0, padding)], constant_values=fill)
        return x.reshape(*leading, -1, LANES)

    def back(x):
        return x.reshape(*x.shape[:-2], -1)[..., :size].reshape(*x.shape[:-2], *neurons)

    leak, threshold = (jnp.broadcast_to(p, neurons).astype(membrane.dtype) for p in (leak, threshold))
    leak, threshold = view(leak, ()), view(threshold, (), 1)  # padding: never spikes, and divides by 1
    constant = current.shape[1] == 1
    current = view(current, current.shape[:2])
    state = jax.tree.map(lambda x: view(x, x.shape[:1]), (membrane, elapsed))
    spikes = []
    for first in range(0, timesteps, LONGEST):
        part = current if constant else current[:, first:first + LONGEST]
        fired, state = _block(rule, min(timesteps - first, LONGEST), platform, part, leak, threshold, state)
        spikes.append(fired)
    return *jax.tree.map(back, state), back(jnp.concatenate(spikes, axis=1))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _block(rule, steps, platform, current, leak, threshold, state):
    spikes, state, _ = _call(tile.forward, rule, steps, platform, (current, leak, threshold, state))
    return spikes, state


def _block_forward(rule, steps, platform, *arguments):
    spikes, state, starts = _call(tile.forward, rule, steps, platform, arguments)
    return (spikes, state), (*arguments, starts)


def _block_backward(rule, steps, platform, residuals, cotangents):
    g_spikes, (g_membrane, g_elapsed) = cotangents
    *gradients, g_membrane = _call(tile.backward, rule, steps, platform, (*residuals, g_spikes, g_membrane))
    return *gradients, (g_membrane, jax.tree.map(jnp.zeros_like, g_elapsed))  # a counter has no gradient


_block.defvjp(_block_forward, _block_backward)


@functools.partial(custom_partitioning, static_argnums=(0, 1, 2, 3))
def _call(body: Callable, rule: Rule, steps: int, platform: str, inputs: Any) -> Any:
    """Run a kernel body over all tiles of arrays [B, T, rows, 128], [B, rows, 128] and [rows, 128]."""
    current, leak, _, state, *_ = inputs
    batch, _, rows, _ = current.shape
    members = max(d for d in range(1, min(8, max(LONGEST // steps, 1)) + 1) if batch % d == 0)
    groups = batch // members
    if body is tile.forward:
        _, blocks = tile.split(steps)
        kept = jax.tree.map(lambda x: _like((batch, blocks, rows, LANES), x), state) if blocks else None
        outputs: tuple[Any, ...] = (_like((batch, steps, rows, LANES), current),
                                    jax.tree.map(lambda x: _like(x.shape, x), state), kept)
    else:
        shared = _like((groups, rows, LANES), leak)
        outputs = _like(current.shape, current), shared, shared, _like(state[0].shape, state[0])
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
    if body is tile.backward:
        g_current, *g_shared, g_membrane = results
        results = g_current, *(x.sum(0) for x in g_shared), g_membrane
    return results


def _like(shape, x):
    return jax.ShapeDtypeStruct(shape, x.dtype)


def _tpu(kernel, members, groups, steps, inputs, outputs, interpret):
    from jax.experimental.pallas import tpu as pltpu

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
            kernel(tile.Tile(0, 0, pl.ds(pl.multiple_of(j * height, height), height)), *refs)
            return _

        jax.lax.fori_loop(0, rows // height, piece, 0)

    return pl.pallas_call(
        block, outputs, grid=(groups, pl.cdiv(total, rows)), in_specs=[spec(x) for x in inputs],
        out_specs=[spec(x) for x in outputs], interpret=interpret,
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel")))(*inputs)


def _gpu(kernel, members, groups, inputs, outputs):
    from jax.experimental.pallas import mosaic_gpu as plgpu

    height = ROWS["gpu"]

    def block(*refs):
        group, j = jax.lax.axis_index("group"), jax.lax.axis_index("tile")
        kernel(tile.Tile(group * members, group, pl.ds(j * height, height)), *refs)

    return plgpu.kernel(
        block, out_type=outputs, grid=(groups, inputs[0].shape[-2] // height), grid_names=("group", "tile"),
        compiler_params=plgpu.CompilerParams(lowering_semantics=plgpu.LoweringSemantics.Warpgroup))(*inputs)


def _partition(body, rule, steps, platform, mesh, arguments, results):
    batch = arguments[0][0].sharding.spec[0]

    def sharding(x):
        return NamedSharding(mesh, PartitionSpec(batch) if x.ndim > 2 else PartitionSpec())

    def local(inputs):
        outputs = _call.fun(body, rule, steps, platform, inputs)
        if batch is None:
            return outputs
        return jax.tree.map(lambda x: jax.lax.psum(x, batch) if x.ndim == 2 else x, outputs)

    return mesh, local, jax.tree.map(sharding, results), jax.tree.map(sharding, arguments)


def _sharding_rule(body, rule, steps, platform, mesh, inputs, outputs):
    def factors(name, x):
        return {2: "r l", 3: "b r l", 4: f"b {name} r l"}[x.rank]  # arrays differ in their number of timesteps

    return " -> ".join(", ".join(factors(f"{side}{i}", x) for i, x in enumerate(arrays))
                       for side, arrays in (("i", inputs), ("o", outputs)))


_call.def_partition(_partition, sharding_rule=_sharding_rule)
