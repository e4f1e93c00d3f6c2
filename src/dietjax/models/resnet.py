"""ResNets of basic blocks (He et al. 2016) whose shortcut is added to the CURRENT of a block's second neuron, or, of
SEW-ResNets, combined with its spikes.

ResNet12, 20 and 34 as in DIET-SNN: a stem of three 3×3 convolutions and a pool; the last map is flattened.
ResNet18 and 19 as the field trains them on CIFAR: a stem of one 3×3 convolution; the last map is averaged.
"""

import dataclasses
from typing import Any, Literal

from .make import dense_layers, exact_name, make
from .network import Network
from .spec import Layer, Residual


@dataclasses.dataclass(frozen=True)
class Plan:
    """What tells one ResNet from another."""

    blocks: tuple[int, ...]
    """Basic blocks of each stage. The first block of every stage but the first halves the map."""
    widths: tuple[int, ...] = (64, 128, 256, 512)
    """Features of each stage; the stem has those of the first."""
    stem: int = 3
    """3×3 convolutions before the stages. After three of them the map is pooled, after one it is not."""
    average: bool = False
    """Whether the last map is averaged before the classifier; else flattened."""
    classifier: tuple[int, ...] = ()
    """Widths of hidden fully connected layers."""


PLANS: dict[str, Plan] = {
    "ResNet12": Plan((1, 1, 1, 1)),
    "ResNet18": Plan((2, 2, 2, 2), stem=1, average=True),  # He et al. 2016, table 1, with their stem for CIFAR
    "ResNet19": Plan((3, 3, 2), (128, 256, 512), stem=1, average=True, classifier=(256,)),  # Zheng et al., AAAI 2021
    "ResNet20": Plan((2, 2, 2, 2)),
    "ResNet34": Plan((3, 4, 6, 3)),
}
LARGE_IMAGE = 224
"""Side from which a last map that is flattened is pooled once (14×14 to 7×7), as in the VGGs: our choice, the authors
give none."""


def resnet(name: str, num_classes: int, image_shape: tuple[int, int, int], *, classifier: tuple[int, ...] | None = None,
           conv_dropout: float = 0.2, classifier_dropout: float = 0.5, width: float = 1.0,
           sew: Literal["add", "and", "iand"] | None = None, **options: Any) -> Network:
    """A ResNet by name.

    Args:
        name: "ResNet12", "ResNet20", "ResNet34" (DIET-SNN's), "ResNet18", or "ResNet19" (arXiv 2011.05280).
        num_classes: width of the output layer.
        image_shape: [H, W, C]; H and W even, but for ResNet18 and 19, which take any.
        classifier: widths of hidden fully connected layers; None: ResNet19's (256,), else none.
        conv_dropout: after the first two convolutions of a stem of three, and the first of every block.
        classifier_dropout: after every hidden fully connected layer.
        width: factor on the features of every layer but the output layer.
        sew: how a block's input is combined with its spikes (SEW-ResNet, Fang et al., NeurIPS 2021, arXiv 2102.04159),
            instead of being added to the current of its second neuron; None: that.
        **options: fields of `Network`: neuron, encoder, bias, batch_norm, dtype ...
    """
    plan = PLANS[exact_name(name, PLANS)]
    layers = [Layer(f"stem{i}", plan.widths[0], pool=i == 3, dropout=conv_dropout if i < plan.stem else 0.0)
              for i in range(1, plan.stem + 1)]
    for stage, (features, count) in enumerate(zip(plan.widths, plan.blocks, strict=True), 1):
        for block in range(1, count + 1):
            first = f"stage{stage}_block{block}_conv1"
            layers += [Layer(first, features, stride=2 if stage > 1 and block == 1 else 1, dropout=conv_dropout),
                       Layer(f"stage{stage}_block{block}_conv2", features, shortcut=first if sew is None else None,
                             residual=None if sew is None else Residual(first, sew))]
    layers[-1] = dataclasses.replace(layers[-1], pool="global" if plan.average else min(image_shape[:2]) >= LARGE_IMAGE)
    hidden = plan.classifier if classifier is None else classifier
    layers += dense_layers(hidden, num_classes, classifier_dropout)
    return make(tuple(layers), image_shape, options, width)
