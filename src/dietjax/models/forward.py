"""A network's layers over time, as pure functions of arrays: what `Network` does once it has its parameters.

Currents travel by name: {layer: current}, each layer's share from every source that feeds it, added up on the way.
"""

import dataclasses
import functools
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from ..core.dropout import Dropout
from ..core.kernels import made_for
from ..core.neurons import SpikeCountState
from ..core.pool import average_pool, global_average, max_pool
from ..core.unroll import over_chunks, unroll
from ..errors import InputError
from ..types import Array, State
from .inputs import as_maps, encode, is_framed
from .inside import (
    RECORDED,
    check_membranes,
    event_rate,
    has_membrane,
    mean_size,
    measured,
    measured_of_rate,
    only_valid,
    run_watched,
    valid_steps,
    wide,
)
from .operations import batch_norm, synapse, weighted
from .populations import Population, populations
from .spec import Layer, projection
from .wiring import Connection, feeds

if TYPE_CHECKING:
    from .network import Network

Currents = dict[str, Array]
"""{layer: current [B, T, N]}."""

POOL: dict[bool | str, Callable[[Array], Array]] = {True: average_pool, "max": max_pool, "global": global_average}
COMBINE: dict[str, Callable[[Array, Array], Array]] = {  # of a residual
    "add": jnp.add, "and": jnp.multiply, "iand": lambda a, s: (1 - a) * s}
MEASURED = ("rate", "size", "units", "sent_rate", "sent_size")
"""What is measured of a population, or of what leaves its layer, summed over time: see `inside.measured`."""
ONLY_CURRENTS = jax.checkpoint_policies.save_only_these_names("current")


