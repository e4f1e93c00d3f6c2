"""dietjax: DIET-SNN in JAX. Deep spiking networks of few timesteps, with trained leaks and thresholds.

Three lines of it:

    net = dietjax.models.vgg("VGG9", num_classes=10, image_shape=(32, 32, 3), neuron=dietjax.LIF())
    variables = net.init(key, images)
    logits, record = net.apply(variables, images, timesteps=5)
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from . import (
        config,
        convert,
        data,
        early_exit,
        encode,
        energy,
        interop,
        kernels,
        memory,
        models,
        neurons,
        readout,
        surrogate,
        unroll,
    )
    from .neurons import IF, LI, LIF, PLIF, IFParams, LIFParams, MembraneState, PLIFParams, ReLU
    from .surrogate import Surrogate, spike

_HOMES = {
    "neurons": ("IF", "IFParams", "LI", "LIF", "LIFParams", "MembraneState", "PLIF", "PLIFParams", "ReLU"),
    "surrogate": ("Surrogate", "spike"),
}
_MODULES = ("config", "convert", "data", "early_exit", "encode", "energy", "interop", "kernels", "memory", "models",
            "neurons", "readout", "surrogate", "unroll")

__all__ = [
    "IF",
    "LI",
    "LIF",
    "PLIF",
    "IFParams",
    "LIFParams",
    "MembraneState",
    "PLIFParams",
    "ReLU",
    "Surrogate",
    "config",
    "convert",
    "data",
    "early_exit",
    "encode",
    "energy",
    "interop",
    "kernels",
    "memory",
    "models",
    "neurons",
    "readout",
    "spike",
    "surrogate",
    "unroll",
]


def __getattr__(name: str):
    """Names load where they are first used, so that the command line answers `--help` without loading jax."""
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f".{home}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
