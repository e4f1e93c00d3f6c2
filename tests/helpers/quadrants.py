"""A set that is learnt in a few steps, and a network small enough to compile in one second."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from dietjax import LIF
from dietjax.data import Dataset, Split
from dietjax.models import Layer, Network

CLASSES, SHAPE, EXAMPLES, BATCH = 4, (8, 8, 1), 48, 16
SPIKING = LIF(leak=0.9, threshold=0.01)


def make_dataset(seed=0, tests=BATCH):
    """Images whose brightest quadrant is their label: learnt in a few steps."""
    rng = np.random.default_rng(seed)

    def split(count):
        labels = rng.integers(CLASSES, size=count).astype(np.int32)
        images = rng.integers(0, 80, (count, *SHAPE)).astype(np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[4 * (label // 2):, 4 * (label % 2):][:4, :4] += 150
        return Split(images, labels)

    return Dataset("quadrants", split(EXAMPLES), split(tests), tuple("abcd"), (0.3,), (0.3,))


def make_net(neuron=SPIKING, dropout=0.0, **options):
    """A VGG of two convolutions, with few channels."""
    layers = (Layer("conv1", 4, pool=True), Layer("conv2", 8, dropout=dropout, pool=True),
              Layer("fc1", 8, kernel=None), Layer("fc2", CLASSES, kernel=None))
    return Network(layers, SHAPE, neuron=neuron, **options)


@functools.cache  # compiling random bits takes seconds
def init(net):
    return jax.jit(net.init)(jax.random.key(0), jnp.zeros((1, *SHAPE)))
