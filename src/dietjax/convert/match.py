"""A conversion that keeps the ANN's function: every spike is worth its layer's threshold."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ..core.encode import Direct
from ..core.neurons import IFParams, LIFParams, PLIFParams
from ..core.unroll import unroll
from ..errors import InputError
from ..models import Layer, Network
from ..types import Array
from .balance import with_neurons
from .refuse import check_convertible, check_folded, check_percentile, check_scale, check_spiking
from .select import kth_smallest


def match_activations(net: Network, variables: Mapping[str, Any], images: Array, *, percentile: float = 99.9,
                      scale: float = 1.0) -> dict:
    """The ANN's function in spikes: thresholds from its activations, and every spike worth its threshold.

        θ_l = s·λ_l,   W_l ← W_l · (what a spike that arrives is worth),   b_l stays

    A spike of layer l is worth θ_l, on every synapse behind it, pools and projection shortcuts included (an image's
    pixel is worth itself). Its rate times θ_l then tends to the ANN's activation, clipped at θ_l, and logits after T
    steps are T times those of the ANN so clipped: the error falls like 1/T, for every s, and is half as large where
    membranes start at half their threshold (`LIF(initial_membrane=0.5)`). An identity shortcut adds spikes of 1 as
    they are, so the layer that it enters counts in the worth v of these: its W_l, b_l and θ_l are divided by v, which
    changes no spike, and its spike is worth v·(θ_l/v).

    λ_l is the layer's trained level where `variables` hold one (an ANN's neuron with a `threshold` among its
    parameters, such as QCFS), else the percentile of its activations over all images and neurons, those of ReLU. Lower
    thresholds (s < 1) fire more and clip more. The exact limit asks for leaks of 1, reset="subtract" and a readout
    LI() of leak 1.

    Sources: a spike's worth and data-based levels, Rueckauer et al. 2017 (doi 10.3389/fnins.2017.00682),
    whose weights are these in units of θ = 1, with their percentile of 99.9, and Diehl et al. 2015 with 100; membranes
    at half the threshold, Deng & Gu, ICLR 2021 (arXiv 2103.00476), and Bu et al., ICLR 2022 (arXiv 2303.04347).

    Args:
        net: a spiking network without batch norm (see `fold_batch_norm`).
        variables: those of an ANN of the same layers; a spiking network's are refused, for theirs are folded already.
        images: [B, H, W, C], normalised; a few hundred training images.
        percentile: in (0, 100]; where there are trained levels it is not used.
        scale: s > 0.

    Returns:
        variables for `net`, leaks of 1.

    Raises:
        InputError: not a spiking network, a PLIF's (its leak cannot be 1), a recurrent layer, a readout that fires or
            that an identity shortcut enters, batch norm, percentile or scale out of range, variables of a spiking
            network, a trained level that is not one number > 0, or layers that are silent on these images.
    """
    check_convertible(net)
    check_spiking(net)
    check_folded(net, variables)
    check_percentile(percentile)
    check_scale(scale)
    levels = _levels(net, variables["params"], images, percentile)
    worth: dict[str | None, float] = {None: 1.0, **{name: scale * level for name, level in levels.items()}}
    wiring = {c.name: c for c in net.connections()}
    params, units = {}, {}
    for layer in net.layers:
        unit = units[layer.name] = _unit(net, layer, worth)
        weights = dict(variables["params"][layer.name])
        weights["kernel"] = weights["kernel"] * (worth[wiring[layer.name].source] / unit)
        if "bias" in weights:
            weights["bias"] = weights["bias"] / unit
        if "shortcut" in weights:
            arriving = worth[wiring[f"{layer.name}_shortcut"].source]
            weights["shortcut"] = {"kernel": weights["shortcut"]["kernel"] * (arriving / unit)}
        params[layer.name] = weights
    converted = with_neurons(net, {**variables, "params": params})
    for name in levels:
        neuron = converted["params"][name]["neuron"]
        found = {"threshold": jnp.full_like(neuron.threshold, worth[name] / units[name])}
        if hasattr(neuron, "leak"):
            found["leak"] = jnp.ones_like(neuron.leak)
        converted["params"][name]["neuron"] = neuron._replace(**found)
    return converted


def _unit(net: Network, layer: Layer, worth: Mapping[str | None, float]) -> float:
    """What 1 of a layer's current is in the ANN: what the spikes that an identity shortcut adds are worth, else 1."""
    wiring = {c.name: c for c in net.connections()}
    if layer.shortcut is None or f"{layer.name}_shortcut" in wiring:
        return 1.0
    if layer is net.layers[-1]:
        raise InputError(f"layer {layer.name!r}: an identity shortcut into the readout adds spikes as they are, and the "
                         "logits would count in what these are worth; let the shortcut end at a layer before it")
    return worth[wiring[layer.shortcut].source]


