"""The neuron against the device's copy bandwidth, the public benchmark of one layer, the forms of a convolution."""

import functools
import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ..core.kernels import check_backend
from ..core.neurons import LIF
from ..core.pool import average_pool
from ..core.unroll import unroll
from ..models.convolution import FORMS, form_on_cpu, suits, with_stride
from ..models.operations import synapse
from ..models.pooled import convolve_pooled
from .measure import Call, Result, alternate, compiled, environment, matrix_product

ARRAYS_MOVED = 5
"""Blocks: forward reads currents and writes spikes; backward reads currents and the spikes' cotangent, and writes the
currents'."""
LIF_CELL = LIF(leak=0.9, threshold=0.7, surrogate="arctan")


def neuron(batch: int, neurons: int, timesteps: Sequence[int], backends: Sequence[str], dtypes: Sequence[str],
           runs: int) -> Result:
    """LIF alone, forward and backward, by backend; its share of the bandwidth with which the device copies currents.

    "GB/s" is what a copy moves (2 blocks), or LIF must (5), over its time, "share" LIF's over the copy's: 1 means that
    only the least possible reading and writing takes time. Blocks that fit into the device's cache are faster than its
    memory, the copy's too.
    """
    for backend in backends:
        check_backend(backend)
    calls = []
    for dtype, steps in itertools.product(dtypes, timesteps):
        currents, cotangent = (jax.random.normal(jax.random.key(i), (batch, steps, neurons), dtype) for i in range(2))
        params = LIF_CELL.init(jax.random.key(0), (neurons,))
        labels = {"dtype": dtype, "T": steps}
        run, temporary = compiled(lambda x: x + 1, currents)
        calls.append(Call({"what": "copy", **labels}, run, temporary, base=True))
        for backend in backends:
            run, temporary = compiled(_forward_and_backward(_lif(backend)), params, currents, cotangent)
            calls.append(Call({"what": f"LIF, {backend}", **labels}, run, temporary))
    rows = alternate(calls, runs)
    for row in rows:
        copied, values = row["what"] == "copy", batch * neurons * row["T"]
        moved = (2 if copied else ARRAYS_MOVED) * values * jnp.dtype(row["dtype"]).itemsize
        row["GB/s"] = moved / row["ms"] / 1e6
        row["share"] = None if copied else ARRAYS_MOVED / 2 / row["ratio"]
        row.pop("memory ratio", None)
    return Result(f"LIF forward and backward, {batch} × {neurons} neurons", rows, environment())


def _forward_and_backward(function):
    """(its arguments, the cotangent of what it gives) -> (what it gives, their gradients)."""
    def both(*arguments):
        *arguments, cotangent = arguments
        y, pull = jax.vjp(function, *arguments)
        return y, pull(cotangent)

    return both


def _lif(backend):
    return lambda params, currents: unroll(LIF_CELL, params, None, currents, backend=backend)[1]


