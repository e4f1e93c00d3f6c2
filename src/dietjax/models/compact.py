"""A small network for a fast CIFAR-10 on a CPU: pools act on currents, before norm and neuron.

So a layer that is pooled has a quarter of the neurons, every hidden input is binary, and all between two neurons is
linear, which conversion keeps. After the network of Jordan, "94 % on CIFAR-10 in 3.29 seconds on a single GPU", arXiv
2404.00498, with 3×3 instead of 2×2 patches in the first layer and average instead of max pools.
"""

from typing import Any

from .make import dense_layers, exact_name, make
from .network import Network
from .spec import Layer

PLANS: dict[str, tuple[int, ...]] = {"Compact8": (32, 32, 128, 128, 128, 128)}
"""Features of the convolutions after the first; every other one's current is pooled."""
FIRST = 32
"""Features of the first convolution: `whiten` finds at most 54 for 3×3 patches of three colours."""


def compact(name: str, num_classes: int, image_shape: tuple[int, int, int], *,
            classifier: tuple[int, ...] | None = None, conv_dropout: float = 0.0, classifier_dropout: float = 0.0,
            width: float = 1.0, **options: Any) -> Network:
    """A compact network by name.

    Args:
        name: "Compact8".
        num_classes: width of the output layer.
        image_shape: [H, W, C]; H and W divisible by 8.
        classifier: widths of hidden fully connected layers; None or (): none, the last map is averaged.
        conv_dropout: after every convolution but the first and the last.
        classifier_dropout: after every hidden fully connected layer.
        width: factor on the features of every layer but the first and the output layer.
        **options: fields of `Network`: neuron, encoder, bias, batch_norm, dtype ...
    """
    features = PLANS[exact_name(name, PLANS)]
    layers = [Layer("conv1", FIRST)]
    for i, count in enumerate(features):
        last = i == len(features) - 1
        layers.append(Layer(f"conv{i + 2}", count, pool_current=i % 2 == 0, pool="global" if last else False,
                            dropout=0.0 if last else conv_dropout))
    layers += dense_layers(classifier or (), num_classes, classifier_dropout)
    return make(tuple(layers), image_shape, options, width, first=FIRST)
