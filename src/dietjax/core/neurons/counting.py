"""A spiking readout: what it puts out after every timestep is how often each of its neurons has fired."""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import export

from ...types import Array, Neuron, Params, State


class SpikeCountState(NamedTuple):
    """What a counting readout carries."""

    neuron: State
    """Of the neuron inside."""
    counts: Array
    """Spikes so far [B, N]; at least float32."""


export.register_namedtuple_serialization(SpikeCountState, serialized_name="dietjax.SpikeCountState")


@dataclasses.dataclass(frozen=True)
class SpikeCount:
    """count(t) = count(t−1) + o(t): a neuron's spikes, added up. A network puts it around a readout that fires."""

    neuron: Neuron

    def init(self, key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Params:
        """Those of the neuron inside."""
        return self.neuron.init(key, shape, dtype)

    def initial_state(self, params: Params, shape: tuple[int, ...], dtype: Any = jnp.float32) -> SpikeCountState:
        """At rest, nothing counted; for currents of the given shape [B, N] and dtype."""
        inner = self.neuron.initial_state(params, shape, dtype)
        return SpikeCountState(inner, jnp.zeros(shape, jnp.promote_types(dtype, jnp.float32)))

    def step(self, params: Params, state: SpikeCountState, current: Array) -> tuple[SpikeCountState, Array]:
        """One timestep: currents [B, N] -> (state, counts [B, N] after it)."""
        inner, spikes = self.neuron.step(params, state.neuron, current)
        counts = state.counts + spikes
        return SpikeCountState(inner, counts), counts
