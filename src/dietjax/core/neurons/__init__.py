"""Neurons: frozen dataclasses of static choices with pure `init`, `initial_state` and `step`; `run` takes a block.

Give one to `dietjax.unroll`, to a network, or use its `step` inside any `jax.lax.scan`.
"""

from .adaptive import ALIF, ALIFParams, ALIFState
from .analog import LI, ReLU
from .binary import Binary
from .counting import SpikeCount, SpikeCountState
from .params import IFParams, LIFParams, MembraneState, PLIFParams, QCFSParams, check_params, clamp_leaks
from .psn import PSN, PSNParams, PSNState, SlidingPSN, SlidingPSNParams, SlidingPSNState
from .quantised import QCFS
from .refractory import RefractoryLIF, RefractoryState
from .response import SRM, SRMParams, SRMState
from .sigma_delta import SigmaDelta, SigmaDeltaParams, SigmaDeltaState
from .spiking import IF, LIF, PLIF
from .synaptic import CuBaLIF, CuBaLIFParams, CuBaLIFState

__all__ = [
    "ALIF",
    "IF",
    "LI",
    "LIF",
    "PLIF",
    "PSN",
    "QCFS",
    "SRM",
    "ALIFParams",
    "ALIFState",
    "Binary",
    "CuBaLIF",
    "CuBaLIFParams",
    "CuBaLIFState",
    "IFParams",
    "LIFParams",
    "MembraneState",
    "PLIFParams",
    "PSNParams",
    "PSNState",
    "QCFSParams",
    "ReLU",
    "RefractoryLIF",
    "RefractoryState",
    "SRMParams",
    "SRMState",
    "SigmaDelta",
    "SigmaDeltaParams",
    "SigmaDeltaState",
    "SlidingPSN",
    "SlidingPSNParams",
    "SlidingPSNState",
    "SpikeCount",
    "SpikeCountState",
    "check_params",
    "clamp_leaks",
]
