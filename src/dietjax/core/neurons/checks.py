"""What neurons refuse, and what they say: shapes, dtypes and values that would give wrong numbers without a word."""

import jax
import jax.numpy as jnp
import numpy as np

from ...errors import InputError
from ...types import Array


def check_block(current: Array, timesteps: int) -> None:
    """Refuse a block of currents that does not hold so many timesteps, or nothing at all."""
    if timesteps < 1 or 0 in current.shape:
        raise InputError(f"current has shape {current.shape}, timesteps are {timesteps}: nothing to run; "
                         "neither may be 0")
    if current.ndim < 2 or current.shape[1] not in (1, timesteps):
        raise InputError(f"current has shape {current.shape}, asked for {timesteps} timesteps (axis 1); "
                         "pass [B, T, N], or [B, 1, N] for a constant input")
    check_floating(current)


def check_floating(current: Array) -> None:
    """Refuse whole numbers: a spike in their dtype has a gradient of 0. And 8-bit floats, which JAX adds to nothing."""
    if not jnp.issubdtype(current.dtype, jnp.floating):
        raise InputError(f"currents are {current.dtype}, whose gradients would all be 0; make them floating point "
                         "first (current.astype(jnp.float32))")
    if jnp.dtype(current.dtype).itemsize < 2:
        raise InputError(f"currents are {current.dtype}, which no backend can run; make them bfloat16, float16 or "
                         "wider")


def check_state(membrane: Array, wanted: tuple[int, ...]) -> None:
    """Refuse the state of another batch or layer: it would broadcast, and leak into all of it."""
    if membrane.shape != wanted:
        raise InputError(f"the state is of shape {membrane.shape}, the current of {wanted} ([B, N]); begin with an "
                         "`initial_state` of that shape, or go on with the batch that the state is of")


def check_broadcast(name: str, parameter: Array, membrane: Array) -> None:
    """Refuse [C] against other channels: it may broadcast by accident, or fail late."""
    shape = jnp.shape(parameter)
    neurons = membrane.shape[membrane.ndim - len(shape):]
    if shape != neurons:
        raise InputError(f"{name} has shape {shape}, the current ends in {neurons}; "
                         "use sharing='layer', or init the neuron with the current's shape without batch")


def check_threshold(threshold: Array) -> None:
    """Refuse thresholds that are not > 0, where they are known; under `jit` they are not, and give NaN (see `IF`)."""
    values = concrete(threshold)
    if values is not None and not np.all(values > 0):
        wrong = values[~(values > 0)].ravel()[0]
        raise InputError(f"a threshold is {wrong:.6g}, and must be > 0: z = membrane / threshold - 1 has no "
                         "meaning there; lower the learning rate, or keep thresholds positive after each update")


def concrete(x: Array | float) -> np.ndarray | None:
    """The values of an array or a number, None while it is traced or lies on other processes' devices too."""
    if isinstance(x, jax.core.Tracer) or not getattr(x, "is_fully_addressable", True):
        return None
    return np.asarray(x)
