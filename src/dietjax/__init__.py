"""dietjax: DIET-SNN in JAX. Deep spiking networks of few timesteps, with trained leaks and thresholds.

Three lines of it:

    net = dietjax.models.vgg("VGG9", num_classes=10, image_shape=(32, 32, 3), neuron=dietjax.LIF())
    variables = net.init(key, images)
    logits, record = net.apply(variables, images, timesteps=5)
"""

__version__ = "0.2.0"

TYPE_CHECKING = False  # as checkers know it; `typing` takes longer than all else that the command line begins with

if TYPE_CHECKING:
    from . import config, convert, data, interop, models
    from .analysis import early_exit, energy, memory
    from .core import encode, kernels, losses, neurons, surrogate
    from .core.neurons import (
        ALIF,
        IF,
        LI,
        LIF,
        PLIF,
        PSN,
        QCFS,
        SRM,
        ALIFParams,
        Binary,
        CuBaLIF,
        CuBaLIFParams,
        IFParams,
        LIFParams,
        MembraneState,
        PLIFParams,
        PSNParams,
        QCFSParams,
        RefractoryLIF,
        ReLU,
        SigmaDelta,
        SigmaDeltaParams,
        SlidingPSN,
        SlidingPSNParams,
        SpikeCount,
        SRMParams,
        check_params,
        clamp_leaks,
    )
    from .core.surrogate import Surrogate, spike
    from .core.unroll import unroll
    from .run.load import load

_MODULES = {
    "config": "config", "convert": "convert", "data": "data", "interop": "interop", "models": "models",
    "early_exit": "analysis.early_exit", "energy": "analysis.energy", "memory": "analysis.memory",
    "encode": "core.encode", "kernels": "core.kernels", "losses": "core.losses", "neurons": "core.neurons",
    "surrogate": "core.surrogate",
}
_MEMBERS = dict.fromkeys((
    "ALIF", "IF", "LI", "LIF", "PLIF", "PSN", "QCFS", "SRM", "ALIFParams", "Binary", "CuBaLIF", "CuBaLIFParams",
    "IFParams", "LIFParams", "MembraneState", "PLIFParams", "PSNParams", "QCFSParams", "ReLU", "RefractoryLIF",
    "SRMParams", "SigmaDelta", "SigmaDeltaParams", "SlidingPSN", "SlidingPSNParams", "SpikeCount", "check_params",
    "clamp_leaks"
), "core.neurons")
_MEMBERS |= {"Surrogate": "core.surrogate", "spike": "core.surrogate", "unroll": "core.unroll", "load": "run.load"}

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
    "Binary",
    "CuBaLIF",
    "CuBaLIFParams",
    "IFParams",
    "LIFParams",
    "MembraneState",
    "PLIFParams",
    "PSNParams",
    "QCFSParams",
    "ReLU",
    "RefractoryLIF",
    "SRMParams",
    "SigmaDelta",
    "SigmaDeltaParams",
    "SlidingPSN",
    "SlidingPSNParams",
    "SpikeCount",
    "Surrogate",
    "check_params",
    "clamp_leaks",
    "config",
    "convert",
    "data",
    "early_exit",
    "encode",
    "energy",
    "interop",
    "kernels",
    "load",
    "losses",
    "memory",
    "models",
    "neurons",
    "spike",
    "surrogate",
    "unroll",
]


def __getattr__(name: str):
    """Names load where they are first used, so that the command line answers `--help` without loading jax."""
    import importlib

    if name in _MODULES:
        return importlib.import_module(f".{_MODULES[name]}", __name__)
    if name in _MEMBERS:
        return getattr(importlib.import_module(f".{_MEMBERS[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
