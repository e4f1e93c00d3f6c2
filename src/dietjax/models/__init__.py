"""Networks: VGG and ResNet as in DIET-SNN, and the classes they are made of."""

from typing import Any

from .make import exact_name, parameter_count
from .network import Network
from .recurrent import Recurrent, RecurrentParams
from .resnet import BLOCKS, resnet
from .spec import Connection, Layer
from .vgg import PLANS, vgg

__all__ = [
    "Connection",
    "Layer",
    "Network",
    "Recurrent",
    "RecurrentParams",
    "build",
    "parameter_count",
    "resnet",
    "vgg",
]


def build(name: str, num_classes: int, image_shape: tuple[int, int, int], **options: Any) -> Network:
    """Any network by name, a VGG or a ResNet; the same arguments as `vgg` and `resnet`."""
    name = exact_name(name, [*PLANS, *BLOCKS])
    return (vgg if name in PLANS else resnet)(name, num_classes, image_shape, **options)
