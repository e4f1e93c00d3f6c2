"""A network as every peer builds it: stages in a row, each (pool) -> synapse -> neuron."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...core.neurons import LI, LIF
from ...errors import InputError
from ...models import Connection, Network


@dataclasses.dataclass(frozen=True)
class Stage:
    """One layer with the pool before it, so that what comes in are always the spikes of one neuron layer."""

    connection: Connection
    kernel: np.ndarray
    """Ours: HWIO, or [in, out]."""
    pool: bool
    """2×2 average pool before the synapse."""
    neuron: LIF | None
    """With this layer's leak and threshold; None: the readout, which sums its currents."""

    @property
    def flatten(self) -> bool:
        """A map [H, W, C] comes into a dense synapse."""
        return len(self.connection.kernel) == 2 and len(self.connection.in_shape) == 3


def stages_of(net: Network, variables: Mapping[str, Any]) -> tuple[Stage, ...]:
    """The stages of a network; an InputError names all that the peers cannot run."""
    _check(net)
    params = variables.get("params", variables)
    stages = []
    pool = False
    for layer, connection in zip(net.layers, net.connections(), strict=True):
        weights = params[layer.name]
        neuron = None
        if layer is not net.layers[-1]:
            for field, value in weights["neuron"]._asdict().items():
                if np.ndim(value):
                    raise InputError(f"{layer.name}: the peers have one {field} per layer, this network's has shape "
                                     f"{np.shape(value)}; build it with sharing='layer'")
            neuron = dataclasses.replace(net.neuron, leak=float(weights["neuron"].leak),
                                         threshold=float(weights["neuron"].threshold))
        stages.append(Stage(connection, np.asarray(weights["kernel"]), pool, neuron))
        pool = layer.pool is True
    return tuple(stages)


def check_layer(neuron: LIF, inputs: Any, kernel: Any) -> None:
    """An InputError unless the neuron is one the peers have and inputs [B, T, in] meet a kernel [in, out]."""
    _check_neuron(neuron)
    if np.ndim(inputs) != 3 or np.ndim(kernel) != 2 or np.shape(inputs)[2] != np.shape(kernel)[0]:
        raise InputError(f"inputs have shape {np.shape(inputs)}, the kernel {np.shape(kernel)}; "
                         "they are to be [B, T, in] and [in, out]")


def _check(net):
    _check_neuron(net.neuron)
    problems = [f"{layer.name} has a shortcut" for layer in net.layers if layer.shortcut is not None]
    problems += [f"{layer.name} is averaged over its whole map" for layer in net.layers if layer.pool == "global"]
    problems += [f"{layer.name} pools its current" for layer in net.layers if layer.pool_current]
    problems += [f"{layer.name} has dropout {layer.dropout}" for layer in net.layers if layer.dropout]
    problems += [f"{field}=True" for field in ("batch_norm", "bias") if getattr(net, field)]
    if not net.encoder.constant:
        problems.append(f"it encodes with {net.encoder}")
    if net.readout != LI():
        problems.append(f"it reads out with {net.readout}")
    if problems:
        raise InputError(f"the peers do not run this network: {', '.join(problems)}. Use a VGG with direct encoding, "
                         "bias=False, batch_norm=False, conv_dropout=0 and classifier_dropout=0")


def _check_neuron(neuron):
    if not isinstance(neuron, LIF):
        raise InputError(f"the peers run LIF neurons, not {neuron}; LIF(leak=1) is IF")
    if neuron.initial_membrane:
        raise InputError(f"the peers' membranes start at 0, the neuron's at {neuron.initial_membrane} of its "
                         "threshold; use initial_membrane=0")
    if neuron.reset != "subtract":
        raise InputError(f"the peers reset by subtraction, the neuron has reset={neuron.reset!r}; use reset='subtract'")
