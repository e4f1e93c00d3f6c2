"""A convolution as one matrix product: of columns, the pixels that a kernel sees from each place, with the kernel."""

import functools
import math

import jax
import jax.numpy as jnp

from ..core.parts import images_at_once, in_parts
from ..types import Array

PART_BYTES = 4 * 2**20
"""Most bytes of one layer's columns that are alive at once: they stay in the cache."""


def columns_in_parts(x: Array, kernel: Array, stride: tuple[int, int] = (1, 1)) -> Array:
    """[N, H, W, in] by [h, w, in, out] -> [N, ⌈H/stride⌉, ⌈W/stride⌉, out], zero outside the map, h and w odd.

    Some images at a time. Has derivatives in forward mode.
    """
    out = tuple(-(-side // step) for side, step in zip(x.shape[1:3], stride, strict=True))
    pads = [(side // 2, side // 2) for side in kernel.shape[:2]]

    def form(x, kernel):
        return columns_product(jnp.pad(x, ((0, 0), *pads, (0, 0))), kernel, stride, out)

    return in_parts(form, x, kernel, columns_images_at_once(x.shape[0], kernel.shape, out))


def columns_images_at_once(count: int, kernel: tuple[int, ...], out: tuple[int, ...]) -> int:
    """Of N images, how many are columns at a time, for outputs [N, *out, ...]: all of a 1×1 kernel's, its pixels."""
    if kernel[:2] == (1, 1):
        return count
    return images_at_once(count, 4 * math.prod(kernel[:3]) * math.prod(out[:2]), PART_BYTES)


@functools.partial(jax.checkpoint, static_argnums=(2, 3))
def columns_product(x: Array, kernel: Array, stride: tuple[int, int], out: tuple[int, int]) -> Array:
    """A convolution without padding, [N, H, W, in] by [h, w, in, out] -> [N, *out, out channels].

    Computed in float32 or wider. The backward pass makes the columns again, which are h·w times as large as the map.
    """
    wide = jnp.promote_types(x.dtype, jnp.float32)
    columns = columns_of(x.astype(wide), kernel.shape[:2], stride, out)
    y = columns.reshape(-1, columns.shape[-1]) @ kernel.astype(wide).reshape(columns.shape[-1], -1)
    return y.reshape(*columns.shape[:3], -1).astype(x.dtype)


def columns_of(x: Array, sides: tuple[int, ...], stride: tuple[int, int], out: tuple[int, ...]) -> Array:
    """What a kernel of h × w sees of a padded map [N, H, W, C] from each place: [N, *out, h·w·C]."""
    (down, right), (height, width) = stride, out
    return jnp.concatenate([x[:, i:i + down * (height - 1) + 1:down, j:j + right * (width - 1) + 1:right]
                            for i in range(sides[0]) for j in range(sides[1])], -1)