def _levels(net, params, images, percentile) -> dict[str, float]:
    """{layer: its trained level, else the percentile of its activations}, of every layer but the readout."""
    names = [layer.name for layer in net.layers[:-1]]
    trained = {name: _trained_level(name, params[name]["neuron"]) for name in names if "neuron" in params[name]}
    if trained and len(trained) < len(names):
        raise InputError(f"layers {', '.join(n for n in names if n not in trained)} hold no trained level, the others "
                         "do; give the variables of one ANN, as it was trained")
    levels = trained or dict.fromkeys(names, math.inf)
    clipped = {name: {**layer, "neuron": IFParams(jnp.asarray(levels[name], layer["kernel"].dtype))}
               if name in levels else layer for name, layer in params.items()}
    ann = net.clone(neuron=_Clip(), encoder=Direct(), backend="auto", run_neuron=unroll)
    share = 100 if trained else percentile

    @jax.jit
    def measure(params, images):
        activations = ann.apply({"params": params}, images, spikes=True)[1]["spikes"]
        return {name: kth_smallest(x.ravel().astype(jnp.promote_types(x.dtype, jnp.float32)),
                                   1 + round(0.01 * share * (x.size - 1))) for name, x in activations.items()}

    found = {name: float(value) for name, value in measure(clipped, images).items()}
    silent = [name for name in names if not found[name] > 0]
    if silent:
        values = ", ".join(f"{found[name]:g}" for name in silent)
        raise InputError(f"layers {', '.join(silent)}: the {share}th percentile of their activations is {values}, and a "
                         "spike must be worth more than 0. They are silent on these images, or nearly so: use more "
                         "images or a higher percentile, or train the ANN further")
    return trained or found


def _trained_level(name, neuron) -> float:
    """The level among the parameters of an ANN's neuron."""
    if isinstance(neuron, (IFParams, LIFParams, PLIFParams)):
        raise InputError(f"layer {name!r} holds a spiking neuron's parameters ({type(neuron).__name__}), whose weights "
                         "may be folded already; give the variables of the ANN")
    if not hasattr(neuron, "threshold"):
        raise InputError(f"layer {name!r}: a neuron with the parameters {type(neuron).__name__}{neuron._fields} has no "
                         "threshold at which its activations end; match_activations knows ReLU, without parameters, "
                         "and neurons with a trained level called threshold, such as QCFS")
    if neuron.threshold.shape != () or not neuron.threshold > 0:
        raise InputError(f"layer {name!r}: its trained level is {neuron.threshold}, and must be one number > 0; "
                         "train the ANN with one level a layer, and a lower learning rate if levels reach 0")
    return float(neuron.threshold)


@dataclasses.dataclass(frozen=True)
class _Clip:
    """max(0, min(I, level)): the ANN's neuron as the spiking one can follow it; ReLU where the level is infinite."""

    def init(self, key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> IFParams:
        return IFParams(jnp.full((), math.inf, dtype))

    def initial_state(self, params: IFParams, shape: tuple[int, ...], dtype: Any = jnp.float32) -> tuple[()]:
        return ()

    def step(self, params: IFParams, state: tuple[()], current: Array) -> tuple[tuple[()], Array]:
        return (), jnp.clip(current, 0, params.threshold.astype(current.dtype))
