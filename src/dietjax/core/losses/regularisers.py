"""Regularisers of activity: what is added to a loss so that neurons fire, and do not fire too much.

Each takes rates by layer, takes the mean over a layer's entries, and adds up the layers. The entries decide what is
held in bounds, and their unit is the bound's:

    record["spike_rate"]                                                    the mean of a layer over the batch
    {name: sum_over_time(o) for name, o in record["spikes"].items()}        every neuron for every example
    {name: sum_over_time(o, lengths).reshape(B, -1).mean(-1) for ...}       every example's mean over the layer

in spikes per neuron over T timesteps; with `mean_over_time`, per timestep. The gradient goes through the spikes'
surrogate. Weigh the result and add it: `cross_entropy(...).mean() + 0.01 * rate_above(record["spike_rate"], 2.0)`.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ...errors import InputError
from ...types import Array
from ..neurons.checks import concrete

Rates = Any
"""{layer: rates of any shape}, or any other tree of arrays."""


def rate_above(rates: Rates, bound: float) -> Array:
    """Σ_layers mean_i (max(0, r_i − bound))²: nothing up to the bound, then quadratic.

    On each example's mean over a layer it is the upper bound on the population's activity of Cramer et al. (IEEE TNNLS
    2022, arXiv 1910.07407) and Zenke & Vogels (Neural Computation 2021).
    """
    _check_bound(bound)
    return _over_layers(rates, lambda r: jnp.maximum(0, r - bound) ** 2)


def rate_below(rates: Rates, bound: float) -> Array:
    """Σ_layers mean_i (max(0, bound − r_i))²: against silent neurons, whose surrogate is all that can wake them.

    On every neuron's spikes it is the lower bound of Cramer et al. (IEEE TNNLS 2022, arXiv 1910.07407) and Zenke &
    Vogels (Neural Computation 2021).
    """
    _check_bound(bound)
    return _over_layers(rates, lambda r: jnp.maximum(0, bound - r) ** 2)


def activity_l1(rates: Rates) -> Array:
    """Σ_layers mean_i |r_i|: of spikes, how many there are, which is what they cost (snnTorch's l1_rate_sparsity takes
    their sum).
    """
    return _over_layers(rates, jnp.abs)


def activity_l2(rates: Rates) -> Array:
    """Σ_layers mean_i r_i²: as `activity_l1`, but a neuron that fires twice as often costs four times as much."""
    return _over_layers(rates, jnp.square)


def _over_layers(rates: Rates, penalty: Callable[[Array], Array]) -> Array:
    if isinstance(rates, Mapping) and "logits" in rates:
        raise InputError("this is a whole record; pass its rates, record['spike_rate'], or sums over time of its "
                         "spikes")
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(rates)]
    if not leaves:
        raise InputError("there are no rates to hold: an ANN's record has none; run the spiking network")
    return sum((penalty(leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))).mean() for leaf in leaves),
               start=jnp.zeros(()))


def _check_bound(bound):
    known = concrete(bound)
    if known is not None and not 0 <= known < math.inf:
        raise InputError(f"bound is {bound}, and must be a finite number of at least 0, in the unit of the rates")
