"""LIF over a block of time by the kernel of the platform that it is compiled for, as one custom_vjp.

For the backward pass it saves its arguments, and of long blocks the states between.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.custom_derivatives import SymbolicZero

from ...types import Array
from . import xla
from .dispatch import Kernels, asked_for, by_platform, known_to_jax, refuse, values, zeros
from .rule import Rule


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def lif(kernels: Kernels, rule: Rule, timesteps: int, *arguments: Any) -> tuple[Array, Array | None, Array]:
    """(membrane after the last step, elapsed after it, spikes); arguments as of `xla.forward`."""
    return _run(kernels, rule, timesteps, *arguments)[0]


def _forward(kernels, rule, timesteps, *arguments):
    return _run(kernels, rule, timesteps, *values(arguments))


def _run(kernels, rule, timesteps, *arguments):
    forwards = {name: functools.partial(_kernel(name, kernels)[0], rule, timesteps) for _, name in kernels}
    if len(forwards) == 1:
        (name, forward), = forwards.items()
        after, kept = forward(*arguments)
        return after, (arguments, {name: kept})
    shapes = {name: jax.eval_shape(run, *arguments)[1] for name, run in forwards.items()}

    def run(name, *arguments):
        after, mine = forwards[name](*arguments)
        # what the other kernels would have kept; nothing reads it, so XLA drops it
        return after, {other: mine if other == name else zeros(shape) for other, shape in shapes.items()}

    after, kept = by_platform(kernels, run, *arguments)
    return after, (arguments, kept)


def _backward(kernels, rule, timesteps, residuals, cotangents):
    def run(name, arguments, kept, cotangents):
        return _kernel(name, kernels)[1](rule, timesteps, arguments, kept[name], cotangents)

    membrane, _, spikes = cotangents
    membrane = None if isinstance(membrane, SymbolicZero) else membrane
    spikes = zeros(spikes) if isinstance(spikes, SymbolicZero) else spikes
    return by_platform(kernels, run, *residuals, (membrane, None, spikes))


lif.defvjp(_forward, _backward, symbolic_zeros=True)


def _kernel(name: str, kernels: Kernels) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """(forward, backward) of a kernel, one of these."""
    if name == "xla":
        return xla.forward, xla.backward
    if name == "none":
        both = refuse(xla.forward), refuse(xla.backward)
    else:
        from . import pallas

        both = functools.partial(pallas.forward, name), functools.partial(pallas.backward, name)
    asked = asked_for(name, kernels)
    return known_to_jax(both[0], _forward_by_xla, asked), known_to_jax(both[1], _backward_by_xla, asked)


def _forward_by_xla(rule, timesteps, shapes, *arguments):
    return xla.forward(rule, timesteps, *arguments)[0], zeros(shapes[1])


def _backward_by_xla(rule, timesteps, shapes, arguments, kept, cotangents):
    states = xla.forward(rule, timesteps, *arguments)[1]
    return xla.backward(rule, timesteps, arguments, states, cotangents)
