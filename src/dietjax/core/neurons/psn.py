"""Neurons without a reset, whose timesteps need not wait for each other: parallel spiking neurons.

    H = W·X,   O = 1 where H/θ − 1 > 0 else 0

Fang et al., "Parallel spiking neurons with high efficiency and ability to learn long-term dependencies", NeurIPS 2023
(arXiv 2304.12760), X the currents of all timesteps [T, N]. Theirs fires where H − θ ≥ 0, for a θ of any sign, with the
surrogate at H − θ; here θ > 0 and z is normalised, as in every other neuron. At θ = 1 the derivatives by W and X are
theirs.
"""

import dataclasses
import math
import numbers
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ...errors import InputError
from ...types import Array
from .checks import check_block, check_broadcast, check_state, concrete
from .firing import Firing, at_rest, positive, shared
from .params import exportable
from .sharing import Sharing, check_sharing


@exportable
class PSNParams(NamedTuple):
    """Trained with the weights, shared by all neurons of a layer."""

    weight: Array
    """W [T, T]: from the current of each timestep (second axis) to the membrane of each (first)."""
    threshold: Array
    """θ [T], one for each timestep, > 0."""


@exportable
class PSNState(NamedTuple):
    """What says that a block is over."""

    elapsed: Array
    """Timesteps seen so far [B], 0 or T."""


@exportable
class SlidingPSNParams(NamedTuple):
    """Trained with the weights."""

    weight: Array
    """W [k]: of the current k − 1 timesteps ago to that of now. Shared by all neurons of a layer."""
    threshold: Array
    """θ, > 0."""


