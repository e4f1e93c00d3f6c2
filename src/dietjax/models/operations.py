"""What a layer does to a block of time besides its neuron and pool: synapse, batch norm; and how kernels start.

Nothing here has memory, so every operation runs once over all steps: a block [B, T, ...] is folded to [B·T, ...], but
for a convolution on a TPU.
"""

import functools
import math

import jax
import jax.numpy as jnp

from ..types import Array
from .convolution import convolve, direct, folded
from .pooled import convolve_pooled


def init_kernel(key: Array, shape: tuple[int, ...], dtype) -> Array:
    """The authors' initial weights: convolution N(0, √(2/(k·k·out))), fully connected N(0, 0.01)."""
    deviation = 0.01 if len(shape) == 2 else math.sqrt(2 / (shape[0] * shape[1] * shape[3]))
    return deviation * jax.random.normal(key, shape, dtype)


def synapse(kernel: Array, x: Array, stride: tuple[int, int] = (1, 1), *, pooled: bool = False, groups: int = 1,
            forward_mode: bool = False) -> Array:
    """Input block [B, T, H, W, C] or [B, T, C] -> current block, by a convolution or a matrix product.

    pooled: whether the convolution's output is averaged over 2×2.
    groups: of channels that a convolution keeps apart.
    forward_mode: whether `jax.jvp` must go through it, which a convolution in Winograd's form refuses.
    """
    if kernel.ndim == 2:  # folded: else XLA's CPU backend copies the block transposed for the kernel's gradient
        current = x.reshape(x.shape[0] * x.shape[1], -1) @ kernel
        return current.reshape(*x.shape[:2], -1)
    if pooled:
        return folded(convolve_pooled)(x, kernel)
    if forward_mode:
        return folded(functools.partial(direct, stride=stride, groups=groups))(x, kernel)
    return convolve(x, kernel, stride, groups)


def weighted(x: Array, weights: Array, start: Array | int, timesteps: int) -> Array:
    """Currents [B, T, ...] (or [B, 1, ...], constant) times a weight for each timestep from `start` on: [B, T, ...].

    The weights p(t) of TEBN (Duan et al., NeurIPS 2022). NaN for a timestep that has none.
    """
    there = jnp.take(weights, start + jnp.arange(timesteps), mode="fill", fill_value=jnp.nan)
    return x * there.astype(x.dtype).reshape(-1, *[1] * (x.ndim - 2))


NORM_EPSILON = 1e-5
NORM_MOMENTUM = 0.9


def batch_norm(params: dict, stats: dict, x: Array, train: bool, valid: Array | None = None) -> tuple[Array, dict]:
    """Batch norm over [B, T, H, W] of a block of currents -> (normalised, running statistics after it).

    Ioffe & Szegedy 2015, eqs. 1-4; statistics in float32, running ones with momentum 0.9. Over time too, one mean and
    one variance for all timesteps: so it folds into one weight (tdBN, Zheng et al., AAAI 2021). Of frames beyond an
    example's end (not `valid`, [B, T]) nothing enters the statistics.
    """
    if train:
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        axes = tuple(range(x.ndim - 1))
        where = None if valid is None else valid.reshape(valid.shape + (1,) * (x.ndim - 2))
        mean, var = wide.mean(axes, where=where), wide.var(axes, where=where)
        running = {"mean": mean, "var": var}
        stats = jax.tree.map(lambda old, new: NORM_MOMENTUM * old + (1 - NORM_MOMENTUM) * new, stats, running)
    else:
        mean, var = stats["mean"], stats["var"]
    factor = params["scale"] * jax.lax.rsqrt(var + NORM_EPSILON)
    return (x * factor.astype(x.dtype) + (params["bias"] - mean * factor).astype(x.dtype)), stats
