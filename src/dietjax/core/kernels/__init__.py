"""How a neuron runs over a block of time on each kind of hardware. Every backend gives the plain scan's numbers."""

import math
from typing import NamedTuple

import jax.numpy as jnp

from ...types import Array
from ..dropout import Dropout
from . import block, sending
from .able import BACKENDS, HOPPER, check_backend, cuda_generation, made_for, pallas_runs_here, unable
from .dispatch import Kernels
from .rule import Rule

__all__ = ["BACKENDS", "FASTER", "Measured", "Rule", "check_backend", "lif", "lif_sent", "made_for", "unable"]


class Measured(NamedTuple):
    """Where a kernel was measured faster than XLA's fusion."""

    platform: str
    """As `jax.lax.platform_dependent` names it."""
    kernel: str
    generation: int
    """Of CUDA's compute capability, the least."""
    itemsize: int
    """Bytes of a current, the most."""
    timesteps: int
    """The least T."""
    neurons: int
    """The least number, over the batch."""


FASTER = (
    # docs/performance.md, "On a GPU": LIF alone, 64 × 65,536, float16, each with a launch of about 0.2 ms: 0.41 ms, and
    # xla 0.44 (T=4), 0.67 where it takes 1.13 (T=16), 1.11 where it takes 2.98 (T=32). Smaller blocks and float32
    # are unmeasured. On a TPU nothing has run: docs/performance.md, "Compiled for a TPU", has what its compiler says.
    Measured("cuda", "gpu", generation=HOPPER, itemsize=2, timesteps=4, neurons=64 * 65_536),
)


def lif(rule: Rule, current: Array, leak: Array, threshold: Array, membrane: Array | None, elapsed: Array | None,
        timesteps: int, backend: str = "auto") -> tuple[Array, Array | None, Array]:
    """LIF over a block by one of the backends; arguments and results as of `xla.forward`.

    Raises:
        InputError: the backend cannot run these dtypes, or this machine's GPU cannot run it; or it is "scan", the
            neuron's own `step`, which `dietjax.unroll` runs.
    """
    check_backend(backend)
    arithmetic = threshold if membrane is None else membrane
    if backend == "scan":
        wide, device = arithmetic.dtype != jnp.float32, not pallas_runs_here()
        raise unable(backend, "a block as a kernel", "it is a neuron's own step, which dietjax.unroll runs", "no steps",
                     *["wide"] * wide, *["device"] * device)
    return block.lif(_chosen(backend, current, arithmetic, timesteps), rule, timesteps, current, leak, threshold,
                     membrane, elapsed)


def lif_sent(rule: Rule, current: Array, leak: Array, threshold: Array, timesteps: int, dropout: Dropout | None = None,
             pool: bool = False, backend: str = "auto") -> tuple[Array, Array] | None:
    """(what dropout or `average_pool` leave of the spikes of `lif` from rest, how many there were before) by a kernel
    that writes no others; None: none suits.

    There is one where `lif` takes Pallas (`auto` by FASTER, which is of the neuron alone: that it pays with more in it
    is known by bytes, not by time), of up to `tile.BLOCK` timesteps; of a pool on a GPU, for currents [B, T, H, W, C]
    of a shape that `pooling.fits`. Of dropout and pool only one is given.

    Raises:
        InputError: as `lif`.
    """
    check_backend(backend)
    if backend in ("scan", "xla"):
        return None
    chosen = _chosen(backend, current, threshold, timesteps)
    if not sending.at_once(chosen, current.shape, timesteps, pool):
        return None
    dropout = None if dropout is None else dropout.rounded(current.dtype)
    return sending.lif_sent(chosen, pool, rule, timesteps, current, leak, threshold, dropout)


def _chosen(backend: str, current: Array, arithmetic: Array, timesteps: int) -> Kernels:
    if backend == "auto":
        return _fastest(current, arithmetic, timesteps)
    if backend == "pallas":
        _check_pallas(arithmetic)
    return {"xla": ((None, "xla"),), "pallas_interpret": ((None, "interpret"),),
            "pallas": (("cuda", "gpu"), ("tpu", "tpu"), (None, "none"))}[backend]


def _fastest(current: Array, arithmetic: Array, timesteps: int) -> Kernels:
    """The kernels of `auto`: one of FASTER for the device that the program is made for, else XLA's."""
    faster = [(row.platform, row.kernel) for row in FASTER if cuda_generation() >= row.generation
              and current.dtype.itemsize <= row.itemsize and arithmetic.dtype == jnp.float32
              and timesteps >= row.timesteps and math.prod(current.shape) // current.shape[1] >= row.neurons]
    return (*faster, (None, "xla"))


def _check_pallas(arithmetic: Array) -> None:
    if arithmetic.dtype != jnp.float32:
        raise unable("pallas", f"membranes of {arithmetic.dtype}", "its kernels keep them in float32", "wide")
    device = made_for()
    if device.platform == "gpu" and not pallas_runs_here():
        raise unable("pallas", f"on {device.platform} ({device.device_kind})", "it needs a TPU or a Hopper GPU, of "
                     "compute capability 9 or later", "device")
