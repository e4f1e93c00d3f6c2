"""LIF from rest and the 2×2 average behind it as two Pallas kernels, forward and backward, for GPUs from Hopper on.

Spikes of full size are neither written nor, as cotangents, read: a kernel reads every current once and writes a quarter
of that, backward it also writes every current's gradient. Forward a tile is `TILE` outputs of the pool, two per thread,
of which each thread finds the four spikes one after the other; backward it is those of their neurons that lie at the
same corner of the 2×2. So nothing passes between threads. As in `pallas`, a tile runs through all timesteps and several
members of the batch, `custom_partitioning` says how a batch is sharded, and `dispatch` gives derivatives and batching.
"""

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.custom_partitioning import custom_partitioning

from ...types import Array
from . import tile
from .launch import cut_by_batch, on_hopper
from .rule import Parameters, Rule, step

TILE = 256
"""Outputs of the pool: two for each thread of a warpgroup."""
MEMBERS = 8
"""Members of the batch in one tile, at most."""


def fits(shape: tuple[int, ...], timesteps: int) -> bool:
    """Whether currents [B, T, H, W, C] are of a shape that these kernels run: all timesteps in registers, whole tiles,
    a current for each timestep.
    """
    if len(shape) != 5 or min(shape) < 1 or shape[1] != timesteps or timesteps > tile.BLOCK:
        return False
    *_, height, width, channels = shape
    if height % 2 or width % 2:
        return False
    return channels % TILE == 0 or (TILE % channels == 0 and width // 2 % (TILE // channels) == 0)


def forward(platform: str, rule: Rule, timesteps: int, current: Array, leak: Array, threshold: Array,
            dropout: None = None) -> tuple[Array, Array]:
    """(averages [B, T, H/2, W/2, C] of spikes, in the current's dtype; how many spikes there were).

    Args:
        platform: "gpu" (Hopper) or "interpret" (its kernel as plain XLA operations, on any machine).
        rule, timesteps: as of `xla.forward`.
        current: [B, T, H, W, C], of a shape that `fits`.
        leak, threshold: as of `xla.forward`.
        dropout: these kernels have none.
    """
    batch, _, height, width, channels = current.shape
    pooled, events = _call(_forward, rule, platform, _columns(current), None, _tiles(current, leak, threshold))
    return pooled.reshape(batch, timesteps, height // 2, width // 2, channels), events[0]


def backward(platform: str, rule: Rule, timesteps: int, arguments: tuple[Array, Array, Array, None], g_pooled: Array,
             g_events: Array | None) -> tuple[Array, ...]:
    """Cotangents of current, leak and threshold, from those of what `forward` gave; None: zero."""
    current, leak, threshold, _ = arguments
    g_pooled = g_pooled.reshape(*g_pooled.shape[:2], -1, *_tile(current))
    of_each = () if g_events is None else _tiles(current, g_events.astype(threshold.dtype))[1:]
    parameters = Parameters.of(current, leak, threshold)
    g_current, *g_shared = _call(_backward, rule, platform, _columns(current), parameters,
                                 (*_tiles(current, leak, threshold), g_pooled, *of_each))
    return g_current.reshape(current.shape), *parameters.shaped(g_shared, leak, threshold)


def _tile(current):
    """(w, lanes, C'): the last axes of outputs [..., W/2, C] as [..., tiles, w, lanes, C'], of which [w, C'] is one."""
    channels = current.shape[-1]
    lanes = min(channels, TILE)
    return TILE // lanes, channels // lanes, lanes


def _columns(current):
    """How many tiles a row of outputs has in its width."""
    return current.shape[3] // 2 // _tile(current)[0]


def _tiles(current, *parameters):
    """Neurons [..., H, W, C] as [..., H·columns, w, 2·lanes, C'], and parameters for each."""
    neurons, (wide, lanes, lane) = current.shape[2:], _tile(current)
    shared = (jnp.broadcast_to(parameter, neurons).astype(parameters[-1].dtype) for parameter in parameters)
    return tuple(x.reshape(*x.shape[:-3], -1, wide, 2 * lanes, lane) for x in (current, *shared))


class Place(NamedTuple):
    """Where a warpgroup works."""

    group: Any
    """Of the batch."""
    tile: Any
    """Which of a map's [tiles, lanes], counted through: forward of the outputs, backward of the neurons."""
    columns: int
    """How many tiles of outputs lie beside each other."""
    lanes: int


def _forward(rule, steps, members, place, inputs, outputs):
    """Refs are arrays [B·T·H·columns, w, 2·lanes, C'] (currents), [B·T·H/2·columns, w, lanes, C'] (outputs),
    [H·columns, w, 2·lanes, C'] (leak and threshold) and [groups, H/2·columns, w, lanes, C'] (counts). One axis for all
    tiles: with more of them the compiler lost sight of what the address is a multiple of, and loaded values of 16 bits
    one by one.
    """
    current, *parameters = inputs
    pooled, counts = outputs
    columns, lanes = place.columns, place.lanes
    tiles = parameters[0].shape[0]
    output, lane = place.tile // lanes, place.tile % lanes
    first = 2 * (output // columns) * columns + output % columns
    corners = [(first + down * columns, right * lanes + lane) for down, right in itertools.product((0, 1), repeat=2)]
    shared = [[parameter[at, :, side] for parameter in parameters] for at, side in corners]

    def member(i, events):
        maps = [(members * place.group + i) * steps + t for t in range(steps)]
        fires: list[Any] = [0] * steps
        for (at, side), (leak, threshold) in zip(corners, shared, strict=True):
            currents = [current[m * tiles + at, :, side] for m in maps]  # all on their way first
            membrane = jnp.zeros_like(leak)
            for t, now in enumerate(currents):
                _, fired, membrane, _ = step(rule, leak, threshold, membrane, None, now)
                fires[t] += fired
        for m, total in zip(maps, fires, strict=True):
            pooled[m * (tiles // 2) + output, :, lane] = (total / 4).astype(pooled.dtype)
        return events + sum(fires)

    counts[place.group, output, :, lane] = jax.lax.fori_loop(0, members, member, jnp.zeros_like(shared[0][0]))


def _backward(rule, steps, members, place, inputs, outputs):
    """As of `_forward`, with the axes B and T apart."""
    current, leak, threshold, g_pooled, *of_each = inputs
    columns, lanes, whole = place.columns, place.lanes, slice(None)
    at, side = place.tile // (2 * lanes), place.tile % (2 * lanes)
    output = at // (2 * columns) * columns + at % columns
    lies = tile.Tile(members * place.group, place.group, (at, whole, side, whole),
                     (output, whole, side % lanes, whole))
    given = tile.Inputs(current, leak, threshold, g_spikes=g_pooled, g_events=of_each[0] if of_each else None)
    tile.backward(rule, steps, members, lies, given, (*outputs, None))


@functools.partial(custom_partitioning, static_argnums=(0, 1, 2, 3, 4))
def _call(body: Any, rule: Rule, platform: str, columns: int, parameters: Parameters | None, inputs: Any) -> Any:
    """Run a body over all tiles of arrays [B, T, H·columns, w, 2·lanes, C'], [B, T, H/2·columns, w, lanes, C'] and
    [H·columns, w, 2·lanes, C'].

    parameters: of the backward body.
    """
    current, leak, *_ = inputs
    batch, steps, tiles, wide, sides, lane = current.shape
    members = max(d for d in range(1, MEMBERS + 1) if batch % d == 0)
    groups, lanes = batch // members, sides // 2
    if body is _forward:
        inputs = [x.reshape(-1, *x.shape[-3:]) for x in inputs]
        results = [jax.ShapeDtypeStruct((batch * steps * tiles // 2, wide, lanes, lane), current.dtype),
                   jax.ShapeDtypeStruct((groups, tiles // 2, wide, lanes, lane), leak.dtype)]
    else:
        shared = jax.ShapeDtypeStruct((groups, *leak.shape), leak.dtype)
        results = [jax.ShapeDtypeStruct(current.shape, current.dtype), shared, shared]

    def lif_and_pool(group, n, *refs):
        body(rule, steps, members, Place(group, n, columns, lanes), refs[:len(inputs)], refs[len(inputs):])

    grid = groups, tiles // 2 * lanes if body is _forward else tiles * sides
    found = (on_hopper if platform == "gpu" else _interpreted)(lif_and_pool, grid, inputs, results)
    if parameters is None:
        return [found[0].reshape(batch, steps, tiles // 2, wide, lanes, lane), found[1].sum().reshape(1)]
    return [found[0], *parameters.sums(found[1:])]


def _interpreted(body, grid, inputs, results):
    return pl.pallas_call(lambda *refs: body(pl.program_id(0), pl.program_id(1), *refs), results, grid=grid,
                          interpret=True)(*inputs)


def _factors(own, rank):  # arrays differ in their number of tiles, parameters in their size
    return f"{own}p" if rank == 1 else f"{'b t' * (rank > 4)} {own}n w {own}k c"


cut_by_batch(_call, 4, _factors)
