"""A network's layers over time, as pure functions of arrays: what `Network` does once it has its parameters.

Currents travel by name: {layer: current}, each layer's share from every source that feeds it, added up on the way.
"""

import dataclasses
import functools
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from ..core.neurons import SpikeCount, SpikeCountState
from ..core.unroll import over_chunks, unroll
from ..errors import InputError
from ..types import Array, Neuron, Params, State
from .operations import average_pool, batch_norm, global_average, synapse
from .recurrent import Recurrent, RecurrentParams
from .spec import Connection, Layer, feeds

if TYPE_CHECKING:
    from .network import Network

Currents = dict[str, Array]
"""{layer: current [B, T, N]}."""

ONLY_CURRENTS = jax.checkpoint_policies.save_only_these_names("current")


@dataclasses.dataclass(frozen=True)
class Forward:
    """One application of a network to a batch, without linen: `Forward(net, params).run(images, timesteps)`."""

    net: "Network"
    """What is static: layers, neurons, encoder, dtypes."""
    params: dict[str, Any]
    stats: dict[str, dict[str, Array]] = dataclasses.field(default_factory=dict)
    """{synapse: {"mean", "var"}} of batch norm."""
    masks: Currents = dataclasses.field(default_factory=dict)
    """Dropout in training: {layer: which outputs stay, bool [B, 1, N]}."""
    train: bool = False
    """Whether batch norm takes the statistics of the batch, and returns those that follow from it."""
    record_spikes: bool = False

    @functools.cached_property
    def wiring(self) -> dict[str, Connection]:
        """{synapse: its shapes}."""
        return {c.name: c for c in self.net.connections()}

    @functools.cached_property
    def targets(self) -> dict[str | None, list[tuple[str, str]]]:
        """{source: [(layer that it feeds, through which synapse)]}."""
        return feeds(self.net.layers)

    def run(self, images: Array, timesteps: int, key: Array | None = None, *, chunk: int | None = None,
            truncate: bool = False, remat: bool = False, state: State = None,
            start: Array | int = 0) -> tuple[State, dict[str, Any]]:
        """All layers over T timesteps, `chunk` of them at a time; arguments as of `Network.__call__`.

        Args:
            images: [B, H, W, C], normalised.
            timesteps: T.
            key: of an encoder that draws.
            chunk, truncate, remat: see `unroll.over_chunks`.
            state: {layer: its neuron's}; None: at rest.
            start: timesteps that came before these.

        Returns:
            (state after T, outputs of `run_chunk` with a leading axis of chunks).
        """
        chunk = timesteps if chunk is None else chunk
        dtype = self.net.dtype or jnp.result_type(images, self.params[self.net.layers[0].name]["kernel"])
        encoded = None  # a constant input passes its synapse once, outside the loop over chunks
        if self.net.encoder.constant:
            encoded = self.currents(self.net.encoder(key, images, 0, timesteps).astype(dtype), None)

        def run_chunk(state, offset):
            if encoded is not None:
                return self.run_chunk(state, *encoded, chunk)
            x = self.net.encoder(key, images, start + offset, chunk).astype(dtype)
            state, outputs = self.run_chunk(state, *self.currents(x, None), chunk)
            return state, outputs | {"input_rate": jnp.abs(x).mean(dtype=jnp.float32) * chunk}

        state = self.initial_state(images.shape[0], dtype) if state is None else state
        return over_chunks(run_chunk, state, timesteps, chunk, truncate=truncate, remat=remat)

    def run_chunk(self, state: State, arrived: Currents, seen: dict, chunk: int) -> tuple[State, dict[str, Any]]:
        """Every layer in turn over one chunk of time.

        Args:
            state: before it.
            arrived: currents that the encoded image causes, [B, chunk or 1, N].
            seen: statistics that batch norm saw on the way there.
            chunk: its timesteps.

        Returns:
            (state after it, {"logits" [B, chunk, K], "spike_rate" and "spikes" by layer, "updates": statistics}).
        """
        outputs: dict[str, Any] = {"spike_rate": OrderedDict(), "spikes": OrderedDict(), "updates": dict(seen)}
        arrived, after = dict(arrived), {}
        for layer in self.net.layers[:-1]:
            # for the backward pass, spikes, pools and dropouts are found again from the currents, not kept
            fire = jax.checkpoint(functools.partial(self.fire, layer, chunk), policy=ONLY_CURRENTS)
            after[layer.name], found, seen, record = fire(state[layer.name], arrived.pop(layer.name))
            outputs["updates"].update(seen)
            for name, value in record.items():
                outputs[name][layer.name] = value
            for target, current in found.items():
                arrived[target] = current + arrived[target] if target in arrived else current
        last = self.net.layers[-1]
        after[last.name], outputs["logits"] = self.read_out(last, chunk, state[last.name], arrived.pop(last.name))
        if isinstance(after[last.name], SpikeCountState):
            outputs["spike_rate"][last.name] = (after[last.name].counts - state[last.name].counts).mean()
        return after, outputs

    def fire(self, layer: Layer, chunk: int, state: State, current: Array) -> tuple[State, Currents, dict, dict]:
        """From a layer's current to those that it causes: neuron, dropout, pool, synapses.

        Returns:
            (state, currents, statistics that batch norm saw, record: {"spike_rate", "spikes"} as far as there are).
        """
        params = neuron_params(layer, self.params[layer.name])
        state, x = self.net.run_neuron(neuron_of(self.net, layer), params, state, current, chunk, self.net.backend)
        record = {"spikes": x} if self.record_spikes else {}
        if jax.tree.leaves(state):  # an ANN's activations are no spikes
            record["spike_rate"] = x.mean(dtype=wide(x.dtype)) * chunk
        if layer.name in self.masks:
            x = jnp.where(self.masks[layer.name], x * jnp.asarray(1 / (1 - layer.dropout), x.dtype), 0)
        if layer.pool:
            x = global_average(x) if layer.pool == "global" else average_pool(x)
        return state, *self.currents(x, layer.name), record

    def read_out(self, last: Layer, chunk: int, state: State, current: Array) -> tuple[State, Array]:
        """The readout's current -> (state, what it puts out after each timestep [B, chunk, K])."""
        params = self.params[last.name].get("neuron", ())
        return unroll(neuron_of(self.net, last), params, state, current.astype(wide(current.dtype)), chunk)

    def currents(self, x: Array, source: str | None) -> tuple[Currents, dict[str, Any]]:
        """What a source causes: a layer's outputs, or (None) the encoded image, [B, T, ...] in the compute dtype.

        Returns:
            ({layer: its share of current}, {synapse: running statistics after these} in training).
        """
        found: Currents = {}
        seen: dict[str, Any] = {}
        for target, name in self.targets[source]:
            current = x  # a shortcut between equal shapes adds the input as it is
            if name in self.wiring:
                weights = self.params[target] if name == target else self.params[target]["shortcut"]
                connection = self.wiring[name]
                current = synapse(weights["kernel"].astype(x.dtype), x, connection.stride, pooled=connection.pooled,
                                  forward_mode=self.forward_mode)
                if name in self.stats:
                    current = checkpoint_name(current, "current")
                    current, seen[name] = batch_norm(weights["norm"], self.stats[name], current, self.train)
                if name == target and "bias" in self.params[target]:
                    current = current + self.params[target]["bias"].astype(x.dtype)
            found[target] = found[target] + current if target in found else current
        return found, seen if self.train else {}

    def initial_state(self, batch: int, dtype: Any) -> State:
        """{layer: its neuron's state at rest}, for currents of so many images and this dtype."""
        return {layer.name: self._at_rest(layer, batch, dtype) for layer in self.net.layers}

    @property
    def forward_mode(self) -> bool:
        """Whether the neurons ask for derivatives in forward mode, which then no other part may stand in the way of."""
        return getattr(self.net.neuron, "forward_mode", False)

    def _at_rest(self, layer, batch, dtype):
        shape = (batch, *self.wiring[layer.name].out_shape)
        state = neuron_of(self.net, layer).initial_state(neuron_params(layer, self.params[layer.name]), shape, dtype)
        if layer.recurrent and not jax.tree.leaves(state.neuron):
            raise InputError(f"layer {layer.name!r} is recurrent, and {self.net.neuron} has no memory: at an ANN's one "
                             "timestep nothing would come back; use a spiking neuron, or recurrent=False")
        return state


def neuron_of(net: "Network", layer: Layer) -> Neuron:
    """What turns a layer's current into its outputs; a readout that fires is counted."""
    if layer is net.layers[-1]:
        return SpikeCount(net.readout) if getattr(net.readout, "spiking", False) else net.readout
    return Recurrent(net.neuron, layer.kernel) if layer.recurrent else net.neuron


def neuron_params(layer: Layer, params: dict[str, Any]) -> Params:
    """A layer's neuron's parameters, from the layer's."""
    if not layer.recurrent:
        return params.get("neuron", ())
    if "recurrent" not in params:
        raise InputError(f"layer {layer.name!r} is recurrent, its parameters have no 'recurrent' kernel; see net.init")
    return RecurrentParams(params["recurrent"]["kernel"], params.get("neuron", ()))


def wide(dtype: Any) -> Any:
    """The dtype of sums: at least float32."""
    return jnp.promote_types(dtype, jnp.float32)
