"""Layers that tell nothing: silent, firing always, or without a gradient; and rates that cannot be. Decided here, shown
by whoever has measured.

Loads no jax: the report reads rates from a file.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

ROUNDING = 1e-6
"""By how much, relatively, a rate that was averaged in float32 may miss the number of timesteps."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong with some layers."""

    kind: Literal["silent", "saturated", "no gradient", "impossible"]
    layers: tuple[str, ...]
    """From input to output."""
    sentence: str
    """Which layers, what was measured, and the remedy."""


def find(rates: Mapping[str, float], timesteps: int | None = None,
         zero_gradient: Mapping[str, float] | None = None) -> tuple[Finding, ...]:
    """What is wrong with the activity of a network's layers; nothing for a network whose layers all do something.

    Args:
        rates: {layer: spikes per neuron summed over T, averaged over images}; empty of an ANN, which has none.
        timesteps: T; None: not known, and then no layer is said to fire always.
        zero_gradient: {layer: share of the training steps at which the gradient of its kernel was exactly 0}.

    Returns:
        At most one finding of each kind: layers of rate 0, of rate T, those whose gradient was 0 at every step, and
        those of a rate that is negative, NaN or infinite.
    """
    silent = tuple(name for name, rate in rates.items() if rate == 0)
    always = tuple(name for name, rate in rates.items()
                   if timesteps is not None and math.inf > rate >= timesteps * (1 - ROUNDING) > 0)
    still = tuple(name for name, share in (zero_gradient or {}).items() if share == 1)
    impossible = tuple(name for name, rate in rates.items() if not 0 <= rate < math.inf)
    found = []
    if impossible:
        values = ", ".join(f"{rates[name]:g}" for name in impossible)
        found.append(Finding("impossible", impossible, f"the rate of {', '.join(impossible)} is {values}, and a number "
                             "of events per neuron must be finite and >= 0, so nothing that follows from it holds: "
                             "where it is not finite, look for NaN and infinity in images, weights and thresholds; "
                             "where it is negative, count events (outputs that are not 0), not their sum"))
    if silent:
        found.append(Finding("silent", silent, f"{', '.join(silent)} fired at no image (0 spikes per neuron), so "
                             "nothing after that depends on the image, and a ratio of energies means nothing: lower "
                             "the thresholds (conversion.scale, conversion.percentile), use more timesteps, or, where "
                             "training has silenced them, lower snn.learning_rate"))
    if always:
        found.append(Finding("saturated", always, f"{', '.join(always)} fired at every timestep of every image "
                             f"({timesteps} spikes per neuron), which tells no image from another: raise the "
                             "thresholds (conversion.scale, conversion.percentile), or, where training has done it, "
                             "lower snn.learning_rate"))
    if still:
        remedy = ("lower the thresholds (conversion.scale) so that the layers before them fire, choose a wider "
                  "surrogate (neuron.surrogate), or lower snn.learning_rate" if rates else
                  "neurons that are below 0 for every image learn nothing; lower ann.learning_rate, or set "
                  "model.batch_norm")
        found.append(Finding("no gradient", still, f"the gradient of the weights of {', '.join(still)} was exactly 0 "
                             f"at every step that was looked at, so they do not learn: {remedy}"))
    return tuple(found)


def find_in_summary(summary: Mapping[str, Any]) -> tuple[Finding, ...]:
    """`find` of a finished run's spiking network, by its summary.json."""
    return find({layer["name"]: layer["spike_rate"] for layer in summary["layers"]}, summary["snn"]["timesteps"])
