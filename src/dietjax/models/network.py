"""A network: layers in a row, one neuron, one readout. The ANN and the SNN are this one class with another neuron."""

import functools
import numbers
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from ..core.encode import Direct
from ..core.neurons import LI, LIF
from ..core.unroll import over_blocks, unroll
from ..errors import InputError
from ..types import Array, Neuron, State
from .operations import average_pool, batch_norm, init_kernel, synapse
from .recurrent import Recurrent, RecurrentParams
from .spec import Connection, Layer, connections, feeds

Record = dict[str, Any]


class Network(nn.Module):
    """Layers over a block of time. Pure: `init(key, images)`, `apply(variables, images, timesteps=T)`.

    Parameters: {layer: {"kernel", "neuron": LIFParams(leak, threshold), "recurrent"?: {"kernel"}, ...}}; an ANN's are
    the same without "neuron".
    """

    layers: tuple[Layer, ...]
    """From input to output; the last is the readout."""
    image_shape: tuple[int, int, int]
    """[H, W, C]."""
    neuron: Neuron = LIF()
    """Of every layer but the last; `ReLU()` makes it an ANN."""
    encoder: Any = Direct()
    readout: Neuron = LI()
    bias: bool = False
    batch_norm: bool = False
    """Batch norm on every layer's current but the last's. For training ANNs; `convert.fold_batch_norm` removes it."""
    dtype: Any = None
    """Compute dtype of synapses and spikes; None: the common one of images and weights. Membranes: at least float32."""
    param_dtype: Any = jnp.float32
    backend: str = "auto"
    """What runs the neurons over a block, one of `kernels.BACKENDS`."""
    run_neuron: Callable = unroll
    """How a neuron runs over a block: `(neuron, params, state, current, timesteps, backend) -> (state, outputs)`."""

    def connections(self) -> tuple[Connection, ...]:
        """Every synapse with its real shapes, from input to output."""
        return connections(self.layers, self.image_shape)

    @nn.compact
    def __call__(
        self,
        images: Array,
        timesteps: int = 1,
        *,
        train: bool = False,
        chunk: int | None = None,
        truncate: bool = False,
        remat: bool = False,
        state: State = None,
        start: Array | int = 0,
        spikes: bool = False,
    ) -> tuple[Array, Record]:
        """Run T timesteps.

        Args:
            images: [B, H, W, C], normalised, floating.
            timesteps: T >= 1; an ANN has one.
            train: dropout on (needs `rngs={"dropout": key}`), batch statistics updated (`mutable=["batch_stats"]`).
            chunk, truncate, remat: the schedule over time, see `unroll.over_blocks`.
            state: `record["state"]` of the timesteps before these; None: from rest. A constant input is encoded anew.
            start: how many timesteps came before these, for an encoder that draws at each of them.
            spikes: also record every layer's outputs.

        Returns:
            (logits [B, K] after the last step, record), the record holding
            "logits" [B, T, K] after each step; "spike_rate" {layer: spikes per neuron summed over T, mean over batch
            and neurons}, input to output; "state"; with a Poisson encoder "input_rate", spikes per pixel summed over T;
            and if asked for, "spikes" {layer: [B, T, N]}. Under `jit`, what is not used is not computed.
        """
        self._check(images, timesteps)
        chunk = timesteps if chunk is None else chunk
        wiring = {c.name: c for c in self.connections()}
        params = {layer.name: self.param(layer.name, self._init_layer, wiring, layer) for layer in self.layers}
        stats = {}
        if self.batch_norm:
            if train and not self.is_initializing() and chunk != timesteps:
                raise InputError("batch norm in training needs every timestep at once: use chunk=None, "
                                 "or fold it first (dietjax.convert.fold_batch_norm)")
            stats = {name: self.variable("batch_stats", name, self._init_stats, c) for name, c in wiring.items()
                     if name != self.layers[-1].name and not c.recurrent}
        masks = self._dropout_masks(wiring, images.shape[0]) if train and not self.is_initializing() else {}
        key = None if self.encoder.constant else self.make_rng("encode")
        dtype = self.dtype or jnp.result_type(images, params[self.layers[0].name]["kernel"])
        fed_by = feeds(self.layers)
        only_currents = jax.checkpoint_policies.save_only_these_names("current")

        def currents(x, source):
            """{layer: its share of current from this source}, and what batch norm saw on the way."""
            found, seen = {}, {}
            for target, name in fed_by[source]:
                current = x  # a shortcut between equal shapes adds the input as it is
                if name in wiring:
                    weights = params[target] if name == target else params[target]["shortcut"]
                    current = synapse(weights["kernel"].astype(dtype), x, wiring[name].stride)
                    if name in stats:
                        current = checkpoint_name(current, "current")
                        current, seen[name] = batch_norm(weights["norm"], stats[name].value, current, train)
                    if name == target and "bias" in params[target]:
                        current = current + params[target]["bias"].astype(dtype)
                found[target] = found[target] + current if target in found else current
            return found, seen if train else {}

        def fire(layer, state, current):
            """From a layer's current to those that it causes: neuron, dropout, pool, synapses."""
            neuron_params = _neuron_params(layer, params[layer.name])
            state, x = self.run_neuron(self._neuron(layer), neuron_params, state, current, chunk, self.backend)
            record = {"spikes": x} if spikes else {}
            if jax.tree.leaves(state):  # an ANN's activations are no spikes
                record["spike_rate"] = x.mean(dtype=_wide(dtype)) * chunk
            if layer.name in masks:
                x = jnp.where(masks[layer.name], x * jnp.asarray(1 / (1 - layer.dropout), dtype), 0)
            if layer.pool:
                x = average_pool(x)
            return state, *currents(x, layer.name), record

        encoded = None  # a constant input passes its synapse once, outside the loop over blocks
        if self.encoder.constant:
            encoded = currents(self.encoder(key, images, 0, timesteps).astype(dtype), None)

        def block(state, offset):
            outputs = {"spike_rate": OrderedDict(), "spikes": OrderedDict()}
            after, found = {}, encoded
            if found is None:
                x = self.encoder(key, images, start + offset, chunk).astype(dtype)
                outputs["input_rate"] = jnp.abs(x).mean(dtype=jnp.float32) * chunk
                found = currents(x, None)
            arrived, outputs["updates"] = (dict(part) for part in found)
            for layer in self.layers[:-1]:
                # for the backward pass, spikes, pools and dropouts are found again from the currents, not kept
                run = jax.checkpoint(functools.partial(fire, layer), policy=only_currents)
                after[layer.name], found, seen, record = run(state[layer.name], arrived.pop(layer.name))
                outputs["updates"].update(seen)
                for name, value in record.items():
                    outputs[name][layer.name] = value
                for target, current in found.items():
                    arrived[target] = current + arrived[target] if target in arrived else current
            last = self.layers[-1].name
            after[last], outputs["logits"] = unroll(
                self.readout, (), state[last], arrived.pop(last).astype(_wide(dtype)), chunk)
            return after, outputs

        state = self._initial_state(params, wiring, images.shape[0], dtype) if state is None else state
        state, outputs = over_blocks(block, state, timesteps, chunk, truncate=truncate, remat=remat)
        if train and not self.is_initializing():
            for name, value in outputs["updates"].items():
                stats[name].value = jax.tree.map(lambda x: x[0], value)
        logits = _join_blocks(outputs["logits"])
        record = {"logits": logits, "state": state,
                  "spike_rate": OrderedDict((k, v.sum(0)) for k, v in outputs["spike_rate"].items())}
        if "input_rate" in outputs:
            record["input_rate"] = outputs["input_rate"].sum(0)
        if spikes:
            record["spikes"] = OrderedDict((k, _join_blocks(v)) for k, v in outputs["spikes"].items())
        return logits[:, -1], record

    def _check(self, images, timesteps):
        if images.shape[1:] != tuple(self.image_shape):
            raise InputError(f"images have shape {images.shape}, this network takes [B, H, W, C] with [H, W, C] = "
                             f"{tuple(self.image_shape)}; build it with image_shape={images.shape[1:]} or resize")
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise InputError(f"images are {images.dtype}; make them floating point first (dietjax.data.normalise)")
        if not isinstance(timesteps, numbers.Integral) or timesteps < 1:
            raise InputError(f"timesteps must be a whole number of at least 1, got {timesteps!r}")

    def _init_layer(self, key, wiring, layer):
        connection = wiring[layer.name]
        shortcut = wiring.get(f"{layer.name}_shortcut")
        key, shortcut_key, neuron_key = jax.random.split(key, 3)
        normed = self.batch_norm and layer is not self.layers[-1]

        def weights(key, connection):
            features = connection.kernel[-1]
            kernel = {"kernel": init_kernel(key, connection.kernel, self.param_dtype)}
            norm = {"scale": jnp.ones(features, self.param_dtype), "bias": jnp.zeros(features, self.param_dtype)}
            return kernel | {"norm": norm} if normed else kernel

        params = weights(key, connection)
        if self.bias:
            params["bias"] = jnp.zeros(layer.features, self.param_dtype)
        if shortcut is not None:
            params["shortcut"] = weights(shortcut_key, shortcut)
        if layer is not self.layers[-1]:
            neuron = self._neuron(layer).init(neuron_key, connection.out_shape, self.param_dtype)
            if layer.recurrent:
                params["recurrent"], neuron = {"kernel": neuron.kernel}, neuron.neuron
            if jax.tree.leaves(neuron):
                params["neuron"] = neuron
        return params

    def _init_stats(self, connection):
        features = connection.kernel[-1]
        return {"mean": jnp.zeros(features, self.param_dtype), "var": jnp.ones(features, self.param_dtype)}

    def _initial_state(self, params, wiring, batch, dtype):
        def at_rest(layer):
            shape = (batch, *wiring[layer.name].out_shape)
            state = self._neuron(layer).initial_state(_neuron_params(layer, params[layer.name]), shape, dtype)
            if layer.recurrent and not jax.tree.leaves(state.neuron):
                raise InputError(f"layer {layer.name!r} is recurrent, and {self.neuron} has no memory: at an ANN's one "
                                 "timestep nothing would come back; use a spiking neuron, or recurrent=False")
            return state

        return {layer.name: at_rest(layer) for layer in self.layers}

    def _neuron(self, layer):
        if layer is self.layers[-1]:
            return self.readout
        return Recurrent(self.neuron, layer.kernel) if layer.recurrent else self.neuron

    def _dropout_masks(self, wiring, batch):
        """One mask per layer and image for all timesteps: a new one at each step would drown the membrane in noise."""
        dropped = [layer for layer in self.layers[:-1] if layer.dropout > 0]
        if not dropped:
            return {}
        keys = jax.random.split(self.make_rng("dropout"), len(dropped))
        return {layer.name: jax.random.bernoulli(key, 1 - layer.dropout, (batch, 1, *wiring[layer.name].out_shape))
                for layer, key in zip(dropped, keys, strict=True)}


def _neuron_params(layer, params):
    if not layer.recurrent:
        return params.get("neuron", ())
    if "recurrent" not in params:
        raise InputError(f"layer {layer.name!r} is recurrent, its parameters have no 'recurrent' kernel; see net.init")
    return RecurrentParams(params["recurrent"]["kernel"], params.get("neuron", ()))


def _wide(dtype):
    return jnp.promote_types(dtype, jnp.float32)


def _join_blocks(x):
    """[blocks, B, chunk, ...] -> [B, T, ...]."""
    return jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1, *x.shape[3:])
