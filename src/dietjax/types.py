"""Names shared by every module: the axes, the array alias, and what a neuron is.

Axes, in this order everywhere. Batch first: folding [B, T] keeps a batch sharded over devices, folding [T, B] does not.

    B  batch            T  timesteps           H W C  height, width, channels of images and maps
    N  neurons (any trailing shape: [H, W, C] of a convolution, [C] of a dense layer)
"""

from typing import Any, Protocol

import jax

Array = jax.Array
Params = Any
"""A neuron's parameters: a NamedTuple of arrays, or () where there are none."""
State = Any
"""What a neuron carries from one timestep to the next: a NamedTuple of arrays [B, N], or () where there is nothing."""


NEURON_METHODS = ("init", "initial_state", "step")


def missing_methods(neuron: Any) -> list[str]:
    """Those of `NEURON_METHODS` that an object, or a class, lacks."""
    return [name for name in NEURON_METHODS if not callable(getattr(neuron, name, None))]


class Neuron(Protocol):
    """Static choices in a frozen dataclass, pure methods. Anything with these methods can be put into a network.

    A class may also have (docs/neuron.md says what is done with each):

    - run(params, state, current [B, T, N] or [B, 1, N], timesteps, backend) -> (state, outputs [B, T, N]): a block;
    - run_sent(params, current, timesteps, dropout, pool, backend) -> (what dropout, or else a 2×2 average, leaves of
      these outputs, how many were 1), or None: from rest, of neurons that put out 0 and 1;
    - starts_at_rest: bool, whether `run` takes the state None for the one that `initial_state` gives;
    - with_threshold(params, threshold) -> params: with this threshold, and integrating without leak, for conversion;
    - spiking: ClassVar[bool], whether outputs are spikes;
    - graded: ClassVar[bool], whether an event carries a number by which a synapse has to multiply.
    """

    def init(self, key: Array, shape: tuple[int, ...], dtype: Any = ...) -> Params:
        """Parameters for neurons of shape N (without batch)."""

    def initial_state(self, params: Params, shape: tuple[int, ...], dtype: Any = ...) -> State:
        """State before the first timestep, for currents of shape [B, N]."""

    def step(self, params: Params, state: State, current: Array) -> tuple[State, Array]:
        """One timestep: currents [B, N] -> (state, output [B, N])."""
