"""Which kernel runs, decided when a program is lowered, and what JAX does not know of one that is written by hand.

A program that is traced on a CPU and exported for CUDA holds CUDA's kernel.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jax.custom_derivatives import CustomVJPPrimal
from jax.extend.core import Primitive
from jax.interpreters import mlir

from .able import unable

Kernels = tuple[tuple[str | None, str], ...]
"""(platform as `jax.lax.platform_dependent` names it, None: any other; the kernel that runs there), of which there are
"xla", those of `pallas` ("tpu", "gpu", "interpret"), and "none", which is an error when the program is lowered."""


def by_platform(kernels: Kernels, run: Callable[..., Any], *arguments: Any) -> Any:
    """`run(kernel, *arguments)` of the platform that the program is lowered for."""
    (default,) = (name for platform, name in kernels if platform is None)
    branches = {platform: functools.partial(run, name) for platform, name in kernels if platform is not None}
    if not branches:
        return run(default, *arguments)
    return jax.lax.platform_dependent(*arguments, default=functools.partial(run, default), **branches)


def values(arguments: Any) -> Any:
    """What a custom_vjp with symbolic zeros is given, without what it says of each."""
    return jax.tree.map(lambda x: x.value, arguments, is_leaf=lambda x: isinstance(x, CustomVJPPrimal))


def zeros(shapes: Any) -> Any:
    """Zeros of these shapes and dtypes."""
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)


def asked_for(name: str, kernels: Kernels) -> str | None:
    """The backend by which a kernel was asked for by name; None: `auto` chose it, and may choose again."""
    chosen = (None, "xla") in kernels
    return None if chosen else "pallas_interpret" if name == "interpret" else "pallas"


def known_to_jax(kernel: Callable[..., Any], by_xla: Callable[..., Any], asked: str | None) -> Callable[..., Any]:
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


_nowhere = Primitive("a_kernel_for_no_platform")
_nowhere.multiple_results = True
_nowhere.def_abstract_eval(lambda *_, outputs: [jax.core.ShapedArray(x.shape, x.dtype) for x in outputs])
_nowhere.def_impl(lambda *_, outputs: _raise(jax.devices()[0].platform))
mlir.register_lowering(_nowhere, lambda context, *_, outputs: _raise(context.module_context.platforms[0]))


def refuse(like: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel that cannot be lowered, with the results of another one."""
    def run(rule, timesteps, *arguments):
        outputs, tree = jax.tree.flatten(jax.eval_shape(functools.partial(like, rule, timesteps), *arguments))
        return jax.tree.unflatten(tree, _nowhere.bind(*jax.tree.leaves(arguments), outputs=tuple(outputs)))

    return run


def _raise(platform):
    raise unable("pallas", f"a program for {platform}", "it has kernels for TPU and Hopper GPUs", "device")
