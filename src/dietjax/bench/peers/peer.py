"""What a peer offers to whoever times it and checks it."""

import dataclasses
import importlib.metadata
from collections.abc import Callable

import numpy as np

from ..amortise import Repeatable


@dataclasses.dataclass(frozen=True, kw_only=True)
class PeerLayer:
    """One synapse and its neurons in another library; what is timed returns when it is done, or arrays of jax."""

    name: str
    mode: str
    """How it runs, for a table: "multi-step, torch kernels, ATan"."""
    exact: bool
    """Its outputs are ours, up to rounding."""
    exact_gradients: bool
    """Its gradients of the weights are ours as well: same surrogate, same path through the reset."""
    training_step: Repeatable
    """Forward and backward: () -> (loss, gradients of the weights from input to output, as the library has them). The
    gradient of every parameter that the library trains is computed; no optimiser."""

    @property
    def version(self) -> str:
        """The installed version of the library."""
        return importlib.metadata.version(self.name)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Peer(PeerLayer):
    """A whole network in another library, holding a batch of images and their labels."""

    logits: Callable[[np.ndarray], np.ndarray]
    """Images [B, H, W, C] -> the readout's currents summed over T, [B, K]."""
    inference: Repeatable
    """Forward without gradients on its batch."""
