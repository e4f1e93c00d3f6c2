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
from .firing import Resetting, at_rest, check_share, shared
from .params import LIFParams, exportable


@exportable
class RefractoryState(NamedTuple):
    """What it carries, [B, N], at least float32."""

    membrane: Array
    """u, in units of the input current."""
    silent: Array
    """r, for how many timesteps yet it will not fire."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RefractoryLIF(Resetting):
    """Leaky integrate-and-fire, silent for `period` timesteps after each spike; leak and threshold trained."""

    leak: float = 1.0
    """Initial share of the membrane kept per step, in [0, 1]."""
    period: int = 1
    """Timesteps of silence, at least 0. At 0 it is `LIF`; else it fires at most every period + 1 timesteps."""

    def __post_init__(self):
        super().__post_init__()
        check_share("leak", self.leak)
        if not isinstance(self.period, numbers.Integral) or isinstance(self.period, bool) or self.period < 0:
            raise InputError(f"period must be a whole number of timesteps, at least 0, got {self.period!r}")

    def init(self, key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> LIFParams:
        """Parameters for neurons of shape N; `key` is not used (nothing here is random)."""
        return LIFParams(*shared(self.sharing, shape, dtype, self.leak, self.threshold))

    def initial_state(self, params: LIFParams, shape: tuple[int, ...], dtype: Any = jnp.float32) -> RefractoryState:
        """At rest and ready to fire, for currents of the given shape [B, N] and dtype."""
        zeros = at_rest(params, shape, dtype)
        return RefractoryState(zeros, zeros)

    def _integrate(self, params, state, drive):
        integrated = super()._integrate(params, state, drive)
        return state._replace(membrane=jnp.where(state.silent <= 0, integrated.membrane, state.membrane))

    def _fire_and_reset(self, params, state):
        ready = state.silent <= 0
        membrane, spikes, fired = self._compared(state.membrane, params.threshold)
        membrane = jnp.where(ready, membrane, state.membrane)
        silent = jnp.where(ready, self.period * (fired > 0), state.silent - 1).astype(state.silent.dtype)
        return RefractoryState(membrane, jax.lax.stop_gradient(silent)), jnp.where(ready, spikes, 0)
