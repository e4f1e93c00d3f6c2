"""ResNet as in DIET-SNN: a stem of three 3×3 convolutions, four stages of basic blocks, one linear layer.

He et al. 2016, in the authors' variant: the shortcut is added to the CURRENT of a block's second neuron, not to its
spikes, and the last map is flattened, not averaged.
"""

from typing import Any

from .make import exact_name, make
from .network import Network
from .spec import Layer

BLOCKS: dict[str, tuple[int, int, int, int]] = {
    "ResNet12": (1, 1, 1, 1),
    "ResNet20": (2, 2, 2, 2),
    "ResNet34": (3, 4, 6, 3),
}
WIDTHS = (64, 128, 256, 512)
LARGE_IMAGE = 224
"""Side from which the last map is pooled once (14×14 to 7×7), as in the VGGs: our choice, the authors give none."""


def resnet(name: str, num_classes: int, image_shape: tuple[int, int, int], *, classifier: tuple[int, ...] | None = None,
           conv_dropout: float = 0.2, classifier_dropout: float = 0.5, **options: Any) -> Network:
    """A ResNet by name.

    Args:
        name: "ResNet12", "ResNet20" or "ResNet34".
        num_classes: width of the output layer.
        image_shape: [H, W, C]; H and W even.
        classifier: widths of hidden fully connected layers; None: none (the paper's).
        conv_dropout: after the first two convolutions of the stem and the first of every block.
        classifier_dropout: after every hidden fully connected layer.
        **options: fields of `Network`: neuron, encoder, bias, batch_norm, dtype ...
    """
    blocks = BLOCKS[exact_name(name, BLOCKS)]
    layers = [Layer(f"stem{i}", WIDTHS[0], pool=i == 3, dropout=0.0 if i == 3 else conv_dropout) for i in (1, 2, 3)]
    for stage, (width, count) in enumerate(zip(WIDTHS, blocks, strict=True), 1):
        for block in range(1, count + 1):
            first = f"stage{stage}_block{block}_conv1"
            layers += [
                Layer(first, width, stride=2 if stage > 1 and block == 1 else 1, dropout=conv_dropout),
                Layer(f"stage{stage}_block{block}_conv2", width, shortcut=first,
                      pool=min(image_shape[:2]) >= LARGE_IMAGE and (stage, block) == (4, count)),
            ]
    hidden = classifier or ()
    layers += [Layer(f"fc{i}", width, kernel=None, dropout=classifier_dropout) for i, width in enumerate(hidden, 1)]
    layers.append(Layer(f"fc{len(hidden) + 1}", num_classes, kernel=None))
    return make(tuple(layers), image_shape, options)
