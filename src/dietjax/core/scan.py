"""A neuron's own `step`, one timestep after the other: the reference that every kernel equals."""

import jax
import jax.numpy as jnp

from ..types import Array, Neuron, Params, State

UNROLL = 16
"""Timesteps up to which a scan is unrolled: XLA then fuses the steps. Longer ones run as a loop of such bodies."""


def scan_steps(neuron: Neuron, params: Params, state: State, current: Array, timesteps: int) -> tuple[State, Array]:
    """Currents [B, T, N], or [B, 1, N] for a constant one -> (state after T timesteps, outputs [B, T, N])."""
    count = min(timesteps, UNROLL)
    if current.shape[1] == 1:
        constant = current[:, 0]
        state, outputs = jax.lax.scan(
            lambda s, _: neuron.step(params, s, constant), state, None, length=timesteps, unroll=count)
    else:
        state, outputs = jax.lax.scan(
            lambda s, c: neuron.step(params, s, c), state, jnp.moveaxis(current, 1, 0), unroll=count)
    return state, jnp.moveaxis(outputs, 0, 1)
