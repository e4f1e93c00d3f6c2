"""One tile of neurons through all its timesteps, forwards and backwards: the bodies of the Pallas kernels.

Refs are arrays [B, T, rows, 128] (currents, spikes and their gradients; states before each BLOCK), [B, 1, rows, 128]
(what dropout keeps), [B, rows, 128] (states) and [rows, 128] (leak, threshold); what is loaded from them stays in
registers, [rows of the tile, 128].
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .rule import step, step_back

BLOCK = 16
"""Timesteps whose membranes are held at once in the backward pass."""


class Tile(NamedTuple):
    """Where in the refs a tile of neurons lies."""

    batch: Any
    """Its first member of the batch."""
    group: Any
    """Where its sums over members of the batch go."""
    rows: tuple[Any, ...]
    """Of the neurons' axes, what is its: a slice of rows."""
    behind: tuple[Any, ...] | None = None
    """The same of arrays of the pool's size, where spikes pass a 2×2 average; None: they pass none."""


class Inputs(NamedTuple):
    """Of both bodies, refs or None where there is nothing."""

    current: Any
    leak: Any
    threshold: Any
    state: Any = (None, None)
    """(membrane, elapsed) before the first timestep; None: at rest, not asked for."""
    dropout: Any = None
    """A `Dropout`: the spikes, and their cotangents, are those that it leaves."""
    starts: Any = None
    """Backward: states before each BLOCK but the first."""
    g_spikes: Any = None
    g_last: Any = None
    """Of the membrane after the last timestep."""
    g_events: Any = None
    """Of the sum of all spikes, for each neuron, [rows, 128]."""


def forward(rule, steps, members, tile, inputs, outputs):
    """Spikes, the state after them, the states before each BLOCK but the first, and how many spikes each neuron had
    before dropout, summed over members.
    """
    current, leak, threshold, state, dropout, *_ = inputs
    spikes, last, starts, counts = outputs
    leak, threshold = leak[tile.rows], threshold[tile.rows]
    head, blocks = split(steps)

    def member(i, events):
        b = tile.batch + i
        leaves = _dropped(dropout, (b, 0, *tile.rows))

        def advance(first, count, state):
            currents = [current[b, _at(current, first + t), *tile.rows] for t in range(count)]  # all on their way first
            membrane, elapsed, events = state
            for t, now in enumerate(currents):
                _, fired, membrane, elapsed = step(rule, leak, threshold, membrane, elapsed, now)
                if spikes is not None:
                    spikes[b, first + t, *tile.rows] = leaves(fired).astype(spikes.dtype)
                if counts is not None:
                    events += fired
            return membrane, elapsed, events

        def block(k, state):
            if starts is not None:
                _store(starts, (b, k, *tile.rows), state[:2])
            return advance(head + k * BLOCK, BLOCK, state)

        after = advance(0, head, (*_begin(state, (b, *tile.rows), leak), events))
        after = jax.lax.fori_loop(0, blocks, block, after) if blocks else after
        if last is not None:
            _store(last, (b, *tile.rows), after[:2])
        return after[2]

    events = jax.lax.fori_loop(0, members, member, None if counts is None else jnp.zeros_like(leak))
    _store(counts, (tile.group, *tile.rows), events)


def backward(rule, steps, members, tile, inputs, outputs):
    """Gradients of currents, leak, threshold (both summed over members) and the first membrane."""
    current, leak, threshold, state, dropout, starts, g_spikes, g_last, g_events = inputs
    g_current, *g_shared, g_membrane = outputs
    leak, threshold = leak[tile.rows], threshold[tile.rows]
    head, blocks = split(steps)
    constant = current.shape[1] == 1 < steps
    zero = jnp.zeros(leak.shape, leak.dtype)
    of_each = 0.0 if g_events is None else g_events[tile.rows]
    # The threshold's gradient, see `rule`; its sums are then θ times it. Several blocks would also have to add what the
    # membranes between them leave.
    by_euler = g_last is None and not blocks

    def came_back(b, t):
        if tile.behind is None:
            return g_spikes[b, t, *tile.rows].astype(leak.dtype)
        return g_spikes[b, t, *tile.behind].astype(leak.dtype) / 4

    def member(i, shared):
        b = tile.batch + i
        leaves = _dropped(dropout, (b, 0, *tile.rows))

        def retreat(first, count, state, carry):
            g_after, total, shared = carry
            currents = [current[b, _at(current, first + t), *tile.rows] for t in range(count)]
            g_fired = [leaves(came_back(b, first + t)) + of_each for t in range(count)]
            passed = []
            for now in currents:
                came, since = state
                before, fired, *state = step(rule, leak, threshold, came, since, now)
                passed.append((came, before, fired, since))
            for t in reversed(range(count)):
                g_before, g_after, *parts = step_back(rule, leak, threshold, *passed[t], g_after, g_fired[t])
                if by_euler:
                    parts[1] = -g_before * currents[t].astype(leak.dtype)
                shared = [x + part for x, part in zip(shared, parts, strict=True)]
                if constant:
                    total += g_before
                else:
                    g_current[b, first + t, *tile.rows] = g_before.astype(g_current.dtype)
            return g_after, total, shared

        def block(i, carry):
            k = blocks - 1 - i
            return retreat(head + k * BLOCK, BLOCK, _load(starts, (b, k, *tile.rows)), carry)

        carry = zero if g_last is None else g_last[b, *tile.rows], zero, shared
        carry = jax.lax.fori_loop(0, blocks, block, carry) if blocks else carry
        g_after, total, shared = retreat(0, head, _begin(state, (b, *tile.rows), leak), carry)
        if g_membrane is not None:
            g_membrane[b, *tile.rows] = g_after
            if by_euler:
                shared[1] -= g_after * state[0][b, *tile.rows]
        if constant:
            g_current[b, 0, *tile.rows] = total.astype(g_current.dtype)
        return shared

    g_leak, g_threshold = jax.lax.fori_loop(0, members, member, [zero, zero])
    _store(g_shared, (tile.group, *tile.rows), (g_leak, g_threshold / threshold if by_euler else g_threshold))


def split(steps):
    """(timesteps that do not fill a BLOCK and come first, BLOCKs after them)."""
    head = steps % BLOCK or min(steps, BLOCK)
    return head, (steps - head) // BLOCK


def _at(current, t):
    return t if current.shape[1] > 1 else 0


def _begin(state, index, leak):
    """The state before the first timestep; a membrane that is not given is at rest."""
    membrane, elapsed = state
    return jnp.zeros_like(leak) if membrane is None else membrane[index], _load(elapsed, index)


def _dropped(dropout, index):
    """What dropout leaves of spikes and of their cotangents, as a function of these; None leaves all."""
    if dropout is None:
        return lambda x: x
    kept = dropout.kept[index].astype(jnp.float32) > 0
    return lambda x: jnp.where(kept, x * dropout.factor, 0)


def _load(refs, index):
    return jax.tree.map(lambda ref: ref[index], refs)


def _store(refs, index, values):
    for ref, value in zip(jax.tree.leaves(refs), jax.tree.leaves(values), strict=True):
        ref[index] = value
