"""One timestep of LIF, forwards and backwards: the arithmetic that every kernel repeats.

With d the cotangent of the membrane before the reset (the comparison inside the reset carries no gradient, its factor θ
does), backwards in t:

    d(t)  = g_u(t) + g_o(t)·σ'(z(t))/θ              ∂L/∂I(t) = d(t)              g_u(t−1) = λ·d(t)
    ∂L/∂λ = Σ d(t)·u(t−1)                           ∂L/∂θ = −Σ [g_u(t)·o(t) + g_o(t)·σ'(z(t))·(z(t) + 1)/θ]

z(t) is taken before the reset, u(t) is the membrane after it. Reset to zero: g_u(t)·(1 − o(t)) in d(t), no g_u·o in
∂L/∂θ. Other resets are left to the neuron's own steps.

Scaling currents, threshold and first membrane alike changes no z, hence no spike and nothing that spikes decide, and
scales u(T), so that by Euler's theorem on homogeneous functions, whatever σ' is,

    θ·∂L/∂θ = g_u(T)·u(T) − g_u(0)·u(0) − Σ d(t)·I(t)

of all T timesteps or of some that follow each other. That reads two maps per timestep, I and d, which are there anyway,
where the parts above read g_u, o, z and g_o·σ'. Kernels take it where nothing reads the last membrane: a cotangent of
u(T) in which θ has no share would leave rounding errors of the size of the terms on the right, not the parts' zeros.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from ...types import Array
from ..reset import after_spike, since_spike
from ..surrogate import step_function


class Rule(NamedTuple):
    """What does not change over a block; static, so that equal rules do not recompile."""

    reset: str
    """"subtract" or "zero"."""
    surrogate: Callable[[Array], Array]
    """Derivative of the spike with respect to z = u/θ − 1, as a function of z; where `elapsed` is carried, of that."""


def step(rule, leak, threshold, membrane, elapsed, current):
    """One timestep: (membrane before the reset, fired, membrane after it, elapsed); arithmetic alone."""
    before = leak * membrane + current.astype(membrane.dtype)
    fired = step_function(before / threshold - 1)
    after = after_spike(rule.reset, before, threshold, fired)
    return before, fired, after, None if elapsed is None else since_spike(elapsed, fired)


def step_back(rule, leak, threshold, came, before, fired, elapsed, g_after, g_fired):
    """Backwards through `step`: (∂L/∂I, ∂L/∂u(t−1), parts of ∂L/∂λ and ∂L/∂θ, not yet summed).

    came: the membrane that the step began with, u(t−1).
    """
    ratio = before / threshold
    slope = g_fired * rule.surrogate(ratio - 1 if elapsed is None else elapsed) / threshold
    g_threshold = -slope * ratio
    if rule.reset == "subtract":
        g_threshold -= g_after * fired
    else:
        g_after = g_after * (1 - fired)
    g_before = g_after + slope
    return g_before, leak * g_before, g_before * came, g_threshold


class Parameters(NamedTuple):
    """What gradients of leak and threshold are summed to; static. Each device sums its own before they are added up:
    else it would send a number for every neuron.
    """

    neurons: tuple[int, ...]
    """N."""
    shapes: tuple[tuple[int, ...], ...]
    """Of both, the last axes of N."""

    @classmethod
    def of(cls, current: Array, leak: Array, threshold: Array) -> "Parameters":
        """Those of neurons with currents [B, T, N]."""
        return cls(current.shape[2:], (jnp.shape(leak), jnp.shape(threshold)))

    def sums(self, parts: Any) -> list[Array]:
        """[groups, tiles of neurons ...] of each -> its sum [size]; what is beyond N is padding."""
        whole = [x.sum(0).reshape(-1)[:math.prod(self.neurons)].reshape(self.neurons) for x in parts]
        return [x.sum(tuple(range(x.ndim - len(shape)))).reshape(-1)
                for x, shape in zip(whole, self.shapes, strict=True)]

    def shaped(self, sums: Any, *parameters: Array) -> list[Array]:
        """These sums in the shapes and dtypes of leak and threshold."""
        return [x.reshape(shape).astype(jnp.result_type(parameter))
                for x, shape, parameter in zip(sums, self.shapes, parameters, strict=True)]


def sum_to(gradient: Array, parameter: Array) -> Array:
    """Sum over the axes along which the parameter was broadcast."""
    kept = jnp.ndim(parameter)
    return gradient.sum(tuple(range(gradient.ndim - kept))).astype(jnp.result_type(parameter))
