"""A 3×3 convolution of stride 1 by minimal filtering, for a CPU.

Winograd's form needs 16 instead of 36 multiplications for four outputs, and turns the rest into matrix products.
"""

import functools
import math

import jax
import jax.numpy as jnp

from ..core.parts import images_at_once, in_parts, shares
from ..types import Array

PART_BYTES = 16 * 2**20
"""Most bytes of one layer's transformed tiles that are alive at once. More would spare adding up a kernel's gradient
over parts, but cost as much in page faults and cache misses, and memory."""


def winograd_in_parts(x: Array, kernel: Array) -> Array:
    """`winograd`, some images at a time: transformed tiles, four times as large as the map, then stay small."""
    return in_parts(winograd, x, kernel, winograd_images_at_once(x.shape))


def winograd_images_at_once(shape: tuple[int, ...]) -> int:
    """Of a map [N, H, W, in], how many images Winograd's form takes at a time."""
    count, height, width, channels = shape
    return images_at_once(count, 4 * 16 * math.prod(_tiles(height, width)) * channels, PART_BYTES)


@jax.custom_vjp
def winograd(x: Array, kernel: Array) -> Array:
    """A 3×3 convolution of stride 1, by F(2×2, 3×3) of Lavin & Gray, "Fast algorithms for convolutional neural
    networks", CVPR 2016: every 4×4 tile d of the input, two apart, gives 2×2 outputs Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A.

    float16 and bfloat16 are computed in float32: the sums of the transforms need its digits. The backward pass computes
    the tiles again. A custom_vjp has no forward-mode derivatives.
    """
    wide = jnp.promote_types(x.dtype, jnp.float32)
    products = _pairs(jnp.matmul, _input_tiles(x.astype(wide)), _both_axes(_kernel_rows, kernel.astype(wide)))
    outputs = _both_axes(lambda m: (m[0] + m[1] + m[2], m[1] - m[2] - m[3]), products)
    return _interleave(outputs, x.shape).astype(x.dtype)


def _forward(x, kernel):
    return winograd(x, kernel), (x, kernel)


def _backward(residuals, g):
    """By hand: JAX's transpose of reading tiles would sum sixteen padded maps; here a pixel gathers from its tiles."""
    x, kernel = residuals
    wide = jnp.promote_types(x.dtype, jnp.float32)
    height, width, channels = g.shape[1:]
    g = jnp.pad(g.astype(wide), ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
    g = [[g[:, i::2, j::2].reshape(-1, channels) for j in range(2)] for i in range(2)]
    g = _both_axes(lambda y: (y[0], y[0] + y[1], y[0] - y[1], -y[1]), g)
    # Devices that share the images add up nine values of the kernel's gradient, not its sixteen before the transform.
    apart = shares(x.shape[0])
    g_kernel = _pairs(lambda v, m: jnp.einsum("dti,dto->dio", *(a.reshape(apart, -1, a.shape[-1]) for a in (v, m))),
                      _input_tiles(x.astype(wide)), g)
    g_kernel = _both_axes(lambda u: (u[0] + (u[1] + u[2]) / 2, (u[1] - u[2]) / 2, (u[1] + u[2]) / 2 + u[3]), g_kernel)
    g_tiles = _pairs(lambda m, u: m @ u.T, g, _both_axes(_kernel_rows, kernel.astype(wide)))
    g_tiles = _both_axes(lambda v: (v[0], v[1] - v[2] + v[3], v[1] + v[2] - v[0], -v[3]), g_tiles)
    g_tiles = [[d.reshape(-1, *_tiles(height, width), x.shape[-1]) for d in row] for row in g_tiles]
    g_x = _both_axes(functools.partial(_gather, 1), g_tiles, functools.partial(_gather, 2))
    g_kernel = jnp.stack([jnp.stack([u.sum(0) for u in row]) for row in g_kernel])
    return _interleave(g_x, x.shape, in_lines=True).astype(x.dtype), g_kernel.astype(kernel.dtype)


winograd.defvjp(_forward, _backward)


def _tiles(height, width):
    """(rows, columns) of 2×2 outputs that cover a map."""
    return -(-height // 2), -(-width // 2)


def _input_tiles(x):
    """Bᵀ d B, as a 4×4 grid of [tiles, in]."""
    height, width, channels = x.shape[1:]
    rows, columns = _tiles(height, width)
    x = jnp.pad(x, ((0, 0), (1, 1 + height % 2), (1, 1 + width % 2), (0, 0)))
    tiles = [[x[:, i:i + 2 * rows - 1:2, j:j + 2 * columns - 1:2] for j in range(4)] for i in range(4)]
    tiles = _both_axes(lambda d: (d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]), tiles)
    return [[v.reshape(-1, channels) for v in row] for row in tiles]


def _kernel_rows(g):
    return g[0], (g[0] + g[1] + g[2]) / 2, (g[0] - g[1] + g[2]) / 2, g[2]


def _gather(axis, d):
    """Sums of tiles where they overlap: (even, odd) pixels along this axis of the four positions [N, rows, columns, C].

    Position p of tile i lies on pixel 2i + p − 1.
    """
    def shifted(x, by):
        edges = [(by, -by, 0) if i == axis else (0, 0, 0) for i in range(x.ndim)]
        return jax.lax.pad(x, jnp.zeros((), x.dtype), edges)

    return d[1] + shifted(d[3], 1), d[2] + shifted(d[0], -1)


def _interleave(grid, shape, in_lines=False):
    """A 2×2 grid of even and odd pixels, each of as many values as [N, rows, columns, C], as one map of this shape.

    in_lines: not stacked, but as lines of pixels one after the other. To XLA's CPU backend stacked ones cost less when
    they come straight from sums, and several times as much when something is fused with them that reads pixels more
    than once, such as a pool's gradient.
    """
    batch, height, width, _ = shape
    rows, columns = _tiles(height, width)
    grid = [[y.reshape(batch, rows, columns, -1) for y in row] for row in grid]
    if in_lines:
        y = jnp.concatenate([jnp.concatenate(row, -1).reshape(batch, rows, -1) for row in grid], -1)
    else:
        y = jnp.stack([jnp.stack(row, axis=3) for row in grid], axis=2)  # [N, rows, 2, columns, 2, C]
    return y.reshape(batch, 2 * rows, 2 * columns, -1)[:, :height, :width]


def _pairs(function, first, second):
    """A function of each pair of two grids."""
    return [[function(a, b) for a, b in zip(*rows, strict=True)] for rows in zip(first, second, strict=True)]


def _both_axes(transform, grid, of_rows=None):
    """A linear transform of a grid of arrays, along its columns and then (that or another one) along its rows."""
    grid = list(zip(*[transform(column) for column in zip(*grid, strict=True)], strict=True))
    return [(of_rows or transform)(row) for row in grid]
