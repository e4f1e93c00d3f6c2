"""How a neuron runs over a block of time on each kind of hardware. Every backend gives the plain scan's numbers."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ...errors import InputError, unknown
from ...types import Array
from . import block
from .rule import Rule

BACKENDS = ("auto", "scan", "xla", "pallas", "pallas_interpret")
"""scan: the neuron's own `step` in `lax.scan`, differentiated by JAX: the reference, and what custom neurons use.
xla: one custom_vjp over the block, left to XLA's fusion.
pallas: hand-written kernels, on TPU and on NVIDIA GPUs from Hopper on; an error elsewhere, when the program is lowered,
so that any machine can export for those.
pallas_interpret: the kernels' numbers on any machine, slowly, to check them.
auto: pallas where FASTER says that it is faster, else xla; scan for neurons that have no kernel."""


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
    # docs/performance.md, "On a GPU": LIF alone, 64 × 65,536, float16: 0.67 ms where xla takes 1.13 (T=16), 1.11 where
    # it takes 2.98 (T=32). At T=4 they differ by less than a launch; smaller blocks and float32 are unmeasured. On
    # a TPU nothing has run: docs/performance.md, "Compiled for a TPU", has what its compiler says.
    Measured("cuda", "gpu", generation=9, itemsize=2, timesteps=16, neurons=64 * 65_536),
)


def check_backend(name: str) -> None:
    """Raise InputError for a backend that is not known."""
    if name not in BACKENDS:
        raise unknown("backend", name, BACKENDS)


def lif(rule: Rule, current: Array, leak: Array, threshold: Array, membrane: Array, elapsed: Array | None,
        timesteps: int, backend: str = "auto") -> tuple[Array, Array | None, Array]:
    """LIF over a block by one of the backends; arguments and results as of `xla.forward`.

    Raises:
        InputError: the backend cannot run these dtypes, or this machine's GPU cannot run it; or it is "scan", the
            neuron's own `step`, which `dietjax.unroll` runs.
    """
    check_backend(backend)
    if backend == "scan":
        raise InputError("backend 'scan' runs a neuron's own step, and this is a kernel: use dietjax.unroll, or "
                         "the backend 'auto'")
    kernels = {"xla": ((None, "xla"),), "pallas_interpret": ((None, "interpret"),),
               "pallas": (("cuda", "gpu"), ("tpu", "tpu"), (None, "none"))}
    if backend == "pallas":
        _check_pallas(membrane)
    chosen = _fastest(current, membrane, timesteps) if backend == "auto" else kernels[backend]
    return block.lif(chosen, rule, timesteps, current, leak, threshold, membrane, elapsed)


def _fastest(current: Array, membrane: Array, timesteps: int) -> block.Kernels:
    """The kernels of `auto`: one of FASTER for the platforms of this process's devices, else XLA's."""
    faster = [(row.platform, row.kernel) for row in FASTER if _cuda_generation() >= row.generation
              and current.dtype.itemsize <= row.itemsize and membrane.dtype == jnp.float32
              and timesteps >= row.timesteps and math.prod(membrane.shape) >= row.neurons]
    return (*faster, (None, "xla"))


def _cuda_generation() -> int:
    """Of this process's first device, -1 where that is none of CUDA's: of a compute capability "9.0" it is 9."""
    device = jax.devices()[0]
    number = str(getattr(device, "compute_capability", "")).partition(".")[0]  # ROCm's is "gfx942"
    return int(number) if device.platform == "gpu" and number.isdigit() else -1


def _check_pallas(membrane: Array) -> None:
    if membrane.dtype != jnp.float32:
        raise InputError(f"backend 'pallas' keeps membranes in float32, and these are {membrane.dtype}: use 'xla'")
    device = jax.devices()[0]
    if device.platform == "gpu" and _cuda_generation() < 9:
        raise InputError(f"backend 'pallas' needs a TPU or a Hopper GPU, this process runs on {device.platform} "
                         f"({device.device_kind}): use 'xla', or 'pallas_interpret' to check its numbers")
