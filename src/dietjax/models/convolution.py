"""The one place that chooses the form of a convolution: XLA's own, or one of three for a CPU."""

import functools
import math
from collections.abc import Callable

import jax

from ..types import Array
from .columns import columns_in_parts
from .direct import direct, direct_with_products
from .winograd import winograd_in_parts

LEAST_CHANNELS, ON_LARGE_MAPS, LARGE = 32, 48, 16 * 16
"""Channels, in and out, from which Winograd's form is faster: with fewer, its transforms cost more than they save. On
maps of so many pixels they do not stay in the cache, and it takes more channels."""

FORMS: dict[str, Callable[..., Array]] = {
    "XLA's own": direct, "kernel's gradient as products": direct_with_products, "columns": columns_in_parts,
    "Winograd": winograd_in_parts}


def suits(form: Callable[..., Array], kernel: tuple[int, ...], stride: tuple[int, int]) -> bool:
    """Whether a form can compute convolutions with a kernel of this shape."""
    if form is winograd_in_parts:
        return kernel[:2] == (3, 3) and stride == (1, 1)
    return form is not direct_with_products or stride == (1, 1)


def with_stride(form: Callable[..., Array], stride: tuple[int, int]) -> Callable[[Array, Array], Array]:
    """A form that suits, as a function of map and kernel."""
    return functools.partial(form, stride=stride) if form in (direct, columns_in_parts) else form


def convolve(x: Array, kernel: Array, stride: tuple[int, int] = (1, 1), groups: int = 1) -> Array:
    """[..., H, W, in] by [h, w, in/groups, out] -> [..., ⌈H/stride⌉, ⌈W/stride⌉, out]; zero outside the map, h, w odd.

    Before the map stands N, or [B, T]. Both are folded to N but on a TPU, whose compiler would copy a block between a
    layout for timesteps, with the batch innermost, and one for N images (docs/performance.md).
    """
    own = functools.partial(direct, stride=stride, groups=groups)
    form = form_on_cpu(x.shape[-3:-1], kernel.shape, stride, groups)
    forms = {} if form is direct else {"cpu": folded(with_stride(form, stride))}
    if x.ndim == 5 and x.shape[1] > 1:
        forms["tpu"] = own
    return jax.lax.platform_dependent(x, kernel, default=folded(own), **forms) if forms else folded(own)(x, kernel)


def folded(form: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """A form of [N, H, W, in] as one of [..., H, W, in]."""
    def run(x, kernel):
        y = form(x.reshape(-1, *x.shape[-3:]), kernel)
        return y.reshape(*x.shape[:-3], *y.shape[1:])

    return run


def form_on_cpu(sides: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, int] = (1, 1),
                groups: int = 1) -> Callable[..., Array]:
    """Which form a convolution of a map [H, W] takes when it is compiled for a CPU; figures in docs/performance.md."""
    if groups > 1:
        return direct
    least = ON_LARGE_MAPS if math.prod(sides) >= LARGE else LEAST_CHANNELS
    if suits(winograd_in_parts, kernel, stride) and min(kernel[2:]) >= least:
        return winograd_in_parts
    # strides: XLA computes the image's gradient over the zeros between outputs, or pixel by pixel; kernels one pixel
    # wide are hardly more than a product; and on maps smaller than the kernel XLA's own is written pixel by pixel
    if stride != (1, 1) or min(kernel[:2]) == 1 or any(a < b for a, b in zip(sides, kernel[:2], strict=True)):
        return columns_in_parts
    return direct_with_products
