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


class TimeSchedule(NamedTuple):
    """How the network runs over time."""

    timesteps: int = 1
    chunk: int | None = None
    truncate: bool = False


def initial_state(variables: dict, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step."""
    return TrainState(jnp.zeros((), jnp.int32), variables, optimizer.init(variables["params"]))


def abstract_state(net: Network, optimizer: optax.GradientTransformation) -> TrainState:
    """Shapes and dtypes of the state that trains this network, without computing anything: what a checkpoint holds."""
    def build(key):
        return initial_state(net.init(key, jnp.zeros((1, *net.image_shape))), optimizer)

    return jax.eval_shape(build, jax.random.key(0))
