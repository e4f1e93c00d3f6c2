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
    check_whitening(net)
    first, connection = net.layers[0], net.connections()[0]
    patches = _patches(np.asarray(images, np.float64), connection.kernel[0])
    variance, vectors = np.linalg.eigh(np.cov(patches.T))  # in ascending order
    strongest = (vectors / np.sqrt(variance + EPSILON))[:, -first.features // 2:]
    kernel = np.concatenate([strongest, -strongest], axis=1).reshape(connection.kernel)
    layer = variables["params"][first.name]
    layer = {**layer, "kernel": jnp.asarray(kernel, layer["kernel"].dtype)}
    return {**variables, "params": {**variables["params"], first.name: layer}}


def check_whitening(net: Network) -> None:
    """Refuse a network whose first layer cannot be whitened.

    Raises:
        InputError: it is fully connected, or has other features than patches have directions for.
    """
    first, connection = net.layers[0], net.connections()[0]
    if first.kernel is None:
        raise InputError(f"whitening needs a convolution as first layer, and {first.name!r} is fully connected; "
                         "do without whitening")
    if connection.kernel[0] != connection.kernel[1] or first.groups > 1:
        raise InputError(f"whitening needs a square kernel without groups, and layer {first.name!r} has one of "
                         f"{connection.kernel[0]}×{connection.kernel[1]} in {first.groups}; do without whitening")
    directions = int(np.prod(connection.kernel[:3]))
    if first.features % 2 or first.features > 2 * directions:
        plural = "s" if connection.kernel[2] > 1 else ""
        raise InputError(f"layer {first.name!r} has {first.features} features, and {connection.kernel[0]}×"
                         f"{connection.kernel[1]} patches of {connection.kernel[2]} channel{plural} make an even "
                         f"number of at most {2 * directions}; do without whitening, or give the layer so many")


def _patches(images, side):
    """Every third patch of each third row: [patches, side·side·C]."""
    height, width, channels = images.shape[1] - side + 1, images.shape[2] - side + 1, images.shape[3]
    shifted = [images[:, i:i + height:3, j:j + width:3].reshape(-1, 1, channels)
               for i in range(side) for j in range(side)]
    return np.concatenate(shifted, axis=1).reshape(-1, side * side * channels)
