"""Neurons that do not fire: the ANN's, and the readout that adds up its currents."""

import dataclasses
from typing import Any

import jax.numpy as jnp

from ...errors import InputError
from ...types import Array
from ..kernels import linear
from .checks import check_block, check_floating, check_state
from .params import MembraneState


@dataclasses.dataclass(frozen=True)
class ReLU:
    """max(0, I): the ANN's neuron. Without memory, so an ANN is the network at one timestep."""

    def init(self, key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> tuple[()]:
        """No parameters."""
        return ()

    def initial_state(self, params: tuple[()], shape: tuple[int, ...], dtype: Any = jnp.float32) -> tuple[()]:
        """No state."""
        return ()

    def step(self, params: tuple[()], state: tuple[()], current: Array) -> tuple[tuple[()], Array]:
        """Currents [B, N] -> ((), activations [B, N])."""
        return (), jnp.maximum(current, 0)


@dataclasses.dataclass(frozen=True)
class LI:
    """Leaky integrator that never fires: the readout. With leak 1 (DIET-SNN's) it sums its currents over time.
    It is the exponential synaptic filter too: `unroll(LI(leak), (), None, current)` filters currents.
    """

    leak: float = 1.0
    """Share of the membrane kept per step, in [0, 1]; not trained."""

    def __post_init__(self):
        if not 0 <= self.leak <= 1:
            raise InputError(f"leak must lie in [0, 1] (the share of the membrane kept per step), got {self.leak}")

    def init(self, key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> tuple[()]:
        """No parameters."""
        return ()

    def initial_state(self, params: tuple[()], shape: tuple[int, ...], dtype: Any = jnp.float32) -> MembraneState:
        """Membranes at 0, never less precise than float32."""
        return MembraneState(jnp.zeros(shape, jnp.result_type(dtype, jnp.float32)))

    def step(self, params: tuple[()], state: MembraneState, current: Array) -> tuple[MembraneState, Array]:
        """One timestep: currents [B, N] -> (state, membranes [B, N] after it)."""
        check_floating(current)
        check_state(state.membrane, current.shape)
        membrane = self.leak * state.membrane + current
        return MembraneState(membrane), membrane

    def run(self, params: tuple[()], state: MembraneState, current: Array, timesteps: int,
            backend: str = "auto") -> tuple[MembraneState, Array]:
        """A block: currents [B, T, N], or [B, 1, N] -> (state, membranes [B, T, N]); the same on every backend."""
        check_block(current, timesteps)
        check_state(state.membrane, current.shape[:1] + current.shape[2:])
        membranes = linear.leaky_integral(current, self.leak, state.membrane, timesteps)
        return MembraneState(membranes[:, -1]), membranes
