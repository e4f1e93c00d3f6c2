"""A checksum of an array that is the same however the array is laid out over devices and processes."""

import sys
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

WORD_BYTES = 4
POSITION_FACTOR = np.uint32(0x9E3779B1)  # odd: no two positions below 2^32 share a product
MIX_FACTORS = np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35)
"""Of MurmurHash3's 32-bit finaliser (Appleby, public domain)."""


def checksums(leaves: Iterable[Any]) -> list[int]:
    """One 32-bit number per leaf: Σ mix(word ⊕ mix(position)) mod 2³² over its words of at most 32 bits, row by row.

    A sum in any order is the same sum, so every device adds up its own shards and one scalar crosses between them: a
    leaf is never gathered. `mix` is one-to-one, so one changed word always changes the sum; other damage goes unseen
    once in 2³². Every process must call this with the same sharded leaves in the same order.

    leaves: arrays of NumPy or JAX, or Python numbers.
    """
    # One at a time: the CPU backend runs programs that do not wait for each other at once, and their messages between
    # processes may then meet each other's, and wait for ever.
    return [int(jax.device_get(_total(_words(leaf)))) for leaf in leaves]


def _words(leaf):
    """The bits of a leaf as unsigned integers; one element of 64 bits is two neighbouring words, the lower first."""
    if isinstance(leaf, jax.Array):
        kind = f"uint{8 * min(leaf.dtype.itemsize, WORD_BYTES)}"
        return (leaf if leaf.ndim else leaf[None]).view(kind)
    array = np.ascontiguousarray(leaf).reshape(-1)
    if sys.byteorder == "big":
        array = array.astype(array.dtype.newbyteorder("<"))
    return array.view(f"uint{8 * min(array.itemsize, WORD_BYTES)}")


@jax.jit
def _total(words):
    position = jnp.zeros(words.shape, jnp.uint32)
    for axis, size in enumerate(words.shape):
        position = position * np.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
    return _mix(words.astype(jnp.uint32) ^ _mix(position * POSITION_FACTOR)).sum(dtype=jnp.uint32)


def _mix(x):
    for shift, factor in zip((16, 13), MIX_FACTORS, strict=True):
        x = (x ^ (x >> shift)) * factor
    return x ^ (x >> 16)
