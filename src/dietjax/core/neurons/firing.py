"""What all neurons that fire have in common: threshold and surrogate (`Firing`), reset and delay (`Resetting`).

    z = u/θ − 1              normalised distance to threshold, u and θ each neuron's own
    o = 1 if z > 0 else 0    with the surrogate's derivative at z
    u ← u − θ·o              reset by subtraction ("zero": u ← 0 where o = 1; "none": u stays)

The comparison inside the reset carries no gradient unless `reset_gradient` says so; the factor θ does.

A timestep of a neuron with a reset has two halves: it integrates its current, and it fires. With `delay` they change
places: what the last step left is compared and reset first, then the current integrated. The spikes are the same, one
timestep later; the state that is carried is then the membrane before its reset.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from ...errors import InputError, unknown
from ...types import Array, Params, State
from ..reset import RESETS, Reset, after_spike
from ..surrogate import Surrogate, spike, step_function
from .checks import check_broadcast, check_floating, check_state, check_threshold
from .sharing import Sharing, check_sharing, shared_shape


@dataclasses.dataclass(frozen=True, kw_only=True)
class Firing:
    """A threshold, and a surrogate derivative of the step over it."""

    spiking: ClassVar[bool] = True
    """Whether outputs are spikes: a readout's are then counted."""
    counts_elapsed: ClassVar[bool] = False
    """Whether it can count the timesteps since its last spike, as the surrogate stdb asks."""

    threshold: float = 1.0
    """Initial threshold, > 0, in units of the input current."""
    surrogate: str | Callable[[Array], Array] = Surrogate()
    """A name in `surrogate.DERIVATIVES` ("stdb" for IF, LIF and PLIF alone), a `Surrogate`, or your own hashable
    function of z."""
    forward_mode: bool = False
    """Whether `jax.jvp`, `jax.linearize` and `jax.hessian` go through it (see `surrogate.spike`). Neurons with a kernel
    are then scanned step by step, which saves more for the backward pass than the kernels do."""

    def __post_init__(self):
        if not self.threshold > 0:
            raise InputError(f"threshold must be > 0, got {self.threshold}: z = membrane / threshold - 1 needs it")
        if isinstance(self.surrogate, str):
            object.__setattr__(self, "surrogate", Surrogate(self.surrogate))
        if self._uses_elapsed and not self.counts_elapsed:
            raise InputError(f"stdb depends on the timesteps since the last spike, which {type(self).__name__} does "
                             "not count; use another surrogate, or IF, LIF or PLIF")

    def _fire(self, membrane, threshold, elapsed=None):
        """Membranes [B, N] -> (spikes with the surrogate's derivative, the same spikes without any)."""
        z = membrane / threshold - 1
        spikes = spike(z, self.surrogate, elapsed, forward_mode=self.forward_mode)
        return spikes, step_function(jax.lax.stop_gradient(z))

    @property
    def _uses_elapsed(self):
        return isinstance(self.surrogate, Surrogate) and self.surrogate.name == "stdb"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resetting(Firing):
    """A membrane that integrates, fires and is reset. Its state has the field `membrane`, its parameters `threshold`
    and, where it leaks, `leak`.
    """

    sharing: Sharing = "layer"
    """How far parameters are shared (DIET-SNN: one threshold and one leak per layer)."""
    reset: Reset = "subtract"
    """What a spike takes from the membrane: the threshold, all of it, or nothing."""
    reset_gradient: bool = False
    """Whether the gradient passes through the comparison inside the reset too, as the surrogate's derivative there:
    SpikingJelly's `detach_reset=False`."""
    delay: bool = False
    """Whether a membrane above the threshold fires in the next step (see the module): an axon's delay of one step. The
    state that is carried is then the membrane before its reset."""

    def __post_init__(self):
        super().__post_init__()
        check_sharing(self.sharing)
        if self.reset not in RESETS:
            raise unknown("reset", str(self.reset), RESETS)
        check_flag("reset_gradient", self.reset_gradient)
        check_flag("delay", self.delay)
        if self.reset == "none" and self.reset_gradient:
            raise InputError("reset='none' has nothing for a gradient to pass through; leave out reset_gradient")

    def step(self, params: Params, state: State, current: Array) -> tuple[State, Array]:
        """One timestep: currents [B, N] -> (state, spikes [B, N] of 0 and 1 in the current's dtype)."""
        check_step(state, current)
        wide, drive = self._checked(params, state.membrane), self._drive(params, current)
        if not self.delay:
            state = self._integrate(wide, state, drive)
        state, spikes = self._fire_and_reset(wide, state)
        if self.delay:
            state = self._integrate(wide, state, drive)
        return state, spikes.astype(current.dtype)

    def _checked(self, params, membrane):
        return checked(params, membrane)

    def _drive(self, params, current):
        """What a step integrates of a current, in its dtype."""
        return current

    def _integrate(self, params, state, drive):
        """One half of a step: the state with what came in."""
        return state._replace(membrane=params.leak * state.membrane + drive)

    def _fire_and_reset(self, params, state):
        """The other half: (state after the reset, spikes with their derivative)."""
        membrane, spikes, _ = self._compared(state.membrane, params.threshold)
        return state._replace(membrane=membrane), spikes

    def _compared(self, membrane, threshold, elapsed=None):
        """A membrane against its threshold: (membrane after the reset, spikes, the same without a derivative)."""
        spikes, fired = self._fire(membrane, threshold, elapsed)
        return after_spike(self.reset, membrane, threshold, spikes if self.reset_gradient else fired), spikes, fired


