"""The one place that chooses the form of a convolution: XLA's own, or for a CPU, Winograd's.

XLA's CPU backend multiplies as fast as the machine can where maps are large, and is pathological where they are tiny
(a 3×3 convolution of 512 channels on 2×2 takes 50 times as long as its arithmetic). Winograd's minimal filtering needs
16 instead of 36 multiplications for four outputs, and turns the rest into matrix products; forwards and backwards it
took 0.5-0.9 of the time of XLA's own from 32 channels on, on maps from 4×4 to 32×32 (docs/performance.md).
"""

import jax
import jax.numpy as jnp

from ..types import Array

LEAST_CHANNELS = 32
"""Channels, in and out, from which Winograd's form is faster: with fewer, its transforms cost more than they save."""


def convolve(x: Array, kernel: Array, stride: int = 1) -> Array:
    """[N, H, W, in] by [k, k, in, out] -> [N, ⌈H/stride⌉, ⌈W/stride⌉, out]; zero outside the map, k odd."""
    pad = kernel.shape[0] // 2

    def direct(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), [(pad, pad), (pad, pad)], dimension_numbers=("NHWC", "HWIO", "NHWC"))

    if not suits_winograd(kernel.shape, stride):
        return direct(x, kernel)
    # recomputed for the backward pass: its transformed tiles are four times as large as the map
    return jax.lax.platform_dependent(x, kernel, cpu=jax.checkpoint(winograd), default=direct)


def suits_winograd(kernel: tuple[int, ...], stride: int) -> bool:
    """Whether a convolution with a kernel of this shape, compiled for a CPU, takes Winograd's form."""
    return kernel[:2] == (3, 3) and stride == 1 and min(kernel[2:]) >= LEAST_CHANNELS


def winograd(x: Array, kernel: Array) -> Array:
    """A 3×3 convolution of stride 1, by F(2×2, 3×3) of Lavin & Gray, "Fast algorithms for convolutional neural
    networks", CVPR 2016: every 4×4 tile d of the input, two apart, gives 2×2 outputs Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A.

    Halves are computed in float32, whose rounding the sums of the transforms need.
    """
    dtype, wide = x.dtype, jnp.promote_types(x.dtype, jnp.float32)
    batch, height, width, _ = x.shape
    rows, columns = -(-height // 2), -(-width // 2)  # tiles
    x = jnp.pad(x.astype(wide), ((0, 0), (1, 1 + height % 2), (1, 1 + width % 2), (0, 0)))
    kernel = kernel.astype(wide)
    tiles = [[x[:, i:i + 2 * rows - 1:2, j:j + 2 * columns - 1:2] for j in range(4)] for i in range(4)]
    inputs = _both_axes(lambda d: (d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]), tiles)
    weights = _both_axes(lambda g: (g[0], (g[0] + g[1] + g[2]) / 2, (g[0] - g[1] + g[2]) / 2, g[2]), kernel)
    products = [[v.reshape(-1, v.shape[-1]) @ u for v, u in zip(*pair, strict=True)]
                for pair in zip(inputs, weights, strict=True)]
    outputs = _both_axes(lambda m: (m[0] + m[1] + m[2], m[1] - m[2] - m[3]), products)
    outputs = [[y.reshape(batch, rows, columns, -1) for y in row] for row in outputs]
    y = jnp.stack([jnp.stack(row, axis=3) for row in outputs], axis=2)  # [N, rows, 2, columns, 2, out]
    return y.reshape(batch, 2 * rows, 2 * columns, -1)[:, :height, :width].astype(dtype)


def _both_axes(transform, grid):
    """A linear transform of a grid of arrays, along its columns and then along its rows."""
    grid = list(zip(*[transform(column) for column in zip(*grid, strict=True)], strict=True))
    return [transform(row) for row in grid]
