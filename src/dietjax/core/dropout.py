"""Dropout of what leaves a layer: the same outputs at every timestep. Nothing here has memory."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..types import Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Dropout:
    """What a batch's outputs are multiplied by: 0, or a factor that makes up for it."""

    kept: Array
    """Which outputs stay, int8 [B, 1, N] of 0 and 1: bool is what no kernel loads."""
    factor: float = dataclasses.field(metadata={"static": True})
    """1/(1 − share that is dropped)."""

    def __call__(self, x: Array) -> Array:
        """What is left of outputs [B, T, N]."""
        return jnp.where(self.kept > 0, x * jnp.asarray(self.factor, x.dtype), 0)

    def rounded(self, dtype: Any) -> "Dropout":
        """The same, with the factor by which outputs of this dtype are multiplied."""
        return dataclasses.replace(self, factor=float(np.asarray(self.factor, dtype)))
