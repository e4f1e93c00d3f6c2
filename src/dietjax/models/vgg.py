"""VGG as in DIET-SNN: 3×3 convolutions, 2×2 average pools, no bias; a classifier of fully connected layers.

Simonyan & Zisserman 2015, in the authors' variant: four pools for 32×32 images, and one more for 224×224.
"""

from typing import Any

from .make import dense_layers, exact_name, make
from .network import Network
from .spec import Layer

PLANS: dict[str, tuple[int | str, ...]] = {  # "A": 2×2 average pool of the layer before it
    "VGG4": (64, "A", 128, "A"),
    "VGG6": (64, "A", 128, 128, "A"),
    "VGG9": (64, "A", 128, 256, "A", 256, 512, "A", 512, "A", 512),
    "VGG11": (64, "A", 128, 256, "A", 512, 512, "A", 512, "A", 512, 512),
    "VGG13": (64, 64, "A", 128, 128, "A", 256, 256, "A", 512, 512, 512, "A", 512),
    "VGG16": (64, 64, "A", 128, 128, "A", 256, 256, 256, "A", 512, 512, 512, "A", 512, 512, 512),
    "VGG19": (64, 64, "A", 128, 128, "A", 256, 256, 256, 256, "A", 512, 512, 512, 512, "A", 512, 512, 512, 512),
}
LARGE_IMAGE = 224
"""Side from which the last map is pooled once more (224×224 then ends at 7×7)."""


def vgg(name: str, num_classes: int, image_shape: tuple[int, int, int], *, classifier: tuple[int, ...] | None = None,
        conv_dropout: float = 0.2, classifier_dropout: float = 0.5, width: float = 1.0, max_pool: bool = False,
        **options: Any) -> Network:
    """A VGG by name.

    Args:
        name: "VGG4", "VGG6" (the authors' code also says VGG5), "VGG9", "VGG11", "VGG13", "VGG16" or "VGG19".
        num_classes: width of the output layer.
        image_shape: [H, W, C]; H and W divisible by 2 for every pool.
        classifier: widths of the hidden fully connected layers; None: the paper's (4096, 4096), VGG4's (1024,); ():
            none, the last map goes straight into the output layer, as is usual on CIFAR.
        conv_dropout: after every convolution that is not pooled.
        classifier_dropout: after every hidden fully connected layer.
        width: factor on the features of every layer but the output layer, hidden fully connected ones too.
        max_pool: whether pools take the largest instead of the average (`match_activations` refuses those).
        **options: fields of `Network`: neuron, encoder, bias, batch_norm, dtype ...
    """
    name = exact_name(name, PLANS)
    plan = PLANS[name]
    if min(image_shape[:2]) >= LARGE_IMAGE:
        plan = (*plan, "A")
    if classifier is None:
        classifier = (1024,) if name == "VGG4" else (4096, 4096)
    layers: list[Layer] = []
    for item, following in zip(plan, (*plan[1:], None), strict=True):
        if isinstance(item, int):
            pooled = following == "A"
            layers.append(Layer(f"conv{len(layers) + 1}", item, pool="max" if pooled and max_pool else pooled,
                                dropout=0.0 if pooled else conv_dropout))
    layers += dense_layers(classifier, num_classes, classifier_dropout)
    return make(tuple(layers), image_shape, options, width)
