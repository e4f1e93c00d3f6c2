"""A convolution in XLA's own form; and the same, but for the kernel's gradient."""

import math

import jax
import jax.numpy as jnp

from ..core.parts import images_at_once, shares, sum_of_parts
from ..types import Array
from .columns import columns_of

PART_BYTES = 2**20
"""Most bytes of one layer's input or output whose share of the kernel's gradient is computed at once."""
FEW_CHANNELS = 8
"""Of the input, up to which copies of it are cheaper than one of the cotangent, see `_products_of_pairs`."""


def direct(x: Array, kernel: Array, stride: tuple[int, ...] = (1, 1), groups: int = 1) -> Array:
    """`convolve` in XLA's own form, on every platform: of [N, H, W, in], or of [B, T, H, W, in] with time as one more
    axis of the map, over which the kernel is one step long.
    """
    numbers = ("NHWC", "HWIO", "NHWC")
    if x.ndim == 5:
        kernel, stride, numbers = kernel[None], (1, *stride), ("NDHWC", "DHWIO", "NDHWC")
    padding = [(side // 2, side // 2) for side in kernel.shape[:-2]]
    return jax.lax.conv_general_dilated(x, kernel, stride, padding, dimension_numbers=numbers,
                                        feature_group_count=groups)


@jax.custom_vjp
def direct_with_products(x: Array, kernel: Array) -> Array:
    """`direct` of stride 1, whose kernel's gradient is a matrix product.

    XLA's CPU backend is fast at the convolution and at the image's gradient, which is one, too. The kernel's gradient
    it computes as a convolution with the cotangent as a kernel of the map's size, at a twentieth of the rate on large
    maps. Here it is a matrix product that sums over all pixels, some images at a time. A custom_vjp has no forward-mode
    derivatives.
    """
    return direct(x, kernel)


def _forward(x, kernel):
    return direct(x, kernel), (x, kernel)


def _backward(residuals, g):
    x, kernel = residuals
    (g_x,) = jax.linear_transpose(lambda x: direct(x, kernel), x)(g)
    # pairs give two to three times as many values, which devices that share the images would add up
    few = x.shape[-1] <= FEW_CHANNELS and jax.device_count() == 1
    products = _products_of_pairs if few else _products_of_shifts

    def gradient(x, g):
        wide = jnp.promote_types(x.dtype, jnp.float32)
        return products(x.astype(wide), g.astype(wide), *kernel.shape[:2])

    size = images_at_once(x.shape[0], 4 * max(math.prod(x.shape[1:]), math.prod(g.shape[1:])), PART_BYTES)
    return g_x, sum_of_parts(gradient, x, g, size).astype(kernel.dtype)


direct_with_products.defvjp(_forward, _backward)


def _products_of_shifts(x, g, height, width):
    """The kernel's gradient [h, w, in, out] as one product, of x at the kernel's columns with g at its rows.

    A product whose sides are w·in and h·out is faster than h products of w·in with out, and copies less.
    """
    x = jnp.pad(x, ((0, 0), (height // 2, height // 2), (width // 2, width // 2), (0, 0)))
    x = columns_of(x, (1, width), (1, 1), (x.shape[1], g.shape[2]))
    g = jnp.concatenate([jnp.pad(g, ((0, 0), (i, height - 1 - i), (0, 0), (0, 0))) for i in range(height)], -1)
    apart = shares(g.shape[0], least=2)  # XLA's CPU backend computes one such product on one core
    x, g = (a.reshape(apart, -1, a.shape[-1]) for a in (x, g))
    product = jnp.einsum("pni,pno->pio", x, g).sum(0)
    return product.reshape(width, -1, height, product.shape[-1] // height).transpose(2, 0, 1, 3)


def _products_of_pairs(x, g, height, width):
    """The same, of x at all places of the kernel with g, whose neighbours in a row are taken as one pixel of twice the
    channels: of few channels copies are cheap, and a product wants wide sides.
    """
    count, rows, columns, channels = g.shape
    pairs, seen = -(-columns // 2), (width + 1) // 2
    x = jnp.pad(x, ((0, 0), (height // 2, height // 2), (width // 2, 2 * (pairs + seen - 1) - columns - width // 2),
                    (0, 0)))
    x = x.reshape(count, rows + height - 1, pairs + seen - 1, -1)
    x = columns_of(x, (height, seen), (1, 1), (rows, pairs))
    g = jnp.pad(g, ((0, 0), (0, 0), (0, 2 * pairs - columns), (0, 0))).reshape(-1, 2 * channels)
    product = (x.reshape(-1, x.shape[-1]).T @ g).reshape(height, width + 1, -1, 2, channels)
    return product[:, :width, :, 0] + product[:, 1:, :, 1]
