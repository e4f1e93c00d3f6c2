"""Energy of one inference as the field counts it: operations of the real shapes × events × joules each.

    E_ANN = E_MAC · Σ MAC          E_SNN = E_MAC · MAC_1 + E_AC · Σ_{l≥2} rate_{l−1} · MAC_l

rate: events (outputs that are not 0, whatever their sign) per neuron summed over the T steps. Under direct encoding the
first layer's current is the same at every step, so it is counted once, in MACs (Rathi & Roy, arXiv 2008.03658, section
VI). Not counted: memory traffic, what pools and residuals take (after an average pool, too, the rate is that of the
neurons before it, as in the paper), and what neurons compute.

Beyond the paper, what an event costs a synapse:

- **A spike** costs an accumulate, whatever its sign: the weight is added or subtracted.
- **A graded event** carries a number, so it costs a multiply-accumulate. An event is graded if its neuron's class says
  so (`graded`, see `types.Neuron`); where that says nothing, if not all measured events are of size 1 (the record's
  "unit_share" is not 1, or, where there is none, "magnitude" is not). Spikes of ±θ are then graded, too: a class whose
  θ is in fact folded into the weights says graded = False.
- **Behind a max pool or a spike-element-wise residual** it is what leaves the layer that counts: of spikes the sum of
  their sizes (the record's "sent_size", in units of the layer's magnitude), for a sum of two spikes is two accumulates;
  of graded events their number ("sent_rate"). They are graded if those of the layer or of what its residual
  brings are; an analog image or frame is. The layer's own recurrence is fed before these.
- **Frames** (input over time) of 0 and ±1 cost accumulates at their measured rate, as an encoder's spikes do. Others
  are analog maps: the first layer costs its MACs once for every frame. The ANN sees the same T frames, one after
  another, so E_ANN is T times that of one pass. Of sequences of unequal length each costs what its own frames cost:
  events beyond its end are not counted, and T is the mean length. What is said is the mean over examples; what one of
  them costs is said of a record of it alone. (Spikes that an encoder draws count by their rate, of images and of
  frames; a record does not tell of which they are, and E_ANN is then that of one pass.)
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import InputError
from ..models import Connection, Network
from ..models.spec import projection
from .activity import ROUNDING

MAC_JOULES = 4.6e-12
"""32-bit floating-point multiply-accumulate, 45 nm CMOS: multiply 3.7 pJ + add 0.9 pJ (Horowitz, ISSCC 2014)."""
AC_JOULES = 0.9e-12
"""32-bit floating-point accumulate, 45 nm CMOS (Horowitz, ISSCC 2014)."""


@dataclasses.dataclass(frozen=True)
class LayerEnergy:
    """One synapse; energies per image, or per sequence of frames."""

    name: str
    macs: int
    """Multiply-accumulates of one pass."""
    rate: float | None
    """Events per neuron that come in, summed over T; None: an analog input, counted in MACs, once for an image and once
    for each frame."""
    graded: bool
    """Whether each of these events costs a MAC, not an AC."""
    ann_joules: float
    snn_joules: float


@dataclasses.dataclass(frozen=True)
class Energy:
    """Energy per image (or sequence of frames) of the network as an ANN and as an SNN."""

    layers: tuple[LayerEnergy, ...]
    """Every synapse, from input to output; a residual block's 1×1 convolution and a recurrence have rows of their own
    (a recurrence counts at the layer's own spike rate in the SNN, and once a pass in the ANN)."""

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
        """How many times less the SNN takes; infinity where it takes nothing, which says as little as any ratio of a
        silent network (`activity.find` says that one is).
        """
        return self.ann_joules / self.snn_joules if self.snn_joules else math.inf

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the ratio, the sums, and every layer's fields."""
        return {"ratio": self.ratio, "ann_joules": self.ann_joules, "snn_joules": self.snn_joules,
                "layers": [dataclasses.asdict(layer) for layer in self.layers]}


def estimate(net: Network, record: Mapping[str, Any], *, timesteps: float | None = None) -> Energy:
    """Energy of a network at measured spike rates.

    Args:
        net: gives the real shapes.
        record: what `net.apply` returns beside the logits, or numbers of your own: "spike_rate" {layer: events per
            neuron summed over T}; where there are, "magnitude" {layer: mean |output| of its events; missing: 1},
            "unit_share" {layer: share of its events of size 1; missing: told by the magnitude}, "sent_rate" and
            "sent_size" {layer: events that leave it per neuron, behind a max pool or a spike-element-wise residual, and
            the sum of their sizes; missing: of size 1}; of frames or under a Poisson encoder "input_rate",
            "input_magnitude" (missing: 1) and "input_unit_share", events per pixel, their mean size, and the share of
            size 1; "lengths" [B] of sequences of unequal length.
        timesteps: T of frames, their mean number where sequences are of unequal length; None: the mean of the record's
            "lengths", or where there are none as many as its "logits" [B, T, K]. Of images it does not matter.

    Raises:
        InputError: the record lacks the rate of a layer (an ANN's has none) or of the input, or the T of frames; or a
            rate or magnitude is negative, NaN or infinite.
    """
    missing = [layer.name for layer in net.layers[:-1] if layer.name not in record["spike_rate"]]
    if missing:
        raise InputError(f"the record has no spike rate for {', '.join(missing)}; run the spiking network "
                         "(logits, record = net.apply(variables, images, timesteps=T)) and pass its record")
    if not net.encoder.constant and "input_rate" not in record:
        raise InputError(f"under {net.encoder} the first layer accumulates spikes: the record needs an 'input_rate'")
    # a constant image has no rate
    passes: float = _frames(record, timesteps) if net.encoder.constant and "input_rate" in record else 1
    layers = []
    for c in net.connections():
        rate, graded = _of_the_input(net, record) if c.source is None else _of_a_layer(net, record, c)
        spiking = passes * MAC_JOULES if rate is None else rate * (MAC_JOULES if graded else AC_JOULES)
        layers.append(LayerEnergy(c.name, c.macs, rate, graded, passes * MAC_JOULES * c.macs, spiking * c.macs))
    return Energy(tuple(layers))


def _of_the_input(net: Network, record: Mapping[str, Any]) -> tuple[float | None, bool]:
    """(Events per pixel over T, None of an analog input; whether they are graded)."""
    if "input_rate" not in record:
        return None, False
    rate = _measured(record["input_rate"], "input_rate")
    magnitude = _measured(record.get("input_magnitude", 1.0), "input_magnitude")
    graded = _are_numbers(magnitude, _measured(record.get("input_unit_share", 1.0), "input_unit_share"))
    return (None, False) if graded and net.encoder.constant else (rate, graded)


def _of_a_layer(net: Network, record: Mapping[str, Any], connection: Connection) -> tuple[float, bool]:
    """(Events per neuron over T that a layer's synapse gets, whether they are graded)."""
    source = connection.source
    assert source is not None
    rate, graded = _measured(record["spike_rate"][source], "spike_rate", source), _is_graded(net, record, source)
    if connection.recurrent or source not in record.get("sent_rate", {}):
        return rate, graded
    brought = _brought(net, source)
    if graded or any(_is_graded(net, record, name) for name in brought):
        return _measured(record["sent_rate"][source], "sent_rate", source), True
    sizes = {name: _measured(record.get("magnitude", {}).get(name, 1.0), "magnitude", name)
             for name in (source, *brought) if name is not None}
    unit = next((size for size in sizes.values() if size > 0), 1.0)  # of a silent layer, that of what is brought
    what = "sent_size" if "sent_size" in record else "sent_rate"
    return _measured(record[what][source], what, source) / unit, False


def _is_graded(net: Network, record: Mapping[str, Any], name: str | None) -> bool:
    """Whether the events of a layer, or of its residual's projection (None: of the input), carry numbers."""
    if name is None:
        rate, numbers = _of_the_input(net, record)
        return rate is None or numbers
    magnitude, units = (_measured(record.get(what, {}).get(name, 1.0), what, name)
                        for what in ("magnitude", "unit_share"))
    layers = {projection(layer.name): layer.name for layer in net.layers}
    graded: bool | None = getattr(net.neurons()[layers.get(name, name)], "graded", None)
    return _are_numbers(magnitude, units) if graded is None else graded


def _brought(net: Network, name: str) -> list[str | None]:
    """Whose events leave a layer too, by its residual and those behind it: layers (None: the input), or what stands
    between, a residual's projection.
    """
    found: list[str | None] = []
    names, synapses = [layer.name for layer in net.layers], {c.name for c in net.connections()}
    residual = net.layers[names.index(name)].residual
    while residual is not None:
        if projection(name) in synapses:
            found.append(projection(name))
            break
        place = names.index(residual.source)
        found.append(names[place - 1] if place else None)
        if not place:
            break
        name = names[place - 1]
        residual = net.layers[place - 1].residual
    return found


def _are_numbers(magnitude, unit_share):
    """Whether events, if there are any, are not all of size 1; but for rounding: these are means of float32, as a rate
    is, and of batches with as many more roundings.
    """
    return magnitude > 0 and (abs(magnitude - 1) > ROUNDING or abs(unit_share - 1) > ROUNDING)


def _measured(value, what, layer=None):
    """A rate or magnitude of the record."""
    found = float(value)
    if not 0 <= found < math.inf:
        of = "the input" if layer is None else f"layer {layer!r}"
        raise InputError(f"{of}: its {what!r} is {found:g}, and must be a finite number >= 0: rates count events, "
                         "magnitudes are their mean size without sign. Pass the record of net.apply; where that is not "
                         "finite, the images, the weights or a threshold are not (dietjax.check_params names it)")
    return found


def _frames(record, timesteps):
    """T of frames, the mean where they are of unequal length."""
    steps = timesteps
    if timesteps is None and "lengths" in record:
        steps = float(np.mean(record["lengths"]))
    elif timesteps is None and "logits" in record:
        steps = record["logits"].shape[1]
    if steps is None or not 0 < steps < math.inf:
        raise InputError(f"the record is of frames, and timesteps are {timesteps}: say how many frames an example has, "
                         "energy.estimate(net, record, timesteps=T), or pass a record with its 'logits'")
    return steps
