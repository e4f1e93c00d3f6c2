"""A neuron that is silent for some timesteps after each spike: absolute refractoriness.

    where r > 0:  o = 0,  u stays,  r ← r − 1
    elsewhere:    u ← λ·u + I,  o = 1 if u/θ − 1 > 0 else 0,  reset as `LIF`,  r ← period where o = 1

Meanwhile the dynamics are interrupted, the usual form (Gerstner & Kistler, "Spiking Neuron Models", 2002, section
4.1): the membrane stays where the reset left it, neither leaking nor taking in currents. What arrives then is lost.
"""

import dataclasses
import numbers
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ...errors import InputError
from ...types import Array
from .firing import LeakyFiring, at_rest, check_step, checked, shared
from .params import LIFParams, exportable


@exportable
class RefractoryState(NamedTuple):
    """What it carries, [B, N], at least float32."""

    membrane: Array
    """u, in units of the input current."""
    silent: Array
    """r, for how many timesteps yet it will not fire."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RefractoryLIF(LeakyFiring):
    """Leaky integrate-and-fire, silent for `period` timesteps after each spike; leak and threshold trained."""

    period: int = 1
    """Timesteps of silence, at least 0. At 0 it is `LIF`; else it fires at most every period + 1 timesteps."""

    def __post_init__(self):
        super().__post_init__()
        if not isinstance(self.period, numbers.Integral) or isinstance(self.period, bool) or self.period < 0:
            raise InputError(f"period must be a whole number of timesteps, at least 0, got {self.period!r}")

    def init(self, key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> LIFParams:
        """Parameters for neurons of shape N; `key` is not used (nothing here is random)."""
        return LIFParams(*shared(self.sharing, shape, dtype, self.leak, self.threshold))

    def initial_state(self, params: LIFParams, shape: tuple[int, ...], dtype: Any = jnp.float32) -> RefractoryState:
        """At rest and ready to fire, for currents of the given shape [B, N] and dtype."""
        zeros = at_rest(params, shape, dtype)
        return RefractoryState(zeros, zeros)

    def step(self, params: LIFParams, state: RefractoryState, current: Array) -> tuple[RefractoryState, Array]:
        """One timestep: currents [B, N] -> (state, spikes [B, N] of 0 and 1 in the current's dtype)."""
        check_step(state, current)
        leak, threshold = checked(params, state.membrane)
        ready = state.silent <= 0
        membrane = leak * state.membrane + current
        spikes, fired = self._fire(membrane, threshold)
        membrane = jnp.where(ready, self._after(membrane, threshold, fired), state.membrane)
        silent = jnp.where(ready, self.period * (fired > 0), state.silent - 1).astype(state.silent.dtype)
        spikes = jnp.where(ready, spikes, 0).astype(current.dtype)
        return RefractoryState(membrane, jax.lax.stop_gradient(silent)), spikes
