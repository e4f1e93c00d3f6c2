"""The k-th smallest of many numbers, for percentiles of a layer's currents."""

import jax
import jax.numpy as jnp

from ..types import Array


def kth_smallest(x: Array, k: Array | int) -> Array:
    """The k-th smallest (k >= 1) of a float array [n], exactly, without sorting it.

    Radix selection: floats in the order of their bits, one counting pass for each bit of the answer. It allocates
    nothing, where a sort of a layer's currents (10⁷ to 10⁸ numbers) costs tens of passes and a copy.
    """
    bits = jnp.finfo(x.dtype).bits
    unsigned = {32: jnp.uint32, 64: jnp.uint64}[bits]
    sign = unsigned(1) << unsigned(bits - 1)
    raw = jax.lax.bitcast_convert_type(x, unsigned)
    ordered = jnp.where(raw & sign, ~raw, raw | sign)  # negative floats order backwards

    def pass_over(i, answer):
        candidate = answer | (sign >> i.astype(unsigned))
        return jnp.where(jnp.sum(ordered < candidate) < k, candidate, answer)

    answer = jax.lax.fori_loop(0, bits, pass_over, unsigned(0))
    return jax.lax.bitcast_convert_type(jnp.where(answer & sign, answer ^ sign, ~answer), x.dtype)
