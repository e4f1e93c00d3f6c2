"""The spike response model with alpha kernels: each input answered by a hump, each spike by a dip.

    u(t) = Σ_s ε(t − s)·I(s) − η·θ·Σ_s ν(t − s)·o(s)
    ε(n) = (n/τ)·exp(1 − n/τ),   ν(n) = (n/τ_ref)·exp(1 − n/τ_ref)
    o = 1 if u/θ − 1 > 0 else 0

Shrestha & Orchard, "SLAYER: spike layer error reassignment in time", NeurIPS 2018 (arXiv 1810.08646), with both kernels
as in the authors' code, whose η ("scaleRef") is 2. Both are 0 at n = 0 and 1 at n = τ: an input is heard one timestep
later, and nothing else resets the neuron. Nothing is cut off: with λ = exp(−1/τ), n·λⁿ is a recursion of two numbers,

    v ← λ·(v + (e/τ)·x),   x ← λ·x + I        then v(t) = Σ_s ε(t − s)·I(s)

The dip is its reset. The spikes inside carry no gradient (as the authors' backward pass has none through it) unless
`reset_gradient` says so; η, θ and τ_ref do.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ...errors import InputError
from ...types import Array
from .firing import Firing, at_rest, check_flag, check_step, check_strength, checked, shared
from .params import exportable
from .sharing import Sharing, check_sharing


@exportable
class SRMParams(NamedTuple):
    """Trained with the weights; time constants as unbounded numbers, which need no clamp."""

    decay_logit: Array
    """w; 1/τ = log(1 + exp(w))."""
    threshold: Array
    """θ, > 0, in units of the input current times ε."""
    refractoriness: Array
    """η, the depth of the dip after a spike in thresholds, at least 0."""
    refractory_logit: Array
    """As decay_logit, for τ_ref."""

    @property
    def leak(self) -> Array:
        """λ = exp(−1/τ), in (0, 1)."""
        return jax.nn.sigmoid(-self.decay_logit)


@exportable
class SRMState(NamedTuple):
    """What it carries, [B, N], at least float32."""

    response: Array
    """v, in units of the input current."""
    current: Array
    """x, the exponential trace of currents that v follows."""
    dip: Array
    """As v, of the neuron's own spikes: what η·θ multiplies."""
    spikes: Array
    """As x, of the neuron's own spikes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SRM(Firing):
    """A spike response neuron, the neuron of SLAYER; both time constants, threshold and refractoriness trained."""

    tau: float = 2.0
    """Initial τ in timesteps, > 0: an input is answered most τ timesteps later. The number is our choice."""
    tau_refractory: float = 1.0
    """Initial τ_ref in timesteps, > 0 (the authors' 1)."""
    refractoriness: float = 2.0
    """Initial η, at least 0 (the authors' 2)."""
    sharing: Sharing = "layer"
    """How far parameters are shared."""
    reset_gradient: bool = False
    """Whether the gradient passes through the spikes inside the dip too."""

    def __post_init__(self):
        super().__post_init__()
        check_flag("reset_gradient", self.reset_gradient)
        for name in ("tau", "tau_refractory"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} must be > 0 timesteps and finite, got {getattr(self, name)}")
        check_strength("refractoriness", self.refractoriness)
        check_sharing(self.sharing)

    def init(self, key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> SRMParams:
        """Parameters for neurons of shape N; `key` is not used (nothing here is random)."""
        return SRMParams(*shared(self.sharing, shape, dtype, _logit(self.tau), self.threshold, self.refractoriness,
                                 _logit(self.tau_refractory)))

    def initial_state(self, params: SRMParams, shape: tuple[int, ...], dtype: Any = jnp.float32) -> SRMState:
        """At rest, having heard nothing and never fired, for currents of the given shape [B, N] and dtype."""
        zeros = at_rest(params, shape, dtype)
        return SRMState(zeros, zeros, zeros, zeros)

    def step(self, params: SRMParams, state: SRMState, current: Array) -> tuple[SRMState, Array]:
        """One timestep: currents [B, N] -> (state, spikes [B, N] of 0 and 1 in the current's dtype)."""
        check_step(state, current)
        decay, threshold, refractoriness, refractory_decay = checked(params, state.response)
        response, heard = _alpha(decay, state.response, state.current)
        dip, own = _alpha(refractory_decay, state.dip, state.spikes)
        spikes, fired = self._fire(response - refractoriness * threshold * dip, threshold)
        own = own + (spikes if self.reset_gradient else fired)
        return SRMState(response, heard + current, dip, own), spikes.astype(current.dtype)


def _alpha(logit, answer, trace):
    """One step of the recursion, before what comes in: (v, λ·x)."""
    leak, rate = jax.nn.sigmoid(-logit), jax.nn.softplus(logit)  # exp(−1/τ), 1/τ
    return leak * (answer + math.e * rate * trace), leak * trace


def _logit(tau):
    return math.log(math.expm1(1 / tau))
