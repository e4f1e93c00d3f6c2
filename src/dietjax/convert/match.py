"""A conversion that keeps the ANN's function: every spike is worth its layer's threshold."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..core.encode import Direct
from ..core.neurons import IFParams
from ..core.neurons.params import SpikingParams
from ..core.unroll import unroll
from ..errors import InputError
from ..models import Layer, Network
from ..models.inputs import is_framed
from ..models.spec import projection
from ..types import Array
from .balance import with_neurons
from .checks import (
    check_convertible,
    check_finite,
    check_folded,
    check_percentile,
    check_scale,
    check_spiking,
    check_worth,
    lasting,
    measured,
)
from .select import kth_smallest


def match_activations(net: Network, variables: Mapping[str, Any], images: Array, *, percentile: float = 99.9,
                      scale: float = 1.0, lengths: Array | None = None) -> dict:
    """The ANN's function in spikes: thresholds from its activations, and every spike worth its threshold.

        θ_l = s·λ_l,   W_l ← W_l · (what a spike that arrives is worth),   b_l stays

    A spike of layer l is worth θ_l, on every synapse behind it, pools and projection shortcuts included (an image's
    pixel is worth itself). Its rate times θ_l then tends to the ANN's activation, clipped at θ_l, and logits after T
    steps are T times those of the ANN so clipped: the error falls like 1/T, for every s, and is about half where
    membranes start at half their threshold (`LIF(initial_membrane=0.5)`). An identity shortcut adds spikes of 1 as
    they are, so the layer that it enters counts in the worth v of these: its W_l, b_l and θ_l are divided by v, which
    changes no spike, and its spike is worth v·(θ_l/v).

    λ_l is the layer's trained level where `variables` hold one (an ANN's neuron with a `threshold` among its
    parameters, such as QCFS; one a channel too), else the percentile of its activations over all images and neurons,
    those of ReLU. Lower thresholds (s < 1) fire more and clip more. The limit asks for reset="subtract" (with "zero"
    a spike takes more than its worth) and for a readout LI() of leak 1. The ANN sees every frame by itself: of frames,
    activations are those of all of them.

    Sources: levels and the worth of a spike, Rueckauer et al. 2017 (doi 10.3389/fnins.2017.00682), with their 99.9, and
    Diehl et al. 2015, with 100, whose normalised weights are these in units of θ = 1; membranes at half the threshold,
    Deng & Gu, ICLR 2021 (arXiv 2103.00476), and Bu et al., ICLR 2022 (arXiv 2303.04347).

    Args:
        net: a spiking network without batch norm (see `fold_batch_norm`).
        variables: those of an ANN of the same layers; a spiking network's are refused, for theirs are folded already.
        images: [B, H, W, C], normalised, or frames [B, T, H, W, C]; a few hundred training examples.
        percentile: in (0, 100]; where there are trained levels it is not used.
        scale: s > 0.
        lengths: [B], how many of its frames each example has; None: all. Those beyond are left out.

    Returns:
        variables for `net`, leaks of 1.

    Raises:
        InputError: not a spiking network, a neuron that does not say how its threshold is set (PLIF: without leak it
            has no input), whose events are graded or that is never reset, a max pool, a spike-element-wise residual, a
            recurrent layer, a readout that fires or that an identity shortcut enters, batch norm, percentile or scale
            out of range, images that are not finite, variables of a spiking network, trained levels that are not > 0
            or that this net's neurons cannot share, or layers that are silent on these images.
    """
    check_convertible(net)
    check_spiking(net)
    check_worth(net)
    check_folded(net, variables)
    check_percentile(percentile)
    check_scale(scale)
    images = _apart(net, images, lengths)
    check_finite(images)
    levels = _levels(net, variables["params"], images, percentile)
    worth: dict[str | None, np.ndarray] = {None: np.ones(1), **{name: scale * level for name, level in levels.items()}}
    units = {layer.name: _unit(net, layer, worth) for layer in net.layers}
    params = _folded(net, variables["params"], worth, units)
    converted = with_neurons(net, {**variables, "params": params})
    neurons: dict[str, Any] = net.neurons()
    for name, neuron in neurons.items():
        layer = converted["params"][name]
        shape = layer["neuron"].threshold.shape
        layer["neuron"] = neuron.with_threshold(layer["neuron"], _shared(name, worth[name] / units[name], shape))
    return converted


def _apart(net, images, lengths):
    """Images [B, H, W, C] as they are, of frames [B, T, H, W, C] each that there is."""
    images, lasts = lasting(net, images, lengths)
    if not is_framed(net, images):
        return images
    examples, steps = images.shape[:2]
    there = np.arange(steps) < np.full(examples, steps if lasts is None else lasts)[:, None]
    return images.reshape(-1, *images.shape[2:])[np.flatnonzero(there)]


def _unit(net: Network, layer: Layer, worth: Mapping[str | None, np.ndarray]) -> np.ndarray:
    """[C], what 1 of a layer's current is in the ANN: what the spikes of an identity shortcut are worth, else 1."""
    wiring = {c.name: c for c in net.connections()}
    if layer.shortcut is None or projection(layer.name) in wiring:
        return np.ones(1)
    if layer is net.layers[-1]:
        raise InputError(f"layer {layer.name!r}: an identity shortcut into the readout adds spikes as they are, and "
                         "logits would count in what these are worth; let the shortcut end at a layer before it")
    return worth[wiring[layer.shortcut].source]


