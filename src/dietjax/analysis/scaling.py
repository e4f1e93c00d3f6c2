"""How long a training step takes on n chips, on paper: operations at a share of peak, collectives at link rates.

    compute = images · operations / (peak · share)
    gather of V bytes = Σ over levels of (size − 1)/size · V' / rate + hops · latency

The levels of a network of chips go from the inside out (a pod, pods; an island of NVLink, islands); V' is V divided by
the sizes of the levels inside it, because chips that hold the same part talk to one another. A reduce-scatter is a
gather run backwards, an all-reduce both (Patarasuk & Yuan 2009, "Bandwidth optimal all-reduce").

Nothing here was measured; docs/scaling.md names what is assumed, and which figures a first run checks.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import NamedTuple

from ..errors import InputError, unknown
from ..models import Network

GATHERS = {"all-gather": 1, "reduce-scatter": 1, "all-reduce": 2}
"""Kind of collective -> how many gathers it takes."""
FORWARD = ("all-gather",)
"""What the forward pass waits for: weights. All else goes out while the backward pass runs."""


class Level(NamedTuple):
    """Chips, or groups of chips, that are connected alike."""

    size: int
    """How many of them."""
    rate: float
    """Bytes per second that every chip sends here, all its links together."""
    hops: int
    """Links that the last part of a gather has to pass, one after the other."""
    latency: float
    """Seconds of one hop."""


@dataclasses.dataclass(frozen=True)
class Torus:
    """Chips linked to their neighbours; an axis that closes to a ring sends both ways at once."""

    link: float
    """Bytes per second of one link, one way."""
    closes: int
    """An axis is a ring if this divides its length."""
    latency: float
    """Seconds of one hop."""
    shapes: Mapping[int, tuple[int, ...]]
    """{chips: lengths of the axes of the slice that has so many}."""

    def level(self, chips: int) -> Level:
        """A slice."""
        if chips not in self.shapes:
            raise unknown("number of chips in a slice", str(chips), map(str, sorted(self.shapes)))
        axes = [length for length in self.shapes[chips] if length > 1]
        rings = [length % self.closes == 0 for length in axes]
        return Level(chips, self.link * sum(2 if ring else 1 for ring in rings),
                     sum(length // 2 if ring else length - 1 for length, ring in zip(axes, rings, strict=True)),
                     self.latency)


@dataclasses.dataclass(frozen=True)
class Switch:
    """Chips that a switch connects; collectives go round in a ring."""

    rate: float
    """Bytes per second that every chip sends."""
    latency: float
    """Seconds of one hop."""

    def level(self, chips: int) -> Level:
        """So many of them."""
        return Level(chips, self.rate, chips - 1, self.latency)


@dataclasses.dataclass(frozen=True)
class Chip:
    """An accelerator, and how it is connected to others. Figures are those of its makers."""

    name: str
    peak: float
    """Operations per second in bfloat16, dense; a multiplication and an addition are two."""
    bandwidth: float
    """Bytes per second of its memory."""
    memory: float
    """Bytes of it."""
    island: int
    """Chips that are connected directly."""
    inner: Torus | Switch
    """How these are."""
    outer: Switch
    """How islands are: what one chip has of it."""
    source: str

    def levels(self, chips: int) -> tuple[Level, ...]:
        """The network of so many chips, from the inside out.

        Raises:
            InputError: they do not fill whole islands, or there is no such slice.
        """
        if chips <= self.island:
            return (self.inner.level(chips),) if chips > 1 else ()
        if chips % self.island:
            raise InputError(f"{chips} chips are no whole number of islands of {self.island} {self.name}; use a "
                             f"multiple of {self.island}")
        return self.inner.level(self.island), self.outer.level(chips // self.island)


PODS = {2: (1, 2), 4: (2, 2), 8: (2, 4), 16: (4, 4), 32: (4, 8), 64: (8, 8), 128: (8, 16), 256: (16, 16)}
"""Slices of v5e and v6e."""
CUBES = {4: (2, 2, 1), 8: (2, 2, 2), 16: (2, 2, 4), 32: (2, 4, 4), 64: (4, 4, 4), 128: (4, 4, 8), 256: (4, 8, 8),
         512: (8, 8, 8), 1024: (8, 8, 16)}
"""Slices of v5p; those of whole cubes of 4 × 4 × 4 close to rings."""
CHIPS = {chip.name: chip for chip in (
    Chip("TPU v5e", 197e12, 819e9, 16e9, 256, Torus(50e9, 16, 1e-6, PODS), Switch(6.4e12 / 8 / 256, 14e-6),
         "Google Cloud, TPU v5e: 197 TFLOPs, 819 GB/s, 16 GB; 400 GB/s of links both ways over 4 ports, pods of 256, "
         "6.4 Tb/s of data center network a pod"),
    Chip("TPU v6e", 918e12, 1638e9, 32e9, 256, Torus(100e9, 16, 1e-6, PODS), Switch(25.6e12 / 8 / 256, 14e-6),
         "Google Cloud, TPU v6e: 918 TFLOPs, 1,638 GB/s, 32 GB; 800 GB/s of links both ways over 4 ports, pods of 256, "
         "25.6 Tb/s of data center network a pod"),
    Chip("TPU v5p", 459e12, 2765e9, 95e9, 8960, Torus(100e9, 4, 1e-6, CUBES), Switch(50e9 / 8, 14e-6),
         "Google Cloud, TPU v5p: 459 TFLOPs, 2,765 GB/s, 95 GB; 1,200 GB/s of links both ways over 6 ports, pods of "
         "8,960, 50 Gb/s of data center network a chip"),
    Chip("H100", 989.4e12, 3.35e12, 80e9, 8, Switch(450e9, 3.4e-6), Switch(50e9, 14e-6),
         "NVIDIA, H100 SXM: 1,979 TFLOPS with sparsity, half of that dense, 3.35 TB/s, 80 GB, NVLink 900 GB/s both "
         "ways; DGX H100: 8 of them, for each a ConnectX-7 of 400 Gb/s"),
)}
"""Latencies of a hop: 1 µs between TPUs (Austin et al. 2025, "How to Scale Your Model", part 3), 3.4 µs over NVLink and
14 µs over a network (NCCL's table for its own choice of algorithm, `hwLatencies`, ring, protocol Simple)."""


def operations(net: Network, timesteps: int) -> int:
    """Of a training step on one image: two for each multiply-accumulate, forward, for the gradient of the input and for
    that of the weights. An encoded image that is the same at every step passes its synapses once, and needs no
    gradient. Neurons, pools and the optimiser are not counted.
    """
    total = 0
    for synapse in net.connections():
        image = synapse.source is None
        passes = 1 if image and net.encoder.constant else timesteps
        total += 2 * synapse.macs * passes * (2 if image else 3)
    return total


def share_of_peak(seconds: float, images: int, operations: int, chip: Chip) -> float:
    """Operations per second of a measured step, over the chip's peak."""
    return images * operations / seconds / chip.peak


def gather_seconds(size: float, levels: tuple[Level, ...]) -> float:
    """Of an all-gather of `size` bytes, of which every chip holds its part; a reduce-scatter takes as long."""
    seconds = 0.0
    for level in levels:
        seconds += (level.size - 1) / level.size * size / level.rate + level.hops * level.latency
        size /= level.size
    return seconds


@dataclasses.dataclass(frozen=True)
class Traffic:
    """A kind of collective in one step."""

    kind: str
    """Of `GATHERS`."""
    size: float
    """Bytes of all its arrays together."""
    number: int = 1
    """How many there are; each pays its latency."""

    def seconds(self, levels: tuple[Level, ...]) -> float:
        """Of all of them, one after the other."""
        if self.kind not in GATHERS:
            raise unknown("collective", self.kind, GATHERS)
        return GATHERS[self.kind] * self.number * gather_seconds(self.size / max(self.number, 1), levels)


@dataclasses.dataclass(frozen=True)
class Step:
    """A training step on some chips."""

    images: int
    """In the whole batch."""
    compute: float
    """Seconds; a third of it forward."""
    before: float
    """Seconds of the collectives that the forward pass waits for."""
    after: float
    """Seconds of those for which the backward pass makes the values."""

    @property
    def serial(self) -> float:
        """Seconds if nothing is sent while something is computed."""
        return self.before + self.compute + self.after

    @property
    def hidden(self) -> float:
        """Seconds if weights arrive while the forward pass runs, and gradients leave while the backward pass does."""
        forward = self.compute / 3
        return max(forward, self.before) + max(self.compute - forward, self.after)

    def efficiency(self, seconds: float) -> float:
        """What of so many seconds the chips compute in: images per second over those of as many chips alone."""
        return self.compute / seconds


def step(chip: Chip, chips: int, batch: int, operations: int, traffic: tuple[Traffic, ...], share: float,
         most: int | None = None) -> Step:
    """A training step whose batch is split over the chips.

    Args:
        chip: of `CHIPS`.
        chips: n.
        batch: images in the whole batch.
        operations: of one image.
        traffic: what one pass through the network sends.
        share: of peak, at which a chip computes.
        most: images that a chip takes at once; more of them go in microbatches, each of which sends as a step does.

    Raises:
        InputError: the chips do not divide the batch, there is no such number of them, or no such collective or share.
    """
    for name, value in {"chips": chips, "batch": batch, "most": most}.items():
        if value is not None and value < 1:
            raise InputError(f"{name} must be at least 1, got {value}")
    if batch % chips:
        raise InputError(f"a batch of {batch} does not divide over {chips} chips; use a multiple of {chips}")
    if not 0 < share <= 1:
        raise InputError(f"share must be in (0, 1], a share of peak, got {share:g}")
    each = batch // chips
    passes = math.ceil(each / (most or each))
    levels = chip.levels(chips)
    before, after = (passes * sum(each.seconds(levels) for each in traffic if (each.kind in FORWARD) == early)
                     for early in (True, False))
    return Step(batch, each * operations / (chip.peak * share), before, after)
