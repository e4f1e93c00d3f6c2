"""Surrogate gradients: the spike function's forward pass is a step, its derivative one of the plain functions below.

z is the NORMALISED distance to threshold, z = membrane / threshold - 1, so every shape parameter is relative to the
threshold and dimensionless.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ..errors import InputError, unknown
from ..types import Array


def piecewise_linear(z: Array, gamma: float = 0.3) -> Array:
    """∂o/∂z = γ · max(0, 1 − |z|): DIET-SNN's own.

    Source: Bellec et al., "Long short-term memory and learning-to-learn in networks of spiking neurons", NeurIPS 2018;
    Rathi & Roy, "DIET-SNN", arXiv 2008.03658.
    """
    return gamma * jnp.maximum(0, 1 - jnp.abs(z))


def stdb(elapsed: Array, alpha: float = 0.3, beta: float = 0.01) -> Array:
    """∂o/∂z = α · exp(−β · Δt), Δt the timesteps since the neuron's last spike: spike-time-dependent backpropagation.

    The only one that does not depend on z. Source: Rathi et al., "Enabling deep spiking neural networks with hybrid
    conversion and spike timing dependent backpropagation", ICLR 2020.
    """
    return alpha * jnp.exp(-beta * elapsed)


def rectangular(z: Array, width: float = 1.0) -> Array:
    """∂o/∂z = 1/w where |z| < w/2, else 0.

    Source: Wu et al., "Spatio-temporal backpropagation for training high-performance spiking neural networks",
    Frontiers in Neuroscience 2018 (h1).
    """
    return (jnp.abs(z) < width / 2) / jnp.asarray(width, z.dtype)


def arctan(z: Array, alpha: float = 2.0) -> Array:
    """∂o/∂z = α / (2 · (1 + (π/2 · α · z)²)).

    Source: Fang et al., "Incorporating learnable membrane time constant to enhance learning of spiking neural
    networks", ICCV 2021.
    """
    return alpha / 2 / (1 + (jnp.pi / 2 * alpha * z) ** 2)


def fast_sigmoid(z: Array, slope: float = 10.0) -> Array:
    """∂o/∂z = 1 / (1 + β·|z|)².

    Source: Zenke & Ganguli, "SuperSpike", Neural Computation 2018; β = 10 as in Zenke & Vogels, "The remarkable
    robustness of surrogate gradient learning", Neural Computation 2021.
    """
    return 1 / (1 + slope * jnp.abs(z)) ** 2


def sigmoid(z: Array, slope: float = 4.0) -> Array:
    """∂o/∂z = β · σ(β·z) · σ(−β·z).

    Source: Wu et al. 2018 (h3); Neftci, Mostafa & Zenke, "Surrogate gradient learning in spiking neural networks",
    IEEE Signal Processing Magazine 2019.
    """
    return slope * jax.nn.sigmoid(slope * z) * jax.nn.sigmoid(-slope * z)  # 1 − σ loses the tail above 0 to rounding


DERIVATIVES: dict[str, Callable[..., Array]] = {
    f.__name__: f for f in (piecewise_linear, stdb, rectangular, arctan, fast_sigmoid, sigmoid)
}


@dataclasses.dataclass(frozen=True)
class Surrogate:
    """A derivative by name, with values for its shape parameters: `Surrogate("arctan", (3.0,))`.

    A value, not a closure: equal surrogates compare equal (so that nothing recompiles), print, and go into a file.
    """

    name: str = "piecewise_linear"
    parameters: tuple[float, ...] = ()
    """In the order of the function's signature; () keeps its defaults."""

    def __post_init__(self):
        if self.name not in DERIVATIVES:
            raise unknown("surrogate", self.name, DERIVATIVES)
        _, *shape = inspect.signature(DERIVATIVES[self.name]).parameters.values()
        if len(self.parameters) > len(shape):
            raise InputError(f"surrogate {self.name!r} has {len(shape)} shape parameters, got {self.parameters}")
        defaults = tuple(parameter.default for parameter in shape)  # written out, so that equal functions are equal
        object.__setattr__(self, "parameters", (*self.parameters, *defaults[len(self.parameters):]))

    def __call__(self, argument: Array) -> Array:
        """The derivative at z (for `stdb`: at the timesteps since the last spike)."""
        return DERIVATIVES[self.name](argument, *self.parameters)


def spike(z: Array, surrogate: str | Callable[[Array], Array] = Surrogate(), argument: Array | None = None, *,
          forward_mode: bool = False) -> Array:
    """1 where z > 0 (strictly), else 0, and NaN where z is NaN; its derivative is `surrogate(argument)`.

    Args:
        z: normalised distance to threshold, any shape.
        surrogate: a name in `DERIVATIVES`, a `Surrogate`, or any hashable function of an array.
        argument: where the surrogate is evaluated; None: at z itself. `stdb` needs the timesteps since the last spike.
        forward_mode: False: a `custom_vjp`, for `jax.grad` and everything built on it. True: its twin, a `custom_jvp`,
            for `jax.jvp`, `jax.linearize` and `jax.hessian` too.
    """
    surrogate = Surrogate(surrogate) if isinstance(surrogate, str) else surrogate
    if argument is None and isinstance(surrogate, Surrogate) and surrogate.name == "stdb":
        raise InputError("stdb depends on the timesteps since the last spike, not on z: pass them as `argument`")
    z = jnp.asarray(z)
    if forward_mode:
        return _spike_with_tangent(z, argument, surrogate)
    return _spike(z, z if argument is None else argument, surrogate)


def step_function(z: Array) -> Array:
    """1 where z > 0 (strictly), else 0, in z's dtype; NaN stays NaN, so that what went wrong reaches the loss."""
    return jnp.where(jnp.isnan(z), z, (z > 0).astype(z.dtype))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _spike(z, argument, surrogate):
    return step_function(z)


def _spike_forward(z, argument, surrogate):
    return _spike(z, argument, surrogate), argument


def _spike_backward(surrogate, argument, cotangent):
    return cotangent * surrogate(argument).astype(cotangent.dtype), None


_spike.defvjp(_spike_forward, _spike_backward)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _spike_with_tangent(z, argument, surrogate):
    # jax 0.10's `lax.scan` forgets a custom_jvp once it has been differentiated in reverse, and differentiates its body
    # instead, so the body has the derivatives too: `change` is 0 with a derivative of 1, and `slope`, taken half way
    # along it, makes the second derivative of their product that of the surrogate.
    finite = jnp.where(jnp.isfinite(z), z, 0)
    change = finite - jax.lax.stop_gradient(finite)
    slope = surrogate(jax.lax.stop_gradient(z) + change / 2 if argument is None else argument)
    return step_function(jax.lax.stop_gradient(z)) + change * slope.astype(z.dtype)


@_spike_with_tangent.defjvp
def _spike_tangent(surrogate, primals, tangents):
    z, argument = primals
    slope = surrogate(z if argument is None else argument)
    return _spike_with_tangent(z, argument, surrogate), tangents[0] * slope.astype(z.dtype)