def _folded(net, params, worth, units) -> dict:
    """Weights [..., in, out] that take spikes for what they are worth, and give currents in their layer's unit."""
    wiring = {c.name: c for c in net.connections()}

    def fold(kernel, synapse, unit):
        arriving, groups = worth[wiring[synapse].source], wiring[synapse].groups
        # a fully connected layer's inputs are a map's [H, W, C], flattened: channels come again for every pixel
        arriving = np.tile(arriving, groups * kernel.shape[-2] // len(arriving))
        arriving = arriving.reshape(groups, -1).T
        if groups > 1:  # each group's outputs have the inputs of that group: [in / groups, out]
            arriving = np.repeat(arriving, kernel.shape[-1] // groups, axis=1)
        return kernel * jnp.asarray(arriving / unit, kernel.dtype)

    folded = {}
    for name, layer in params.items():
        weights, unit = dict(layer), units[name]
        weights["kernel"] = fold(layer["kernel"], name, unit)
        if "bias" in layer:
            weights["bias"] = layer["bias"] / jnp.asarray(unit, layer["bias"].dtype)
        if "shortcut" in layer:
            weights["shortcut"] = {"kernel": fold(layer["shortcut"]["kernel"], projection(name), unit)}
        folded[name] = weights
    return folded


def _shared(name, threshold, shape):
    """Thresholds [C] as neurons have them whose parameters are of this shape."""
    if shape != ():
        return np.broadcast_to(threshold, shape)
    if np.ptp(threshold) > 0:
        raise InputError(f"layer {name!r}: the ANN has a level for each channel, this network one threshold a layer; "
                         "give its neuron sharing='channel'")
    return threshold[0]


def _levels(net, params, images, percentile) -> dict[str, np.ndarray]:
    """{layer: its levels [C]}, trained or the percentile of its activations, of every layer but the readout."""
    hidden = net.layers[:-1]
    spiking = {name: type(neuron.init(jax.random.key(0), (1,))) for name, neuron in net.neurons().items()}
    trained = {layer.name: _trained_levels(layer, params[layer.name]["neuron"], spiking[layer.name])
               for layer in hidden if "neuron" in params[layer.name]}
    if trained and len(trained) < len(hidden):
        without = ", ".join(layer.name for layer in hidden if layer.name not in trained)
        raise InputError(f"layers {without} hold no trained level, others do; give the variables of one ANN, all of "
                         "whose layers were trained with the same neuron")
    levels = trained or {layer.name: np.full(layer.features, np.inf) for layer in hidden}
    clipped = {name: {**layer, "neuron": IFParams(jnp.asarray(levels[name], layer["kernel"].dtype))}
               if name in levels else layer for name, layer in params.items()}
    ann = net.clone(layers=tuple(dataclasses.replace(layer, neuron=None) for layer in net.layers), neuron=_Clip(),
                    encoder=Direct(), backend="auto", run_neuron=unroll)
    share = 100 if trained else percentile  # of trained levels only the silent ones are looked for

    @jax.jit
    def measure(params, images):
        activations = ann.apply({"params": params}, images, record=("spikes",))[1]["spikes"]
        return {name: kth_smallest(x.ravel().astype(jnp.promote_types(x.dtype, jnp.float32)),
                                   1 + round(0.01 * share * (x.size - 1))) for name, x in activations.items()}

    found = {name: float(value) for name, value in measured(measure, net, 1, clipped, images).items()}
    wild = [layer.name for layer in hidden if not np.isfinite(found[layer.name])]
    if wild:
        raise InputError(f"layers {', '.join(wild)}: activations are not finite; the ANN has diverged, or the images "
                         "are not normalised")
    silent = [layer.name for layer in hidden if not found[layer.name] > 0]
    if silent:
        values = ", ".join(f"{found[name]:g}" for name in silent)
        raise InputError(f"layers {', '.join(silent)}: the {share}th percentile of their activations is {values}, and "
                         "a spike must be worth more than 0. They are silent on these images, or nearly so: use more "
                         "images or a higher percentile, or train the ANN further")
    return trained or {layer.name: np.full(layer.features, found[layer.name]) for layer in hidden}


def _trained_levels(layer, neuron, spiking) -> np.ndarray:
    """The levels [C] among the parameters of an ANN's neuron; `spiking` is the type of those that are converted to."""
    if isinstance(neuron, SpikingParams | spiking):
        raise InputError(f"layer {layer.name!r} holds a spiking neuron's parameters ({type(neuron).__name__}), whose "
                         "weights may be folded already; give the variables of the ANN")
    if not hasattr(neuron, "threshold"):
        raise InputError(f"layer {layer.name!r}: a neuron with the parameters {', '.join(neuron._fields)} has no "
                         "threshold at which its activations end; match_activations knows ReLU, which has no "
                         "parameters, and neurons with a trained level called threshold, such as QCFS")
    level = np.asarray(neuron.threshold, np.float64)
    if level.shape not in ((), (layer.features,)):
        raise InputError(f"layer {layer.name!r}: its trained levels are of shape {level.shape}, and one a layer or one "
                         "a channel can be folded into the weights behind; train the ANN with QCFS(sharing='channel')")
    if not (level > 0).all():
        raise InputError(f"layer {layer.name!r}: a trained level is {level.min():g}, and a threshold must be > 0; "
                         "train the ANN with a lower learning rate, or without weight decay on levels")
    return np.broadcast_to(level, (layer.features,))


@dataclasses.dataclass(frozen=True)
class _Clip:
    """max(0, min(I, level)): the ANN's neuron as the spiking one can follow it; ReLU where the level is infinite."""

    def init(self, key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> IFParams:
        return IFParams(jnp.full(shape[-1:], jnp.inf, dtype))

    def initial_state(self, params: IFParams, shape: tuple[int, ...], dtype: Any = jnp.float32) -> tuple[()]:
        return ()

    def step(self, params: IFParams, state: tuple[()], current: Array) -> tuple[tuple[()], Array]:
        return (), jnp.clip(current, 0, params.threshold.astype(current.dtype))
