"""Energy of one inference as the field counts it: operations of the real shapes × spike rates × joules each.

    E_ANN = E_MAC · Σ MAC          E_SNN = E_MAC · MAC_1 + E_AC · Σ_{l≥2} rate_{l−1} · MAC_l

rate: spikes per neuron summed over the T steps. Under direct encoding the first layer's current is the same at every
step, so it is counted once, in MACs (Rathi & Roy, arXiv 2008.03658, section VI). Not counted: memory traffic, and what
an average pool takes; after one, too, the rate is that of the neurons before it, as in the paper.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ..errors import InputError
from ..models import Network

MAC_JOULES = 4.6e-12
"""32-bit floating-point multiply-accumulate, 45 nm CMOS: multiply 3.7 pJ + add 0.9 pJ (Horowitz, ISSCC 2014)."""
AC_JOULES = 0.9e-12
"""32-bit floating-point accumulate, 45 nm CMOS (Horowitz, ISSCC 2014)."""


@dataclasses.dataclass(frozen=True)
class LayerEnergy:
    """One synapse; energies per image."""

    name: str
    macs: int
    """Multiply-accumulates of one pass."""
    rate: float | None
    """Spikes per neuron that come in, summed over T; None: an analog input, counted once in MACs."""
    ann_joules: float
    snn_joules: float


@dataclasses.dataclass(frozen=True)
class Energy:
    """Energy per image of the network as an ANN and as an SNN."""

    layers: tuple[LayerEnergy, ...]
    """Every synapse, from input to output; a residual block's 1×1 convolution and a recurrence have rows of their own
    (a recurrence counts at the layer's own spike rate in the SNN, and once in the ANN)."""

    @property
    def ann_joules(self) -> float:
        """Of the ANN, joules."""
        return sum(layer.ann_joules for layer in self.layers)

    @property
    def snn_joules(self) -> float:
        """Of the SNN over all its timesteps, joules."""
        return sum(layer.snn_joules for layer in self.layers)

    @property
    def ratio(self) -> float:
        """How many times less the SNN takes."""
        return self.ann_joules / self.snn_joules

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the ratio, the sums, and every layer's fields."""
        return {"ratio": self.ratio, "ann_joules": self.ann_joules, "snn_joules": self.snn_joules,
                "layers": [dataclasses.asdict(layer) for layer in self.layers]}


def estimate(net: Network, record: Mapping[str, Any]) -> Energy:
    """Energy of a network at measured spike rates.

    Args:
        net: gives the real shapes.
        record: what `net.apply` returns beside the logits; its "spike_rate" {layer: spikes per neuron summed over T}
            (numbers of your own will do), and under a Poisson encoder its "input_rate".

    Raises:
        InputError: the record lacks the rate of a layer (an ANN's has none).
    """
    rates = record["spike_rate"]
    wanted = [layer.name for layer in net.layers[:-1]]
    missing = [name for name in wanted if name not in rates]
    if missing:
        raise InputError(f"the record has no spike rate for {', '.join(missing)}; run the spiking network "
                         "(logits, record = net.apply(variables, images, timesteps=T)) and pass its record")
    if not net.encoder.constant and "input_rate" not in record:
        raise InputError(f"under {net.encoder} the first layer accumulates spikes: the record needs an 'input_rate'")
    layers = []
    for c in net.connections():
        rate: float | None
        if c.source is not None:
            rate = float(rates[c.source])
        else:
            rate = None if net.encoder.constant else float(record["input_rate"])
        spiking = MAC_JOULES * c.macs if rate is None else AC_JOULES * rate * c.macs
        layers.append(LayerEnergy(c.name, c.macs, rate, MAC_JOULES * c.macs, spiking))
    return Energy(tuple(layers))
