"""The neurons of a network by name: every layer's, and those of a residual's projection; their parameters and states.

Parameters: {layer: {"neuron": its neurons', "recurrent"?: {"kernel"}, "shortcut"?: {"neuron"?: the projection's}}}.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from ..core.dropout import Dropout
from ..core.neurons import SpikeCount
from ..core.unroll import unroll, unroll_sent
from ..errors import InputError
from ..types import Array, Neuron, Params, State, missing_methods
from .inside import wide
from .recurrent import Recurrent, RecurrentParams
from .spec import Layer, projection

if TYPE_CHECKING:
    from .network import Network


@dataclasses.dataclass(frozen=True)
class Population:
    """Neurons that run together."""

    layer: Layer
    projected: bool
    """Whether they are those of the residual's projection, not the layer's own."""
    neuron: Neuron
    """As it is run: a recurrent layer's inside `Recurrent`, a readout that fires inside `SpikeCount`."""
    shape: tuple[int, ...]
    """N."""

    def params(self, params: dict[str, Any]) -> Params:
        """Their parameters, from the network's."""
        found = params[self.layer.name]["shortcut"] if self.projected else params[self.layer.name]
        if not isinstance(self.neuron, Recurrent):
            return found.get("neuron", ())
        if "recurrent" not in found:
            raise InputError(f"layer {self.layer.name!r} is recurrent, its parameters have no 'recurrent' kernel; see "
                             "net.init")
        return RecurrentParams(found["recurrent"]["kernel"], found.get("neuron", ()))

    def at_rest(self, params: dict[str, Any], batch: int, dtype: Any) -> State:
        """Their state before the first timestep, for currents of so many images and this dtype."""
        state = self.neuron.initial_state(self.params(params), (batch, *self.shape), dtype)
        spiking = getattr(getattr(self.neuron, "neuron", None), "spiking", False)
        if isinstance(self.neuron, Recurrent) and not jax.tree.leaves(state.neuron) and not spiking:
            raise InputError(f"layer {self.layer.name!r} is recurrent, and {self.neuron.neuron} has no memory: at an "
                             "ANN's one timestep nothing would come back; use a spiking neuron, or recurrent=False")
        return state

    def send(self, net: "Network", params: dict[str, Any], current: Array, timesteps: int, dropout: Dropout | None
             ) -> tuple[Array, Array] | None:
        """(what dropout, or a 2×2 average, leaves of their spikes from rest; how many each had on average), where one
        kernel does it; else None. Other pools follow it.

        Their spikes may then be wanted by nobody, so that XLA drops what else would compute them.
        """
        if self.layer.residual is not None or net.run_neuron is not unroll:
            return None
        found = unroll_sent(self.neuron, self.params(params), current, timesteps, dropout, self.layer.pool is True,
                            net.backend)
        if found is None:
            return None
        sent, spikes = found
        return sent, spikes.astype(wide(sent.dtype)) / (sent.shape[0] * math.prod(self.shape))


def populations(net: "Network") -> dict[str, Population]:
    """{layer, or its projection: the neurons there}, from input to output; the last are the readout's."""
    found = {}
    wiring = {c.name: c for c in net.connections()}
    own = net.neurons()
    for name, neuron in {**own, net.layers[-1].name: net.readout}.items():
        _check_neuron(f"the neuron of layer {name!r}", neuron)
    for layer in net.layers:
        if layer is net.layers[-1]:
            neuron = SpikeCount(net.readout) if getattr(net.readout, "spiking", False) else net.readout
        elif layer.recurrent:
            height, width, *_ = wiring[layer.name].kernel
            neuron = Recurrent(own[layer.name], None if layer.kernel is None else (height, width))
        else:
            neuron = own[layer.name]
        found[layer.name] = Population(layer, False, neuron, wiring[layer.name].out_shape)
        name = projection(layer.name)
        if layer.residual is not None and name in wiring:
            found[name] = Population(layer, True, own[layer.name], wiring[name].out_shape)
    return found


