"""Recurrence: a layer whose spikes come back to it one timestep later, through a synapse of their own.

    I_t = W·x_t + R·o_{t−1},   o_0 = 0

R is dense [N, N], or a convolution of the layer's own map. Each timestep needs the spikes of the one before it, so that
`unroll` runs such a layer step by step.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import export

from ..errors import InputError
from ..types import Array, Neuron, Params, State
from .operations import init_kernel, synapse


class RecurrentParams(NamedTuple):
    """Trained with the weights."""

    kernel: Array
    """Of the synapse from the neurons to themselves: [N, N], or [side, side, C, C] on a map."""
    neuron: Params
    """Of the neuron inside."""


class RecurrentState(NamedTuple):
    """What a recurrent layer carries."""

    neuron: State
    """Of the neuron inside."""
    spikes: Array
    """What it put out at the last timestep [B, N], in the currents' dtype."""


for _type in (RecurrentParams, RecurrentState):  # so that jax.export can write trees of them
    export.register_namedtuple_serialization(_type, serialized_name=f"dietjax.{_type.__name__}")


@dataclasses.dataclass(frozen=True)
class Recurrent:
    """A neuron that also hears its own last output; a `Neuron` like any other."""

    neuron: Neuron
    sides: tuple[int, int] | None = None
    """Height and width of the convolution's kernel, for neurons [H, W, C]; None: fully connected, for neurons [C]."""

    def init(self, key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> RecurrentParams:
        """Parameters for neurons of shape N; the kernel starts as every other synapse's (`layer.init_kernel`)."""
        kernel_key, neuron_key = jax.random.split(key)
        kernel = init_kernel(kernel_key, (*(self.sides or ()), shape[-1], shape[-1]), dtype)
        return RecurrentParams(kernel, self.neuron.init(neuron_key, shape, dtype))

    def initial_state(self, params: RecurrentParams, shape: tuple[int, ...],
                      dtype: Any = jnp.float32) -> RecurrentState:
        """At rest, after a timestep without spikes; for currents of the given shape [B, N] and dtype."""
        return RecurrentState(self.neuron.initial_state(params.neuron, shape, dtype), jnp.zeros(shape, dtype))

    def step(self, params: RecurrentParams, state: RecurrentState, current: Array) -> tuple[RecurrentState, Array]:
        """One timestep: currents [B, N] -> (state, spikes [B, N])."""
        if state.spikes.shape != current.shape:
            raise InputError(f"the state is of spikes {state.spikes.shape}, the current of {current.shape} ([B, N]); "
                             "begin with an `initial_state` of that shape")
        feedback = synapse(params.kernel.astype(current.dtype), state.spikes[:, None])[:, 0]
        inner, spikes = self.neuron.step(params.neuron, state.neuron, current + feedback)
        return RecurrentState(inner, spikes), spikes
