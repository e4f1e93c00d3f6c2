"""LIF over a block of time by the kernel of the platform that it is compiled for, as one custom_vjp; with the pool
behind it as another.

For the backward pass it saves its arguments, and of long blocks the states between. Which kernel runs is decided when
the program is lowered: a program that is traced on a CPU and exported for CUDA holds CUDA's kernel.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jax.custom_derivatives import CustomVJPPrimal, SymbolicZero
from jax.extend.core import Primitive
from jax.interpreters import mlir

from ...types import Array
from ..pool import average_pool
from . import xla
from .able import unable
from .rule import Rule

Kernels = tuple[tuple[str | None, str], ...]
"""(platform as `jax.lax.platform_dependent` names it, None: any other; the kernel that runs there), of which there are
"xla", those of `pallas` ("tpu", "gpu", "interpret"), and "none", which is an error when the program is lowered."""

POOLING = ("gpu", "interpret")
"""Those that have a kernel in `pooling` too."""


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def lif(kernels: Kernels, rule: Rule, timesteps: int, *arguments: Any) -> tuple[Array, Array | None, Array]:
    """(membrane after the last step, elapsed after it, spikes); arguments as of `xla.forward`."""
    return _run(kernels, rule, timesteps, *arguments)[0]


def _forward(kernels, rule, timesteps, *arguments):
    return _run(kernels, rule, timesteps, *jax.tree.map(lambda x: x.value, arguments, is_leaf=_is_primal))


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
        return after, {other: mine if other == name else _zeros(shape) for other, shape in shapes.items()}

    after, kept = _by_platform(kernels, run, *arguments)
    return after, (arguments, kept)


def _backward(kernels, rule, timesteps, residuals, cotangents):
    def run(name, arguments, kept, cotangents):
        return _kernel(name, kernels)[1](rule, timesteps, arguments, kept[name], cotangents)

    membrane, _, spikes = cotangents
    membrane = None if isinstance(membrane, SymbolicZero) else membrane
    spikes = _zeros(spikes) if isinstance(spikes, SymbolicZero) else spikes
    return _by_platform(kernels, run, *residuals, (membrane, None, spikes))


lif.defvjp(_forward, _backward, symbolic_zeros=True)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def lif_pooled(kernels: Kernels, rule: Rule, timesteps: int, *arguments: Any) -> Array:
    """`average_pool` of the spikes that `lif` gives from rest, [B, T, H/2, W/2, C].

    Kernels of POOLING do both at once; beside them all others run `lif` and pool.

    arguments: current [B, T, H, W, C], of a shape that `pooling.fits`, leak and threshold, as of `xla.forward`.
    """
    return _pooled(kernels, rule, timesteps, 0, *arguments)


def _pooled(kernels, rule, timesteps, way, *arguments):
    """way: 0 forward, 1 backward."""
    from . import pooling

    at_once, apart = (tuple(pair for pair in kernels if (pair[1] in POOLING) == has) for has in (True, False))

    def run(name, *arguments):
        if name == "apart":
            return _APART[way](apart, rule, timesteps, *arguments)
        kernel = functools.partial((pooling.forward, pooling.backward)[way], name)
        return _known_to_jax(kernel, _by_xla(way), _asked(name, kernels))(rule, timesteps, *arguments)

    return _by_platform((*at_once, (None, "apart")) if apart else at_once, run, *arguments)


def _apart(kernels, rule, timesteps, *arguments):
    return average_pool(lif(kernels, rule, timesteps, *arguments, None, None)[2])


def _apart_back(kernels, rule, timesteps, arguments, g_pooled):
    return jax.vjp(functools.partial(_apart, kernels, rule, timesteps), *arguments)[1](g_pooled)


_APART = _apart, _apart_back


def _by_xla(way):
    return lambda rule, timesteps, shapes, *arguments: _APART[way](((None, "xla"),), rule, timesteps, *arguments)


lif_pooled.defvjp(lambda *arguments: (_pooled(*arguments[:3], 0, *arguments[3:]), arguments[3:]),
                  lambda kernels, rule, timesteps, *passed: _pooled(kernels, rule, timesteps, 1, *passed))


def _by_platform(kernels, run, *arguments):
    (default,) = (name for platform, name in kernels if platform is None)
    branches = {platform: functools.partial(run, name) for platform, name in kernels if platform is not None}
    if not branches:
        return run(default, *arguments)
    return jax.lax.platform_dependent(*arguments, default=functools.partial(run, default), **branches)


def _is_primal(x):
    return isinstance(x, CustomVJPPrimal)


def _zeros(shapes):
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)


def _kernel(name: str, kernels: Kernels) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """(forward, backward) of a kernel, one of these."""
    if name == "xla":
        return xla.forward, xla.backward
    if name == "none":
        both = _refuse(xla.forward), _refuse(xla.backward)
    else:
        from . import pallas

        both = functools.partial(pallas.forward, name), functools.partial(pallas.backward, name)
    asked = _asked(name, kernels)
    return _known_to_jax(both[0], _forward_by_xla, asked), _known_to_jax(both[1], _backward_by_xla, asked)


def _asked(name, kernels):
    """The backend by which a kernel was asked for by name; None: `auto` chose it, and may choose again."""
    chosen = (None, "xla") in kernels
    return None if chosen else "pallas_interpret" if name == "interpret" else "pallas"


def _known_to_jax(kernel, by_xla, asked):
    """A hand-written kernel with a derivative and a batching rule, of which JAX knows neither: those of XLA's version.

    by_xla: of the shapes of what the kernel gives, and of what it is given. asked: the backend, where it was asked for
    by name, which is an error under `jax.vmap`; None: XLA's version may run there in the kernel's place.
    """
    def run(rule, timesteps, *arguments):
        shapes = jax.eval_shape(functools.partial(kernel, rule, timesteps), *arguments)
        same = functools.partial(by_xla, rule, timesteps, shapes)
        batched = custom_vmap(functools.partial(kernel, rule, timesteps))

        @batched.def_vmap
        def _(axis_size, in_batched, *arguments):
            if asked:
                raise unable(asked, "a block inside jax.vmap", "JAX has no batching rule for a hand-written kernel; a "
                             "batch [B, T, N] needs none", "vmap")
            axes = jax.tree.map(lambda mapped: 0 if mapped else None, tuple(in_batched))
            found = jax.vmap(same, in_axes=axes, axis_size=axis_size)(*arguments)
            return found, jax.tree.map(lambda _: True, found)

        known = jax.custom_vjp(lambda *arguments: batched(*arguments))
        known.defvjp(lambda *arguments: (batched(*arguments), arguments),
                     lambda arguments, cotangents: jax.vjp(same, *arguments)[1](cotangents))
        return known(*arguments)

    return run


def _forward_by_xla(rule, timesteps, shapes, *arguments):
    return xla.forward(rule, timesteps, *arguments)[0], _zeros(shapes[1])


def _backward_by_xla(rule, timesteps, shapes, arguments, kept, cotangents):
    states = xla.forward(rule, timesteps, *arguments)[1]
    return xla.backward(rule, timesteps, arguments, states, cotangents)


_nowhere = Primitive("a_kernel_for_no_platform")
_nowhere.multiple_results = True
_nowhere.def_abstract_eval(lambda *_, outputs: [jax.core.ShapedArray(x.shape, x.dtype) for x in outputs])
_nowhere.def_impl(lambda *_, outputs: _raise(jax.devices()[0].platform))
mlir.register_lowering(_nowhere, lambda context, *_, outputs: _raise(context.module_context.platforms[0]))


def _refuse(like):
    """A kernel that cannot be lowered, with the results of another one."""
    def run(rule, timesteps, *arguments):
        outputs, tree = jax.tree.flatten(jax.eval_shape(functools.partial(like, rule, timesteps), *arguments))
        return jax.tree.unflatten(tree, _nowhere.bind(*jax.tree.leaves(arguments), outputs=tuple(outputs)))

    return run


def _raise(platform):
    raise unable("pallas", f"a program for {platform}", "it has kernels for TPU and Hopper GPUs", "device")
