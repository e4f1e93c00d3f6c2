"""Neurons that fire: integrate-and-fire, with and without a leak.

One step (Rathi & Roy, arXiv 2008.03658, eqs. 1-4), with the leak multiplying what the last step left:

    u ← λ·u + I              integrate
    z = u/θ − 1              normalised distance to threshold
    o = 1 if z > 0 else 0    fire, in the same step
    u ← u − θ·o              reset by subtraction ("zero": u ← 0 where o = 1)

The comparison inside the reset carries no gradient; the factor θ does.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from ...errors import InputError, unknown
from ...types import Array
from .. import kernels
from ..scan import scan_steps
from ..surrogate import Surrogate, spike, step_function
from .checks import check_block, check_broadcast, check_floating, check_state, check_threshold
from .params import IFParams, LIFParams, MembraneState, PLIFParams, SpikingParams
from .sharing import Sharing, check_sharing, shared_shape

NEVER = 1000.0
"""Timesteps since the last spike, for stdb, of a neuron that has not fired yet: many. The number is our choice."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class IF:
    """Integrate-and-fire: no leak, a trained threshold.

    A threshold that is not > 0 is an error where its value is known. Under `jit` it is not, and then every spike is
    NaN, as it is where a membrane is NaN: see `check_params`.
    """

    spiking: ClassVar[bool] = True
    """Whether outputs are spikes: a readout's are then counted."""

    threshold: float = 1.0
    """Initial threshold, > 0."""
    sharing: Sharing = "layer"
    """How far parameters are shared (DIET-SNN: one threshold and one leak per layer)."""
    reset: Literal["subtract", "zero"] = "subtract"
    surrogate: str | Callable[[Array], Array] = Surrogate()
    """A name in `surrogate.DERIVATIVES`, a `Surrogate`, or your own hashable function of z."""
    initial_membrane: float = 0.0
    """Where membranes start, as a fraction of the threshold, in [0, 1). The paper starts at 0; 1/2 makes a converted
    network's rounding zero on average (Deng & Gu, ICLR 2021; Bu et al., AAAI 2022)."""
    forward_mode: bool = False
    """Whether `jax.jvp`, `jax.linearize` and `jax.hessian` go through it (see `surrogate.spike`): blocks of time are
    then scanned step by step, which saves more for the backward pass than the kernels do."""

    def __post_init__(self):
        if not self.threshold > 0:
            raise InputError(f"threshold must be > 0, got {self.threshold}: z = membrane / threshold - 1 needs it")
        if not 0 <= self.initial_membrane < 1:
            raise InputError("initial_membrane is a fraction of the threshold and must lie in [0, 1), got "
                             f"{self.initial_membrane}")
        check_sharing(self.sharing)
        if self.reset not in ("subtract", "zero"):
            raise unknown("reset", str(self.reset), ("subtract", "zero"))
        if isinstance(self.surrogate, str):
            object.__setattr__(self, "surrogate", Surrogate(self.surrogate))

    def init(self, key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> SpikingParams:
        """Parameters for neurons of shape N; `key` is not used (nothing here is random)."""
        return IFParams(jnp.full(self._shared(shape), self.threshold, dtype))

    def initial_state(self, params: Any, shape: tuple[int, ...], dtype: Any = jnp.float32) -> MembraneState:
        """Membranes at rest, for currents of the given shape [B, N] and dtype; never less precise than float32.

        Their gradient goes to the threshold that they are a fraction of.
        """
        dtype = jnp.result_type(dtype, params.threshold, jnp.float32)
        elapsed = jnp.full(shape, NEVER, dtype) if self._uses_elapsed else None
        membrane = jnp.zeros(shape, dtype)
        if self.initial_membrane:
            check_broadcast("threshold", params.threshold, membrane)
            membrane += self.initial_membrane * jnp.asarray(params.threshold, dtype)
        return MembraneState(membrane, elapsed)

    def step(self, params: SpikingParams, state: MembraneState, current: Array) -> tuple[MembraneState, Array]:
        """One timestep: currents [B, N] -> (state, spikes [B, N] of 0 and 1 in the current's dtype)."""
        check_floating(current)
        check_state(state.membrane, current.shape)
        leak, threshold = self._checked(params, state.membrane)
        membrane, elapsed = leak * state.membrane + self._drive(params, current), state.elapsed
        z = membrane / threshold - 1
        spikes = spike(z, self.surrogate, elapsed, forward_mode=self.forward_mode)
        fired = step_function(jax.lax.stop_gradient(z))
        membrane = membrane - threshold * fired if self.reset == "subtract" else membrane * (1 - fired)
        if elapsed is not None:
            elapsed = jax.lax.stop_gradient(jnp.where(fired > 0, 1, elapsed + 1).astype(elapsed.dtype))
        return MembraneState(membrane, elapsed), spikes.astype(current.dtype)

    def run(self, params: SpikingParams, state: MembraneState, current: Array, timesteps: int,
            backend: str = "auto") -> tuple[MembraneState, Array]:
        """A block: currents [B, T, N], or [B, 1, N] for a constant one -> (state, spikes [B, T, N]).

        The same numbers as T times `step`. For the backward pass it keeps only the currents (PLIF: the scaled ones
        too). Call it through `unroll`, which also has the backend "scan".
        """
        check_block(current, timesteps)
        check_state(state.membrane, current.shape[:1] + current.shape[2:])
        if self.forward_mode:
            if backend != "auto":
                raise InputError(f"forward_mode runs the steps by a scan, so backend={backend!r} cannot run "
                                 f"{type(self).__name__}; use 'auto' or 'scan', or forward_mode=False")
            return scan_steps(self, params, state, current, timesteps)
        assert not isinstance(self.surrogate, str)  # __post_init__ made a name a Surrogate
        rule = kernels.Rule(self.reset == "subtract", self.surrogate)
        leak, threshold = self._checked(params, state.membrane)
        membrane, elapsed, spikes = kernels.lif(rule, self._drive(params, current), leak, threshold, *state, timesteps,
                                                backend)
        return MembraneState(membrane, elapsed), spikes

    def with_threshold(self, params: Any, threshold: Any) -> Any:
        """These parameters with another threshold, a number or [N] that broadcasts to theirs, and without leak."""
        old = params.threshold
        return params._replace(threshold=jnp.broadcast_to(jnp.asarray(threshold, old.dtype), old.shape))

    def _drive(self, params, current):
        """What a step adds to the membrane, in the current's dtype."""
        return current

    def _checked(self, params, membrane):
        """(leak, threshold) of shapes that belong to these neurons; a threshold that is not > 0 is NaN.

        In at least the membrane's precision: their gradients are summed over time and divided by θ², which float16
        cannot hold.
        """
        leak = getattr(params, "leak", None)
        for name, parameter in (("leak", leak), ("threshold", params.threshold)):
            if parameter is not None:
                check_broadcast(name, parameter, membrane)
        leak = 1 if leak is None else leak
        dtype = jnp.result_type(membrane, leak, params.threshold)
        check_threshold(params.threshold)
        threshold = jnp.asarray(params.threshold, dtype)
        return jnp.asarray(leak, dtype), jnp.where(threshold > 0, threshold, jnp.nan)

    def _shared(self, shape):
        return shared_shape(self.sharing, shape)

    @property
    def _uses_elapsed(self):
        return isinstance(self.surrogate, Surrogate) and self.surrogate.name == "stdb"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LIF(IF):
    """Leaky integrate-and-fire with trained leak and threshold: the neuron of DIET-SNN."""

    leak: float = 1.0
    """Initial leak in [0, 1]; 1 forgets nothing (DIET-SNN starts there)."""

    def __post_init__(self):
        if not 0 <= self.leak <= 1:
            raise InputError(f"leak must lie in [0, 1] (the share of the membrane kept per step), got {self.leak}")
        super().__post_init__()

    def init(self, key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> LIFParams:
        """Parameters for neurons of shape N; `key` is not used (nothing here is random)."""
        return LIFParams(jnp.full(self._shared(shape), self.leak, dtype), super().init(key, shape, dtype).threshold)

    def with_threshold(self, params: Any, threshold: Any) -> Any:
        """These parameters with another threshold, a number or [N] that broadcasts to theirs, and leaks of 1."""
        return super().with_threshold(params, threshold)._replace(leak=jnp.ones_like(params.leak))


@dataclasses.dataclass(frozen=True, kw_only=True)
class PLIF(IF):
    """Parametric LIF: the leak trained as 1 − sigmoid(w), and the input scaled by what leaks.

        u ← u + (I − u)/τ = (1 − sigmoid(w))·u + sigmoid(w)·I

    Fang et al., ICCV 2021 (arXiv 2007.05785), with V_reset = 0. A constant I takes the membrane to I: only currents
    above the threshold ever fire. Theirs differs: the threshold stays 1, and a membrane exactly at it fires.
    """

    tau: float = 2.0
    """Initial membrane time constant in timesteps, > 1 (the paper's τ₀)."""
    reset: Literal["subtract", "zero"] = "zero"  # the paper's
    with_threshold: ClassVar[Any] = None  # at a leak of 1 it would have no input

    def __post_init__(self):
        if not 1 < self.tau < math.inf:
            raise InputError(f"tau must be > 1 timestep and finite (1/tau = sigmoid(w)), got {self.tau}")
        super().__post_init__()

    def init(self, key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> PLIFParams:
        """Parameters for neurons of shape N; `key` is not used (nothing here is random)."""
        logit = -math.log(self.tau - 1)
        return PLIFParams(jnp.full(self._shared(shape), logit, dtype), super().init(key, shape, dtype).threshold)

    def _drive(self, params, current):
        return (jax.nn.sigmoid(params.decay_logit) * current).astype(current.dtype)
