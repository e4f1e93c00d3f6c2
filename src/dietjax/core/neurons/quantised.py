"""An ANN's neuron of few levels: what a spiking neuron can say in as many timesteps.

Bu et al., "Optimal ANN-SNN conversion for high-accuracy and ultra-low-latency spiking neural networks", ICLR 2022
(arXiv 2303.04347), eq. 15:

    a = λ · floor(clip(z/λ, 0, 1) · L + 1/2) / L

Backwards the floor is passed as if it were not there:

    ∂a/∂z = 1 for 0 ≤ z ≤ λ, else 0          ∂a/∂λ = 1 above λ, 0 below 0, (a − z)/λ between
"""

import dataclasses
import functools
import numbers
from typing import Any

import jax
import jax.numpy as jnp

from ...errors import InputError
from ...types import Array
from .checks import check_broadcast, check_floating, check_threshold
from .params import QCFSParams
from .sharing import Sharing, check_sharing, shared_shape


@dataclasses.dataclass(frozen=True, kw_only=True)
class QCFS:
    """Quantisation, clip, floor, shift: in the place of `ReLU`, with a trained level that becomes the threshold.

    Without memory, as `ReLU`. An IF neuron with threshold λ whose membrane starts at λ/2 fires, under a constant
    current, in L timesteps as many times as this has levels: converting at T = L changes nothing in the first layer.
    """

    levels: int = 8
    """L, at least 1: activations are multiples of λ/L. Networks for few timesteps are trained with 4 or 8."""
    threshold: float = 8.0
    """Initial λ, > 0 (the authors': 8)."""
    sharing: Sharing = "layer"
    """How far λ is shared."""

    def __post_init__(self):
        if not isinstance(self.levels, numbers.Integral) or isinstance(self.levels, bool) or self.levels < 1:
            raise InputError(f"levels must be a whole number of at least 1, got {self.levels!r}")
        if not self.threshold > 0:
            raise InputError(f"threshold must be > 0, got {self.threshold}: activations lie between 0 and it")
        check_sharing(self.sharing)

    def init(self, key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> QCFSParams:
        """Parameters for neurons of shape N; `key` is not used (nothing here is random)."""
        return QCFSParams(jnp.full(shared_shape(self.sharing, shape), self.threshold, dtype))

    def initial_state(self, params: QCFSParams, shape: tuple[int, ...], dtype: Any = jnp.float32) -> tuple[()]:
        """No state."""
        return ()

    def step(self, params: QCFSParams, state: tuple[()], current: Array) -> tuple[tuple[()], Array]:
        """Currents [B, N] or [B, T, N] -> ((), activations, in the current's dtype)."""
        check_floating(current)
        check_threshold(params.threshold)
        check_broadcast("threshold", params.threshold, current)
        wide = jnp.promote_types(current.dtype, params.threshold.dtype)
        activations = _clip_floor_shift(current.astype(wide), params.threshold.astype(wide), self.levels)
        return (), activations.astype(current.dtype)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _clip_floor_shift(z, level, levels):
    return level * jnp.floor(jnp.clip(z / level, 0, 1) * levels + 0.5) / levels


@_clip_floor_shift.defjvp
def _clip_floor_shift_tangent(levels, primals, tangents):
    z, level = primals
    activation = _clip_floor_shift(z, level, levels)
    of_z = ((z >= 0) & (z <= level)).astype(z.dtype)
    of_level = jnp.where(z > level, 1, jnp.where(z < 0, 0, (activation - z) / level))
    return activation, tangents[0] * of_z + tangents[1] * of_level
