"""The leaky integral over a block of time: linear in its currents, so that its timesteps need not wait for each other.

    m(t) = λ·m(t−1) + I(t)

The steps (λ, I(t)) compose associatively, (a, x) then (b, y) = (a·b, b·x + y), so T of them take about 2·log₂T passes
(Blelloch 1990, "Prefix Sums and Their Applications", section 1.4) instead of T that follow each other.
"""

import jax
import jax.numpy as jnp

from ...types import Array

SHORT = 16
"""Timesteps up to which the plain recurrence is unrolled, which XLA fuses into one pass."""


def leaky_integral(current: Array, leak: float | Array, membrane: Array, timesteps: int) -> Array:
    """Membranes after each of T timesteps, differentiable in everything but T.

    Args:
        current: [B, T, N], or [B, 1, N] for one that is the same at every step.
        leak: factor per step, a scalar.
        membrane: before the first step, [B, N]; its dtype is that of all arithmetic.
        timesteps: T.

    Returns:
        [B, T, N] in the membrane's dtype.
    """
    current = current.astype(membrane.dtype)
    if timesteps <= SHORT:
        membranes = []
        for t in range(timesteps):
            membrane = leak * membrane + current[:, t if current.shape[1] > 1 else 0]
            membranes.append(membrane)
        return jnp.stack(membranes, axis=1)
    if current.shape[1] == 1:
        current = jnp.broadcast_to(current, (current.shape[0], timesteps, *current.shape[2:]))
    factor = jnp.full((1, timesteps) + (1,) * (current.ndim - 2), leak, membrane.dtype)
    current = current.at[:, 0].add(leak * membrane)

    def then(first, second):
        return first[0] * second[0], second[0] * first[1] + second[1]

    return jax.lax.associative_scan(then, (factor, current), axis=1)[1]
