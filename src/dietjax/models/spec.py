"""A network as data: the description of one layer, and the synapses, with their shapes, that a row of layers has."""

import dataclasses
import math
import numbers
from typing import Literal

from ..errors import InputError, unknown


@dataclasses.dataclass(frozen=True)
class Layer:
    """synapse, pool_current (+ shortcut) -> neuron -> dropout, pool.

    The last layer of a network has no neuron: it is the readout.
    """

    name: str
    features: int
    """Output channels."""
    kernel: int | None = 3
    """Side of the convolution's kernel, padded to keep the map's size; None: fully connected on the flattened map."""
    stride: int = 1
    pool: bool | Literal["global"] = False
    """Average pool of the neuron's output: True over 2×2, "global" over the whole map, which leaves [1, 1, C]."""
    pool_current: bool = False
    """2×2 average pool of the synapse's current, BEFORE batch norm and neuron: a quarter of the neurons, and what comes
    out of the layer is still spikes."""
    dropout: float = 0.0
    """Dropout probability on the neuron's output; one mask for all timesteps."""
    shortcut: str | None = None
    """Name of an earlier layer whose INPUT is added to this layer's CURRENT, through a 1×1 convolution where the shape
    changes (DIET-SNN's residual block)."""
    recurrent: bool = False
    """The neuron's output (before dropout and pool) also comes back to it one timestep later, through a synapse of its
    own: side×side over the layer's map, or fully connected; see `models.recurrent`."""

    def __post_init__(self):
        def refuse(field, wanted):
            raise InputError(f"layer {self.name!r}: {field} must be {wanted}, got {getattr(self, field)!r}")

        for field in ("features", "stride"):
            if not _is_whole(getattr(self, field)) or getattr(self, field) < 1:
                refuse(field, "a whole number of at least 1")
        if self.kernel is not None and (not _is_whole(self.kernel) or self.kernel < 1 or self.kernel % 2 == 0):
            refuse("kernel", "an odd whole number (an even one would change the map's size), or None for a fully "
                             "connected layer")
        for field in ("recurrent", "pool_current"):
            if not isinstance(getattr(self, field), bool):
                refuse(field, "True or False")
        if not isinstance(self.pool, bool) and self.pool != "global":
            refuse("pool", "True (2×2), 'global' (the whole map) or False")
        if not isinstance(self.dropout, numbers.Real) or not 0 <= self.dropout < 1:
            refuse("dropout", "a probability in [0, 1)")
        if self.kernel is None and (self.pool or self.pool_current or self.stride != 1):
            raise InputError(f"layer {self.name!r} is fully connected (kernel=None): there is no map to pool or stride "
                             "over; leave out pools and stride, or give it a kernel")
        if self.pool_current and self.stride != 1:
            raise InputError(f"layer {self.name!r} pools its current and has stride {self.stride}; "
                             "give it one of the two")


