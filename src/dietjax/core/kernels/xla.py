"""LIF over a block of time, forwards and backwards, left to XLA's fusion.

A neuron is bound by memory traffic. Differentiating its steps one by one stores a membrane, a distance to threshold
and a spike per neuron and timestep; here the backward pass finds them again from the currents (equations: `rule`).
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ...types import Array
from ..parts import images_at_once
from ..surrogate import spike
from .rule import Rule, step, step_back, sum_to

UNROLLED = 16
"""Timesteps up to which there is no loop."""
BLOCK = 4
"""Timesteps in one turn of the loop over a longer T: what a turn computes should stay in a CPU's cache, and a GPU
should not start a kernel per step."""
PART_BYTES = 3 * 2**20
"""On a CPU, most bytes of a layer's currents that the backward pass takes at once. Some twenty maps of one timestep are
alive in it, which then stay in the cache (docs/performance.md)."""


def forward(rule: Rule, timesteps: int, current: Array, leak: Array, threshold: Array, membrane: Array,
            elapsed: Array | None) -> tuple[Any, Any]:
    """LIF over T timesteps: ((membrane after the last step [B, N], elapsed after it, spikes [B, T, N] in the current's
    dtype), states that `backward` begins its blocks with). Differentiable in what is floating.

    Args:
        rule: reset and surrogate.
        timesteps: T.
        current: [B, T, N], or [B, 1, N] for one that is the same at every step.
        leak: factor per step, of the shape [N] or of its last axes.
        threshold: > 0, of the shape [N] or of its last axes.
        membrane: before the first step, [B, N]; its dtype is that of all arithmetic. None: zeros of the threshold's
            dtype, which no kernel has to read.
        elapsed: timesteps since the last spike, [B, N], or None where the surrogate does not ask for it.
    """
    membrane = _zeros(current, threshold) if membrane is None else membrane
    run, state, rest = functools.partial(_steps, rule, leak, threshold), (membrane, elapsed), _rest(timesteps)
    if rest == timesteps:
        state, spikes = run(current, timesteps, state)
        return (*state, spikes), None
    # Spikes are written in place, block by block: stacked and put together afterwards, they would be copied twice.
    batch, *neurons = membrane.shape
    spikes = jnp.zeros((batch, timesteps, *neurons), current.dtype)

    def body(carry, start):
        state, spikes = carry
        after, block = run(_at(current, start, BLOCK), BLOCK, state)
        return (after, _write(spikes, block, start)), state

    (state, spikes), states = lax.scan(body, (state, spikes), jnp.arange(0, timesteps - rest, BLOCK))
    states = (*states, *state)  # before every block, and before the rest
    if rest:
        state, block = run(_at(current, timesteps - rest, rest), rest, state)
        spikes = _write(spikes, block, timesteps - rest)
    return (*state, spikes), states


def backward(rule: Rule, timesteps: int, arguments: tuple[Any, ...], states: Any, cotangents: tuple[Any, ...]
             ) -> tuple[Any, ...]:
    """Cotangents of `forward`'s arguments, in their order, from those of what it gave.

    cotangents: of the membrane after the last step None where nothing reads it.
    """
    current, leak, threshold, membrane, elapsed = arguments
    g_after, _, g_spikes = cotangents
    by_euler = g_after is None  # the threshold's gradient, see `rule`
    g_after, came = (_zeros(current, threshold) if x is None else x for x in (g_after, membrane))
    # A GPU's fusions would write membranes in float32 for the sums of each timestep; a CPU sums while they are in its
    # cache, and would have to keep sums of every neuron.
    on_cpu = functools.partial(_backward_in_parts, rule, timesteps, by_euler)
    at_once = functools.partial(_backward, rule, timesteps, by_euler, False)
    *found, g_membrane = lax.platform_dependent((current, leak, threshold), (came, elapsed), states, g_after, g_spikes,
                                                cpu=on_cpu, default=at_once)
    g_elapsed = jax.tree.map(jnp.zeros_like, elapsed)  # a counter has no gradient
    return *found, None if membrane is None else g_membrane, g_elapsed


def _backward_in_parts(rule, timesteps, by_euler, arguments, state, states, g_after, g_spikes):
    """`_backward` of some images at a time: what it makes besides cotangents of currents then stays small.

    With N as one axis: XLA's CPU backend walks a timestep of [B, T, H, W, C] channel by channel, and one of [B, T, N]
    in a single loop, which takes half the time where C is 16.
    """
    current, *parameters = arguments
    (count, *neurons), constant = state[0].shape, current.shape[1] == 1
    image_bytes = state[0].dtype.itemsize * math.prod(g_spikes.shape[1:])
    size = images_at_once(count, image_bytes, PART_BYTES)
    run = functools.partial(_backward, rule, timesteps, by_euler, True)
    if size == count:
        return run(arguments, state, states, g_after, g_spikes)

    def flat(x):
        return x.reshape(*x.shape[:x.ndim - len(neurons)], -1)

    def of_every_neuron(parameters):
        return [x if jnp.ndim(x) == 0 else flat(jnp.broadcast_to(x, neurons)) for x in parameters]

    def part(carry, start):
        def images(arrays, axis=0):
            return jax.tree.map(lambda x: lax.dynamic_slice_in_dim(flat(x), start, size, axis), arrays)

        g_current, total = carry
        mine = (*images(states[:2], axis=1), *images(states[2:])) if states else None
        g_part, *of_parameters, g_came = run((images(current), *parameters), images(state), mine, images(g_after),
                                             images(g_spikes if constant else g_current))
        written = lax.dynamic_update_slice_in_dim(flat(g_current), g_part, start, 0)
        return (written.reshape(g_current.shape), jax.tree.map(jnp.add, total, of_parameters)), g_came

    parameters, to_shapes = jax.vjp(of_every_neuron, parameters)
    g_current = jnp.zeros_like(current) if constant else g_spikes  # written in the spikes' place
    carry = g_current, jax.tree.map(jnp.zeros_like, parameters)
    (g_current, of_parameters), g_came = lax.scan(part, carry, jnp.arange(0, count, size))
    return g_current, *to_shapes(of_parameters)[0], g_came.reshape(state[0].shape)


def _backward(rule, timesteps, by_euler, sum_steps, arguments, state, states, g_after, g_spikes):
    current, leak, threshold = arguments
    run, rest = functools.partial(_steps_back, rule, by_euler, sum_steps, leak, threshold), _rest(timesteps)
    if rest == timesteps:
        g_current, *others = run(current, timesteps, state, g_after, g_spikes)
        return g_current.astype(current.dtype), *others

    def turn(start, count, state, carry):
        g_current, g_leak, g_threshold, g_after = carry
        g_block = _at(g_spikes if constant else g_current, start, count)
        g_block, *more, g_after = run(_at(current, start, count), count, state, g_after, g_block)
        g_current = g_current + g_block if constant else _write(g_current, g_block, start)
        return g_current, g_leak + more[0], g_threshold + more[1], g_after

    constant = current.shape[1] == 1
    g_current = jnp.zeros(current.shape, g_after.dtype) if constant else g_spikes  # written in the spikes' place
    carry = g_current, jnp.zeros_like(leak), jnp.zeros_like(threshold), g_after
    before_blocks, before_rest = states[:2], states[2:]
    if rest:
        carry = turn(timesteps - rest, rest, before_rest, carry)
    starts = jnp.arange(0, timesteps - rest, BLOCK)
    carry, _ = lax.scan(lambda carry, xs: (turn(xs[0], BLOCK, xs[1], carry), None), carry, (starts, before_blocks),
                        reverse=True)
    g_current, *others = carry
    return g_current.astype(current.dtype), *others


def _zeros(current, threshold):
    """The membrane at rest."""
    return jnp.zeros((current.shape[0], *current.shape[2:]), threshold.dtype)


def _steps(rule, leak, threshold, current, count, state):
    """(state after so many timesteps, spikes [B, count, N])."""
    spikes = []
    membrane, elapsed = state
    for t in range(count):
        since = elapsed
        before, _, membrane, elapsed = step(rule, leak, threshold, membrane, elapsed, _now(current, t))
        # the same number as `step` found, with a derivative: a second derivative goes through this forward pass
        spikes.append(spike(before / threshold - 1, rule.surrogate, since).astype(current.dtype))
    return (membrane, elapsed), jnp.stack(spikes, axis=1)


def _steps_back(rule, by_euler, sum_steps, leak, threshold, current, count, state, g_after, g_spikes):
    """(∂L/∂I as the current is shaped, in the membrane's dtype, ∂L/∂λ, ∂L/∂θ, ∂L/∂u before these timesteps)."""
    def added(x, parameter):
        """What a timestep adds to a gradient: a sum already, or one number for each neuron, summed in the end."""
        return sum_to(x, parameter) if sum_steps else x

    began, passed = state[0], []
    for t in range(count):
        came, since = state
        before, fired, *state = step(rule, leak, threshold, came, since, _now(current, t))
        passed.append((came, before, fired, since))
    g_leak: Array | Any = 0
    g_threshold: Array | Any = added(g_after * state[0], threshold) if by_euler else 0
    g_currents = []  # backwards in time
    for t in reversed(range(count)):
        g_fired = g_spikes[:, t].astype(passed[t][0].dtype)
        g_before, g_after, of_leak, of_threshold = step_back(rule, leak, threshold, *passed[t], g_after, g_fired)
        g_currents.append(g_before)
        g_leak += added(of_leak, leak)
        g_threshold += 0 if by_euler else added(of_threshold, threshold)
    g_currents = [sum(g_currents)] if current.shape[1] == 1 else g_currents[::-1]
    if by_euler:
        for t, g_now in enumerate(g_currents):
            g_threshold -= added(g_now * _now(current, t), threshold)
        g_threshold = (g_threshold - added(g_after * began, threshold)) / threshold
    if not sum_steps:  # a GPU's sum, fused with all of the above, would have it write more maps
        g_leak, g_threshold = lax.optimization_barrier((g_leak, g_threshold))
    return jnp.stack(g_currents, axis=1), sum_to(g_leak, leak), sum_to(g_threshold, threshold), g_after


def _rest(timesteps):
    """Timesteps that the loop over blocks leaves for after it; all of them where there is no loop."""
    return timesteps if timesteps <= UNROLLED else timesteps % BLOCK


def _at(current, start, count):
    """Some timesteps of a current, all of them where it is constant."""
    return current if current.shape[1] == 1 else lax.dynamic_slice_in_dim(current, start, count, axis=1)


def _now(current, t):
    return current[:, t if current.shape[1] > 1 else 0]


def _write(array, block, start):
    return lax.dynamic_update_slice_in_dim(array, block.astype(array.dtype), start, axis=1)
