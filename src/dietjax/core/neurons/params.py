"""What neurons train and what they carry: NamedTuples of arrays, and the ranges that their values must keep."""

from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from ...errors import InputError
from ...types import Array

_Kind = TypeVar("_Kind", bound=type)


def exportable(kind: _Kind) -> _Kind:
    """A decorator of NamedTuples, so that jax.export can write trees of them."""
    export.register_namedtuple_serialization(kind, serialized_name=f"dietjax.{kind.__name__}")
    return kind


@exportable
class LIFParams(NamedTuple):
    """Trained with the weights. Scalars for sharing="layer", [C] for "channel", [N] for "neuron"."""

    leak: Array
    """Factor on the membrane per step, in [0, 1]."""
    threshold: Array
    """Membrane above which a neuron fires, > 0; in units of the input current."""


@exportable
class IFParams(NamedTuple):
    """As `LIFParams`, without a leak."""

    threshold: Array


@exportable
class PLIFParams(NamedTuple):
    """As `LIFParams`, but the leak is a function of an unbounded number and needs no clamp."""

    decay_logit: Array
    """w; 1/τ = sigmoid(w) is the share of the way to the current that the membrane goes per step."""
    threshold: Array

    @property
    def leak(self) -> Array:
        """1 − 1/τ: share of the membrane kept per step, in (0, 1)."""
        return jax.nn.sigmoid(-self.decay_logit)


@exportable
class QCFSParams(NamedTuple):
    """As `IFParams`: where activations are clipped is where a spiking neuron's threshold will be."""

    threshold: Array
    """λ, the largest activation, > 0; in units of the input current."""


@exportable
class MembraneState(NamedTuple):
    """What spiking neurons and readouts carry, [B, N]."""

    membrane: Array
    """In units of the input current; at least float32."""
    elapsed: Array | None = None
    """Timesteps since the last spike; only where the surrogate asks for it (stdb)."""


SpikingParams = IFParams | LIFParams | PLIFParams
"""What a neuron that spikes trains; a subclass of `IF` says which it is."""
LEAKS = ("leak", "synaptic_leak", "adaptation_leak")
"""Fields of a neuron's parameters that are the share of something kept per step: in [0, 1]."""
STRENGTHS = ("adaptation", "refractoriness")
"""Fields that say how far a neuron's own spikes hold it back: at least 0, below which they would drive it on."""
_RANGES = {"threshold": "must be > 0", "decay_logit": "must be finite", "refractory_logit": "must be finite",
           **dict.fromkeys(LEAKS, "must lie in [0, 1], see clamp_leaks"),
           **dict.fromkeys(STRENGTHS, "must be at least 0, see clamp_leaks")}


def parameters(params: Any) -> dict[str, Any]:
    """{name: array} of a neuron's parameters, whatever they are kept in."""
    return {name_of(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}


def described(params: Any) -> dict[str, Any]:
    """`parameters`, and a leak that follows from another of them, as PLIF's."""
    return parameters(params) | ({"leak": params.leak} if hasattr(params, "leak") else {})


def name_of(path: Any) -> str:
    """What a leaf is called in its tree: "leak", or "inner/leak" where the tree has branches."""
    return "/".join(str(next(getattr(key, a) for a in ("name", "key", "idx") if hasattr(key, a))) for key in path)


def clamp_leaks(params: Any) -> Any:
    """Every leak of a neuron in a parameter tree within [0, 1], every strength at least 0; nothing else changes.

    For after each optimiser step. A field's name says what it is (`LEAKS`, `STRENGTHS`), in the NamedTuple of a neuron
    of your own too. The authors clamp at 1 (`leak.clamp_(max=1)`); below 0 the membrane would change its sign at every
    step.
    """
    def clamp(path, x):
        name = _field(path)
        return jnp.clip(x, 0, 1) if name in LEAKS else jnp.maximum(x, 0) if name in STRENGTHS else x

    return jax.tree_util.tree_map_with_path(clamp, params)


def check_params(params: Any) -> None:
    """Refuse a parameter tree with a threshold that is not > 0, a leak outside [0, 1] or a strength below 0.

    Waits for the values: call it between compiled steps, in a training loop of your own. Under `jit` such a threshold
    gives spikes of NaN, and so a loss of NaN; this says which layer's it was.

    Raises:
        InputError: naming every one of them with its place in the tree and its value.
    """
    wrong: dict[str, list[str]] = {}
    for path, x in jax.tree_util.tree_leaves_with_path(params):
        name = _field(path)
        if name not in _RANGES:
            continue
        value = np.asarray(x)
        outside = ~_inside(name, value)
        if np.any(outside):
            place = jax.tree_util.keystr(path[:-1]) or "the neuron"
            said = f"{name} of {place} is {value[outside].ravel()[0]:.6g} ({_RANGES[name]})"
            found = wrong.setdefault(place, [])
            found.insert(0 if name == "threshold" else len(found), said)
    if wrong:
        raise InputError("; ".join(said for place in wrong.values() for said in place))


def _inside(name, value):
    if name == "threshold":
        return value > 0
    if name in LEAKS:
        return (value >= 0) & (value <= 1)
    return value >= 0 if name in STRENGTHS else np.isfinite(value)


def _field(path):
    """The name of a leaf that is a field of a NamedTuple; None: of a dict or a list."""
    return path[-1].name if path and isinstance(path[-1], jax.tree_util.GetAttrKey) else None
