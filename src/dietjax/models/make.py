"""Networks from names and options, and their size."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any, cast

import jax
import jax.numpy as jnp

from ..config import check_width
from ..errors import unknown
from .network import Network
from .spec import Layer


def make(layers: tuple[Layer, ...], image_shape: tuple[int, int, int], options: dict[str, Any],
         width: float = 1.0, first: int | None = None) -> Network:
    """A network of these layers; `options` are the other fields of `Network`, checked by name.

    width: factor on the features of every layer but the readout (rounded, at least 1): MobileNet's width multiplier
        (Howard et al., arXiv 1704.04861, section 3.3).
    first: features of the first layer whatever the width.

    Raises:
        InputError: a width that is not > 0, an unknown option, an image size that does not fit.
    """
    check_width("width", width)
    hidden = (dataclasses.replace(layer, features=max(1, round(width * layer.features))) for layer in layers[:-1])
    layers = (*hidden, layers[-1])
    if first is not None:
        layers = (dataclasses.replace(layers[0], features=first), *layers[1:])
    fields = [f.name for f in dataclasses.fields(Network) if f.name not in ("layers", "image_shape", "parent", "name")]
    for option in options:
        if option not in fields:
            raise unknown("network option", option, fields)
    net = Network(layers, cast(tuple[int, int, int], tuple(image_shape)), **options)  # a list will do
    net.connections()  # an image size that does not fit is an error here, not in the middle of a run
    return net


def dense_layers(widths: Iterable[int], num_classes: int, dropout: float) -> list[Layer]:
    """Hidden fully connected layers of these widths, and the output layer: fc1, fc2, ..."""
    hidden = [Layer(f"fc{i}", width, kernel=None, dropout=dropout) for i, width in enumerate(widths, 1)]
    return [*hidden, Layer(f"fc{len(hidden) + 1}", num_classes, kernel=None)]


def exact_name(name: str, known: Iterable[str]) -> str:
    """The known network meant by "VGG16", "vgg-16", "resnet20" ...; VGG6 is called VGG5 in the authors' code."""
    spelled = {k.lower(): k for k in known}
    found = spelled.get(name.lower().replace("-", "").replace("_", "").replace("vgg5", "vgg6"))
    if found is None:
        raise unknown("network", name, spelled.values())
    return found


def parameter_count(net: Network) -> int:
    """Number of scalars in the network's parameters, from the shapes alone."""
    images = jax.ShapeDtypeStruct((1, *net.image_shape), net.param_dtype)
    variables = jax.eval_shape(net.init, jax.random.key(0), images)
    return sum(math.prod(x.shape) for x in jax.tree.leaves(variables["params"]))


def largest_block(net: Network, batch: int, steps: int) -> str:
    """Which layer's currents take the most memory, and how much, of so many examples and timesteps at once."""
    largest = max(net.connections(), key=lambda c: math.prod(c.out_shape))
    size = batch * steps * math.prod(largest.out_shape) * jnp.dtype(net.dtype or jnp.float32).itemsize
    shape = " x ".join(map(str, largest.out_shape))
    return f"The largest block is that of {largest.name}, {shape} neurons, {size / 1e9:.2g} GB."
