"""Where a network's variables hold what belongs to its neurons, those of residuals' projections included."""

from collections.abc import Mapping
from typing import Any

from ..models import Network
from ..models.populations import Population, populations


def hidden(net: Network) -> dict[str, Population]:
    """{layer, or its residual's projection: the neurons there}, from input to output, all but the readout's."""
    return {name: found for name, found in populations(net).items() if found.layer is not net.layers[-1]}


def own_weights(params: dict[str, Any], population: Population) -> dict[str, Any]:
    """The part of a network's parameters that holds these neurons' "kernel" and "neuron"."""
    found = params[population.layer.name]
    return found["shortcut"] if population.projected else found


def copied(params: Mapping[str, Any]) -> dict[str, Any]:
    """A network's parameters in dicts of their own, so that new arrays can be put in beside the old ones."""
    return {name: {key: dict(part) if key == "shortcut" else part for key, part in layer.items()}
            for name, layer in params.items()}
