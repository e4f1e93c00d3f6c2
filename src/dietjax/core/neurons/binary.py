"""A neuron without memory that fires or does not: the binary activation of one timestep.

    o = 1 if I/θ − 1 > 0 else 0

A threshold unit with an estimated derivative (Bengio, Léonard & Courville, "Estimating or propagating gradients through
stochastic neurons for conditional computation", arXiv 1308.3432), here the surrogate's. It is the first
timestep of an IF neuron, without what the neuron would have kept.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp

from ...types import Array
from .checks import check_floating
from .firing import Firing, checked, shared
from .params import IFParams
from .sharing import Sharing, check_sharing


@dataclasses.dataclass(frozen=True, kw_only=True)
class Binary(Firing):
    """A step with a trained threshold. A network of it has one timestep, as an ANN, and its outputs are spikes."""

    sharing: Sharing = "layer"
    """How far thresholds are shared."""

    def __post_init__(self):
        super().__post_init__()
        check_sharing(self.sharing)

    def init(self, key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> IFParams:
        """Parameters for neurons of shape N; `key` is not used (nothing here is random)."""
        return IFParams(*shared(self.sharing, shape, dtype, self.threshold))

    def initial_state(self, params: IFParams, shape: tuple[int, ...], dtype: Any = jnp.float32) -> tuple[()]:
        """No state."""
        return ()

    def step(self, params: IFParams, state: tuple[()], current: Array) -> tuple[tuple[()], Array]:
        """Currents [B, N] or [B, T, N] -> ((), outputs of 0 and 1, in the current's dtype)."""
        check_floating(current)
        wide = current.astype(jnp.result_type(current, params.threshold, jnp.float32))
        spikes, _ = self._fire(wide, checked(params, wide).threshold)
        return (), spikes.astype(current.dtype)
