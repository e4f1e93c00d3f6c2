"""Names that settings may have, said here without jax, so that `--help` shows them at once.

Tests compare them with what the library has.
"""

from typing import TYPE_CHECKING, Literal

NEURONS = {
    "lif": "dietjax.core.neurons:LIF",
    "if": "dietjax.core.neurons:IF",
    "plif": "dietjax.core.neurons:PLIF",
    "alif": "dietjax.core.neurons:ALIF",
    "cuba_lif": "dietjax.core.neurons:CuBaLIF",
    "srm": "dietjax.core.neurons:SRM",
    "refractory_lif": "dietjax.core.neurons:RefractoryLIF",
    "binary": "dietjax.core.neurons:Binary",
    "sigma_delta": "dietjax.core.neurons:SigmaDelta",
    "psn": "dietjax.core.neurons:PSN",
    "sliding_psn": "dietjax.core.neurons:SlidingPSN",
}
"""Kinds of spiking neurons -> module:Class, which `run.neuron` loads as it loads a user's own."""

if TYPE_CHECKING:
    Kind = str
else:
    Kind = Literal[tuple(NEURONS)] | str
"""A name in `NEURONS`, or module:Class."""

Surrogate = Literal["piecewise_linear", "stdb", "rectangular", "triangular", "arctan", "fast_sigmoid", "sigmoid", "erf",
                    "multi_gaussian"]
"""As in `dietjax.surrogate.DERIVATIVES`."""

Network = Literal["VGG4", "VGG6", "VGG9", "VGG11", "VGG13", "VGG16", "VGG19", "ResNet12", "ResNet18", "ResNet19",
                  "ResNet20", "ResNet34", "Compact8"]
"""As `dietjax.models.build` takes them."""
