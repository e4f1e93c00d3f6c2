"""A network: layers in a row, one neuron, one readout. The ANN and the SNN are this one class with another neuron."""

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ..core.dropout import Dropout
from ..core.encode import Direct
from ..core.explicit import run_automatically
from ..core.neurons import LI, LIF
from ..core.unroll import unroll
from ..errors import InputError
from ..types import Array, Neuron, State
from .forward import MEASURED, Forward
from .inputs import check_input, hold_last
from .inside import RECORDED, check_recorded, per_event
from .operations import init_kernel
from .populations import check_trained_with, populations
from .recurrent import Recurrent
from .spec import Layer, projection
from .wiring import Connection, connections

Record = dict[str, Any]
"""What a network tells beside its logits. A population is a layer, by its name, or the neurons of its residual's
projection, by LAYER_shortcut.

- "logits" [B, T, K] after each step; "state"; "lengths" [B], where they were given.
- "spike_rate" {population: events (outputs that are not 0) per neuron summed over T, mean over batch and neurons};
  "magnitude" {population: mean size of its events, of spikes 1}; "unit_share" {population: share of its events whose
  size is exactly 1, of spikes all}.
- "sent_rate" and "sent_size" {layer with a residual or a max pool: events that leave it per neuron over T, and the sum
  of their sizes}.
- Under frames or a Poisson encoder "input_rate", events per pixel over T, "input_magnitude" and "input_unit_share".
- What `record` asks for, {population: [B, T, N]}.
"""


