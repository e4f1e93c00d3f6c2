"""Threshold balancing: a threshold for every layer from the currents that it receives (Rathi & Roy, Algorithm 1)."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..core.unroll import unroll
from ..errors import InputError
from ..models import Network
from ..models.spec import projection
from ..types import Array
from .checks import (
    check_convertible,
    check_finite,
    check_folded,
    check_percentile,
    check_scale,
    check_spiking,
    lasting,
    measured,
    timesteps_of,
)
from .select import kth_smallest
from .weights import copied, hidden, own_weights


def with_neurons(net: Network, variables: Mapping[str, Any]) -> dict:
    """The same weights with the neurons' initial parameters beside each: what an ANN's variables lack.

    Raises:
        InputError: a recurrent layer or a readout that fires, which no ANN has.
    """
    check_convertible(net)
    params = copied(variables["params"])
    for population in hidden(net).values():
        weights = own_weights(params, population)
        weights.pop("neuron", None)
        neuron = population.neuron.init(jax.random.key(0), population.shape, weights["kernel"].dtype)
        if jax.tree.leaves(neuron):
            weights["neuron"] = neuron
    return {**variables, "params": params}


def balance_thresholds(net: Network, variables: Mapping[str, Any], images: Array, *, timesteps: int | None = None,
                       percentile: float = 99.7, key: Array | None = None, lengths: Array | None = None) -> dict:
    """Threshold balancing: layer by layer from the input, θ = the largest over time of a percentile of the current.

        θ_l = max over t of the k-th smallest current of layer l at t,  k = 1 + round(percentile/100 · (n − 1))

    n counts the images and neurons of the layer; the current is the spiking network's own (weights times the spikes of
    the layers before it, at the thresholds just found for them), with every leak 1. Residual blocks are balanced too
    (the authors' code leaves theirs at the default). Thresholds and leaks that `variables` may hold do not matter, so
    converting twice changes nothing. `percentile=100` with a Poisson encoder is SpikeNorm (Sengupta et al. 2019).
    How a threshold is set, the neuron says (`with_threshold`, see `types.Neuron`).

    All layers are found in one pass over the whole block of time: it holds about 3 · images · timesteps · (largest
    layer) numbers. Where that is too much, use fewer images: the first layer of a VGG has 65,536 neurons per image.

    Args:
        net: a spiking network without batch norm (see `fold_batch_norm`).
        variables: its variables, or an ANN's of the same layers.
        images: [B, H, W, C], normalised, or frames [B, T, H, W, C]; the paper's batch is 512.
        timesteps: over which currents are measured; None: 100, and of frames as many as there are.
        percentile: in (0, 100].
        key: for the spikes of a Poisson encoder.
        lengths: [B], how many of its frames each example has; None: all. At each t, n counts those that last.

    Returns:
        variables with the thresholds found and leaks of 1.

    Raises:
        InputError: not a spiking network, a neuron that does not say how its threshold is set (PLIF: without leak it
            has no input) or is never reset, a recurrent layer, batch norm, percentile out of range, frames and
            timesteps that disagree, images that are not finite, or a layer whose percentile current is not positive
            and finite (it could never have a threshold); or it does not fit (OutOfMemory).
    """
    timesteps = timesteps_of(net, images, timesteps, 100, lengths)
    images, lasts = lasting(net, images, lengths)
    check_folded(net, variables)
    check_percentile(percentile)
    check_finite(images)
    variables = with_neurons(net, variables)
    check_spiking(net)
    measuring = net.clone(run_neuron=_Balance(percentile, lasts))
    steps, ends = (timesteps, None) if lasts is None else (max(lasts), jnp.array(lasts))

    @jax.jit
    def measure(variables, images):
        rngs = None if key is None else {"encode": key}
        return measuring.apply(variables, images, timesteps=steps, lengths=ends, rngs=rngs)[1]["state"]

    found = measured(measure, net, steps, variables, images)
    for name, population in hidden(net).items():
        threshold = np.max(np.asarray(found[name].threshold))
        if not np.isfinite(threshold):
            raise InputError(f"layer {name!r}: the {percentile}th percentile of its current is {threshold}; its "
                             "weights, or those before it, hold NaN or infinity: the ANN has diverged")
        if not threshold > 0:
            raise InputError(f"layer {name!r}: the {percentile}th percentile of its current is {threshold}, a "
                             "threshold must be > 0. Too few of its neurons are driven above zero, or no spike reaches "
                             "them in time: use more timesteps, more images, a higher percentile, or train further")
        own_weights(variables["params"], population)["neuron"] = found[name]
    return variables


@dataclasses.dataclass(frozen=True)
class _Balance:
    """Runs a neuron in the place of `unroll`: sets its threshold from the currents and fires with it.

    Returns the parameters found in place of the state.
    """

    percentile: float
    lengths: tuple[int, ...] | None
    """Timesteps that each example lasts; None: all of them."""

    def __call__(self, neuron, params, state, current, timesteps, backend):
        batch, steps, *neurons = current.shape
        lasts = np.full(batch, steps) if self.lengths is None else np.array(self.lengths)
        valid = np.arange(steps) < lasts[:, None]
        counted, beyond = (math.prod(neurons) * examples.sum(0) for examples in (valid, ~valid))
        ranks = beyond + 1 + np.round(0.01 * self.percentile * (counted - 1)).astype(int)
        by_step = current.astype(jnp.promote_types(current.dtype, jnp.float32))
        if beyond.any():  # below all that count
            by_step = jnp.where(valid.reshape(batch, steps, *(1 for _ in neurons)), by_step, -jnp.inf)
        by_step = jnp.moveaxis(by_step, 1, 0).reshape(steps, -1)
        threshold = jax.vmap(kth_smallest)(by_step, jnp.asarray(ranks)).max()
        params = neuron.with_threshold(params, threshold)
        state = neuron.initial_state(params, current.shape[:1] + current.shape[2:], current.dtype)  # at its thresholds
        return params, unroll(neuron, params, state, current, timesteps, backend)[1]


def scale_thresholds(variables: Mapping[str, Any], factor: float) -> dict:
    """Every threshold times a factor: fewer timesteps need lower thresholds to fire at all.

    Raises:
        InputError: the factor is not > 0 and finite, or the variables hold no threshold.
    """
    check_scale(factor)
    params = copied(variables["params"])
    spiking = [weights for layer in params.values() for weights in (layer, layer.get("shortcut", {}))
               if hasattr(weights.get("neuron"), "threshold")]
    if not spiking:
        raise InputError("these variables hold no thresholds (an ANN's?); balance them first")
    for weights in spiking:
        neuron = weights["neuron"]
        weights["neuron"] = neuron._replace(threshold=factor * neuron.threshold)
    return {**variables, "params": params}


def unit_thresholds(net: Network, variables: Mapping[str, Any]) -> dict:
    """Every layer's current in units of its threshold, which changes no spike: for training from initial weights.

        W_l ← W_l/θ_l,   b_l ← b_l/θ_l,   θ_l ← 1          (θ_l the largest where a layer has several)

    A step of Adam moves every weight by the learning rate. Thresholds balanced on initial weights lie orders of
    magnitude apart, so that such a step is small against one layer's and many times another's; in these units it is
    the same against each. A layer that an identity shortcut enters keeps its threshold: spikes of 1 arrive there.

    Raises:
        InputError: a recurrent layer, a readout that fires, batch norm, or no thresholds.
    """
    check_convertible(net)
    check_spiking(net)
    check_folded(net, variables)
    synapses = {c.name for c in net.connections()}
    params = copied(variables["params"])
    for population in hidden(net).values():
        layer, weights = population.layer, own_weights(params, population)
        if "neuron" not in weights:
            raise InputError("these variables hold no thresholds (an ANN's?); balance them first")
        if layer.shortcut is None or projection(layer.name) in synapses:
            unit, neuron = jnp.max(weights["neuron"].threshold), weights["neuron"]
            into_current = ("kernel", "bias", "shortcut") if layer.residual is None else ("kernel", "bias")
            scaled = {name: weights[name] for name in into_current if name in weights}
            weights |= jax.tree.map(lambda w, unit=unit: w / unit, scaled)
            weights["neuron"] = neuron._replace(threshold=neuron.threshold / unit)
    return {**variables, "params": params}

