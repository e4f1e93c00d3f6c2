"""Pools of maps over a block of time. Nothing here has memory."""

from ..types import Array


def average_pool(x: Array) -> Array:
    """2×2 average over [B, T, H, W, C]; of a signal [B, T, L, 1, C] over 2."""
    return _windows(x).mean((3, 5))


def max_pool(x: Array) -> Array:
    """The largest of 2×2 over [B, T, H, W, C], of a signal of 2; equal ones share the gradient."""
    return _windows(x).max((3, 5))


def global_average(x: Array) -> Array:
    """Average over the whole map: [B, T, H, W, C] -> [B, T, 1, 1, C]."""
    return x.mean((2, 3), keepdims=True)


def pool_window(height: int, width: int) -> tuple[int, int]:
    """What a pool spans of a map: 2×2, of a signal (a map one pixel wide) 2×1."""
    return (2, 2) if min(height, width) > 1 or height == width else (min(height, 2), min(width, 2))


def _windows(x):
    b, t, h, w, c = x.shape
    height, width = pool_window(h, w)
    return x.reshape(b, t, h // height, height, w // width, width, c)
