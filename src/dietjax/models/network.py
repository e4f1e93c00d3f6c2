"""A network: layers in a row, one neuron, one readout. The ANN and the SNN are this one class with another neuron."""

import dataclasses
import functools
import math
import numbers
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from ..encode import Direct
from ..errors import InputError, unknown
from ..neurons import LI, LIF
from ..types import Array, Neuron, State
from ..unroll import over_blocks, unroll
from .layer import Connection, Layer, average_pool, batch_norm, connections, init_kernel, synapse

Record = dict[str, Any]


class Network(nn.Module):
    """Layers over a block of time. Pure: `init(key, images)`, `apply(variables, images, timesteps=T)`.

    Parameters: {layer: {"kernel", "neuron": LIFParams(leak, threshold), ...}}; an ANN's are the same without "neuron".
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
        spikes: bool = False,
    ) -> tuple[Array, Record]:
        """Run T timesteps.

        Args:
            images: [B, H, W, C], normalised, floating.
            timesteps: T >= 1; an ANN has one.
            train: dropout on (needs `rngs={"dropout": key}`), batch statistics updated (`mutable=["batch_stats"]`).
            chunk, truncate, remat: the schedule over time, see `unroll.over_blocks`.
            state: `record["state"]` of the timesteps before these; None: from rest. (A Poisson encoder starts anew:
                give it another key.)
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
            stats = {name: self.variable("batch_stats", name, self._init_stats, wiring[name])
                     for name in wiring if name != self.layers[-1].name}
        masks = self._dropout_masks(wiring, images.shape[0]) if train and not self.is_initializing() else {}
        key = None if self.encoder.constant else self.make_rng("encode")
        dtype = self.dtype or jnp.result_type(images, params[self.layers[0].name]["kernel"])
        fed_by = self._fed_by()
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
            neuron_params = params[layer.name].get("neuron", ())
            state, x = self.run_neuron(self.neuron, neuron_params, state, current, chunk, self.backend)
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

        def block(state, start):
            outputs = {"spike_rate": OrderedDict(), "spikes": OrderedDict()}
            after, found = {}, encoded
            if found is None:
                x = self.encoder(key, images, start, chunk).astype(dtype)
                outputs["input_rate"] = jnp.abs(x).mean(dtype=jnp.float32) * chunk
                found = currents(x, None)
            arrived, outputs["updates"] = (dict(part) for part in found)
            for layer in self.layers[:-1]:
                run = functools.partial(fire, layer)
                if jax.tree.leaves(state[layer.name]):  # an ANN's activations are as large as its currents
                    # for the backward pass, spikes, pools and dropouts are found again from the currents, not kept
                    run = jax.checkpoint(run, policy=only_currents)
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

    def _fed_by(self):
        """{source: [(layer, its synapse)]}: every layer that a layer's spikes (None: the encoded image) go to."""
        names = [None, *(layer.name for layer in self.layers)]
        comes_from = dict(zip(names[1:], names[:-1], strict=True))
        fed_by = {name: [] for name in names}
        for layer in self.layers:
            fed_by[comes_from[layer.name]].append((layer.name, layer.name))
        for layer in self.layers:  # after the main synapses, which bring the bias
            if layer.shortcut is not None:
                fed_by[comes_from[layer.shortcut]].append((layer.name, f"{layer.name}_shortcut"))
        return fed_by

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
            neuron = self.neuron.init(neuron_key, connection.out_shape, self.param_dtype)
            if jax.tree.leaves(neuron):
                params["neuron"] = neuron
        return params

    def _init_stats(self, connection):
        features = connection.kernel[-1]
        return {"mean": jnp.zeros(features, self.param_dtype), "var": jnp.ones(features, self.param_dtype)}

    def _initial_state(self, params, wiring, batch, dtype):
        def at_rest(layer):
            neuron = self.readout if layer is self.layers[-1] else self.neuron
            shape = (batch, *wiring[layer.name].out_shape)
            return neuron.initial_state(params[layer.name].get("neuron", ()), shape, dtype)

        return {layer.name: at_rest(layer) for layer in self.layers}

    def _dropout_masks(self, wiring, batch):
        """One mask per layer and image for all timesteps: a new one at each step would drown the membrane in noise."""
        dropped = [layer for layer in self.layers[:-1] if layer.dropout > 0]
        if not dropped:
            return {}
        keys = jax.random.split(self.make_rng("dropout"), len(dropped))
        return {layer.name: jax.random.bernoulli(key, 1 - layer.dropout, (batch, 1, *wiring[layer.name].out_shape))
                for layer, key in zip(dropped, keys, strict=True)}


def _wide(dtype):
    return jnp.promote_types(dtype, jnp.float32)


def _join_blocks(x):
    """[blocks, B, chunk, ...] -> [B, T, ...]."""
    return jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1, *x.shape[3:])


def make(layers: tuple[Layer, ...], image_shape: tuple[int, int, int], options: dict[str, Any]) -> Network:
    """A network of these layers; `options` are the other fields of `Network`, checked by name."""
    fields = [f.name for f in dataclasses.fields(Network) if f.name not in ("layers", "image_shape", "parent", "name")]
    for option in options:
        if option not in fields:
            raise unknown("network option", option, fields)
    net = Network(layers, tuple(image_shape), **options)
    net.connections()  # an image size that does not fit is an error here, not in the middle of a run
    return net


def exact_name(name: str, known: Iterable[str]) -> str:
    """The known network meant by "VGG16", "vgg-16", "resnet20" ...; VGG6 is called VGG5 in the authors' code."""
    spelled = {k.lower(): k for k in known}
    found = spelled.get(name.lower().replace("-", "").replace("_", "").replace("vgg5", "vgg6"))
    if found is None:
        raise unknown("network", name, spelled.values())
    return found


def parameter_count(net: Network) -> int:
    """Number of scalars in the network's parameters, from the shapes alone."""
    images = jax.ShapeDtypeStruct((1, *net.image_shape), net.param_dtype)
    variables = jax.eval_shape(net.init, jax.random.key(0), images)
    return sum(math.prod(x.shape) for x in jax.tree.leaves(variables["params"]))
