"""dietjax: DIET-SNN in JAX. Deep spiking networks of few timesteps, with trained leaks and thresholds.

net = dietjax.models.vgg("VGG9", num_classes=10, image_shape=(32, 32, 3), neuron=dietjax.LIF())
variables = net.init(key, images)
logits, record = net.apply(variables, images, timesteps=5)
"""

from . import convert, encode, energy, interop, models, neurons, readout, surrogate
from .neurons import IF, LI, LIF, LIFParams, MembraneState, ReLU
from .surrogate import Surrogate, spike
from .unroll import over_blocks, unroll

__version__ = "0.1.0"

__all__ = [
    "IF",
    "LI",
    "LIF",
    "LIFParams",
    "MembraneState",
    "ReLU",
    "Surrogate",
    "convert",
    "encode",
    "energy",
    "interop",
    "models",
    "neurons",
    "over_blocks",
    "readout",
    "spike",
    "surrogate",
    "unroll",
]
