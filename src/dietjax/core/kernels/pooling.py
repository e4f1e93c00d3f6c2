"""LIF from rest and the 2×2 average behind it as two Pallas kernels, forward and backward, for GPUs from Hopper on.

Spikes of full size are neither written nor, as cotangents, read: a kernel reads every current once and writes a quarter
of that, backward it also writes every current's gradient. A tile is `TILE` outputs of the pool, two per thread, of which
each thread finds the four spikes one after the other: nothing passes between threads. As in `pallas`, a tile runs
through all timesteps and several members of the batch, `custom_partitioning` says how a batch is sharded, and `block`
gives derivatives and batching.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec

from ...types import Array
from . import tile
from .rule import Rule, step, step_back, sum_to

TILE = 256
"""Outputs of the pool: two for each thread of a warpgroup."""
MEMBERS = 4
"""Members of the batch in one tile, at most. A tile has four times its outputs of neurons: more members would leave too
few tiles to fill a card."""


def fits(shape: tuple[int, ...], timesteps: int) -> bool:
    """Whether currents [B, T, H, W, C] are of a shape that these kernels run: all timesteps in registers, whole tiles,
    a current for each timestep.
    """
    if len(shape) != 5 or shape[1] != timesteps or timesteps > tile.BLOCK:
        return False
    *_, height, width, channels = shape
    if min(shape) < 1 or height % 2 or width % 2:
        return False
    return channels % TILE == 0 or TILE % channels == 0 and width // 2 % (TILE // channels) == 0


def forward(platform: str, rule: Rule, timesteps: int, current: Array, leak: Array, threshold: Array) -> Array:
    """Averages [B, T, H/2, W/2, C] of spikes, in the current's dtype.

    Args:
        platform: "gpu" (Hopper) or "interpret" (its kernel as plain XLA operations, on any machine).
        rule, timesteps: as of `xla.forward`.
        current: [B, T, H, W, C], of a shape that `fits`.
        leak, threshold: as of `xla.forward`.
    """
    return _call(_forward, rule, platform, _inputs(current, leak, threshold))[0]


def backward(platform: str, rule: Rule, timesteps: int, arguments: tuple[Array, Array, Array], g_pooled: Array
             ) -> tuple[Array, ...]:
    """Cotangents of current, leak and threshold, from that of what `forward` gave."""
    current, *parameters = arguments
    g_current, *g_shared = _call(_backward, rule, platform, (*_inputs(*arguments), g_pooled))
    neurons = current.shape[2:]
    return g_current.reshape(current.shape), *(sum_to(g.reshape(neurons), p)
                                               for g, p in zip(g_shared, parameters, strict=True))


def _inputs(current, leak, threshold):
    """Neurons [..., H, W, C] as [..., H, W/2, 2, C], with parameters for each."""
    neurons = current.shape[2:]
    height, width, channels = neurons
    return tuple(x.reshape(*x.shape[:-3], height, width // 2, 2, channels) for x in (
        current, *(jnp.broadcast_to(p, neurons).astype(threshold.dtype) for p in (leak, threshold))))


# ---- bodies: refs are arrays [B, T, H, W/2, 2, C] (currents), [B, T, H/2, W/2, C] (outputs) and [H, W/2, 2, C]


class Tile(NamedTuple):
    """Where in the refs a tile lies."""

    batch: Any
    """Its first member of the batch."""
    group: Any
    """Where its sums over members of the batch go."""
    outputs: tuple[Any, ...]
    """Where its outputs lie."""
    places: tuple[tuple[Any, ...], ...]
    """Where the neurons lie that these are averages of: first, second, ... of every four."""


def _forward(rule, steps, members, tile, inputs, outputs):
    current, *parameters = inputs
    (pooled,) = outputs
    shared = [[parameter[place] for parameter in parameters] for place in tile.places]

    def member(i, carry):
        b = tile.batch + i
        fires = [0.0] * steps
        for place, (leak, threshold) in zip(tile.places, shared, strict=True):
            currents = [current[b, t, *place] for t in range(steps)]  # all on their way first
            membrane = jnp.zeros_like(leak)
            for t, now in enumerate(currents):
                _, fired, membrane, _ = step(rule, leak, threshold, membrane, None, now)
                fires[t] += fired
        for t, total in enumerate(fires):
            pooled[b, t, *tile.outputs] = (total / 4).astype(pooled.dtype)
        return carry

    jax.lax.fori_loop(0, members, member, 0)


def _backward(rule, steps, members, tile, inputs, outputs):
    current, *parameters, g_pooled = inputs
    g_current, *g_parameters = outputs
    shared = [[parameter[place] for parameter in parameters] for place in tile.places]

    def member(i, sums):
        b = tile.batch + i
        g_fires = [g_pooled[b, t, *tile.outputs].astype(shared[0][0].dtype) / 4 for t in range(steps)]
        totals = []
        for place, (leak, threshold), total in zip(tile.places, shared, sums, strict=True):
            currents = [current[b, t, *place] for t in range(steps)]
            membrane, passed = jnp.zeros_like(leak), []
            for now in currents:
                came = membrane
                before, fired, membrane, _ = step(rule, leak, threshold, came, None, now)
                passed.append((came, before, fired, None))
            g_after = jnp.zeros_like(leak)
            for t in reversed(range(steps)):
                g_before, g_after, *parts = step_back(rule, leak, threshold, *passed[t], g_after, g_fires[t])
                total = [x + part for x, part in zip(total, parts, strict=True)]
                g_current[b, t, *place] = g_before.astype(g_current.dtype)
            totals.append(total)
        return totals

    sums = jax.lax.fori_loop(0, members, member, [[jnp.zeros_like(x) for x in pair] for pair in shared])
    for place, pair in zip(tile.places, sums, strict=True):
        for ref, total in zip(g_parameters, pair, strict=True):
            ref[tile.group, *place] = total


# ---- what surrounds them


@functools.partial(custom_partitioning, static_argnums=(0, 1, 2))
def _call(body: Any, rule: Rule, platform: str, inputs: Any) -> Any:
    """Run a body over all tiles."""
    current, leak, *_ = inputs
    batch, steps, height, width, _, channels = current.shape
    members = max(d for d in range(1, MEMBERS + 1) if batch % d == 0)
    groups = batch // members
    if body is _forward:
        results = [jax.ShapeDtypeStruct((batch, steps, height // 2, width, channels), current.dtype)]
    else:
        results = [jax.ShapeDtypeStruct(current.shape, current.dtype),
                   *[jax.ShapeDtypeStruct((groups, *leak.shape), leak.dtype)] * 2]
    lanes = min(channels, TILE)
    columns = TILE // lanes
    grid = {"group": groups, "row": height // 2, "column": width // columns, "lane": channels // lanes}

    def run(group, i, j, lane, *refs):
        within = pl.ds(j * columns, columns), pl.ds(lane * lanes, lanes)
        places = tuple((2 * i + down, within[0], right, within[1]) for down in (0, 1) for right in (0, 1))
        body(rule, steps, members, Tile(group * members, group, (i, *within), places), refs[:len(inputs)],
             refs[len(inputs):])

    found = (_gpu if platform == "gpu" else _interpreted)(run, grid, inputs, results)
    return found if body is _forward else [found[0], *(x.sum(0) for x in found[1:])]


def _gpu(run, grid, inputs, results):
    from jax.experimental.pallas import mosaic_gpu as plgpu

    return plgpu.kernel(
        lambda *refs: run(*map(jax.lax.axis_index, grid), *refs), out_type=results, grid=tuple(grid.values()),
        grid_names=tuple(grid), compiler_params=plgpu.CompilerParams(
            lowering_semantics=plgpu.LoweringSemantics.Warpgroup, unsafe_no_auto_barriers=True))(*inputs)


def _interpreted(run, grid, inputs, results):
    return pl.pallas_call(lambda *refs: run(*map(pl.program_id, range(len(grid))), *refs), results,
                          grid=tuple(grid.values()), interpret=True)(*inputs)


def _partition(body, rule, platform, mesh, arguments, results):
    batch = arguments[0][0].sharding.spec[0]

    def sharding(x):
        return NamedSharding(mesh, PartitionSpec(batch) if x.ndim > 4 else PartitionSpec())

    def local(inputs):
        outputs = _call.fun(body, rule, platform, inputs)
        if batch is None:
            return outputs
        return [jax.lax.psum(x, batch) if x.ndim == 4 else x for x in outputs]

    return mesh, local, jax.tree.map(sharding, results), jax.tree.map(sharding, arguments)


def _sharding_rule(body, rule, platform, mesh, inputs, outputs):
    factors = {4: "h w p c", 5: "b t r w c", 6: "b t h w p c"}
    return " -> ".join(", ".join(factors[x.rank] for x in arrays) for arrays in (inputs, outputs))


_call.def_partition(_partition, sharding_rule=_sharding_rule)
