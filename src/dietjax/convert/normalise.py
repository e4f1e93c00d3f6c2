"""Data-based weight normalisation: an ANN whose largest activations are 1."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ..core.neurons import ReLU
from ..errors import InputError
from ..models import Network
from ..types import Array
from .balance import check_convertible
from .select import kth_smallest


def normalise_weights(net: Network, variables: Mapping[str, Any], images: Array, *, percentile: float = 100) -> dict:
    """Data-based weight normalisation: every layer's largest activation becomes 1, the ANN's logits stay what they are.

        W_l ← W_l · λ_in / λ_l,   b_l ← b_l / λ_l,   λ_l = percentile of layer l's ReLU activations, the output's λ = 1

    A spiking network with thresholds of 1 then fires at rates that are the activations. With percentile=100 the max
    variant (Diehl et al. 2015), with 99.9 the robust one (Rueckauer et al. 2017); it is also what puts biases (a folded
    batch norm's) on the scale of spikes. Layers joined by an identity shortcut share their largest λ.

    Raises:
        InputError: batch norm, a recurrent layer, percentile out of range, or a layer that is silent on these images.
    """
    check_convertible(net)
    if net.batch_norm:
        raise InputError("fold batch norm first: net, variables = dietjax.convert.fold_batch_norm(net, variables)")
    if not 0 < percentile <= 100:
        raise InputError(f"percentile must lie in (0, 100], got {percentile}")
    ann = net.clone(neuron=ReLU())

    @jax.jit
    def measure(variables, images):
        activations = ann.apply(variables, images, spikes=True)[1]["spikes"]
        return {name: kth_smallest(x.ravel().astype(jnp.promote_types(x.dtype, jnp.float32)),
                                   1 + round(0.01 * percentile * (x.size - 1))) for name, x in activations.items()}

    largest = {name: float(value) for name, value in measure(variables, images).items()}
    silent = [name for name, value in largest.items() if not value > 0]
    if silent:
        raise InputError(f"layers {', '.join(silent)}: the {percentile}th percentile of their activations is 0; "
                         "use more images or a higher percentile")
    largest[net.layers[-1].name] = 1.0
    wiring = {c.name: c for c in net.connections()}
    # An identity shortcut adds its source's spikes unchanged, so both layers need one scale, and so do all layers of a
    # chain of such shortcuts. Going backwards, the largest comes to the chain's first layer; going forwards, to all.
    for layer in (*reversed(net.layers), *net.layers):
        if layer.shortcut is not None and f"{layer.name}_shortcut" not in wiring:
            source = wiring[layer.shortcut].source
            if source is None or layer is net.layers[-1]:
                raise InputError(f"layer {layer.name!r}: an identity shortcut from the image or into the readout fixes "
                                 "its scale, so weights cannot be normalised around it")
            largest[source] = largest[layer.name] = max(largest[source], largest[layer.name])
    params = {}
    for layer in net.layers:
        weights = dict(variables["params"][layer.name])
        scale = largest[layer.name]
        weights["kernel"] = weights["kernel"] * (largest.get(wiring[layer.name].source, 1.0) / scale)
        if "bias" in weights:
            weights["bias"] = weights["bias"] / scale
        if "shortcut" in weights:
            source = wiring[f"{layer.name}_shortcut"].source
            weights["shortcut"] = {"kernel": weights["shortcut"]["kernel"] * (largest.get(source, 1.0) / scale)}
        params[layer.name] = weights
    return {**variables, "params": params}