def check_flag(name: str, value: bool) -> None:
    """Refuse what is neither True nor False."""
    if not isinstance(value, bool):
        raise InputError(f"{name} must be True or False, got {value!r}")


def check_share(name: str, value: float) -> None:
    """Refuse what is no share kept per step."""
    if not 0 <= value <= 1:
        raise InputError(f"{name} must lie in [0, 1] (the share kept per step), got {value}")


def check_strength(name: str, value: float) -> None:
    """Refuse a strength by which spikes would drive their own neuron on."""
    if not value >= 0:
        raise InputError(f"{name} must be at least 0, got {value}: below it spikes would drive their own neuron on")


def shared(sharing: Sharing, shape: tuple[int, ...], dtype: Any, *values: float) -> tuple[Array, ...]:
    """Parameters of neurons of shape N, each full of one value."""
    return tuple(jnp.full(shared_shape(sharing, shape), value, dtype) for value in values)


def at_rest(params: Any, shape: tuple[int, ...], dtype: Any) -> Array:
    """Zeros [B, N] in the dtype of what neurons carry: at least float32, and that of currents and parameters."""
    return jnp.zeros(shape, jnp.result_type(dtype, *params, jnp.float32))


def check_step(state: Any, current: Array) -> None:
    """Refuse currents of whole numbers, and the state of another batch or layer."""
    check_floating(current)
    for carried in jax.tree.leaves(state):
        check_state(carried, current.shape)


def checked(params: Any, carried: Array) -> Any:
    """The same NamedTuple in at least the precision of what neurons [B, N] carry; thresholds that are not > 0 are NaN.

    In that precision because gradients of parameters are summed over time and divided by θ², which float16 cannot hold.

    Raises:
        InputError: a parameter of other neurons, or a threshold that is known and not > 0.
    """
    dtype = jnp.result_type(carried, *params)
    for name, parameter in params._asdict().items():
        check_broadcast(name, parameter, carried)
    return params._replace(**{name: positive(value, dtype) if name == "threshold" else jnp.asarray(value, dtype)
                              for name, value in params._asdict().items()})


def positive(threshold: Array, dtype: Any) -> Array:
    """Thresholds of this dtype, those that are not > 0 refused where they are known, and NaN where they are not."""
    check_threshold(threshold)  # as it came: inside a scan, or `jit`, what is computed from a known one is not known
    threshold = jnp.asarray(threshold, dtype)
    return jnp.where(threshold > 0, threshold, jnp.nan)
