"""Neurons that fire: integrate-and-fire, with and without a leak.

One step (Rathi & Roy, arXiv 2008.03658, eqs. 1-4), with the leak multiplying what the last step left:

    u ← λ·u + I              integrate
    z = u/θ − 1              normalised distance to threshold
    o = 1 if z > 0 else 0    fire, in the same step
    u ← u − θ·o              reset by subtraction ("zero": u ← 0 where o = 1; "none": u stays)

Firing and reset are those of `firing`. With `delay` a neuron fires in the next step:

    o(t) = 1 if u(t−1)/θ − 1 > 0 else 0
    u(t) = λ·(u(t−1) − θ·o(t)) + I(t)
"""

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from ...errors import InputError
from ...types import Array
from .. import kernels
from ..dropout import Dropout
from ..reset import Reset, since_spike
from ..scan import scan_steps
from ..surrogate import check_surrogate
from .checks import check_block, check_broadcast, check_state, check_threshold
from .firing import Resetting, check_share, positive, shared
from .params import IFParams, LIFParams, MembraneState, PLIFParams, SpikingParams

NEVER = 1000.0
"""Timesteps since the last spike, for stdb, of a neuron that has not fired yet: many. The number is our choice."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class IF(Resetting):
    """Integrate-and-fire: no leak, a trained threshold.

    A threshold that is not > 0 is an error where its value is known. Under `jit` it is not, and then every spike is
    NaN, as it is where a membrane is NaN: see `check_params`.
    """

    counts_elapsed: ClassVar[bool] = True

    initial_membrane: float = 0.0
    """Where membranes start, as a fraction of the threshold, in [0, 1). The paper starts at 0; 1/2 makes a converted
    network's rounding zero on average (Deng & Gu, ICLR 2021; Bu et al., AAAI 2022)."""

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.initial_membrane < 1:
            raise InputError("initial_membrane is a fraction of the threshold and must lie in [0, 1), got "
                             f"{self.initial_membrane}")

    def init(self, key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> SpikingParams:
        """Parameters for neurons of shape N; `key` is not used (nothing here is random)."""
        return IFParams(*shared(self.sharing, shape, dtype, self.threshold))

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

    @property
    def starts_at_rest(self) -> bool:
        """Whether `run` takes the state None: membranes at 0, which no kernel then has to read."""
        return not (self.initial_membrane or self._uses_elapsed or self._beyond_kernels()
                    or type(self).initial_state is not IF.initial_state)

    def run(self, params: SpikingParams, state: MembraneState | None, current: Array, timesteps: int,
            backend: str = "auto") -> tuple[MembraneState, Array]:
        """A block: currents [B, T, N], or [B, 1, N] for a constant one -> (state, spikes [B, T, N]).

        state: before it; None where it `starts_at_rest`.

        The same numbers as T times `step`. For the backward pass it keeps only the currents (PLIF: the scaled ones
        too). Call it through `unroll`, which also has the backend "scan".
        """
        check_block(current, timesteps)
        shape = current.shape[:1] + current.shape[2:]
        membrane, elapsed = (None, None) if state is None else state
        like: Any = membrane
        if like is None:
            like = self._at_rest(params, current)
        check_state(like, shape)
        beyond = self._beyond_kernels()
        if beyond:
            if backend != "auto":
                raise kernels.unable(backend, f"{type(self).__name__} with {beyond}", "no kernel has that, its steps "
                                     "are scanned", "no kernel")
            return scan_steps(self, params, state, current, timesteps)
        leak, threshold = self._checked(params, like)
        membrane, elapsed, spikes = kernels.lif(self._rule(like), self._drive(params, current), leak, threshold,
                                                membrane, elapsed, timesteps, backend)
        return MembraneState(membrane, elapsed), spikes

    def run_sent(self, params: SpikingParams, current: Array, timesteps: int, dropout: Dropout | None, pool: bool,
                 backend: str = "auto") -> tuple[Array, Array] | None:
        """What dropout or a 2×2 average leave of the spikes of `run` from rest, and how many there were before, by a
        kernel that does not write those.

        None where there is none: see `kernels.lif_sent`. The neuron `starts_at_rest`.
        """
        check_block(current, timesteps)
        like: Any = self._at_rest(params, current)
        leak, threshold = self._checked(params, like)
        return kernels.lif_sent(self._rule(like), self._drive(params, current), leak, threshold, timesteps, dropout,
                                pool, backend)

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

    def _fire_and_reset(self, params, state):
        membrane, spikes, fired = self._compared(state.membrane, params.threshold, state.elapsed)
        elapsed = None if state.elapsed is None else jax.lax.stop_gradient(since_spike(state.elapsed, fired))
        return MembraneState(membrane, elapsed), spikes

    def _beyond_kernels(self):
        """The option, as it is written, that only the steps themselves have; "" where a kernel can run it."""
        options = {"forward_mode": self.forward_mode, "reset='none'": self.reset == "none",
                   "reset_gradient": self.reset_gradient, "delay": self.delay}
        return next((name for name, chosen in options.items() if chosen), "")

    def _rule(self, membrane):
        assert not isinstance(self.surrogate, str)  # __post_init__ made a name a Surrogate
        check_surrogate(self.surrogate, membrane)
        return kernels.Rule(self.reset, self.surrogate)

    @staticmethod
    def _at_rest(params, current):
        """Shape and dtype of the membranes under currents [B, T, N]."""
        dtype = jnp.result_type(current, params.threshold, jnp.float32)
        return jax.ShapeDtypeStruct(current.shape[:1] + current.shape[2:], dtype)

    def _checked(self, params, membrane):
        """(leak, threshold) of shapes that belong to these neurons, whatever the parameters are of."""
        leak = getattr(params, "leak", None)
        for name, parameter in (("leak", leak), ("threshold", params.threshold)):
            if parameter is not None:
                check_broadcast(name, parameter, membrane)
        leak = 1 if leak is None else leak
        dtype = jnp.result_type(membrane, leak, params.threshold)
        threshold = positive(params.threshold, dtype)
        return LIFParams(jnp.asarray(leak, dtype), threshold)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LIF(IF):
    """Leaky integrate-and-fire with trained leak and threshold: the neuron of DIET-SNN."""

    leak: float = 1.0
    """Initial leak in [0, 1]; 1 forgets nothing (DIET-SNN starts there)."""

    def __post_init__(self):
        super().__post_init__()
        check_share("leak", self.leak)

    def init(self, key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> LIFParams:
        """Parameters for neurons of shape N; `key` is not used (nothing here is random)."""
        return LIFParams(*shared(self.sharing, shape, dtype, self.leak, self.threshold))

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
    reset: Reset = "zero"  # the paper's
    with_threshold: ClassVar[None] = None  # type: ignore[assignment]  # without leak it would take in nothing

    def __post_init__(self):
        if not 1 < self.tau < math.inf:
            raise InputError(f"tau must be > 1 timestep and finite (1/tau = sigmoid(w)), got {self.tau}")
        super().__post_init__()

    def init(self, key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> PLIFParams:
        """Parameters for neurons of shape N; `key` is not used (nothing here is random)."""
        logit = -math.log(self.tau - 1)
        return PLIFParams(*shared(self.sharing, shape, dtype, logit, self.threshold))

    def _drive(self, params, current):
        return (jax.nn.sigmoid(params.decay_logit) * current).astype(current.dtype)
