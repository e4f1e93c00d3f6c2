"""How a neuron runs over a block of time on each kind of hardware. Every backend gives the plain scan's numbers."""

import jax

from ...errors import InputError, unknown
from ...types import Array
from . import xla
from .rule import Rule

BACKENDS = ("auto", "scan", "xla", "pallas", "pallas_interpret")
"""scan: the neuron's own `step` in `lax.scan`, differentiated by JAX: the reference, and what custom neurons use.
xla: one custom_vjp over the block, left to XLA's fusion.
pallas: hand-written kernels, on TPU and on NVIDIA GPUs from Hopper on; an error elsewhere.
pallas_interpret: the kernels' numbers on any machine, slowly, to check them.
auto: xla for neurons that have it, scan for the others; the same on every machine. Pallas has to be asked for: alone it
is the fastest on an H100 (docs/performance.md), inside a network it has not been timed."""


def check_backend(name: str) -> None:
    """Raise InputError for a backend that is not known."""
    if name not in BACKENDS:
        raise unknown("backend", name, BACKENDS)


def lif(rule: Rule, current: Array, leak: Array, threshold: Array, membrane: Array, elapsed: Array | None,
        timesteps: int, backend: str = "auto") -> tuple[Array, Array | None, Array]:
    """LIF over a block by one of the backends; see `xla.lif`.

    Raises:
        InputError: this process cannot run the backend; or it is "scan", the neuron's own `step`, which
            `dietjax.unroll` runs.
    """
    check_backend(backend)
    if backend == "scan":
        raise InputError("backend 'scan' runs a neuron's own step, and this is a kernel: use dietjax.unroll, or "
                         "the backend 'auto'")
    arguments = rule, current, leak, threshold, membrane, elapsed, timesteps
    if backend not in ("pallas", "pallas_interpret"):
        return xla.lif(*arguments)
    platform = "interpret" if backend == "pallas_interpret" else _pallas_platform()
    from . import pallas

    return pallas.lif(*arguments, platform)


def _pallas_platform():
    device = jax.devices()[0]
    if device.platform == "tpu":
        return "tpu"
    generation = str(getattr(device, "compute_capability", "")).partition(".")[0]  # of CUDA: "9.0"; of ROCm: "gfx942"
    if device.platform == "gpu" and generation.isdigit() and int(generation) >= 9:
        return "gpu"
    raise InputError(f"backend 'pallas' needs a TPU or a Hopper GPU, this process runs on {device.platform} "
                     f"({device.device_kind}): use 'xla', or 'pallas_interpret' to check its numbers")