def neurons_of(params: Mapping[str, Any]) -> dict[str, Params]:
    """{layer, or its residual's projection: its neurons' parameters}, where they have any, in the order of `params`."""
    found: dict[str, Params] = {}
    for layer, weights in params.items():
        parts = {layer: weights, projection(layer): weights.get("shortcut", {})}
        found |= {name: part["neuron"] for name, part in parts.items() if "neuron" in part}
    return found


def check_trained_with(net: "Network", there: Mapping[str, Population], params: Mapping[str, Any]) -> None:
    """Refuse another network's variables: an ANN's in a spiking one, a spiking one's in an ANN, other timesteps'.

    there: the network's `populations`.
    """
    _check_layers(net, params)
    for layer in net.layers[:-1]:
        weights = params[layer.name].get("time")
        if (None if weights is None else len(weights)) != net.time_weights:
            count = "no" if weights is None else len(weights)
            raise InputError(f"layer {layer.name!r} has {count} weights of timesteps, and the network's time_weights "
                             f"are {net.time_weights}; build it as it was trained")
    for name, population in there.items():
        found = params[population.layer.name]
        found = found.get("shortcut", {}) if population.projected else found
        neuron: Any = population.neuron
        wanted = _initial(neuron, population.shape)
        wanted = wanted.neuron if isinstance(population.neuron, Recurrent) else wanted
        if not jax.tree.leaves(wanted) and "neuron" in found:
            raise InputError(f"layer {name!r} has a neuron's parameters, and {population.neuron} has none: these "
                             "variables are of another network, whose weights may be in units of its spikes; use that "
                             "one, or the ANN's own variables")
        if jax.tree.leaves(wanted) and _tree(found.get("neuron", ())) != _tree(wanted):
            has = type(found["neuron"]).__name__ if "neuron" in found else "no parameters"
            raise InputError(f"layer {name!r} has {has} for {population.neuron}, which needs {type(wanted).__name__}"
                             f"{_shapes(wanted)}: these variables are of another network. An ANN's are converted first "
                             "(dietjax.convert.match_activations or balance_thresholds); else begin with those of "
                             "net.init")


def _check_layers(net, params):
    """Refuse variables of other layers."""
    if not params:
        raise InputError("these variables have no 'params': pass the whole of what net.init or a conversion returns, "
                         "{'params': ...}, not the parameters alone")
    missing = [layer.name for layer in net.layers if layer.name not in params]
    if missing:
        raise InputError(f"these variables hold no parameters for {', '.join(missing)}, and have {', '.join(params)}; "
                         "use those of a network of the same layers")
    for layer in net.layers:
        if "kernel" not in params[layer.name]:
            raise InputError(f"layer {layer.name!r} has no kernel among its parameters; use variables of net.init, or "
                             "of a conversion")


@functools.lru_cache(maxsize=1024)  # asked for at every application, and equal neurons have equal parameters
def _initial(neuron, shape):
    """The tree and shapes of a neuron's parameters."""
    return jax.eval_shape(lambda key: neuron.init(key, shape), jax.random.key(0))


def _tree(params):
    return jax.tree.structure(params), [jnp.shape(leaf) for leaf in jax.tree.leaves(params)]


def _shapes(params):
    return " of shapes " + ", ".join(str(leaf.shape) for leaf in jax.tree.leaves(params))


def _check_neuron(where, neuron):
    """Refuse what is no neuron: a class in the place of one of it, or a part of the protocol that is missing."""
    if isinstance(neuron, type):
        raise InputError(f"{where} is the class {neuron.__name__}; pass a neuron of it, {neuron.__name__}()")
    try:
        hash(neuron)
    except TypeError as error:
        raise InputError(f"{where}, {neuron!r}, has no hash, so that no program can be kept for it; make its class a "
                         "dataclass with frozen=True and fields that are hashable") from error
    missing = missing_methods(neuron)
    if missing:
        raise InputError(f"{where} is {neuron!r}, which has no {', '.join(missing)}; a neuron has init, initial_state "
                         "and step (docs/neuron.md)")
