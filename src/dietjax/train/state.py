"""What a training step changes, and how a network runs over time while it is trained."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from ..models import Network
from ..types import Array


class TrainState(NamedTuple):
    """Everything that a step changes; random keys follow from the seed and the step."""

    step: Array
    variables: dict
    """{"params", and with batch norm "batch_stats"}."""
    optimizer: optax.OptState
    average: dict | tuple = ()
    """Exponential average of the variables, running statistics included, where the phase keeps one."""

    @property
    def evaluated(self) -> dict:
        """The variables that are tested, converted and handed on: the average, where there is one."""
        return self.average or self.variables


def update_average(state: TrainState, variables: dict, decay: float) -> dict | tuple:
    """The average of a state after its step n (1 for the first) has led to these variables: e <- d e + (1 - d) v.

    d = min(decay, (1 + n) / (10 + n)), so that a short run forgets its first weights (TensorFlow's
    ExponentialMovingAverage).
    """
    if not state.average:
        return ()
    share = jnp.maximum(1 - decay, 9 / (11 + state.step))  # 1 - d
    return jax.tree.map(lambda e, v: (e + share * (v - e)).astype(e.dtype), state.average, variables)


class TimeSchedule(NamedTuple):
    """How the network runs over time."""

    timesteps: int = 1
    chunk: int | None = None
    truncate: bool = False


def initial_state(variables: dict, optimizer: optax.GradientTransformation, averaged: bool = False) -> TrainState:
    """The state before the first step; averaged: whether an average is kept, which then begins at these variables."""
    average = jax.tree.map(jnp.copy, variables) if averaged else ()
    return TrainState(jnp.zeros((), jnp.int32), variables, optimizer.init(variables["params"]), average)


def abstract_state(net: Network, optimizer: optax.GradientTransformation, averaged: bool = False) -> TrainState:
    """Shapes and dtypes of the state that trains this network, without computing anything: what a checkpoint holds."""
    def build(key):
        return initial_state(net.init(key, jnp.zeros((1, *net.image_shape))), optimizer, averaged)

    return jax.eval_shape(build, jax.random.key(0))