class Network(nn.Module):
    """Layers over a block of time. Pure: `init(key, images)`, `apply(variables, images, timesteps=T)`.

    Parameters: {layer: {"kernel", "neuron": LIFParams(leak, threshold), "recurrent"?: {"kernel"}, ...}}; an ANN's are
    the same without "neuron".
    """

    layers: tuple[Layer, ...]
    """From input to output; the last is the readout."""
    image_shape: tuple[int, ...]
    """Of one image or frame: (H, W, C); (L, C) of a signal; (C,) where every layer is fully connected."""
    neuron: Neuron = LIF()
    """Of every layer but the last that names none of its own; `ReLU()` makes it an ANN."""
    encoder: Any = Direct()
    readout: Neuron = LI()
    """Of the last layer. One that fires (`LIF()`) puts out the number of its spikes so far."""
    bias: bool = False
    batch_norm: bool = False
    """Batch norm on every layer's current but the last's, over batch and time. For training; `convert.fold_batch_norm`
    removes it. In a spiking network it starts as tdBN does: at currents with the deviation of the threshold."""
    time_weights: int | None = None
    """T of networks that weigh every layer's current, but the readout's, with a trained number for each timestep: with
    `batch_norm` this is TEBN (Duan et al., "Temporal effective batch normalization in spiking neural networks", NeurIPS
    2022), with one weight for all that adds up in a layer. They start at 1, stay when batch norm is folded, and tie the
    network to at most T timesteps. None: no weights."""
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

    def neurons(self) -> dict[str, Neuron]:
        """{layer: its neuron} of every layer but the readout."""
        return {layer.name: self.neuron if layer.neuron is None else layer.neuron for layer in self.layers[:-1]}

    @nn.compact
    def __call__(
        self,
        images: Array,
        timesteps: int | None = None,
        *,
        lengths: Array | None = None,
        train: bool = False,
        chunk: int | None = None,
        truncate: bool = False,
        remat: bool = False,
        state: State = None,
        start: Array | int = 0,
        record: tuple[str, ...] = (),
    ) -> tuple[Array, Record]:
        """Run T timesteps.

        Args:
            images: normalised, [B, H, W, C] (`image_shape`), the same at every timestep, or frames [B, T, H, W, C], one
                for each. A NaN gives NaN spikes and logits wherever it reaches.
            timesteps: T >= 1 of images, None: 1, which is an ANN's; frames have their own.
            lengths: [B], how many of its frames each example has, at least 1; None: all. What lies beyond changes no
                logit (they stay as they were), rate, gradient or batch statistic; the state goes on. Under `jit`, where
                they are not known, lengths above T count as T, below 1 as 1.
            train: dropout on (needs `rngs={"dropout": key}`), batch statistics updated (`mutable=["batch_stats"]`).
            chunk, truncate, remat: the schedule, see `unroll.over_chunks`.
            state: `record["state"]` of the timesteps before these; None: from rest. A constant input is encoded again.
            start: how many timesteps came before these, for encoders that draw and for `time_weights`.
            record: what else is recorded of every population, of "spikes" (what it puts out), "current" and "membrane"
                (after each timestep, of neurons that have one; their steps then run one by one).

        Returns:
            (logits [B, K] after the last step, `Record`).
        """
        timesteps = check_input(self, images, timesteps, lengths, state, start)
        check_recorded(record)
        chunk = timesteps if chunk is None else chunk
        learns = train and not self.is_initializing()
        params, stats, dropouts = self._variables(images.shape[0], learns, chunk == timesteps)
        if self.is_initializing():  # variables follow from shapes alone, so nothing has to run
            return jnp.full((images.shape[0], self.layers[-1].features), jnp.nan), {}
        key = None if self.encoder.constant else self.make_rng("encode")

        def run(params, stats, dropouts, key, state, start, images, lengths):
            forward = Forward(self, params, stats, dropouts, train, record)
            return _joined(*forward.run(images, timesteps, key, chunk=chunk, truncate=truncate, remat=remat,
                                        state=state, start=start, lengths=lengths))

        means = {name: stat.value for name, stat in stats.items()}
        arguments = params, means, dropouts, key, state, start, images, lengths
        found, (rates, updates) = run_automatically(run, images, *arguments)
        if learns:
            for name, value in updates.items():
                stats[name].value = value
        if lengths is not None:
            found["logits"] = hold_last(found["logits"], lengths)
            found["lengths"] = jnp.clip(jnp.asarray(lengths), 1, timesteps)
        return found["logits"][:, -1], found | rates

    def _variables(self, batch, learns, at_once):
        """(parameters, running statistics, dropouts) by name."""
        wiring, there = {c.name: c for c in self.connections()}, populations(self)
        if not self.is_initializing():  # before linen does, which can only tell shapes
            check_trained_with(self, there, self.variables.get("params", {}))
        params = {layer.name: self.param(layer.name, self._init_layer, wiring, there, layer) for layer in self.layers}
        if self.is_initializing():  # what cannot be at rest cannot run
            jax.eval_shape(lambda params: [p.at_rest(params, batch, jnp.float32) for p in there.values()], params)
        stats = self._batch_stats(wiring)
        if stats and learns and not at_once:
            raise InputError("batch norm in training needs every timestep at once: use chunk=None, "
                             "or fold it first (dietjax.convert.fold_batch_norm)")
        return params, stats, self._dropouts(wiring, batch) if learns else {}

    def _init_layer(self, key, wiring, there, layer):
        key, shortcut_key, neuron_key = jax.random.split(key, 3)
        name, shortcut = layer.name, wiring.get(projection(layer.name))
        normed = self.batch_norm and layer is not self.layers[-1]
        added = 2 if shortcut is not None and layer.residual is None else 1

        def weights(key, connection):
            features = connection.kernel[-1]
            kernel = {"kernel": init_kernel(key, connection.kernel, self.param_dtype)}
            if not normed:
                return kernel
            scale = _norm_scale(self.neurons()[name], added)
            return kernel | {"norm": {"scale": jnp.full(features, scale, self.param_dtype),
                                      "bias": jnp.zeros(features, self.param_dtype)}}

        def with_neuron(params, population, key):
            neuron = population.neuron.init(key, population.shape, self.param_dtype)
            if isinstance(population.neuron, Recurrent):
                params["recurrent"], neuron = {"kernel": neuron.kernel}, neuron.neuron
            return params | {"neuron": neuron} if jax.tree.leaves(neuron) else params

        params = weights(key, wiring[name])
        if self.bias:
            params["bias"] = jnp.zeros(layer.features, self.param_dtype)
        if self.time_weights is not None and layer is not self.layers[-1]:
            params["time"] = jnp.ones(self.time_weights, self.param_dtype)
        if shortcut is not None:
            params["shortcut"] = weights(shortcut_key, shortcut)
            if shortcut.name in there:  # neurons of their own, and so a bias
                params["shortcut"] |= {"bias": jnp.zeros(layer.features, self.param_dtype)} if self.bias else {}
                params["shortcut"] = with_neuron(params["shortcut"], there[shortcut.name], neuron_key)
        return with_neuron(params, there[name], neuron_key)

    def _batch_stats(self, wiring):
        """{synapse: its running statistics}; none of the readout's and of recurrent ones."""
        if not self.batch_norm:
            return {}
        return {name: self.variable("batch_stats", name, self._init_stats, c) for name, c in wiring.items()
                if name != self.layers[-1].name and not c.recurrent}

    def _init_stats(self, connection):
        features = connection.kernel[-1]
        return {"mean": jnp.zeros(features, self.param_dtype), "var": jnp.ones(features, self.param_dtype)}

    def _dropouts(self, wiring, batch):
        """One mask per layer and image for all timesteps: a new one at each step would drown the membrane in noise."""
        dropped = [layer for layer in self.layers[:-1] if layer.dropout > 0]
        if not dropped:
            return {}
        keys = jax.random.split(self.make_rng("dropout"), len(dropped))

        def draw(key, layer):
            kept = jax.random.bernoulli(key, 1 - layer.dropout, (batch, 1, *wiring[layer.name].out_shape))
            return Dropout(kept.astype(jnp.int8), 1 / (1 - layer.dropout))

        return {layer.name: draw(key, layer) for layer, key in zip(dropped, keys, strict=True)}


