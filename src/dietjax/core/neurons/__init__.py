"""Neurons: frozen dataclasses of static choices with pure `init`, `initial_state` and `step`; `run` takes a block.

Give one to `dietjax.unroll`, to a network, or use its `step` inside any `jax.lax.scan`.
"""

from .analog import LI, ReLU
from .counting import SpikeCount, SpikeCountState
from .params import IFParams, LIFParams, MembraneState, PLIFParams, QCFSParams, check_params, clamp_leaks
from .quantised import QCFS
from .spiking import IF, LIF, PLIF

__all__ = [
    "IF",
    "LI",
    "LIF",
    "PLIF",
    "QCFS",
    "IFParams",
    "LIFParams",
    "MembraneState",
    "PLIFParams",
    "QCFSParams",
    "ReLU",
    "SpikeCount",
    "SpikeCountState",
    "check_params",
    "clamp_leaks",
]
