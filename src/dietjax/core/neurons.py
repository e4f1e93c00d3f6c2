"""Neurons: frozen dataclasses of static choices with pure `init / initial_state / step`.

Use one by hand inside any `jax.lax.scan`, or give it to a network. One step of the spiking ones (Rathi & Roy,
arXiv 2008.03658, eqs. 1-4), with the leak multiplying what the last step left:

    u ← λ·u + I              integrate
    z = u/θ − 1              normalised distance to threshold
    o = 1 if z > 0 else 0    fire, in the same step
    u ← u − θ·o              reset by subtraction ("zero": u ← 0 where o = 1)

The comparison inside the reset carries no gradient; the factor θ does.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from ..errors import InputError, unknown
from ..types import Array
from . import kernels
from .kernels import linear
from .surrogate import Surrogate, spike

NEVER = 1000.0
"""Timesteps since the last spike (for stdb) of a neuron that has not fired yet: long ago. Our choice of number."""


class LIFParams(NamedTuple):
    """Trained with the weights. Scalars for sharing="layer", [C] for "channel", [N] for "neuron"."""

    leak: Array
    """Factor on the membrane per step, in [0, 1]."""
    threshold: Array
    """Membrane above which a neuron fires, > 0; in units of the input current."""


class IFParams(NamedTuple):
    """As `LIFParams`, without a leak."""

    threshold: Array


class PLIFParams(NamedTuple):
    """As `LIFParams`, the leak as a function of an unbounded number: it needs no clamp."""

    decay_logit: Array
    """w; 1/τ = sigmoid(w) is the share of the way to the current that the membrane goes per step."""
    threshold: Array

    @property
    def leak(self) -> Array:
        """1 − 1/τ: share of the membrane kept per step, in (0, 1)."""
        return jax.nn.sigmoid(-self.decay_logit)


class MembraneState(NamedTuple):
    """What spiking neurons and readouts carry, [B, N]."""

    membrane: Array
    """In units of the input current; at least float32."""
    elapsed: Array | None = None
    """Timesteps since the last spike; only where the surrogate asks for it (stdb)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class IF:
    """Integrate-and-fire: no leak, a trained threshold."""

    threshold: float = 1.0
    """Initial threshold, > 0."""
    sharing: Literal["layer", "channel", "neuron"] = "layer"
    """How far parameters are shared (DIET-SNN: one threshold and one leak per layer)."""
    reset: Literal["subtract", "zero"] = "subtract"
    surrogate: str | Callable[[Array], Array] = Surrogate()
    """A name in `surrogate.DERIVATIVES`, a `Surrogate`, or your own hashable function of z."""

    def __post_init__(self):
        if not self.threshold > 0:
            raise InputError(f"threshold must be > 0, got {self.threshold}: z = membrane / threshold - 1 needs it")
        for field, known in (("sharing", ("layer", "channel", "neuron")), ("reset", ("subtract", "zero"))):
            if getattr(self, field) not in known:
                raise unknown(field, str(getattr(self, field)), known)
        if isinstance(self.surrogate, str):
            object.__setattr__(self, "surrogate", Surrogate(self.surrogate))

    def init(self, key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> IFParams:
        """Parameters for neurons of shape N; `key` is not used (nothing here is random)."""
        return IFParams(jnp.full(self._shared(shape), self.threshold, dtype))

    def initial_state(self, params: Any, shape: tuple[int, ...], dtype: Any = jnp.float32) -> MembraneState:
        """Membranes at 0, for currents of the given shape [B, N] and dtype; never less precise than float32."""
        dtype = jnp.result_type(dtype, params.threshold, jnp.float32)
        elapsed = jnp.full(shape, NEVER, dtype) if self._uses_elapsed else None
        return MembraneState(jnp.zeros(shape, dtype), elapsed)

    def step(self, params: IFParams, state: MembraneState, current: Array) -> tuple[MembraneState, Array]:
        """One timestep: currents [B, N] -> (state, spikes [B, N] of 0 and 1 in the current's dtype)."""
        leak, threshold = self._checked(params, state.membrane)
        membrane, elapsed = leak * state.membrane + self._drive(params, current), state.elapsed
        spikes = spike(membrane / threshold - 1, self.surrogate, elapsed)
        fired = jax.lax.stop_gradient(spikes)
        membrane = membrane - threshold * fired if self.reset == "subtract" else membrane * (1 - fired)
        if elapsed is not None:
            elapsed = jax.lax.stop_gradient(jnp.where(fired > 0, 1, elapsed + 1).astype(elapsed.dtype))
        return MembraneState(membrane, elapsed), spikes.astype(current.dtype)

    def run(self, params: IFParams, state: MembraneState, current: Array, timesteps: int,
            backend: str = "auto") -> tuple[MembraneState, Array]:
        """A block: currents [B, T, N], or [B, 1, N] for a constant one -> (state, spikes [B, T, N]).

        The same numbers as T times `step`; what is saved for the backward pass is the currents alone (PLIF: also
        scaled). `unroll` calls it; it has no backend "scan".
        """
        check_block(current, timesteps)
        _check_state(state.membrane, current)
        rule = kernels.Rule(self.reset == "subtract", self.surrogate)
        leak, threshold = self._checked(params, state.membrane)
        *state, spikes = kernels.lif(rule, self._drive(params, current), leak, threshold, *state, timesteps, backend)
        return MembraneState(*state), spikes

    def _drive(self, params, current):
        """What a step adds to the membrane, in the current's dtype."""
        return current

    def _checked(self, params, membrane):
        """(leak, threshold), of shapes that belong to these neurons, at least as precise as the membrane: so are their
        gradients' sums over time, and θ², which halves cannot hold.
        """
        leak = getattr(params, "leak", None)
        for name, parameter in (("leak", leak), ("threshold", params.threshold)):
            if parameter is not None:
                _check_broadcast(name, parameter, membrane)
        leak = 1 if leak is None else leak
        dtype = jnp.result_type(membrane, leak, params.threshold)
        return jnp.asarray(leak, dtype), jnp.asarray(params.threshold, dtype)

    def _shared(self, shape):
        return {"layer": (), "channel": tuple(shape[-1:]), "neuron": tuple(shape)}[self.sharing]

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
        return LIFParams(jnp.full(self._shared(shape), self.leak, dtype), *super().init(key, shape, dtype))


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

    def __post_init__(self):
        if not 1 < self.tau < math.inf:
            raise InputError(f"tau must be > 1 timestep and finite (1/tau = sigmoid(w)), got {self.tau}")
        super().__post_init__()

    def init(self, key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> PLIFParams:
        """Parameters for neurons of shape N; `key` is not used (nothing here is random)."""
        logit = -math.log(self.tau - 1)
        return PLIFParams(jnp.full(self._shared(shape), logit, dtype), *super().init(key, shape, dtype))

    def _drive(self, params, current):
        return (jax.nn.sigmoid(params.decay_logit) * current).astype(current.dtype)


@dataclasses.dataclass(frozen=True)
class ReLU:
    """max(0, I): the ANN's neuron. Without memory, so an ANN is the network at one timestep."""

    def init(self, key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> tuple[()]:
        """No parameters."""
        return ()

    def initial_state(self, params: tuple[()], shape: tuple[int, ...], dtype: Any = jnp.float32) -> tuple[()]:
        """No state."""
        return ()

    def step(self, params: tuple[()], state: tuple[()], current: Array) -> tuple[tuple[()], Array]:
        """Currents [B, N] -> ((), activations [B, N])."""
        return (), jnp.maximum(current, 0)


@dataclasses.dataclass(frozen=True)
class LI:
    """Leaky integrator that never fires: the readout. With leak 1 (DIET-SNN's) it sums its currents over time.
    It is the exponential synaptic filter too: `unroll(LI(leak), (), None, current)` filters currents.
    """

    leak: float = 1.0
    """Share of the membrane kept per step, in [0, 1]; not trained."""

    def __post_init__(self):
        if not 0 <= self.leak <= 1:
            raise InputError(f"leak must lie in [0, 1] (the share of the membrane kept per step), got {self.leak}")

    def init(self, key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> tuple[()]:
        """No parameters."""
        return ()

    def initial_state(self, params: tuple[()], shape: tuple[int, ...], dtype: Any = jnp.float32) -> MembraneState:
        """Membranes at 0, never less precise than float32."""
        return MembraneState(jnp.zeros(shape, jnp.result_type(dtype, jnp.float32)))

    def step(self, params: tuple[()], state: MembraneState, current: Array) -> tuple[MembraneState, Array]:
        """One timestep: currents [B, N] -> (state, membranes [B, N] after it)."""
        membrane = self.leak * state.membrane + current
        return MembraneState(membrane), membrane

    def run(self, params: tuple[()], state: MembraneState, current: Array, timesteps: int,
            backend: str = "auto") -> tuple[MembraneState, Array]:
        """A block: currents [B, T, N], or [B, 1, N] -> (state, membranes [B, T, N]); the same on every backend."""
        check_block(current, timesteps)
        _check_state(state.membrane, current)
        membranes = linear.leaky_integral(current, self.leak, state.membrane, timesteps)
        return MembraneState(membranes[:, -1]), membranes


def check_block(current: Array, timesteps: int) -> None:
    """Refuse a block that does not hold so many timesteps, or nothing at all."""
    if timesteps < 1 or current.size == 0:
        raise InputError(f"current has shape {current.shape}, timesteps are {timesteps}: nothing to run; "
                         "neither may be 0")
    if current.shape[1] not in (1, timesteps):
        raise InputError(f"current has {current.shape[1]} timesteps (axis 1), asked for {timesteps}; "
                         "pass [B, T, N], or [B, 1, N] for a constant input")


def clamp_leaks(params: Any) -> Any:
    """Every leak in a parameter tree at most 1, as the authors do after each optimiser step; nothing else changes."""
    def clamp(node):
        return node._replace(leak=jnp.minimum(node.leak, 1)) if isinstance(node, LIFParams) else node

    return jax.tree.map(clamp, params, is_leaf=lambda node: isinstance(node, LIFParams))


def _check_state(membrane, current):  # one of another batch would broadcast, and leak into all of it
    wanted = current.shape[:1] + current.shape[2:]
    if membrane.shape != wanted:
        raise InputError(f"the state is of shape {membrane.shape}, the current of {wanted} ([B, N]); begin with an "
                         "`initial_state` of that shape, or go on with the batch that the state is of")


def _check_broadcast(name, parameter, current):  # [C] against other channels may broadcast by accident, or fail late
    shape = jnp.shape(parameter)
    neurons = current.shape[current.ndim - len(shape):]
    if shape != neurons:
        raise InputError(f"{name} has shape {shape}, the current ends in {neurons}; "
                         "use sharing='layer', or init the neuron with the current's shape without batch")
