"""Which backends can run what, and the sentence that says so where one was asked for that cannot."""

import jax

from ...errors import InputError, unknown

BACKENDS = ("auto", "scan", "xla", "pallas", "pallas_interpret")
"""scan: the neuron's own `step` in `lax.scan`, differentiated by JAX: the reference, and what custom neurons use.
xla: one custom_vjp over the block, left to XLA's fusion.
pallas: hand-written kernels, on TPU and on NVIDIA GPUs from Hopper on; an error elsewhere, when the program is lowered,
so that any machine can export for those.
pallas_interpret: the kernels' numbers on any machine, slowly, to check them.
auto: pallas where FASTER says that it is faster, else xla; scan for neurons that have no kernel."""

UNABLE = {
    "no kernel": ("xla", "pallas", "pallas_interpret"),
    "no steps": ("scan",),
    "vmap": ("pallas", "pallas_interpret"),
    "wide": ("pallas",),
    "device": ("pallas",),
}
"""What there is -> the backends that cannot run it: a neuron without a kernel, a kernel called without the neuron's
steps, a block inside `jax.vmap`, membranes that are not float32, a platform or a GPU for which there is no kernel."""

HOPPER = 9
"""CUDA's compute capability from which on there is a kernel."""


def check_backend(name: str) -> None:
    """Raise InputError for a backend that is not known."""
    if name not in BACKENDS:
        raise unknown("backend", str(name), BACKENDS)


def unable(backend: str, what: str, why: str, *obstacles: str) -> InputError:
    """The error of a backend that was asked for and cannot run something: why, and all of those that can.

    obstacles: keys of UNABLE, all that are known.
    """
    able = [name for name in BACKENDS if not any(name in UNABLE[obstacle] for obstacle in obstacles)]
    return InputError(f"backend {backend!r} cannot run {what}: {why}. Those that can: {', '.join(able)}.")


def made_for() -> jax.Device:
    """The device that programs are made for: that of `jax.default_device`, which need not be there; else the process's
    first.
    """
    chosen = getattr(jax.config, "jax_default_device", None)
    return chosen if isinstance(chosen, jax.Device) else jax.devices()[0]


def cuda_generation() -> int:
    """Of that device, -1 where it is none of CUDA's: of a compute capability "9.0" it is 9."""
    device = made_for()
    number = str(getattr(device, "compute_capability", "")).partition(".")[0]  # ROCm's is "gfx942"
    return int(number) if device.platform == "gpu" and number.isdigit() else -1


def pallas_runs_here() -> bool:
    """Whether the device that programs are made for has a kernel."""
    return made_for().platform == "tpu" or cuda_generation() >= HOPPER
