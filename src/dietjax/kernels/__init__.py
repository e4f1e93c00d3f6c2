"""How a neuron runs over a block of time on each kind of hardware. Every backend gives the plain scan's numbers."""

from ..errors import unknown
from ..types import Array
from . import xla
from .rule import Rule

BACKENDS = ("auto", "scan", "xla")
"""scan: the neuron's own `step` in `lax.scan`, differentiated by JAX: the reference, and what custom neurons use.
xla: one custom_vjp over the block, left to XLA's fusion. auto: xla for neurons that have it, scan for the others."""


def check_backend(name: str) -> None:
    """Raise InputError for a backend that is not known."""
    if name not in BACKENDS:
        raise unknown("backend", name, BACKENDS)


def lif(rule: Rule, current: Array, leak: Array, threshold: Array, membrane: Array, elapsed: Array | None,
        timesteps: int, backend: str = "auto") -> tuple[Array, Array | None, Array]:
    """LIF over a block by one of the backends; see `xla.lif`."""
    return xla.lif(rule, current, leak, threshold, membrane, elapsed, timesteps)
