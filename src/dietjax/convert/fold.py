"""Batch norm folded into weights and biases."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from ..errors import InputError
from ..models import Network
from ..models.operations import NORM_EPSILON


def fold_batch_norm(net: Network, variables: Mapping[str, Any]) -> tuple[Network, dict]:
    """The same function without batch norm: its scale goes into the weights, its shift into biases.

        W ← W · γ/√(σ²+ε),   b ← b + β − μ·γ/√(σ²+ε)          (b is added after the norm)

    Returns:
        (net with bias=True and batch_norm=False, variables).
    """
    if not net.batch_norm:
        raise InputError("this network has no batch norm to fold")
    wiring = {c.name for c in net.connections()}
    for layer in net.layers:
        if layer.residual is not None and f"{layer.name}_shortcut" in wiring:
            raise InputError(f"layer {layer.name!r}: its residual passes a projection with batch norm and neurons of "
                             "its own, and no bias there would take up the norm's shift; let a residual start where "
                             "the shape is the same, or use a shortcut into the current")
    params = {}
    for name, layer in variables["params"].items():
        weights = {k: v for k, v in layer.items() if k not in ("norm", "shortcut")}
        bias = weights.get("bias", jnp.zeros(layer["kernel"].shape[-1:], layer["kernel"].dtype))
        if "norm" in layer:
            weights["kernel"], bias = _fold(layer, variables["batch_stats"][name], bias)
        if "shortcut" in layer:
            kernel, extra = _fold(layer["shortcut"], variables["batch_stats"][f"{name}_shortcut"], 0.0)
            weights["shortcut"], bias = {"kernel": kernel}, bias + extra
        params[name] = {**weights, "bias": bias}
    return net.clone(batch_norm=False, bias=True), {"params": params}


def _fold(weights, stats, bias):
    factor = weights["norm"]["scale"] / jnp.sqrt(stats["var"] + NORM_EPSILON)
    return weights["kernel"] * factor, bias + weights["norm"]["bias"] - stats["mean"] * factor
