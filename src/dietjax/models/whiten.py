"""A first kernel made from images instead of trained."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..errors import InputError
from ..types import Array
from .network import Network

EPSILON = 5e-4
"""Added to the variance of a direction, so that one without any is not blown up (Jordan's public code)."""


def whiten(net: Network, variables: Mapping[str, Any], images: Array | np.ndarray) -> dict:
    """The variables with a first convolution that whitens patches of these images.

    Its features are the strongest principal directions v of k×k patches, v/√(variance + ε), half of them, and the same
    with the other sign: currents of variance 1 that are uncorrelated (but for those pairs). It is meant to be left as
    it is, see `config.Model.whiten`.

    Source: Jordan, arXiv 2404.00498, after Page, "How to train your ResNet" (2019).

    Args:
        net: whose first layer is a convolution of an even number of features.
        variables: of it.
        images: [B, H, W, C], normalised; a few thousand training images.

    Raises:
        InputError: another first layer, or fewer directions than features.
    """
    first = net.layers[0]
    connection = net.connections()[0]
    if first.kernel is None:
        raise InputError(f"whitening needs a convolution as first layer, and {first.name!r} is fully connected")
    directions = int(np.prod(connection.kernel[:3]))
    if first.features % 2 or first.features > 2 * directions:
        raise InputError(f"layer {first.name!r} has {first.features} features, and whitening makes an even number, at "
                         f"most {2 * directions}: two for each direction of {first.kernel}×{first.kernel} patches of "
                         f"{connection.kernel[2]} channels; give it so many, or do without whitening")
    patches = _patches(np.asarray(images, np.float64), first.kernel)
    variance, vectors = np.linalg.eigh(np.cov(patches.T))  # in ascending order
    strongest = (vectors / np.sqrt(variance + EPSILON))[:, -first.features // 2:]
    kernel = np.concatenate([strongest, -strongest], axis=1).reshape(connection.kernel)
    layer = variables["params"][first.name]
    layer = {**layer, "kernel": jnp.asarray(kernel, layer["kernel"].dtype)}
    return {**variables, "params": {**variables["params"], first.name: layer}}


def _patches(images, side):
    """Every third patch of each third row: [patches, side·side·C]."""
    height, width, channels = images.shape[1] - side + 1, images.shape[2] - side + 1, images.shape[3]
    shifted = [images[:, i:i + height:3, j:j + width:3].reshape(-1, 1, channels)
               for i in range(side) for j in range(side)]
    return np.concatenate(shifted, axis=1).reshape(-1, side * side * channels)
