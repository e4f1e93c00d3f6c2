"""What conversions refuse, each in the same words: networks and variables that no ANN's parameters can become."""

import math
from collections.abc import Mapping
from typing import Any

import jax

from ..core.neurons import PLIFParams
from ..errors import InputError
from ..models import Network


def check_convertible(net: Network) -> None:
    """Refuse a network with parts that no ANN has: recurrent layers, a readout that fires."""
    if getattr(net.readout, "spiking", False):
        raise InputError(f"the readout {net.readout} fires, and an ANN's logits are sums of its currents: "
                         "use readout=dietjax.LI(), or train this network from its initial variables")
    recurrent = [layer.name for layer in net.layers if layer.recurrent]
    if recurrent:
        raise InputError(f"recurrent layers ({', '.join(recurrent)}) have no counterpart in an ANN to convert from; "
                         "train this network from its initial variables")


def check_spiking(net: Network) -> None:
    """Refuse a network whose neurons have no threshold, no membrane, or a leak that cannot be 1."""
    params = net.neuron.init(jax.random.key(0), (1,))
    if isinstance(params, PLIFParams):
        raise InputError(f"thresholds are found at a leak of 1, where {net.neuron} would have no input; "
                         "convert to LIF, or train this network from its initial variables")
    # an ANN's neuron may have a threshold too, its trained level: what it lacks is a membrane
    if not hasattr(params, "threshold") or not jax.tree.leaves(net.neuron.initial_state(params, (1, 1))):
        raise InputError(f"neuron {net.neuron} has no threshold to set; give the network a spiking one, "
                         "for example net.clone(neuron=dietjax.LIF())")


def check_folded(net: Network, variables: Mapping[str, Any]) -> None:
    """Refuse batch norm, of the network or of the variables."""
    if net.batch_norm or any("norm" in layer for layer in variables["params"].values()):
        raise InputError("conversion works on weights without batch norm; call "
                         "ann, variables = dietjax.convert.fold_batch_norm(ann, variables) first")


def check_percentile(percentile: float) -> None:
    """Refuse a percentile outside (0, 100]."""
    if not 0 < percentile <= 100:
        raise InputError(f"percentile must lie in (0, 100], got {percentile}")


def check_scale(scale: float) -> None:
    """Refuse a factor that would leave a threshold at 0, below it or without bound."""
    if not 0 < scale < math.inf:
        raise InputError(f"the scale of thresholds must be > 0 and finite, got {scale}")
