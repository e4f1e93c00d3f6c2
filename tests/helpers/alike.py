"""Small networks with all that conversion meets: a VGG's pool and dense layers, a ResNet's two kinds of shortcut."""

import jax.numpy as jnp
import numpy as np

from dietjax.models import Layer

IMAGE = (8, 8, 2)
VGG_LIKE = (
    Layer("conv1", 6),
    Layer("conv2", 8, pool=True),
    Layer("fc1", 12, kernel=None),
    Layer("fc2", 4, kernel=None),
)
RESNET_LIKE = (  # two identity shortcuts in a chain, then one through a convolution, then another identity
    Layer("stem", 6, pool=True),
    Layer("a1", 6),
    Layer("a2", 6, shortcut="a1"),
    Layer("b1", 6),
    Layer("b2", 6, shortcut="b1"),
    Layer("c1", 8, stride=2),
    Layer("c2", 8, shortcut="c1"),
    Layer("d1", 8),
    Layer("d2", 8, shortcut="d1"),
    Layer("fc", 4, kernel=None),
)


def images(batch=6, seed=5, dtype=jnp.float64):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(batch, *IMAGE)), dtype)
