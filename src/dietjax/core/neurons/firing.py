"""What the neurons beside IF, LIF and PLIF have in common: how they fire, reset and refuse.

    z = u/θ − 1              normalised distance to threshold, u each neuron's own
    o = 1 if z > 0 else 0    with the surrogate's derivative at z
    u ← u − θ·o              reset by subtraction ("zero": u ← 0 where o = 1)

As in `spiking`, the comparison inside the reset carries no gradient, the factor θ does. These neurons have no kernel:
their steps run in a scan.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from ...errors import InputError, unknown
from ...types import Array
from ..surrogate import Surrogate, spike, step_function
from .checks import check_broadcast, check_floating, check_state, check_threshold
from .sharing import Sharing, check_sharing, shared_shape


@dataclasses.dataclass(frozen=True, kw_only=True)
class Firing:
    """A threshold, and a surrogate derivative of the step over it."""

    spiking: ClassVar[bool] = True
    """Whether outputs are spikes: a readout's are then counted."""

    threshold: float = 1.0
    """Initial threshold, > 0, in units of the input current."""
    surrogate: str | Callable[[Array], Array] = Surrogate()
    """A name in `surrogate.DERIVATIVES` (not "stdb"), a `Surrogate`, or your own hashable function of z."""
    forward_mode: bool = False
    """Whether `jax.jvp`, `jax.linearize` and `jax.hessian` go through it (see `surrogate.spike`)."""

    def __post_init__(self):
        if not self.threshold > 0:
            raise InputError(f"threshold must be > 0, got {self.threshold}")
        if isinstance(self.surrogate, str):
            object.__setattr__(self, "surrogate", Surrogate(self.surrogate))
        if getattr(self.surrogate, "name", None) == "stdb":
            raise InputError(f"stdb depends on the timesteps since the last spike, which {type(self).__name__} does "
                             "not count; use another surrogate, or IF, LIF or PLIF")

    def _fire(self, membrane, threshold):
        """Membranes [B, N] -> (spikes with the surrogate's derivative, the same spikes without any)."""
        z = membrane / threshold - 1
        return spike(z, self.surrogate, forward_mode=self.forward_mode), step_function(jax.lax.stop_gradient(z))


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeakyFiring(Firing):
    """A membrane that leaks, fires and is reset."""

    leak: float = 1.0
    """Initial share of the membrane kept per step, in [0, 1]."""
    sharing: Sharing = "layer"
    """How far parameters are shared."""
    reset: Literal["subtract", "zero"] = "subtract"

    def __post_init__(self):
        super().__post_init__()
        check_share("leak", self.leak)
        check_sharing(self.sharing)
        if self.reset not in ("subtract", "zero"):
            raise unknown("reset", str(self.reset), ("subtract", "zero"))

    def _after(self, membrane, threshold, fired):
        """The membrane after its reset."""
        return membrane - threshold * fired if self.reset == "subtract" else membrane * (1 - fired)


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
    for carried in state:
        check_state(carried, current.shape)


def checked(params: Any, carried: Array) -> Any:
    """The same NamedTuple in at least the precision of what neurons [B, N] carry; thresholds that are not > 0 are NaN.

    Raises:
        InputError: a parameter of other neurons, or a threshold that is known and not > 0.
    """
    dtype = jnp.result_type(carried, *params)
    for name, parameter in params._asdict().items():
        check_broadcast(name, parameter, carried)
    wide = params._replace(**{name: jnp.asarray(value, dtype) for name, value in params._asdict().items()})
    return wide._replace(threshold=positive(wide.threshold))


def positive(threshold: Array) -> Array:
    """Thresholds, those that are not > 0 refused where they are known, and NaN where they are not."""
    check_threshold(threshold)
    return jnp.where(threshold > 0, threshold, jnp.nan)
