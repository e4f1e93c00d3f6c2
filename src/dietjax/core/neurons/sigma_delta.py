"""A neuron that sends changes of its activation, and only those that are large enough.

    s ← s + I                       sigma: currents are changes, added up  (inputs="values": s ← I)
    a = max(0, s)                   the activation
    d = a − r                       delta: what those who listen do not know yet
    o = d where |d| > θ, else 0     graded  (quantised: o = θ·round(d/θ))
    r ← r + o                       what has been sent so far

O'Connor & Welling, "Sigma delta quantized networks", ICLR 2017 (arXiv 1611.02024), with the quantised event; the graded
one is that of Lava-DL's sigma-delta neuron. What is left over stays in d and is sent later, so the sum of outputs is
the activation to within θ (quantised: θ/2), however many timesteps there were.

Backwards the step that decides whether to send carries the surrogate's derivative at |d|/θ − 1, and rounding is passed
straight through: ∂o/∂d = 1, ∂o/∂θ = round(d/θ) − d/θ, as in Esser et al., "Learned step size quantization", ICLR 2020.
"""

import dataclasses
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp

from ...errors import unknown
from ...types import Array
from .firing import Firing, at_rest, check_step, checked, shared
from .params import exportable
from .sharing import Sharing, check_sharing


@exportable
class SigmaDeltaParams(NamedTuple):
    """Trained with the weights."""

    threshold: Array
    """θ, the change up to which nothing is sent, > 0; in units of the activation."""


@exportable
class SigmaDeltaState(NamedTuple):
    """What it carries, [B, N], at least float32, in units of the activation."""

    total: Array
    """s, the current of an ordinary network's neuron."""
    sent: Array
    """r, the sum of all outputs."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SigmaDelta(Firing):
    """ReLU in a network of changes: outputs are signed and carry numbers, and a still input costs nothing.

    A layer's bias is a current at every timestep, so that behind changes it would grow; build such networks without.
    A readout that sums its currents (`LI()`) holds after T timesteps the ANN's logits of what was last seen.
    """

    graded: ClassVar[bool] = True
    """Whether an event carries a number that a synapse has to multiply by."""

    threshold: float = 0.1
    """Initial θ, > 0, in units of the activation. The number is our choice."""
    quantised: bool = False
    """Whether events are multiples of θ, rounded to the nearest; the surrogate is then not used."""
    inputs: Literal["changes", "values"] = "changes"
    """What comes in: other sigma-delta neurons' changes, or values anew at every timestep, as behind an image or
    frames: in a network's first layer."""
    sharing: Sharing = "layer"
    """How far thresholds are shared."""

    def __post_init__(self):
        super().__post_init__()
        check_sharing(self.sharing)
        if self.inputs not in ("changes", "values"):
            raise unknown("inputs", str(self.inputs), ("changes", "values"))

    def init(self, key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> SigmaDeltaParams:
        """Parameters for neurons of shape N; `key` is not used (nothing here is random)."""
        return SigmaDeltaParams(*shared(self.sharing, shape, dtype, self.threshold))

    def initial_state(self, params: SigmaDeltaParams, shape: tuple[int, ...],
                      dtype: Any = jnp.float32) -> SigmaDeltaState:
        """An activation of 0, of which all know, for currents of the given shape [B, N] and dtype."""
        zeros = at_rest(params, shape, dtype)
        return SigmaDeltaState(zeros, zeros)

    def step(self, params: SigmaDeltaParams, state: SigmaDeltaState,
             current: Array) -> tuple[SigmaDeltaState, Array]:
        """One timestep: currents [B, N] -> (state, changes [B, N] in the current's dtype)."""
        check_step(state, current)
        threshold = checked(params, state.sent).threshold
        total = current.astype(state.total.dtype) + (state.total if self.inputs == "changes" else 0)
        change = jnp.maximum(total, 0) - state.sent
        if self.quantised:
            event = threshold * _round(change / threshold)
        else:
            event = change * self._fire(jnp.abs(change), threshold)[0]
        event = event.astype(current.dtype)  # in bfloat16 others hear a rounded number: that one counts as sent
        return SigmaDeltaState(total, state.sent + event.astype(state.sent.dtype)), event


def _round(x):
    """To the nearest whole number, with a derivative of 1."""
    return x + jax.lax.stop_gradient(jnp.round(x) - x)
