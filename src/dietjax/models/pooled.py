"""A convolution whose output is pooled, without the products that the pool would only add up.

Both are linear and know no place, so the mean of 2×2 neighbours may be taken of the input instead, and the kernel then
steps by two: a quarter of the products, the same numbers but for rounding.

    mean of y[2p], y[2p+1], with y[r] = Σ_k w[k]·x[r+k]   =   Σ_k w[k]·(x[2p+k] + x[2p+1+k]) / 2       (each axis)
"""

import jax
import jax.numpy as jnp

from ..core.parts import in_parts
from ..types import Array
from .columns import columns_images_at_once, columns_product


def convolve_pooled(x: Array, kernel: Array) -> Array:
    """2×2 average pool of `convolve(x, kernel)`: [N, H, W, in] by [k, k, in, out] -> [N, H/2, W/2, out].

    H and W even, k odd (`spec.connections` refuses others).

    On a CPU it is one matrix product of columns, a few images at a time: with both gradients 0.4 to 0.7 of the time of
    Winograd's form and a pool (docs/performance.md). Both forms have derivatives in forward mode.
    """
    out = x.shape[1] // 2, x.shape[2] // 2

    def of_columns(x, kernel):
        return columns_product(_neighbours_mean(x, kernel.shape[0] // 2), kernel, (2, 2), out)

    def on_cpu(x, kernel):
        return in_parts(of_columns, x, kernel, columns_images_at_once(x.shape[0], kernel.shape, out))

    return jax.lax.platform_dependent(x, kernel, cpu=on_cpu, default=_strided)


def _neighbours_mean(x, pad):
    """[N, H, W, C] -> [N, H+2·pad−1, W+2·pad−1, C]: of every 2×2 pixels, with zeros outside the map."""
    x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    x = x[:, :-1] + x[:, 1:]
    return (x[:, :, :-1] + x[:, :, 1:]) / 4


def _strided(x, kernel):
    """By XLA's own convolution of stride 2."""
    return jax.lax.conv_general_dilated(_neighbours_mean(x, kernel.shape[0] // 2), kernel, (2, 2), "VALID",
                                        dimension_numbers=("NHWC", "HWIO", "NHWC"))
