"""The same network in other SNN libraries, to time and check them beside ours in one process.

Every peer gets our weights, leaks and thresholds and runs in its own best documented mode, with one advantage of ours:
the first synapse of a directly encoded image runs once, not once per timestep. Leaks and thresholds are constants there
wherever the library allows it (spyx always trains its leaks), ours are trained.

A peer's file says how its neuron differs from ours; where it does not, `Peer.exact` holds it to our logits.
"""

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...core.neurons import LIF
from ...errors import InputError, unknown
from ...models import Network
from .chain import check_layer, stages_of
from .peer import Peer, PeerLayer

__all__ = ["DTYPES", "NAMES", "Peer", "PeerLayer", "build", "check", "layer"]

NAMES = ("spyx", "spikingjelly", "snntorch", "norse")
DTYPES = ("float32", "float64", "bfloat16", "float16")


def build(name: str, net: Network, variables: Mapping[str, Any], images: Any, labels: Any, timesteps: int,
          dtype: str = "float32", *, memory_level: int = 0) -> Peer:
    """Our network in another library, on the device that JAX uses.

    Args:
        name: one of `NAMES`.
        net: a VGG, or any chain of layers: LIF neurons, subtractive reset, direct encoding, summed readout; without
            shortcuts, batch norm, bias and dropout.
        variables: its parameters.
        images: [B, H, W, C], the batch to time.
        labels: class indices [B].
        timesteps: T >= 1.
        dtype: of weights and activations, one of `DTYPES`.
        memory_level: SpikingJelly's `memopt.optimize_memory` level; 1 checkpoints every block and keeps its input
            spikes as bits, 2-4 search on the GPU for what else saves memory.

    Raises:
        InputError: the library is not installed, or the network has what it cannot run.
    """
    module = _load(name, dtype)
    options = {}
    if name == "spikingjelly":
        options["memory_level"] = memory_level
    elif memory_level:
        raise InputError(f"memory_level={memory_level} is SpikingJelly's, {name} has none; use memory_level=0")
    if timesteps < 1:
        raise InputError(f"timesteps must be at least 1, got {timesteps}")
    return module.build(net, stages_of(net, variables), variables, np.asarray(images), np.asarray(labels), timesteps,
                        dtype, **options)


def layer(name: str, neuron: LIF, inputs: Any, kernel: Any, dtype: str = "float32") -> PeerLayer:
    """One dense synapse and its neurons in another library: the form of the public layer benchmark.

    Its loss is the sum of all spikes, its gradient that of the kernel ([in, out] here, [out, in] in a torch library).

    Args:
        name: one of `NAMES`.
        neuron: leak, threshold and surrogate.
        inputs: [B, T, in].
        kernel: [in, out].
        dtype: one of `DTYPES`.
    """
    module = _load(name, dtype)
    check_layer(neuron, inputs, kernel)
    return module.layer(neuron, np.moveaxis(np.asarray(inputs), 1, 0), np.asarray(kernel), dtype)


def check(*names: str) -> None:
    """Refuse peers that are unknown or not installed, before any work.

    Raises:
        InputError: naming the first such one, and the command that installs it.
    """
    for name in names:
        if name not in NAMES:
            raise unknown("peer", name, NAMES)
        try:
            importlib.import_module(name)
        except ImportError as error:
            packages = name if name == "spyx" else f"{name} torch"  # snnTorch does not ask pip for torch itself
            raise InputError(f"{name} cannot be imported ({error}); `pip install {packages}` installs it, and "
                             f"dietjax's [peers] extra all of {', '.join(NAMES)}") from error


def _load(name, dtype):
    if name in NAMES and dtype not in DTYPES:  # before the library, which may be missing; after the name
        raise unknown("dtype", dtype, DTYPES)
    check(name)
    return importlib.import_module(f".{name}", __name__)
