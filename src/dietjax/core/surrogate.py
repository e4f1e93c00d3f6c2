"""Surrogate gradients: the spike function's forward pass is a step, its derivative one of the plain functions below.

z is the NORMALISED distance to threshold, z = membrane / threshold - 1, so every shape parameter is relative to the
threshold and dimensionless.
"""

import dataclasses
import functools
import inspect
import math
import numbers
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
    return ((jnp.abs(_wide(z)) < width / 2) / jnp.asarray(width, _wide(z).dtype)).astype(z.dtype)


def triangular(z: Array, width: float = 1.0) -> Array:
    """∂o/∂z = 1/w · max(0, 1 − |z|/w): of area 1 whatever its width, where `piecewise_linear` has a free height over
    the fixed width 1; at w = 1 it is that with γ = 1.

    Source: Esser et al., "Convolutional networks for fast, energy-efficient neuromorphic computing", PNAS 2016, whose
    width is 1; with a free one, SpikingJelly's `PiecewiseQuadratic` of α = 1/w.
    """
    return (jnp.maximum(0, 1 - jnp.abs(_scaled(z, 1 / width))) / width).astype(z.dtype)


def arctan(z: Array, alpha: float = 2.0) -> Array:
    """∂o/∂z = α / (2 · (1 + (π/2 · α · z)²)).

    Source: Fang et al., "Incorporating learnable membrane time constant to enhance learning of spiking neural
    networks", ICCV 2021.
    """
    return (alpha / 2 / (1 + _scaled(z, jnp.pi / 2 * alpha) ** 2)).astype(z.dtype)


def fast_sigmoid(z: Array, slope: float = 10.0) -> Array:
    """∂o/∂z = 1 / (1 + β·|z|)².

    Source: Zenke & Ganguli, "SuperSpike", Neural Computation 2018; β = 10 as in Zenke & Vogels, "The remarkable
    robustness of surrogate gradient learning", Neural Computation 2021.
    """
    return (1 / (1 + jnp.abs(_scaled(z, slope))) ** 2).astype(z.dtype)


def sigmoid(z: Array, slope: float = 4.0) -> Array:
    """∂o/∂z = β · σ(β·z) · σ(−β·z).

    Source: Wu et al. 2018 (h3); Neftci, Mostafa & Zenke, "Surrogate gradient learning in spiking neural networks",
    IEEE Signal Processing Magazine 2019.
    """
    x = slope * _wide(z)
    return (slope * jax.nn.sigmoid(x) * jax.nn.sigmoid(-x)).astype(z.dtype)  # 1 − σ loses the tail above 0 to rounding


def erf(z: Array, alpha: float = 2.0) -> Array:
    """∂o/∂z = α/√π · exp(−α²·z²), the derivative of ½·erfc(−α·z): a Gaussian of the deviation 1/(√2·α).

    Source: Wu et al. 2018 (h4); α = 2 as SpikingJelly's `Erf`.
    """
    return (alpha / math.sqrt(math.pi) * jnp.exp(-_scaled(z, alpha) ** 2)).astype(z.dtype)


def multi_gaussian(z: Array, height: float = 0.15, scale: float = 6.0, width: float = 0.5) -> Array:
    """∂o/∂z = (1 + h)·N(z | 0, σ) − h·N(z | σ, s·σ) − h·N(z | −σ, s·σ), N(z | μ, σ) the normal density: one peak
    between two wide, shallow valleys, where the derivative is negative.

    Source: Yin, Corradi & Bohté, "Accurate and efficient time-domain classification with adaptive spiking recurrent
    neural networks", Nature Machine Intelligence 2021 (arXiv 2103.12593). h, s and σ (width) as in the authors' code,
    which multiplies the whole by 0.5 besides.
    """
    def density(centre, deviation):
        x = _scaled(_wide(z) - centre, 1 / deviation)
        return jnp.exp(-x ** 2 / 2) / (math.sqrt(2 * math.pi) * deviation)

    valleys = density(width, scale * width) + density(-width, scale * width)
    return ((1 + height) * density(0, width) - height * valleys).astype(z.dtype)


def _wide(z):
    """At least float32: in float16 the square of 256 is infinite already."""
    return z.astype(jnp.promote_types(z.dtype, jnp.float32))


