"""Neurons that fire: integrate-and-fire, with and without a leak.

One step (Rathi & Roy, arXiv 2008.03658, eqs. 1-4), with the leak multiplying what the last step left:

    u ← λ·u + I              integrate
    z = u/θ − 1              normalised distance to threshold
    o = 1 if z > 0 else 0    fire, in the same step
    u ← u − θ·o              reset by subtraction ("zero": u ← 0 where o = 1; "none": u stays)

The comparison inside the reset carries no gradient unless `reset_gradient` says so; the factor θ does.

With `delay` a neuron fires in the next step: what the last step left is compared and reset first, then the current
integrated. The spikes are those of the equations above, one timestep later:

    o(t) = 1 if u(t−1)/θ − 1 > 0 else 0
    u(t) = λ·(u(t−1) − θ·o(t)) + I(t)
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
from ..surrogate import Surrogate, check_surrogate, spike, step_function
from .checks import check_block, check_broadcast, check_floating, check_state, check_threshold
from .params import IFParams, LIFParams, MembraneState, PLIFParams, SpikingParams
from .sharing import Sharing, check_sharing, shared_shape

RESETS = ("subtract", "zero", "none")
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
    reset: Literal["subtract", "zero", "none"] = "subtract"
    """What a spike takes from the membrane: the threshold, all of it, or nothing."""
    reset_gradient: bool = False
    """Whether the gradient passes through the comparison inside the reset too, as the surrogate's derivative there:
    SpikingJelly's `detach_reset=False`."""
    delay: bool = False
    """Whether a membrane above the threshold fires in the next step (see the module): an axon's delay of one step. The
    state that is carried is then the membrane before its reset."""
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
        if self.reset not in RESETS:
            raise unknown("reset", str(self.reset), RESETS)
        for field in ("reset_gradient", "delay"):
            if not isinstance(getattr(self, field), bool):
                raise InputError(f"{field} must be True or False, got {getattr(self, field)!r}")
        if self.reset == "none" and self.reset_gradient:
            raise InputError("reset='none' has nothing for a gradient to pass through; leave out reset_gradient")
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
        if self.delay:
            membrane, elapsed, spikes = self._fire(threshold, state.membrane, state.elapsed)
            membrane = leak * membrane + self._drive(params, current)
        else:
            membrane = leak * state.membrane + self._drive(params, current)
            membrane, elapsed, spikes = self._fire(threshold, membrane, state.elapsed)
        return MembraneState(membrane, elapsed), spikes.astype(current.dtype)

    def run(self, params: SpikingParams, state: MembraneState, current: Array, timesteps: int,
            backend: str = "auto") -> tuple[MembraneState, Array]:
        """A block: currents [B, T, N], or [B, 1, N] for a constant one -> (state, spikes [B, T, N]).

        The same numbers as T times `step`. For the backward pass it keeps only the currents (PLIF: the scaled ones
        too). Call it through `unroll`, which also has the backend "scan".
        """
        check_block(current, timesteps)
        check_state(state.membrane, current.shape[:1] + current.shape[2:])
        beyond = self._beyond_kernels()
        if beyond:
            if backend != "auto":
                raise InputError(f"{beyond} runs the steps by a scan, so backend={backend!r} cannot run "
                                 f"{type(self).__name__}; use 'auto' or 'scan', or do without it")
            return scan_steps(self, params, state, current, timesteps)
        assert not isinstance(self.surrogate, str)  # __post_init__ made a name a Surrogate
        check_surrogate(self.surrogate, state.membrane)
        rule = kernels.Rule(self.reset == "subtract", self.surrogate)
        leak, threshold = self._checked(params, state.membrane)
        membrane, elapsed, spikes = kernels.lif(rule, self._drive(params, current), leak, threshold, *state, timesteps,
                                                backend)
        return MembraneState(membrane, elapsed), spikes

    def with_threshold(self, params: Any, threshold: Array | float) -> SpikingParams:
        """Its parameters with this threshold, > 0, a scalar or of `params.threshold`'s shape, and without leak: how
        conversion sets a neuron. Their shapes and dtypes stay.
        """
        wanted = params.threshold
        if jnp.shape(threshold) not in ((), wanted.shape):
            raise InputError(f"the threshold has shape {jnp.shape(threshold)}, the neuron's {wanted.shape}; give a "
                             "scalar, or one of that shape")
        check_threshold(jnp.asarray(threshold))
        return params._replace(threshold=jnp.broadcast_to(jnp.asarray(threshold, wanted.dtype), wanted.shape))

    def _drive(self, params, current):
        """What a step adds to the membrane, in the current's dtype."""
        return current

    def _fire(self, threshold, membrane, elapsed):
        """A membrane against its threshold: (membrane after the reset, elapsed after it, spikes)."""
        z = membrane / threshold - 1
        spikes = spike(z, self.surrogate, elapsed, forward_mode=self.forward_mode)
        fired = spikes if self.reset_gradient else step_function(jax.lax.stop_gradient(z))
        if self.reset == "subtract":
            membrane = membrane - threshold * fired
        elif self.reset == "zero":
            membrane = membrane * (1 - fired)
        if elapsed is not None:
            elapsed = jax.lax.stop_gradient(jnp.where(fired > 0, 1, elapsed + 1).astype(elapsed.dtype))
        return membrane, elapsed, spikes

    def _beyond_kernels(self):
        """The option, as it is written, that only the steps themselves have; "" where a kernel can run it."""
        options = {"forward_mode": self.forward_mode, "reset='none'": self.reset == "none",
                   "reset_gradient": self.reset_gradient, "delay": self.delay}
        return next((name for name, chosen in options.items() if chosen), "")

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

    def with_threshold(self, params: Any, threshold: Array | float) -> LIFParams:
        """As of `IF`, with the leak at 1."""
        params = super().with_threshold(params, threshold)
        return params._replace(leak=jnp.ones_like(params.leak))


@dataclasses.dataclass(frozen=True, kw_only=True)
class PLIF(IF):
    """Parametric LIF: the leak trained as 1 − sigmoid(w), and the input scaled by what leaks.

        u ← u + (I − u)/τ = (1 − sigmoid(w))·u + sigmoid(w)·I

    Fang et al., ICCV 2021 (arXiv 2007.05785), with V_reset = 0. A constant I takes the membrane to I: only currents
    above the threshold ever fire. Theirs differs: the threshold stays 1, and a membrane exactly at it fires.
    """

    tau: float = 2.0
    """Initial membrane time constant in timesteps, > 1 (the paper's τ₀)."""
    reset: Literal["subtract", "zero", "none"] = "zero"  # the paper's
    with_threshold: ClassVar[None] = None  # type: ignore[assignment]  # without leak it would take in nothing

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
