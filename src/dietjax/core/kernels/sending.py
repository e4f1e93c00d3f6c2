"""LIF from rest and what becomes of its spikes before they leave a layer, dropout or a 2×2 average, as one custom_vjp.

The kernels of HAVE do it at once and write nothing else; beside them all others run `lif`, and the rest is XLA's.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from ...types import Array
from ..pool import average_pool
from . import tile
from .block import lif
from .dispatch import Kernels, asked_for, by_platform, known_to_jax, values, zeros
from .rule import Rule

HAVE = {False: ("gpu", "tpu", "interpret"), True: ("gpu", "interpret")}
"""Of a pool, or without: the kernels."""


def at_once(kernels: Kernels, shape: tuple[int, ...], timesteps: int, pool: bool) -> bool:
    """Whether one of these kernels does it at once, for currents of a shape [B, T, N], or [B, 1, N] without a pool."""
    if timesteps > tile.BLOCK or not any(name in HAVE[pool] for _, name in kernels):
        return False
    from .pooling import fits  # with Pallas, which takes time to load

    return not pool or fits(shape, timesteps)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2, 3))
def lif_sent(kernels: Kernels, pool: bool, rule: Rule, timesteps: int, *arguments: Any) -> tuple[Array, Array]:
    """(what leaves the layer, [B, T, N] or the pool's averages [B, T, H/2, W/2, C]; how many spikes there were in all).

    arguments: current of a shape that has a kernel, leak and threshold, as of `xla.forward`, and dropout, a `Dropout`
        or None.
    """
    from . import pallas, pooling

    return _run(pooling.forward if pool else pallas.sent, _apart, kernels, pool, rule, timesteps, *arguments)


def _forward(kernels, pool, rule, timesteps, *arguments):
    arguments = values(arguments)
    return lif_sent(kernels, pool, rule, timesteps, *arguments), arguments


def _backward(kernels, pool, rule, timesteps, arguments, cotangents):
    from . import pallas, pooling

    g_sent, g_events = cotangents
    g_sent = zeros(g_sent) if isinstance(g_sent, SymbolicZero) else g_sent
    g_events = None if isinstance(g_events, SymbolicZero) else g_events
    by_hand = pooling.backward if pool else pallas.sent_back
    found = _run(by_hand, _apart_back, kernels, pool, rule, timesteps, arguments, g_sent, g_events)
    return *found, None  # dropout is drawn


lif_sent.defvjp(_forward, _backward, symbolic_zeros=True)


def _run(by_hand, apart, kernels, pool, rule, timesteps, *arguments):
    """By hand where a kernel HAS it; elsewhere apart."""
    mine, others = (tuple(pair for pair in kernels if (pair[1] in HAVE[pool]) == has) for has in (True, False))

    def by_xla(rule, timesteps, shapes, *arguments):
        return apart(((None, "xla"),), pool, rule, timesteps, *arguments)

    def run(name, *arguments):
        if name == "apart":
            return apart(others, pool, rule, timesteps, *arguments)
        kernel = known_to_jax(functools.partial(by_hand, name), by_xla, asked_for(name, kernels))
        return kernel(rule, timesteps, *arguments)

    return by_platform((*mine, (None, "apart")) if others else mine, run, *arguments)


def _apart(kernels, pool, rule, timesteps, current, leak, threshold, dropout):
    spikes = lif(kernels, rule, timesteps, current, leak, threshold, None, None)[2]
    sent = spikes if dropout is None else dropout(spikes)
    return average_pool(sent) if pool else sent, spikes.sum(dtype=threshold.dtype)


def _apart_back(kernels, pool, rule, timesteps, arguments, g_sent, g_events):
    *learned, dropout = arguments
    (_, events), back = jax.vjp(functools.partial(_apart, kernels, pool, rule, timesteps, dropout=dropout), *learned)
    return back((g_sent, jnp.zeros_like(events) if g_events is None else g_events))
