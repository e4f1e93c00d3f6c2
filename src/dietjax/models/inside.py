"""What happens inside a layer: its events counted, its currents and membranes recorded where they are asked for."""

from typing import Any

import jax
import jax.numpy as jnp

from ..core.scan import checked_step
from ..core.surrogate import step_function
from ..errors import InputError, unknown
from ..types import Array, Neuron, Params, State

RECORDED = ("spikes", "current", "membrane")
"""What a network can record of every layer over time."""


def check_recorded(names: tuple[str, ...]) -> None:
    """Refuse what is not one of `RECORDED`."""
    for name in (names,) if isinstance(names, str) else names:
        if name not in RECORDED:
            raise unknown("record", str(name), RECORDED)
    if isinstance(names, str):
        raise InputError(f"record takes several names, got one string: pass record=({names!r},)")


def valid_steps(lengths: Array | None, offset: Array | int, timesteps: int) -> Array | None:
    """Whether an example has reached its end, [B, T], from timestep `offset` on; None: all last to the end."""
    return None if lengths is None else offset + jnp.arange(timesteps) < jnp.maximum(jnp.asarray(lengths), 1)[:, None]


def only_valid(x: Array, valid: Array | None) -> Array:
    """X [B, T, ...], 0 beyond the end of an example, with a gradient of 0."""
    return x if valid is None else jnp.where(valid.reshape(valid.shape + (1,) * (x.ndim - 2)), x, 0)


@jax.custom_jvp
def event_rate(x: Array) -> Array:
    """Share of entries that are not 0, whatever their size or sign; NaN where one is. Of spikes: their mean.

    Its derivative is that of the mean magnitude, which for spikes of 0 and 1 is the same number. At an output of 0 it
    is the one of small positive outputs: so a rate can wake a silent neuron.
    """
    return step_function(jnp.abs(x)).mean(dtype=wide(x.dtype))


@event_rate.defjvp
def _event_rate_tangent(primals, tangents):
    (x,), (tangent,) = primals, tangents
    return event_rate(x), (jnp.where(x == 0, 1, jnp.sign(x)) * tangent).mean(dtype=wide(x.dtype))


def mean_size(x: Array) -> Array:
    """Mean magnitude over all entries."""
    return jnp.abs(x).mean(dtype=wide(x.dtype))


def unit_rate(x: Array) -> Array:
    """Share of entries whose magnitude is exactly 1: of spikes, that of those that are not 0."""
    return (jnp.abs(x) == 1).mean(dtype=wide(x.dtype))


def measured(x: Array, timesteps: int) -> dict[str, Array]:
    """What is counted of a population's outputs [B, T, N], or of an input: sums over time, means over all else."""
    return {"rate": event_rate(x) * timesteps, "size": mean_size(x) * timesteps, "units": unit_rate(x) * timesteps}


def measured_of_rate(rate: Array) -> dict[str, Array]:
    """`measured` of neurons that spike so often in all timesteps on average, with 0 or 1."""
    return {"rate": rate, "size": rate, "units": jax.lax.stop_gradient(rate)}


def per_event(sums: dict[str, Array], rates: dict[str, Array]) -> dict[str, Array]:
    """{population: the sum over its events, as their mean}; 0 without events."""
    return {name: jnp.where(rates[name] > 0, value / jnp.where(rates[name] > 0, rates[name], 1), 0)
            for name, value in sums.items()}


def run_watched(neuron: Neuron, params: Params, state: State, current: Array,
                timesteps: int) -> tuple[State, Array, Array]:
    """A neuron's own steps over a block: (state, outputs [B, T, N], membranes [B, T, N] after each step).

    The neuron has a membrane, see `has_membrane`.
    """
    if current.shape[1] == 1:
        current = jnp.broadcast_to(current, (current.shape[0], timesteps, *current.shape[2:]))

    def body(state, current):
        state, out = checked_step(neuron, params, state, current)
        return state, (out, _membrane(state))

    state, found = jax.lax.scan(body, state, jnp.moveaxis(current, 1, 0))
    outputs, membranes = (jnp.moveaxis(x, 0, 1) for x in found)
    return state, outputs, membranes


def has_membrane(state: State) -> bool:
    """Whether a neuron's state, or that of the neuron inside it (recurrence, count), has a field `membrane` [B, N]."""
    return _membrane(state) is not None


def check_membranes(states: dict[str, State]) -> None:
    """Refuse to record membranes where no neuron has one."""
    if not any(has_membrane(state) for state in states.values()):
        raise InputError("no neuron of this network has a membrane to record (a state with a field of that name); "
                         "record spikes and currents")


def _membrane(state):
    while not hasattr(state, "membrane") and hasattr(state, "neuron"):
        state = state.neuron
    return getattr(state, "membrane", None)


def wide(dtype: Any) -> Any:
    """The dtype of sums: at least float32."""
    return jnp.promote_types(dtype, jnp.float32)
