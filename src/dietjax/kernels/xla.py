"""LIF over a block of time as one custom_vjp that saves its input currents and nothing else, left to XLA's fusion.

A neuron is bound by memory traffic. Differentiating its steps one by one stores a membrane, a distance to threshold
and a spike per neuron and timestep; here the backward pass finds them again from the currents (equations: `rule`).
"""

import functools

import jax
import jax.numpy as jnp

from ..types import Array
from .rule import Rule, step, step_back

BLOCK = 16
"""Timesteps unrolled in one pass over the currents. Longer T is a loop of such blocks, which keeps a membrane each."""


def lif(rule: Rule, current: Array, leak: Array, threshold: Array, membrane: Array, elapsed: Array | None,
        timesteps: int) -> tuple[Array, Array | None, Array]:
    """LIF over T timesteps; every argument but the rule, T and `elapsed` is differentiable.

    Args:
        rule: reset and surrogate.
        current: [B, T, N], or [B, 1, N] for one that is the same at every step.
        leak: factor per step, broadcasts against [B, N].
        threshold: > 0, broadcasts against [B, N].
        membrane: before the first step, [B, N]; its dtype is that of all arithmetic.
        elapsed: timesteps since the last spike, [B, N], or None where the surrogate does not ask for it.
        timesteps: T.

    Returns:
        (membrane after the last step [B, N], elapsed after it, spikes [B, T, N] in the current's dtype).
    """
    head = timesteps % BLOCK or min(timesteps, BLOCK)  # what does not fill a block comes first
    blocks = (timesteps - head) // BLOCK
    constant = current.shape[1] == 1
    start = current if constant else current[:, :head]
    membrane, elapsed, spikes = _block(rule, head, start, leak, threshold, membrane, elapsed)
    if not blocks:
        return membrane, elapsed, spikes
    batch, *neurons = membrane.shape
    rest = None if constant else jnp.moveaxis(current[:, head:].reshape(batch, blocks, BLOCK, *neurons), 1, 0)

    def body(state, block):
        *state, spikes = _block(rule, BLOCK, current if constant else block, leak, threshold, *state)
        return tuple(state), spikes

    (membrane, elapsed), more = jax.lax.scan(body, (membrane, elapsed), rest, length=blocks)
    more = jnp.moveaxis(more, 0, 1).reshape(batch, blocks * BLOCK, *neurons)
    return membrane, elapsed, jnp.concatenate([spikes, more], axis=1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _block(rule, steps, current, leak, threshold, membrane, elapsed):
    spikes = []
    for t in range(steps):
        _, fired, membrane, elapsed = step(rule, leak, threshold, membrane, elapsed, _at(current, t))
        spikes.append(fired.astype(current.dtype))
    return membrane, elapsed, jnp.stack(spikes, axis=1)


def _forward(rule, steps, *arguments):
    return _block(rule, steps, *arguments), arguments


def _backward(rule, steps, arguments, cotangents):
    current, leak, threshold, membrane, elapsed = arguments
    g_after, g_elapsed, g_spikes = cotangents
    passed = []
    for t in range(steps):
        came, since = membrane, elapsed
        before, fired, membrane, elapsed = step(rule, leak, threshold, came, since, _at(current, t))
        passed.append((came, before, fired, since))
    g_current, g_leak, g_threshold = [], 0, 0
    for t in reversed(range(steps)):
        g_before, g_after, leak_part, threshold_part = step_back(rule, leak, threshold, *passed[t], g_after,
                                                                 g_spikes[:, t].astype(membrane.dtype))
        g_current.append(g_before)
        g_leak, g_threshold = g_leak + sum_to(leak_part, leak), g_threshold + sum_to(threshold_part, threshold)
    constant = current.shape[1] == 1
    g_current = sum(g_current)[:, None] if constant else jnp.stack(g_current[::-1], axis=1)
    g_elapsed = jax.tree.map(jnp.zeros_like, g_elapsed)  # a counter
    return g_current.astype(current.dtype), g_leak, g_threshold, g_after, g_elapsed


_block.defvjp(_forward, _backward)


def sum_to(gradient: Array, parameter: Array) -> Array:
    """Sum over the axes along which the parameter was broadcast."""
    kept = jnp.ndim(parameter)
    return gradient.sum(tuple(range(gradient.ndim - kept))).astype(jnp.result_type(parameter))


def _at(current, t):
    return current[:, t if current.shape[1] > 1 else 0]
