"""What a spike takes from the membrane that fired it: the one reset of all neurons and kernels."""

from typing import Literal, get_args

import jax.numpy as jnp

from ..types import Array

Reset = Literal["subtract", "zero", "none"]
RESETS: tuple[str, ...] = get_args(Reset)


def after_spike(reset: str, membrane: Array, threshold: Array, fired: Array) -> Array:
    """The membrane after its reset: u − θ·o ("subtract"), 0 where o = 1 ("zero"), or u ("none").

    fired: o, 0 or 1. A gradient passes through it if it has one; through the factor θ, or u, always.
    """
    if reset == "subtract":
        return membrane - threshold * fired
    return membrane * (1 - fired) if reset == "zero" else membrane


def since_spike(elapsed: Array, fired: Array) -> Array:
    """Timesteps since the last spike, for the next timestep: 1 where o = 1, else one more."""
    return jnp.where(fired > 0, 1, elapsed + 1).astype(elapsed.dtype)
