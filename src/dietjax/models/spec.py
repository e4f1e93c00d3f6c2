"""A network as data: the description of one layer and of its residual; `wiring` finds the shapes in a row of them."""

import dataclasses
import numbers
from typing import Any, Literal

from ..errors import InputError, unknown
from ..types import Neuron, missing_methods


@dataclasses.dataclass(frozen=True)
class Residual:
    """Spikes of an earlier layer, combined element by element with those that a layer puts out.

    Spike-element-wise residuals, SEW (Fang et al., "Deep residual learning in spiking neural networks", NeurIPS 2021,
    arXiv 2102.04159, section 3.2). Where the shape changes they pass a 1×1 convolution and neurons of their own first.
    """

    source: str
    """Name of an earlier layer whose INPUT s is combined with this layer's OUTPUT a."""
    combine: Literal["add", "and", "iand"] = "add"
    """add: a + s, which is 0, 1, 2 ...; and: a·s; iand: (1 − a)·s."""

    def __post_init__(self):
        if self.combine not in ("add", "and", "iand"):
            raise unknown("combine", str(self.combine), ("add", "and", "iand"))


@dataclasses.dataclass(frozen=True)
class Layer:
    """synapse, pool_current (+ shortcut) -> neuron (+ residual) -> dropout, pool.

    The last layer of a network has no neuron: it is the readout.
    """

    name: str
    features: int
    """Output channels."""
    kernel: int | tuple[int, int] | None = 3
    """Height and width of the convolution's kernel, or one number for both (along a signal [L, C]: its length), padded
    to keep the map's size; None: fully connected on the flattened map."""
    stride: int | tuple[int, int] = 1
    """As `kernel`."""
    pool: bool | Literal["max", "global"] = False
    """Pool of what the neuron puts out: True the average over 2×2 (of a signal: 2), "max" the largest of them, "global"
    the average over the whole map, which leaves [1, 1, C]."""
    pool_current: bool = False
    """2×2 average pool of the synapse's current, BEFORE batch norm and neuron: a quarter of the neurons, and what comes
    out of the layer is still spikes."""
    dropout: float = 0.0
    """Dropout probability on the neuron's output; one mask for all timesteps."""
    shortcut: str | None = None
    """Name of an earlier layer whose INPUT is added to this layer's CURRENT, through a 1×1 convolution where the shape
    changes (DIET-SNN's residual block)."""
    recurrent: bool = False
    """The neuron's output (before residual, dropout and pool) also comes back to it one timestep later, through a
    synapse of its own: as large as the layer's kernel, or fully connected; see `models.recurrent`."""
    groups: int = 1
    """Of channels that a convolution keeps apart; as many as come in: a depthwise one."""
    neuron: Neuron | None = None
    """Of this layer; None: the network's."""
    residual: Residual | None = None

    def __post_init__(self):
        for field in ("features", "groups"):
            if not is_whole(getattr(self, field)) or getattr(self, field) < 1:
                self._refuse(field, "a whole number of at least 1")
        if not all(is_whole(n) and n >= 1 for n in both(self.stride)):
            self._refuse("stride", "a whole number of at least 1, or a pair of them")
        if self.kernel is not None and not all(is_whole(n) and n >= 1 and n % 2 for n in both(self.kernel)):
            self._refuse("kernel", "an odd whole number or a pair of them (an even one would change the map's size), "
                                   "or None for a fully connected layer")
        for field in ("recurrent", "pool_current"):
            if not isinstance(getattr(self, field), bool):
                self._refuse(field, "True or False")
        if not isinstance(self.pool, bool) and self.pool not in ("max", "global"):
            self._refuse("pool", "True (average over 2×2), 'max' (2×2), 'global' (average over the map) or False")
        if not isinstance(self.dropout, numbers.Real) or not 0 <= self.dropout < 1:
            self._refuse("dropout", "a probability in [0, 1)")
        if self.neuron is not None and missing_methods(self.neuron):
            self._refuse("neuron", "a neuron, such as dietjax.LIF(), or None for the network's")
        if self.residual is not None and not isinstance(self.residual, Residual):
            self._refuse("residual", "a Residual(source, combine), or None")
        self._check_parts()

    def _check_parts(self):
        """What each may be, and cannot be together."""
        if self.kernel is None and (self.pool or self.pool_current or both(self.stride) != (1, 1) or self.groups > 1):
            raise InputError(f"layer {self.name!r} is fully connected (kernel=None): there is no map to pool or stride "
                             "over; leave out pools, stride and groups, or give it a kernel")
        if self.pool_current and both(self.stride) != (1, 1):
            raise InputError(f"layer {self.name!r} pools its current and has stride {self.stride}; "
                             "give it one of the two")
        if self.pool_current and (self.groups > 1 or len(set(both(self.kernel))) > 1):
            raise InputError(f"layer {self.name!r} pools its current, which is there for square kernels without "
                             "groups; pool its output (pool=True)")
        if self.residual is not None and self.shortcut is not None:
            raise InputError(f"layer {self.name!r} has a shortcut into its current and a residual on its output; "
                             "give it one of the two")

    def _refuse(self, field, wanted):
        raise InputError(f"layer {self.name!r}: {field} must be {wanted}, got {getattr(self, field)!r}")


def both(value: Any) -> tuple[int, int]:
    """(height, width) of a kernel or stride that may be given as one number for both."""
    return tuple(value) if isinstance(value, tuple | list) and len(value) == 2 else (value, value)


def projection(name: str) -> str:
    """What the 1×1 convolution of a layer's shortcut or residual is called, where there is one."""
    return f"{name}_shortcut"


def is_whole(value: Any) -> bool:
    """Whether this is a whole number, Python's or NumPy's."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
