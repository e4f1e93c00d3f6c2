"""A network: layers in a row, one neuron, one readout. The ANN and the SNN are this one class with another neuron."""

import math
import numbers
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ..core.encode import Direct
from ..core.explicit import run_automatically
from ..core.neurons import LI, LIF
from ..core.unroll import unroll
from ..errors import InputError
from ..types import Array, Neuron, State
from .forward import Forward, neuron_of
from .operations import init_kernel
from .spec import Connection, Layer, connections

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
    """Of the last layer. One that fires (`LIF()`) puts out the number of its spikes so far."""
    bias: bool = False
    batch_norm: bool = False
    """Batch norm on every layer's current but the last's, over batch and time. For training; `convert.fold_batch_norm`
    removes it. In a spiking network it starts as tdBN does: at currents with the deviation of the threshold."""
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
            chunk, truncate, remat: the schedule over time, see `unroll.over_chunks`.
            state: `record["state"]` of the timesteps before these; None: from rest. A constant input is encoded again.
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
        learns = train and not self.is_initializing()
        stats = self._batch_stats(wiring)
        if stats and learns and chunk != timesteps:
            raise InputError("batch norm in training needs every timestep at once: use chunk=None, "
                             "or fold it first (dietjax.convert.fold_batch_norm)")
        masks = self._dropout_masks(wiring, images.shape[0]) if learns else {}
        key = None if self.encoder.constant else self.make_rng("encode")

        def run(params, stats, masks, key, state, start, images):
            forward = Forward(self, params, stats, masks, train, spikes)
            return _joined(*forward.run(images, timesteps, key, chunk=chunk, truncate=truncate, remat=remat,
                                        state=state, start=start))

        means = {name: stat.value for name, stat in stats.items()}
        record, (rates, updates) = run_automatically(run, images, params, means, masks, key, state, start, images)
        if learns:
            for name, value in updates.items():
                stats[name].value = value
        return record["logits"][:, -1], record | rates

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
        scale = _norm_scale(self.neuron, 1 if shortcut is None else 2)

        def weights(key, connection):
            features = connection.kernel[-1]
            kernel = {"kernel": init_kernel(key, connection.kernel, self.param_dtype)}
            norm = {"scale": jnp.full(features, scale, self.param_dtype), "bias": jnp.zeros(features, self.param_dtype)}
            return kernel | {"norm": norm} if normed else kernel

        params = weights(key, connection)
        if self.bias:
            params["bias"] = jnp.zeros(layer.features, self.param_dtype)
        if shortcut is not None:
            params["shortcut"] = weights(shortcut_key, shortcut)
        neuron = neuron_of(self, layer).init(neuron_key, connection.out_shape, self.param_dtype)
        if layer.recurrent:
            params["recurrent"], neuron = {"kernel": neuron.kernel}, neuron.neuron
        if jax.tree.leaves(neuron):
            params["neuron"] = neuron
        return params

    def _batch_stats(self, wiring):
        """{synapse: its running statistics}; none of the readout's and of recurrent ones."""
        if not self.batch_norm:
            return {}
        return {name: self.variable("batch_stats", name, self._init_stats, c) for name, c in wiring.items()
                if name != self.layers[-1].name and not c.recurrent}

    def _init_stats(self, connection):
        features = connection.kernel[-1]
        return {"mean": jnp.zeros(features, self.param_dtype), "var": jnp.ones(features, self.param_dtype)}

    def _dropout_masks(self, wiring, batch):
        """One mask per layer and image for all timesteps: a new one at each step would drown the membrane in noise."""
        dropped = [layer for layer in self.layers[:-1] if layer.dropout > 0]
        if not dropped:
            return {}
        keys = jax.random.split(self.make_rng("dropout"), len(dropped))
        return {layer.name: jax.random.bernoulli(key, 1 - layer.dropout, (batch, 1, *wiring[layer.name].out_shape))
                for layer, key in zip(dropped, keys, strict=True)}


def _norm_scale(neuron, added):
    """Where a norm's scale starts: 1 in an ANN, in a spiking network α·θ with α = 1/√n where n norms add up, so that a
    layer's current starts with the deviation of its threshold: tdBN (Zheng et al., AAAI 2021, arXiv 2011.05280, eqs.
    5-8), whose factor α·θ and trained λ are one trained scale here.
    """
    return getattr(neuron, "threshold", 1.0) / math.sqrt(added) if getattr(neuron, "spiking", False) else 1.0


def _joined(state, outputs):
    """The outputs of chunks, joined: (what there is of each image, (rates, {synapse: its running statistics}))."""
    of_images = {"logits": _join_chunks(outputs["logits"]), "state": state}
    if outputs["spikes"]:
        of_images["spikes"] = OrderedDict((k, _join_chunks(v)) for k, v in outputs["spikes"].items())
    rates = {"spike_rate": OrderedDict((k, v.sum(0)) for k, v in outputs["spike_rate"].items())}
    if "input_rate" in outputs:
        rates["input_rate"] = outputs["input_rate"].sum(0)
    return of_images, (rates, jax.tree.map(lambda x: x[0], outputs["updates"]))


def _join_chunks(x):
    """[chunks, B, chunk, ...] -> [B, T, ...]."""
    return jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1, *x.shape[3:])