@dataclasses.dataclass(frozen=True)
class Connection:
    """One synapse of a network with its real shapes, per image and timestep."""

    name: str
    layer: str
    """The layer whose current it feeds."""
    source: str | None
    """The layer whose neurons feed it; None: the encoded image."""
    kernel: tuple[int, ...]
    """[height, width, in, out] of a convolution, [in, out] of a dense synapse."""
    stride: int
    in_shape: tuple[int, ...]
    """What comes in, [H, W, C] or [C]."""
    out_shape: tuple[int, ...]
    """[H, W, C] or [C]; after the pool, where the current is pooled."""
    pooled: bool = False
    """Whether the convolution's output is pooled, 2×2, before it is the layer's current."""

    @property
    def recurrent(self) -> bool:
        """Whether a layer's neurons feed themselves."""
        return self.source == self.layer

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one pass: every output once for every weight that reaches it (padding counted).

        Of a pooled current those of the convolution before the pool, as other frameworks compute it; here they are a
        quarter (`models.pooled`).
        """
        return (4 if self.pooled else 1) * math.prod(self.out_shape[:-1]) * math.prod(self.kernel)


def connections(layers: tuple[Layer, ...], image_shape: tuple[int, int, int]) -> tuple[Connection, ...]:
    """Every synapse of a network from input to output; a layer's shortcut and recurrence follow its main synapse."""
    found = []
    inputs: dict[str, tuple[str | None, tuple[int, ...]]] = {}  # layer -> (source, shape) of what comes into it
    source: str | None = None
    shape: tuple[int, ...] = tuple(image_shape)
    kernel: tuple[int, ...]
    out: tuple[int, ...]
    if min(shape) < 1:
        raise InputError(f"image_shape is {shape}: height, width and channels must be at least 1")
    for layer in layers:
        if layer.name in inputs:
            raise InputError(f"two layers are called {layer.name!r}; every layer needs a name of its own")
        inputs[layer.name] = source, shape
        if layer.shortcut is not None and layer.shortcut not in inputs:
            raise unknown(f"shortcut of layer {layer.name!r}", layer.shortcut, inputs)
        if layer.kernel is None:
            kernel, out = (math.prod(shape), layer.features), (layer.features,)
        else:
            out = (*(-(-n // layer.stride) for n in shape[:2]), layer.features)
            kernel = (layer.kernel, layer.kernel, shape[-1], layer.features)
            out = _halved(out, layer, layers, image_shape) if layer.pool_current else out
        found.append(Connection(layer.name, layer.name, source, kernel, layer.stride, shape, out, layer.pool_current))
        if layer.shortcut is not None:
            start, before = inputs[layer.shortcut]
            if before != out:
                if len(out) == 1:
                    raise InputError(f"layer {layer.name!r} is fully connected, and a shortcut from {before} to {out} "
                                     "would need a convolution; let it end at a layer with a kernel")
                stride = -(-before[0] // out[0])
                found.append(Connection(f"{layer.name}_shortcut", layer.name, start, (1, 1, before[-1], out[-1]),
                                        stride, before, out))
        if layer.recurrent:
            if layer is layers[-1]:
                raise InputError(f"layer {layer.name!r} is the readout, which has no spikes to feed back; "
                                 "make it recurrent=False")
            kernel = (*kernel[:-2], out[-1], out[-1])
            found.append(Connection(f"{layer.name}_recurrent", layer.name, layer.name, kernel, 1, out, out))
        source, shape = layer.name, out
        if layer.pool == "global":
            shape = (1, 1, shape[2])
        elif layer.pool:
            shape = _halved(shape, layer, layers, image_shape)
    return tuple(found)


def _halved(shape, layer, layers, image_shape):
    """[H/2, W/2, C], where they divide."""
    if shape[0] % 2 or shape[1] % 2:
        halvings = math.prod(c.stride * (2 if c.pool is True else 1) * (2 if c.pool_current else 1) for c in layers)
        raise InputError(
            f"image of {image_shape[0]}×{image_shape[1]} does not fit: layer {layer.name!r} cannot pool a map "
            f"of {shape[0]}×{shape[1]} by 2; use a height and width divisible by {halvings}, or a network with "
            "fewer pools (VGG4 and VGG6 have two)")
    return (shape[0] // 2, shape[1] // 2, shape[2])


def feeds(layers: tuple[Layer, ...]) -> dict[str | None, list[tuple[str, str]]]:
    """{source: [(layer, its synapse)]}: every later layer that a layer's spikes (None: the encoded image) go to."""
    names = [None, *(layer.name for layer in layers)]
    comes_from = dict(zip(names[1:], names[:-1], strict=True))
    found: dict[str | None, list[tuple[str, str]]] = {name: [] for name in names}
    for layer in layers:
        found[comes_from[layer.name]].append((layer.name, layer.name))
    for layer in layers:  # after the main synapses, which bring the bias
        if layer.shortcut is not None:
            found[comes_from[layer.shortcut]].append((layer.name, f"{layer.name}_shortcut"))
    return found


def _is_whole(value):
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
