"""Networks: VGG and ResNet, DIET-SNN's and the field's, and the classes they are made of."""

from typing import Any

from .make import exact_name, parameter_count
from .network import Network
from .recurrent import Recurrent, RecurrentParams
from .resnet import PLANS as RESNETS
from .resnet import resnet
from .spec import Connection, Layer
from .vgg import PLANS as VGGS
from .vgg import vgg

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
    name = exact_name(name, [*VGGS, *RESNETS])
    return (vgg if name in VGGS else resnet)(name, num_classes, image_shape, **options)
