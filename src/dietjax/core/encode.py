"""Encoders: images [B, H, W, C] -> a block of time.

Direct encoding puts the analog image at every timestep: a block [B, 1, H, W, C], and the first synapse runs once.
"""

import dataclasses

import jax
import jax.numpy as jnp

from ..errors import InputError
from ..types import Array


@dataclasses.dataclass(frozen=True)
class Direct:
    """The normalised image itself at every timestep (Rathi & Roy, arXiv 2008.03658, section III)."""

    constant = True
    """The same at every timestep: encoded once, as a block of one."""

    def __call__(self, key: Array | None, images: Array, start: Array | int, timesteps: int) -> Array:
        """[B, H, W, C] -> [B, 1, H, W, C]."""
        return images[:, None]


@dataclasses.dataclass(frozen=True)
class Poisson:
    """Signed Bernoulli spikes: sign(x) with probability rate · |x| (Sengupta et al. 2019; Rathi et al. 2020).

    Probabilities above 1 are 1. Timestep t draws from `fold_in(key, t)`: the same spikes whatever the chunk.
    """

    rate: float = 1.0
    """Spike probability per timestep at |x| = 1."""

    constant = False

    def __post_init__(self):
        if not self.rate > 0:
            raise InputError(f"rate must be > 0, got {self.rate}")

    def __call__(self, key: Array, images: Array, start: Array | int, timesteps: int) -> Array:
        """[B, H, W, C] -> [B, T, H, W, C] of -1, 0 and 1, for timesteps start .. start+T-1."""
        def at(t):
            # never drawn in bfloat16: one draw in 128 would be 0, below any probability
            draw = jax.random.uniform(jax.random.fold_in(key, t), images.shape,
                                      jnp.promote_types(images.dtype, jnp.float32))
            fired = draw < self.rate * abs(images)
            return jnp.where(fired, jnp.sign(images), 0)

        return jax.vmap(at, out_axes=1)(start + jnp.arange(timesteps))
