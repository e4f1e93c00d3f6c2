"""What neurons train and what they carry: NamedTuples of arrays, and the ranges that their values must keep."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from ...errors import InputError
from ...types import Array


class LIFParams(NamedTuple):
    """Trained with the weights. Scalars for sharing="layer", [C] for "channel", [N] for "neuron"."""

    leak: Array
    """Factor on the membrane per step, in [0, 1]."""
    threshold: Array
    """Membrane above which a neuron fires, > 0; in units of the input current."""


class IFParams(NamedTuple):
    """As `LIFParams`, without a leak."""

    threshold: Array


class PLIFParams(NamedTuple):
    """As `LIFParams`, but the leak is a function of an unbounded number and needs no clamp."""

    decay_logit: Array
    """w; 1/τ = sigmoid(w) is the share of the way to the current that the membrane goes per step."""
    threshold: Array

    @property
    def leak(self) -> Array:
        """1 − 1/τ: share of the membrane kept per step, in (0, 1)."""
        return jax.nn.sigmoid(-self.decay_logit)


class QCFSParams(NamedTuple):
    """As `IFParams`: where activations are clipped is where a spiking neuron's threshold will be."""

    threshold: Array
    """λ, the largest activation, > 0; in units of the input current."""


class MembraneState(NamedTuple):
    """What spiking neurons and readouts carry, [B, N]."""

    membrane: Array
    """In units of the input current; at least float32."""
    elapsed: Array | None = None
    """Timesteps since the last spike; only where the surrogate asks for it (stdb)."""


for _type in (LIFParams, IFParams, PLIFParams, QCFSParams, MembraneState):  # so that jax.export can write trees of them
    export.register_namedtuple_serialization(_type, serialized_name=f"dietjax.{_type.__name__}")

SpikingParams = IFParams | LIFParams | PLIFParams
"""What a neuron that spikes trains; a subclass of `IF` says which it is."""
_PARAMS = (LIFParams, IFParams, PLIFParams, QCFSParams)


def clamp_leaks(params: Any) -> Any:
    """Every leak in a parameter tree within [0, 1]; nothing else changes. For after each optimiser step.

    The authors clamp at 1 (`leak.clamp_(max=1)`); below 0 the membrane would change its sign at every step.
    """
    def clamp(node):
        return node._replace(leak=jnp.clip(node.leak, 0, 1)) if isinstance(node, LIFParams) else node

    return jax.tree.map(clamp, params, is_leaf=lambda node: isinstance(node, LIFParams))


def check_params(params: Any) -> None:
    """Refuse a parameter tree with a threshold that is not > 0 or a leak outside [0, 1].

    Waits for the values: call it between compiled steps, in a training loop of your own. Under `jit` such a threshold
    gives spikes of NaN, and so a loss of NaN; this says which layer's it was.

    Raises:
        InputError: naming every one of them with its place in the tree and its value.
    """
    wrong = []
    found = jax.tree_util.tree_leaves_with_path(params, is_leaf=lambda node: isinstance(node, _PARAMS))
    for path, node in found:
        if not isinstance(node, _PARAMS):
            continue
        place = jax.tree_util.keystr(path) or "the neuron"
        threshold = np.asarray(node.threshold)
        if not np.all(threshold > 0):
            wrong.append(f"threshold of {place} is {threshold[~(threshold > 0)].ravel()[0]:.6g} (must be > 0)")
        leak = np.asarray(node.leak) if isinstance(node, LIFParams | PLIFParams) else np.ones(())
        inside = (leak >= 0) & (leak <= 1)
        if not np.all(inside):
            wrong.append(f"leak of {place} is {leak[~inside].ravel()[0]:.6g} (must lie in [0, 1], see clamp_leaks)")
    if wrong:
        raise InputError("; ".join(wrong))
