"""Batch norm folded into weights and biases."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from ..errors import InputError
from ..models import Network
from ..models.operations import NORM_EPSILON
from ..models.spec import projection


def fold_batch_norm(net: Network, variables: Mapping[str, Any]) -> tuple[Network, dict]:
    """The same function without batch norm: its scale goes into the weights, its shift into biases.

        W ← W · γ/√(σ²+ε),   b ← b + β − μ·γ/√(σ²+ε)          (b is added after the norm)

    A shortcut's goes into the bias of the layer whose current it enters; that of a residual's projection, which has
    neurons of its own, into a bias there.

    Returns:
        (net with bias=True and batch_norm=False, variables).
    """
    if not net.batch_norm:
        raise InputError("this network has no batch norm to fold")
    layers = {layer.name: layer for layer in net.layers}
    params = {}
    for name, layer in variables["params"].items():
        stats = variables["batch_stats"]
        weights = _folded(layer, stats[name]) if "norm" in layer else {"bias": _bias(layer), **layer}
        if "shortcut" in layer:
            shortcut = _folded(layer["shortcut"], stats[projection(name)])
            if layers[name].residual is None:  # it ends in the same current
                weights["bias"] += shortcut.pop("bias")
            weights["shortcut"] = shortcut
        params[name] = weights
    return net.clone(batch_norm=False, bias=True), {"params": params}


def _folded(weights, stats):
    """A synapse's weights without their norm, everything else as it was."""
    factor = weights["norm"]["scale"] / jnp.sqrt(stats["var"] + NORM_EPSILON)
    bias = _bias(weights) + weights["norm"]["bias"] - stats["mean"] * factor
    kept = {name: value for name, value in weights.items() if name != "norm"}
    return kept | {"kernel": weights["kernel"] * factor, "bias": bias}


def _bias(weights):
    return weights.get("bias", jnp.zeros(weights["kernel"].shape[-1:], weights["kernel"].dtype))
