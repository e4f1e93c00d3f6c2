"""ANN to SNN: parameters -> parameters. Weights are kept; every layer gets a leak and a threshold that fits it.

The paper's way is `balance_thresholds` (Rathi & Roy, arXiv 2008.03658, Algorithm 1), then `scale_thresholds`.
"""

from .balance import balance_thresholds, default_scale, scale_thresholds, with_neurons
from .fold import fold_batch_norm
from .normalise import normalise_weights

__all__ = [
    "balance_thresholds",
    "default_scale",
    "fold_batch_norm",
    "normalise_weights",
    "scale_thresholds",
    "with_neurons",
]
