"""The synapses that a row of layers has, with their shapes: computed once, from the same tuple as everything else."""

import dataclasses
import math

from ..core.pool import pool_window
from ..errors import InputError, unknown
from .spec import Layer, both, projection

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Connection:
    """One synapse of a network with its real shapes, per image and timestep."""

    name: str
    layer: str
    """The layer whose current it feeds; of a residual's projection, the layer whose output that is combined with."""
    source: str | None
    """The layer whose neurons feed it; None: the encoded image."""
    kernel: Shape
    """[height, width, in / groups, out] of a convolution, [in, out] of a dense synapse."""
    stride: tuple[int, int]
    in_shape: Shape
    """What comes in, [H, W, C] or [C]; a signal is a map [L, 1, C]."""
    out_shape: Shape
    """[H, W, C] or [C]; after the pool, where the current is pooled."""
    pooled: bool = False
    """Whether the convolution's output is pooled, 2×2, before it is the layer's current."""
    groups: int = 1

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


def map_shape(image_shape: Shape) -> Shape:
    """What the first layer sees of one image: [H, W, C] as it is, a signal [L, C] as a map [L, 1, C], [C] as it is."""
    if not 1 <= len(image_shape) <= 3 or min(image_shape) < 1:
        raise InputError(f"image_shape is {tuple(image_shape)}, and must be (H, W, C) of images, (L, C) of signals or "
                         "(C,) of plain numbers, each at least 1")
    return (image_shape[0], 1, image_shape[1]) if len(image_shape) == 2 else tuple(image_shape)


def connections(layers: tuple[Layer, ...], image_shape: Shape) -> tuple[Connection, ...]:
    """Every synapse of a network from input to output; a layer's shortcut (or its residual's projection) and recurrence
    follow its main synapse.
    """
    found = []
    inputs: dict[str, tuple[str | None, Shape]] = {}  # layer -> (source, shape) of what comes into it
    source: str | None = None
    shape = map_shape(image_shape)
    for layer in layers:
        if layer.name in inputs:
            raise InputError(f"two layers are called {layer.name!r}; every layer needs a name of its own")
        inputs[layer.name] = source, shape
        main = _main(layer, source, shape, layers, image_shape)
        found.append(main)
        earlier = layer.shortcut if layer.residual is None else layer.residual.source
        if earlier is not None:
            kind = "shortcut" if layer.residual is None else "residual"
            if earlier not in inputs:
                raise unknown(f"{kind} of layer {layer.name!r}", earlier, inputs)
            if layer is layers[-1] and kind == "residual":
                raise InputError(f"layer {layer.name!r} is the readout, and a residual combines spikes; let it end at "
                                 "a layer before it")
            found += _projection(layer.name, kind, *inputs[earlier], main.out_shape)
        if layer.recurrent:
            if layer is layers[-1]:
                raise InputError(f"layer {layer.name!r} is the readout, which has no spikes to feed back; "
                                 "make it recurrent=False")
            out = main.out_shape
            found.append(Connection(f"{layer.name}_recurrent", layer.name, layer.name,
                                    (*main.kernel[:-2], out[-1], out[-1]), (1, 1), out, out))
        source, shape = layer.name, _after_pool(layer, main.out_shape, layers, image_shape)
    return tuple(found)


def _main(layer, source, shape, layers, image_shape):
    """The synapse from the layer before, or the image."""
    if layer.kernel is None:
        dense = (math.prod(shape), layer.features)
        return Connection(layer.name, layer.name, source, dense, (1, 1), shape, (layer.features,))
    if len(shape) == 1:
        raise InputError(f"layer {layer.name!r} is a convolution, and what comes in is {shape}, which is no map; make "
                         "it fully connected (kernel=None), or put it before the fully connected layers")
    signal = len(image_shape) == 2
    sides, stride = ((value, 1) if signal and not isinstance(value, tuple) else both(value)
                     for value in (layer.kernel, layer.stride))
    for name, channels in (("come in", shape[-1]), ("go out (features)", layer.features)):
        if channels % layer.groups:
            raise InputError(f"layer {layer.name!r} has {layer.groups} groups, and {channels} channels {name}, which "
                             "do not divide into them; a depthwise convolution has as many groups as channels that "
                             "come in, and features a multiple of them")
    out: Shape = (*(-(-n // step) for n, step in zip(shape[:2], stride, strict=True)), layer.features)
    if layer.pool_current:
        if 1 in out[:2]:
            raise InputError(f"layer {layer.name!r} pools its current over 2×2, and its map is {out[0]}×{out[1]}; pool "
                             "its output (pool=True)")
        out = _halved(out, layer, layers, image_shape)
    kernel = (*sides, shape[-1] // layer.groups, layer.features)
    return Connection(layer.name, layer.name, source, kernel, stride, shape, out, layer.pool_current, layer.groups)


def _projection(name, kind, source, before, out):
    """The 1×1 convolution of a shortcut or a residual, where the shape changes."""
    if before == out:
        return []
    if len(out) == 1 or len(before) == 1:
        raise InputError(f"layer {name!r} is fully connected, and a {kind} from {before} to {out} would need a "
                         "convolution; let it end at a layer with a kernel")
    stride = tuple(-(-a // b) for a, b in zip(before[:2], out[:2], strict=True))
    reached = tuple(-(-a // step) for a, step in zip(before[:2], stride, strict=True))
    if reached != out[:2]:
        raise InputError(f"layer {name!r}: its {kind} comes from a map of {before[0]}×{before[1]} and ends at one of "
                         f"{out[0]}×{out[1]}, which no stride of a 1×1 convolution makes of it; start it elsewhere")
    return [Connection(projection(name), name, source, (1, 1, before[-1], out[-1]), stride, before, out)]


def _after_pool(layer, shape, layers, image_shape):
    if layer.pool == "global":
        return (1, 1, shape[2])
    return _halved(shape, layer, layers, image_shape) if layer.pool else shape


def _halved(shape, layer, layers, image_shape):
    """[H/2, W/2, C], where they divide."""
    window = pool_window(*shape[:2])
    if any(n % side for n, side in zip(shape[:2], window, strict=True)):
        halvings = math.prod(max(both(c.stride)) * (2 if c.pool in (True, "max") else 1) * (2 if c.pool_current else 1)
                             for c in layers)
        size = "×".join(str(n) for n in image_shape[:-1])
        raise InputError(
            f"image of {size} does not fit: layer {layer.name!r} cannot pool a map of {shape[0]}×{shape[1]} by 2; use "
            f"a height and width divisible by {halvings}, or a network with fewer pools (VGG4 and VGG6 have two)")
    return (shape[0] // window[0], shape[1] // window[1], shape[2])


def feeds(layers: tuple[Layer, ...]) -> dict[str | None, list[tuple[str, str]]]:
    """{source: [(where it arrives, through which synapse)]}: what a layer's spikes (None: the encoded image) go to.

    They arrive at a later layer's current, under the layer's name; or, of a residual, at its output, under the name of
    the projection (which there is only where the shape changes).
    """
    names = [None, *(layer.name for layer in layers)]
    comes_from = dict(zip(names[1:], names[:-1], strict=True))
    found: dict[str | None, list[tuple[str, str]]] = {name: [] for name in names}
    for layer in layers:
        found[comes_from[layer.name]].append((layer.name, layer.name))
    for layer in layers:  # after the main synapses, which bring the bias
        name = projection(layer.name)
        if layer.shortcut is not None:
            found[comes_from[layer.shortcut]].append((layer.name, name))
        if layer.residual is not None:
            found[comes_from[layer.residual.source]].append((name, name))
    return found
