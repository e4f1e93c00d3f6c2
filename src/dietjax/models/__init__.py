"""Networks: VGG and ResNet, DIET-SNN's and the field's, a compact one, and the classes they are made of."""

from typing import Any

from .compact import PLANS as COMPACT
from .compact import compact
from .make import exact_name, largest_block, parameter_count
from .network import Network
from .recurrent import Recurrent, RecurrentParams
from .resnet import PLANS as RESNETS
from .resnet import resnet
from .spec import Layer, Residual
from .vgg import PLANS as VGGS
from .vgg import vgg
from .whiten import check_whitening, whiten
from .wiring import Connection

__all__ = [
    "Connection",
    "Layer",
    "Network",
    "Recurrent",
    "RecurrentParams",
    "Residual",
    "build",
    "check_whitening",
    "compact",
    "largest_block",
    "parameter_count",
    "resnet",
    "vgg",
    "whiten",
]


def build(name: str, num_classes: int, image_shape: tuple[int, int, int], **options: Any) -> Network:
    """Any network by name; the same arguments as `vgg`, `resnet` and `compact`."""
    family = {**dict.fromkeys(VGGS, vgg), **dict.fromkeys(RESNETS, resnet), **dict.fromkeys(COMPACT, compact)}
    name = exact_name(name, family)
    return family[name](name, num_classes, image_shape, **options)