def layer(features: Sequence[int], batch: int, timesteps: int, backends: Sequence[str], dtypes: Sequence[str],
          peers: Sequence[str], runs: int) -> Result:
    """One n × n linear layer with one LIF, forward and backward (gradients of weights, leak and threshold).

    As the peers' public benchmark has it (batch 16, 500 timesteps, n = 4096, 8192, 16384), but every call waited for.
    """
    if peers:
        from . import peers as libraries

        libraries.check(*peers)
    for backend in backends:
        check_backend(backend)
    calls, notes = [], []
    for dtype, size in itertools.product(dtypes, features):
        weights = (jax.random.normal(jax.random.key(0), (size, size)) * size**-0.5).astype(dtype)
        inputs = jax.random.uniform(jax.random.key(1), (batch, timesteps, size), dtype)
        params = LIF_CELL.init(jax.random.key(0), (size,))
        for i, backend in enumerate(backends):
            def loss(weights, params, inputs, backend=backend):
                spikes = unroll(LIF_CELL, params, None, synapse(weights, inputs), backend=backend)[1]
                return spikes.sum(dtype=jnp.float32)

            run, temporary = compiled(jax.value_and_grad(loss, (0, 1)), weights, params, inputs)
            calls.append(Call({"what": f"dietjax, {backend}", "dtype": dtype, "n": size}, run, temporary, base=i == 0))
            spikes = float(run()[0])
        for name in peers:
            peer = libraries.layer(name, LIF_CELL, *(np.asarray(x, np.float32) for x in (inputs, weights)), dtype)
            calls.append(Call({"what": f"{name} {peer.version}", "dtype": dtype, "n": size}, peer.training_step))
            theirs = float(peer.training_step()[0])
            notes.append(f"{name}, n={size}, {dtype}: {peer.mode}; its neurons spike {theirs:.0f} times, "
                         f"ours {spikes:.0f}{'' if peer.exact else ' (not the same neuron)'}")
    return Result(f"linear n × n and LIF, batch {batch}, T={timesteps}, forward and backward", alternate(calls, runs),
                  environment(*peers), tuple(notes))


def convolution(sides: Sequence[int], channels: tuple[int, int], images: int, dtypes: Sequence[str], runs: int,
                pooled: bool = False, kernel: tuple[int, int] = (3, 3), stride: tuple[int, int] = (1, 1),
                first: bool = False) -> Result:
    """A convolution, forward and both gradients, in every form of `models.convolution` that can compute it.

    The one that a CPU takes has a star. "GFLOP/s": two operations for each product of the convolution's definition,
    whatever a form spends; "of matmul": over the rate of a matrix product, which runs in turn with them.

    pooled: with a 2×2 average pool behind it, and `models.pooled.convolve_pooled` beside them.
    first: of images, whose gradient nobody asks for.
    """
    calls = []
    for dtype, side in itertools.product(dtypes, sides):
        out = [-(-side // step) // (1 + pooled) for step in stride]
        shapes = ((images, side, side, channels[0]), (*kernel, *channels), (images, *out, channels[1]))
        x, *arrays = [jax.random.normal(jax.random.key(i), shape, dtype) for i, shape in enumerate(shapes)]
        labels = {"dtype": dtype, "map": f"{side}×{side}"}
        outputs = images * math.prod(-(-side // step) for step in stride)
        operations = 2 * (3 - first) * outputs * math.prod(shapes[1])
        calls.append(matrix_product(what="matrix product", **labels))
        for i, (name, form) in enumerate(_forms((side, side), shapes[1], stride, pooled).items()):
            if first:
                run, temporary = compiled(_forward_and_backward(functools.partial(form, x)), *arrays)
            else:
                run, temporary = compiled(_forward_and_backward(form), x, *arrays)
            calls.append(Call({"what": name, **labels}, run, temporary, base=i == 0, operations=operations))
    pool = " and 2×2 average pool" if pooled else ""
    step = "" if stride == (1, 1) else f" of stride {stride[0]}×{stride[1]}"
    gradients = "the kernel's gradient" if first else "both gradients"
    return Result(f"{kernel[0]}×{kernel[1]} convolution{step} of {channels[0]} to {channels[1]} channels{pool}, "
                  f"{images} images, forward and {gradients}", alternate(calls, runs), environment())


def _forms(sides, kernel, stride, pooled):
    """{name, with a star if a CPU takes it: form of (x, kernel)}."""
    found = {}
    for name, form in FORMS.items():
        if suits(form, kernel, stride):
            star = " *" if form is form_on_cpu(sides, kernel, stride) and not pooled else ""
            function = with_stride(form, stride)
            found[name + (", then pool" if pooled else star)] = _then_pool(function) if pooled else function
    return found | ({"pooled *": convolve_pooled} if pooled else {})


def _then_pool(form):
    return lambda x, kernel: average_pool(form(x, kernel)[:, None])[:, 0]
