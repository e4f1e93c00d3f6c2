"""A neuron whose threshold rises with each of its spikes and falls back: the neuron of the LSNN.

Bellec et al., "Long short-term memory and learning-to-learn in networks of spiking neurons", NeurIPS 2018 (arXiv
1803.09574), with the trace as in Bellec et al., "A solution to the learning dilemma for recurrent networks of spiking
neurons", Nature Communications 2020:

    u ← λ·u + I
    A = θ + β·a              the threshold now, from the spikes before this step
    z = u/A − 1              normalised by it, as in 2018
    o = 1 if z > 0 else 0
    u ← u − A·o              reset by subtraction ("zero": u ← 0 where o = 1)
    a ← ρ·a + o

2018 writes a ← ρ·a + (1 − ρ)·o, which is the same with β/(1 − ρ) for β, and scales the current by 1 − λ, which the
synapses' weights do here. The spike inside the trace carries the surrogate's derivative: it is how a gradient reaches
far back. That inside the reset carries none.
"""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp

from ...types import Array
from .firing import Resetting, at_rest, check_share, check_strength, positive, shared
from .params import exportable


@exportable
class ALIFParams(NamedTuple):
    """As `LIFParams`, and how the threshold adapts."""

    leak: Array
    """λ, in [0, 1]."""
    threshold: Array
    """θ, the threshold of a neuron that has long been silent, > 0."""
    adaptation: Array
    """β, by how much one spike raises the threshold, at least 0."""
    adaptation_leak: Array
    """ρ, the share of that which is left a step later, in [0, 1]."""


@exportable
class ALIFState(NamedTuple):
    """What it carries, [B, N], at least float32."""

    membrane: Array
    """u, in units of the input current."""
    adaptation: Array
    """a, a trace of the neuron's own spikes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ALIF(Resetting):
    """Leaky integrate-and-fire with an adaptive threshold, all four parameters trained."""

    leak: float = 1.0
    """Initial λ, the share of the membrane kept per step, in [0, 1]."""
    adaptation: float = 0.18
    """Initial β, at least 0. (The paper's 1.8 is β/(1 − ρ).)"""
    adaptation_leak: float = 0.9
    """Initial ρ in [0, 1]; 0.9 for ten timesteps, the paper's exp(−1/700) for a thousand."""

    def __post_init__(self):
        super().__post_init__()
        check_share("leak", self.leak)
        check_strength("adaptation", self.adaptation)
        check_share("adaptation_leak", self.adaptation_leak)

    def init(self, key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> ALIFParams:
        """Parameters for neurons of shape N; `key` is not used (nothing here is random)."""
        return ALIFParams(*shared(self.sharing, shape, dtype, self.leak, self.threshold, self.adaptation,
                                  self.adaptation_leak))

    def initial_state(self, params: ALIFParams, shape: tuple[int, ...], dtype: Any = jnp.float32) -> ALIFState:
        """At rest and never having fired, for currents of the given shape [B, N] and dtype."""
        zeros = at_rest(params, shape, dtype)
        return ALIFState(zeros, zeros)

    def _fire_and_reset(self, params, state):
        threshold = params.threshold + params.adaptation * state.adaptation
        threshold = positive(threshold, threshold.dtype)  # a β below 0 would let it fall to 0
        membrane, spikes, _ = self._compared(state.membrane, threshold)
        return ALIFState(membrane, params.adaptation_leak * state.adaptation + spikes), spikes