@dataclasses.dataclass(frozen=True)
class Forward:
    """One application of a network to a batch, without linen: `Forward(net, params).run(images, timesteps)`."""

    net: "Network"
    """What is static: layers, neurons, encoder, dtypes."""
    params: dict[str, Any]
    stats: dict[str, dict[str, Array]] = dataclasses.field(default_factory=dict)
    """{synapse: {"mean", "var"}} of batch norm."""
    dropouts: dict[str, Dropout] = dataclasses.field(default_factory=dict)
    """In training: {layer: what its outputs are multiplied by}."""
    train: bool = False
    """Whether batch norm takes the statistics of the batch, and returns those that follow from it."""
    record: tuple[str, ...] = ()
    """What is kept of every timestep, of `inside.RECORDED`."""

    @functools.cached_property
    def wiring(self) -> dict[str, Connection]:
        """{synapse: its shapes}."""
        return {c.name: c for c in self.net.connections()}

    @functools.cached_property
    def targets(self) -> dict[str | None, list[tuple[str, str]]]:
        """{source: [(where it arrives, through which synapse)]}."""
        return feeds(self.net.layers)

    @functools.cached_property
    def populations(self) -> dict[str, Population]:
        """{layer, or its residual's projection: the neurons there}."""
        return populations(self.net)

    def run(self, images: Array, timesteps: int, key: Array | None = None, *, chunk: int | None = None,
            truncate: bool = False, remat: bool = False, state: State = None, start: Array | int = 0,
            lengths: Array | None = None) -> tuple[State, dict[str, Any]]:
        """All layers over T timesteps, `chunk` of them at a time; arguments as of `Network.__call__`.

        Args:
            images: [B, H, W, C], or frames [B, T, H, W, C].
            timesteps: T.
            key: of an encoder that draws.
            chunk, truncate, remat: see `unroll.over_chunks`.
            state: {layer: its neuron's}; None: at rest.
            start: timesteps that came before these.
            lengths: [B], how many of its frames each example has; None: all.

        Returns:
            (state after T, outputs of `run_chunk` with a leading axis of chunks).
        """
        chunk = timesteps if chunk is None else chunk
        dtype = self.net.dtype or jnp.result_type(images, self.params[self.net.layers[0].name]["kernel"])
        framed, encoder = is_framed(self.net, images), self.net.encoder
        images = as_maps(self.net, images)
        encoded = None  # a constant input passes its synapse once, outside the loop over chunks
        if encoder.constant and not framed:
            encoded = self.currents(encoder(key, images, 0, timesteps).astype(dtype), None)

        def run_chunk(state, offset):
            if encoded is not None:
                return self.run_chunk(state, *encoded, chunk, start=start + offset)
            valid = valid_steps(lengths, offset, chunk)
            if framed:
                frames = jax.lax.dynamic_slice_in_dim(images, offset, chunk, axis=1)
                x = encode(encoder, key, only_valid(frames, valid), start + offset)
            else:
                x = encoder(key, images, start + offset, chunk)
            x = only_valid(x.astype(dtype), valid)
            state, outputs = self.run_chunk(state, *self.currents(x, None, valid), chunk, valid, start + offset)
            return state, outputs | {"input": measured(x, chunk)}

        if state is None:
            state = self.initial_state(images.shape[0], dtype, chunk == timesteps and "membrane" not in self.record)
        if "membrane" in self.record:
            check_membranes(state)
        return over_chunks(run_chunk, state, timesteps, chunk, truncate=truncate, remat=remat)

    def run_chunk(self, state: State, arrived: Currents, seen: dict, chunk: int, valid: Array | None = None,
                  start: Array | int = 0) -> tuple[State, dict[str, Any]]:
        """Every layer in turn over one chunk of time.

        Args:
            state: before it.
            arrived: currents that the encoded image causes, [B, chunk or 1, N].
            seen: statistics that batch norm saw on the way there.
            chunk: its timesteps.
            valid: which of them each example has, bool [B, chunk]; None: all.
            start: timesteps that came before it.

        Returns:
            (state after it, {"logits" [B, chunk, K], "updates": statistics, and by population what `fire` records}).
        """
        outputs: dict[str, Any] = {name: OrderedDict() for name in (*MEASURED, *RECORDED)}
        outputs["updates"] = dict(seen)
        arrived = dict(arrived)
        after: dict[str, State] = {}
        for layer in self.net.layers[:-1]:
            # for the backward pass, spikes, pools and dropouts are found again from the currents, not kept
            fire = jax.checkpoint(functools.partial(self.fire, layer, chunk), policy=ONLY_CURRENTS)
            names = [name for name in (layer.name, projection(layer.name)) if name in arrived]
            currents = {name: arrived.pop(name) for name in names}
            if self.net.time_weights is not None:
                currents[layer.name] = weighted(currents[layer.name], self.params[layer.name]["time"], start, chunk)
            states, found, seen, record = fire({name: state[name] for name in names if name in state}, currents, valid)
            after |= states
            outputs["updates"].update(seen)
            _keep(outputs, record)
            for target, current in found.items():
                arrived[target] = current + arrived[target] if target in arrived else current
        last = self.net.layers[-1]
        after[last.name], outputs["logits"], record = self.read_out(last, chunk, state[last.name],
                                                                    arrived.pop(last.name), valid)
        _keep(outputs, {last.name: record})
        return after, outputs

    def fire(self, layer: Layer, chunk: int, states: State, arrived: Currents,
             valid: Array | None = None) -> tuple[State, Currents, dict, dict]:
        """From a layer's current to those that it causes: neuron, residual, dropout, pool, synapses.

        Args:
            layer, chunk, valid: as in `run_chunk`.
            states: {layer: its neurons'}, and those of its residual's projection.
            arrived: {layer: its current}, and what its residual brings.

        Returns:
            (states, currents, statistics that batch norm saw, {layer, or its residual's projection: its record}).
        """
        sent, dropout = None, self.dropouts.get(layer.name)
        if states[layer.name] is None and valid is None and not self.record:
            with _part(layer.name, "neuron"):
                sent = self.populations[layer.name].send(self.net, self.params, arrived[layer.name], chunk, dropout)
        states, record = dict(states), {}
        states[layer.name], x, record[layer.name] = self.run_neurons(layer.name, chunk, states[layer.name],
                                                                     arrived[layer.name], valid)
        if layer.residual is not None:
            name = projection(layer.name)
            brought = arrived[name]
            if name in self.populations:
                states[name], brought, record[name] = self.run_neurons(name, chunk, states[name], brought, valid)
            with _part(layer.name, "residual"):
                x = COMBINE[layer.residual.combine](x, brought)
        if sent is not None:
            x, rate = sent
            record[layer.name] |= measured_of_rate(rate)
        elif dropout is not None:
            with _part(layer.name, "dropout"):
                x = dropout(x)
        if layer.pool and not (sent is not None and layer.pool is True):
            with _part(layer.name, "pool"):
                x = POOL[layer.pool](x)
        if layer.residual is not None or layer.pool == "max":  # else as many leave on average as are fired
            record[layer.name] |= {"sent_rate": event_rate(x) * chunk, "sent_size": mean_size(x) * chunk}
        return states, *self.currents(x, layer.name, valid), record

    def run_neurons(self, name: str, chunk: int, state: State, current: Array,
                    valid: Array | None = None) -> tuple[State, Array, dict]:
        """A population's neurons: (state, outputs [B, chunk, N], what is measured of these, and recorded over time)."""
        population = self.populations[name]
        neuron, params = population.neuron, population.params(self.params)
        record = {}
        if "current" in self.record:
            record["current"] = jnp.broadcast_to(current, (current.shape[0], chunk, *current.shape[2:]))
        with _part(population.layer.name, "neuron"):
            if "membrane" in self.record and has_membrane(state):
                state, x, record["membrane"] = run_watched(neuron, params, state, current, chunk)
            elif population.layer is self.net.layers[-1]:
                state, x = unroll(neuron, params, state, current, chunk)
            else:
                state, x = self.net.run_neuron(neuron, params, state, current, chunk, self.net.backend)
        if population.layer is not self.net.layers[-1] and x.dtype != current.dtype:
            raise InputError(f"layer {name!r}: of currents {current.dtype} {neuron} makes outputs {x.dtype}, which "
                             "would change what the layers behind compute in; let its step return "
                             "spikes.astype(current.dtype)")
        x = only_valid(x, valid)
        if "spikes" in self.record:
            record["spikes"] = x
        if jax.tree.leaves(state) or getattr(neuron, "spiking", False):  # an ANN's activations are no spikes
            record |= measured(x, chunk)
        return state, x, record

    def read_out(self, last: Layer, chunk: int, state: State, current: Array,
                 valid: Array | None = None) -> tuple[State, Array, dict]:
        """The readout's current -> (state, what it puts out after each timestep [B, chunk, K], record)."""
        after, logits, record = self.run_neurons(last.name, chunk, state, current.astype(wide(current.dtype)))
        record = {name: value for name, value in record.items() if name in ("current", "membrane")}
        if isinstance(after, SpikeCountState):
            record |= measured(only_valid(jnp.diff(logits, axis=1, prepend=state.counts[:, None]), valid), chunk)
        return after, logits, record

    def currents(self, x: Array, source: str | None, valid: Array | None = None) -> tuple[Currents, dict[str, Any]]:
        """What a source causes: a layer's outputs, or (None) the encoded image, [B, T, ...] in the compute dtype.

        Returns:
            ({where it arrives: its share of current}, {synapse: running statistics after these} in training).
        """
        found: Currents = {}
        seen: dict[str, Any] = {}
        for target, name in self.targets[source]:
            current = x  # a shortcut between equal shapes adds the input as it is
            if name in self.wiring:
                connection = self.wiring[name]
                main = name == connection.layer
                weights = self.params[connection.layer] if main else self.params[connection.layer]["shortcut"]
                with _part(connection.layer, "synapse"):
                    current = synapse(weights["kernel"].astype(x.dtype), x, connection.stride, pooled=connection.pooled,
                                      groups=connection.groups, forward_mode=self.forward_mode)
                if name in self.stats:
                    current = checkpoint_name(current, "current")
                    with _part(connection.layer, "norm"):
                        current, seen[name] = batch_norm(weights["norm"], self.stats[name], current, self.train, valid)
                if "bias" in weights:  # a shortcut's is in its layer's
                    current = current + weights["bias"].astype(x.dtype)
            found[target] = found[target] + current if target in found else current
        return found, seen if self.train else {}

    def initial_state(self, batch: int, dtype: Any, known: bool = False) -> State:
        """{layer: its neurons' state at rest}, for currents of so many images and this dtype.

        known: whether neurons that start at rest by themselves may be given None, which is no memory to read. On a CPU
            they are not: XLA then plans for more memory in all (ResNet18, batch 16, T=5: 741 MB where 646 do).
        """
        known = known and made_for().platform != "cpu"

        def at_rest(name, population):
            itself = self.net.run_neuron is unroll and getattr(population.neuron, "starts_at_rest", False)
            if known and itself and name != self.net.layers[-1].name:
                return None
            return population.at_rest(self.params, batch, dtype)

        return {name: at_rest(name, population) for name, population in self.populations.items()}

    @property
    def forward_mode(self) -> bool:
        """Whether neurons ask for derivatives in forward mode, which then no other part may stand in the way of."""
        return any(getattr(neuron, "forward_mode", False) for neuron in self.net.neurons().values())


def _part(layer, part):
    """What is computed inside is called LAYER/PART in the compiled program, which `bench.traffic` reads."""
    return jax.named_scope(f"{layer}/{part}")


def _keep(outputs, record):
    for population, found in record.items():
        for name, value in found.items():
            outputs[name][population] = value
