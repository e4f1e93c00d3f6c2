"""Sequences of unequal length in one batch: which timesteps count, and which lengths are refused."""

import jax.numpy as jnp

from ...errors import InputError
from ...types import Array
from ..neurons.checks import concrete


def check_over_time(outputs: Array, lengths: Array | None) -> None:
    """Refuse what is no block of time [B, T, ...], and lengths that are not [B] whole numbers from 1 to T."""
    if outputs.ndim < 3 or outputs.shape[1] < 1:
        raise InputError(f"outputs have shape {outputs.shape}, wanted [B, T, K] with at least one timestep: of a "
                         "network pass record['logits'] or record['spikes'][layer], not the logits after the last step")
    if lengths is not None:
        check_lengths(lengths, *outputs.shape[:2])


def check_lengths(lengths: Array, examples: int, timesteps: int) -> None:
    """Refuse lengths that are not whole numbers [B], one for each example, or known and not from 1 to T."""
    shape, dtype = jnp.shape(lengths), jnp.result_type(lengths)
    if shape != (examples,) or not jnp.issubdtype(dtype, jnp.integer):
        raise InputError(f"lengths are whole numbers of timesteps, one for each of {examples} examples, got {dtype} of "
                         f"shape {shape}")
    known = concrete(lengths)
    if known is not None and not ((known >= 1) & (known <= timesteps)).all():
        wrong = known[(known < 1) | (known > timesteps)][0]
        raise InputError(f"a length is {wrong}, and each must lie between 1 and the {timesteps} timesteps that there "
                         "are")


def steps_that_count(outputs: Array, lengths: Array | None) -> Array:
    """How many of them, of a shape that broadcasts against outputs [B, T, ...] without T: [B, 1, ...], or []."""
    if lengths is None:
        return jnp.asarray(outputs.shape[1])
    return jnp.asarray(lengths).reshape(-1, *(1,) * (outputs.ndim - 2))


def within(outputs: Array, lengths: Array | None, beyond: float = 0.0) -> Array:
    """[B, T, ...] in at least float32, with `beyond` where a timestep does not count.

    Chosen, not multiplied by 0: a NaN in the padding reaches neither the value nor the gradient.
    """
    outputs = outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32))
    if lengths is None:
        return outputs
    t = jnp.arange(outputs.shape[1]).reshape(-1, *(1,) * (outputs.ndim - 2))
    return jnp.where(t < steps_that_count(outputs, lengths)[:, None], outputs, beyond)


def nan_where_wrong(result: Array, outputs: Array, lengths: Array | None) -> Array:
    """The result [B, ...] of outputs [B, T, ...], NaN for an example whose length, not known before, is not in 1..T."""
    if lengths is None:
        return result
    count = jnp.asarray(lengths).reshape(-1, *(1,) * (result.ndim - 1))
    return jnp.where((count >= 1) & (count <= outputs.shape[1]), result, jnp.nan)