@exportable
class SlidingPSNState(NamedTuple):
    """What it carries."""

    history: Array
    """The last k − 1 currents [B, k − 1, N], oldest first; at least float32."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PSN(Firing):
    """Parallel spiking neuron: each timestep hears all T, the later ones too.

    It therefore has no single timestep, and needs its whole block at once: `chunk=None`, no stream, no recurrence.
    `SlidingPSN` has all of these.
    """

    timesteps: int
    """T, the number of timesteps it is built for."""

    def __post_init__(self):
        super().__post_init__()
        _check_count("timesteps", self.timesteps)

    def init(self, key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> PSNParams:
        """Parameters for neurons of any shape; weights uniform in ±1/√T (the authors'), thresholds all the same."""
        bound = 1 / math.sqrt(self.timesteps)
        weight = jax.random.uniform(key, (self.timesteps, self.timesteps), dtype, -bound, bound)
        return PSNParams(weight, jnp.full(self.timesteps, self.threshold, dtype))

    def initial_state(self, params: PSNParams, shape: tuple[int, ...], dtype: Any = jnp.float32) -> PSNState:
        """Before the block, for currents of the given shape [B, N]."""
        return PSNState(at_rest(params, shape[:1], dtype))

    def step(self, params: PSNParams, state: PSNState, current: Array) -> tuple[PSNState, Array]:
        """Refused: what it puts out at one timestep depends on the currents of all."""
        raise InputError(f"{_named(self)} has no single timestep, each needs the currents of all: run it over the "
                         "whole block (unroll with backend='auto', chunk=None, no recurrence); SlidingPSN can also go "
                         "step by step")

    def run(self, params: PSNParams, state: PSNState, current: Array, timesteps: int,
            backend: str = "auto") -> tuple[PSNState, Array]:
        """The block: currents [B, T, N], or [B, 1, N] for a constant one -> (state, spikes [B, T, N]).

        The same on every backend. After the block nothing can follow: a state that says so is refused where it is
        known, and gives spikes of NaN under `jit`.
        """
        check_block(current, timesteps)
        self._check(params, state, current, timesteps)
        wide = jnp.result_type(current, *params, jnp.float32)
        weight = params.weight.astype(wide)
        if current.shape[1] == 1:
            weight = weight.sum(1, keepdims=True)
        membranes = jnp.einsum("ts,bs...->bt...", weight, current.astype(wide), precision=jax.lax.Precision.HIGHEST)
        membranes = jnp.where(state.elapsed.reshape(-1, *(1,) * (current.ndim - 1)) > 0, jnp.nan, membranes)
        threshold = positive(params.threshold, wide).reshape(-1, *(1,) * (current.ndim - 2))
        spikes, _ = self._fire(membranes, threshold)
        return PSNState(state.elapsed + timesteps), spikes.astype(current.dtype)

    def _check(self, params, state, current, timesteps):
        if timesteps != self.timesteps:
            raise InputError(f"{_named(self)} takes all its timesteps at once, got {timesteps}; use chunk=None and "
                             f"timesteps={self.timesteps}, or SlidingPSN, which runs in chunks and streams")
        _check_shape(self, "weight", params.weight, (timesteps, timesteps))
        _check_shape(self, "threshold", params.threshold, (timesteps,))
        check_state(state.elapsed, current.shape[:1])
        elapsed = concrete(state.elapsed)
        if elapsed is not None and elapsed.any():
            raise InputError(f"{_named(self)} has run its timesteps, and nothing can follow them; begin with an "
                             "`initial_state`, or use SlidingPSN, which streams")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlidingPSN(Firing):
    """Sliding parallel spiking neuron: H(t) = Σ_i W_i·X(t − k + 1 + i), the last k currents, the same W at every step.

    Before the first timestep there were no currents. It runs in every schedule, whole blocks without a scan.
    """

    order: int
    """k, how many currents it hears, at least 1."""
    sharing: Sharing = "layer"
    """How far thresholds are shared."""

    def __post_init__(self):
        super().__post_init__()
        _check_count("order", self.order)
        check_sharing(self.sharing)

    def init(self, key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> SlidingPSNParams:
        """Parameters for neurons of shape N, W = (..., 1/4, 1/2, 1) as the authors'; `key` is not used."""
        weight = 0.5 ** jnp.arange(self.order - 1, -1, -1, dtype=dtype)
        return SlidingPSNParams(weight, *shared(self.sharing, shape, dtype, self.threshold))

    def initial_state(self, params: SlidingPSNParams, shape: tuple[int, ...],
                      dtype: Any = jnp.float32) -> SlidingPSNState:
        """No currents yet, for currents of the given shape [B, N] and dtype."""
        return SlidingPSNState(at_rest(params, (shape[0], self.order - 1, *shape[1:]), dtype))

    def step(self, params: SlidingPSNParams, state: SlidingPSNState,
             current: Array) -> tuple[SlidingPSNState, Array]:
        """One timestep: currents [B, N] -> (state, spikes [B, N] of 0 and 1 in the current's dtype)."""
        state, spikes = self.run(params, state, current[:, None], 1)
        return state, spikes[:, 0]

    def run(self, params: SlidingPSNParams, state: SlidingPSNState, current: Array, timesteps: int,
            backend: str = "auto") -> tuple[SlidingPSNState, Array]:
        """A block: currents [B, T, N], or [B, 1, N] -> (state, spikes [B, T, N]); the same on every backend."""
        check_block(current, timesteps)
        batch, _, *neurons = current.shape
        check_state(state.history, (batch, self.order - 1, *neurons))
        _check_shape(self, "weight", params.weight, (self.order,))
        check_broadcast("threshold", params.threshold, current[:, 0])
        block = jnp.broadcast_to(current, (batch, timesteps, *neurons)).astype(state.history.dtype)
        heard = jnp.concatenate([state.history, block], axis=1)
        wide = jnp.result_type(heard, *params)
        weight, threshold = params.weight.astype(wide), positive(params.threshold, wide)
        membranes = sum(weight[i] * heard[:, i:i + timesteps] for i in range(self.order))
        spikes, _ = self._fire(membranes, threshold)
        return SlidingPSNState(heard[:, timesteps:]), spikes.astype(current.dtype)


def _check_count(name, value):
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
        raise InputError(f"{name} must be a whole number of at least 1, got {value!r}")


def _check_shape(neuron, name, parameter, wanted):
    if jnp.shape(parameter) != wanted:
        raise InputError(f"{name} has shape {jnp.shape(parameter)}, {_named(neuron)} takes {wanted}; use parameters of "
                         "its own `init`")


def _named(neuron):
    field = "timesteps" if isinstance(neuron, PSN) else "order"
    return f"{type(neuron).__name__}({field}={getattr(neuron, field)})"
