"""A convolution in XLA's own form; and the same, but for the kernel's gradient."""

import math

import jax
import jax.numpy as jnp

from ..core.parts import images_at_once, sum_of_parts
from ..types import Array
from .columns import taps

PART_BYTES = 2**20
"""Most bytes of one layer's input or output whose share of the kernel's gradient is computed at once."""


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
    """`direct` of stride 1, whose kernel's gradient is matrix products.

    XLA's CPU backend is fast at the convolution and at the image's gradient, which is one, too. The kernel's gradient
    it computes as a convolution with the cotangent as a kernel of the map's size, at a twentieth of the rate on large
    maps. Here each row of the kernel is a product of the pixels under it with the cotangent, some images at a time. A
    custom_vjp has no forward-mode derivatives.
    """
    return direct(x, kernel)


def _forward(x, kernel):
    return direct(x, kernel), (x, kernel)


def _backward(residuals, g):
    x, kernel = residuals
    (g_x,) = jax.linear_transpose(lambda x: direct(x, kernel), x)(g)

    def of_rows(x, g):
        wide = jnp.promote_types(x.dtype, jnp.float32)
        pads = [(side // 2, side // 2) for side in kernel.shape[:2]]
        seen = taps(jnp.pad(x.astype(wide), ((0, 0), *pads, (0, 0))), kernel.shape[:2], (1, 1), g.shape[1:3])
        # folded: over three axes XLA's CPU backend sums at half the rate
        rows = [jnp.concatenate(row, -1).reshape(-1, len(row) * x.shape[-1]) for row in seen]
        return jnp.stack([row.T @ g.astype(wide).reshape(-1, g.shape[-1]) for row in rows])

    size = images_at_once(x.shape[0], 4 * max(math.prod(x.shape[1:]), math.prod(g.shape[1:])), PART_BYTES)
    return g_x, sum_of_parts(of_rows, x, g, size).reshape(kernel.shape).astype(kernel.dtype)


direct_with_products.defvjp(_forward, _backward)