def _norm_scale(neuron, added):
    """Where a norm's scale starts: 1 in an ANN, in a spiking network α·θ with α = 1/√n where n norms add up, so that a
    layer's current starts with the deviation of its threshold: tdBN (Zheng et al., AAAI 2021, arXiv 2011.05280, eqs.
    5-8), whose factor α·θ and trained λ are one trained scale here.
    """
    return getattr(neuron, "threshold", 1.0) / math.sqrt(added) if getattr(neuron, "spiking", False) else 1.0


def _joined(state, outputs):
    """The outputs of chunks, joined: (what there is of each image, (rates, {synapse: its running statistics}))."""
    of_images = {"logits": _join_chunks(outputs["logits"]), "state": state}
    for name in RECORDED:
        if outputs[name]:
            of_images[name] = OrderedDict((k, _join_chunks(v)) for k, v in outputs[name].items())
    sums = {name: OrderedDict((k, v.sum(0)) for k, v in outputs[name].items()) for name in MEASURED}
    events = sums["rate"]
    rates: Record = {"spike_rate": events, "magnitude": per_event(sums["size"], events),
                     "unit_share": per_event(sums["units"], events),
                     "sent_rate": sums["sent_rate"], "sent_size": sums["sent_size"]}
    if "input" in outputs:
        of_input = {k: v.sum(0) for k, v in outputs["input"].items()}
        means = per_event(of_input, dict.fromkeys(of_input, of_input["rate"]))
        rates |= {"input_rate": of_input["rate"], "input_magnitude": means["size"], "input_unit_share": means["units"]}
    return of_images, (rates, jax.tree.map(lambda x: x[0], outputs["updates"]))


def _join_chunks(x):
    """[chunks, B, chunk, ...] -> [B, T, ...]."""
    return jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1, *x.shape[3:])
