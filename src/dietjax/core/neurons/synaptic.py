"""A neuron with a synaptic current that decays: current-based LIF (CuBa).

    i ← α·i + I              each input adds to a current that decays exponentially
    u ← λ·u + i
    z = u/θ − 1
    o = 1 if z > 0 else 0
    u ← u − θ·o              reset by subtraction ("zero": u ← 0 where o = 1); the current is not reset

The exponential synapse of Gerstner & Kistler, "Spiking Neuron Models", 2002 (section 4.1), in discrete time as in
Neftci, Mostafa & Zenke, "Surrogate gradient learning in spiking neural networks", IEEE Signal Processing Magazine 2019,
except that here an input reaches the membrane, and a spike resets it, in its own timestep. snnTorch's `Synaptic` resets
one step later; Norse's LIF scales the current by 1 − λ, and always resets to a constant.
"""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp

from ...types import Array
from .firing import Resetting, at_rest, check_share, shared
from .params import exportable


@exportable
class CuBaLIFParams(NamedTuple):
    """As `LIFParams`, and how fast the synaptic current decays."""

    leak: Array
    """λ, in [0, 1]."""
    threshold: Array
    """θ, > 0."""
    synaptic_leak: Array
    """α, in [0, 1]; 0 makes it a LIF."""


@exportable
class CuBaLIFState(NamedTuple):
    """What it carries, [B, N], at least float32."""

    membrane: Array
    """u, in units of the input current."""
    synaptic: Array
    """i, the synaptic current, in the same units."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CuBaLIF(Resetting):
    """Leaky integrate-and-fire behind a synaptic current, leak, threshold and the current's decay trained."""

    leak: float = 1.0
    """Initial λ, the share of the membrane kept per step, in [0, 1]."""
    synaptic_leak: float = 0.5
    """Initial α, the share of the synaptic current kept per step, in [0, 1]. The number is our choice."""

    def __post_init__(self):
        super().__post_init__()
        check_share("leak", self.leak)
        check_share("synaptic_leak", self.synaptic_leak)

    def init(self, key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> CuBaLIFParams:
        """Parameters for neurons of shape N; `key` is not used (nothing here is random)."""
        return CuBaLIFParams(*shared(self.sharing, shape, dtype, self.leak, self.threshold, self.synaptic_leak))

    def initial_state(self, params: CuBaLIFParams, shape: tuple[int, ...], dtype: Any = jnp.float32) -> CuBaLIFState:
        """At rest, without any current, for currents of the given shape [B, N] and dtype."""
        zeros = at_rest(params, shape, dtype)
        return CuBaLIFState(zeros, zeros)

    def _integrate(self, params, state, drive):
        synaptic = params.synaptic_leak * state.synaptic + drive
        return CuBaLIFState(params.leak * state.membrane + synaptic, synaptic)