def _scaled(z, factor):
    """The product, at least float32, within ±√max/2: beyond, its square is infinite, the formula rounds to nothing,
    and its derivative would be 0 · ∞.
    """
    z = _wide(z)
    bound = math.sqrt(float(jnp.finfo(z.dtype).max)) / 2
    return jnp.clip(factor * z, -bound, bound)


DERIVATIVES: dict[str, Callable[..., Array]] = {
    f.__name__: f for f in (piecewise_linear, stdb, rectangular, triangular, arctan, fast_sigmoid, sigmoid, erf,
                            multi_gaussian)
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
        for parameter, value in zip(shape, self.parameters, strict=False):
            _check_shape_parameter(self.name, parameter.name, value)
        defaults = tuple(parameter.default for parameter in shape)  # written out, so that equal functions are equal
        given = tuple(float(value) for value in self.parameters)
        object.__setattr__(self, "parameters", (*given, *defaults[len(given):]))

    def __call__(self, argument: Array) -> Array:
        """The derivative at z (for `stdb`: at the timesteps since the last spike)."""
        return DERIVATIVES[self.name](argument, *self.parameters)


def spike(z: Array, surrogate: str | Callable[[Array], Array] = Surrogate(), argument: Array | None = None, *,
          forward_mode: bool = False) -> Array:
    """1 where z > 0 (strictly), else 0, and NaN where z is NaN; its derivative is `surrogate(argument)`.

    Args:
        z: normalised distance to threshold, any shape.
        surrogate: a name in `DERIVATIVES`, a `Surrogate`, or any hashable function of an array; see `check_surrogate`.
        argument: where the surrogate is evaluated, of z's shape; None: at z itself. `stdb` needs the timesteps since
            the last spike.
        forward_mode: False: a `custom_vjp`, for `jax.grad` and everything built on it. True: its twin, a `custom_jvp`,
            for `jax.jvp`, `jax.linearize` and `jax.hessian` too.

    Raises:
        InputError: stdb without its argument, an argument of another shape, or a function that cannot be a surrogate.
    """
    surrogate = Surrogate(surrogate) if isinstance(surrogate, str) else surrogate
    if argument is None and isinstance(surrogate, Surrogate) and surrogate.name == "stdb":
        raise InputError("stdb depends on the timesteps since the last spike, not on z: pass them as `argument`")
    z = jnp.asarray(z)
    at = z if argument is None else jnp.asarray(argument)
    if at.shape != z.shape:
        raise InputError(f"the surrogate's argument has shape {at.shape}, z has {z.shape}: each spike needs its own")
    check_surrogate(surrogate, at)
    if forward_mode:
        return _spike_with_tangent(z, argument, surrogate)
    return _spike(z, at, surrogate)


def check_surrogate(surrogate: Callable[[Array], Array], argument: Array) -> None:
    """Refuse a function that cannot be a derivative at this argument.

    Raises:
        InputError: it closes over a traced array, whose gradient would be 0 without a word; or what it returns is not
            of the argument's shape, or whole numbers.
    """
    if isinstance(surrogate, Surrogate):
        return
    name = getattr(surrogate, "__name__", repr(surrogate))
    program = jax.make_jaxpr(surrogate)(jax.ShapeDtypeStruct(argument.shape, argument.dtype))
    if any(isinstance(constant, jax.core.Tracer) for constant in program.consts):
        raise InputError(f"the surrogate {name} closes over a traced array; a surrogate's parameters are not trained, "
                         "and the gradient would be 0: they must be plain numbers, such as Surrogate('arctan', (3.0,))")
    found = program.out_avals
    if len(found) != 1 or found[0].shape != argument.shape or not jnp.issubdtype(found[0].dtype, jnp.floating):
        returned = ", ".join(f"{x.dtype}{list(x.shape)}" for x in found)
        raise InputError(f"the surrogate {name} returns {returned} for {argument.dtype}{list(argument.shape)}; it must "
                         "return one floating-point derivative for each value that it is given")


def _check_shape_parameter(surrogate, name, value):
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise InputError(f"surrogate {surrogate!r}: {name} must be a plain finite number, got {_described(value)}; a "
                         "surrogate's parameters are not trained, and an array's gradient would be 0")
    if name in ("width", "scale") and not float(value) > 0:
        raise InputError(f"surrogate {surrogate!r}: {name} must be > 0, got {value}")


def _described(value):
    return f"a traced array ({value.aval})" if isinstance(value, jax.core.Tracer) else repr(value)


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
