"""ANN to SNN: parameters -> parameters. Every layer gets a leak and a threshold that fits it.

`match_activations` keeps the ANN's function, biases and all. The paper's way, for networks without biases, keeps the
weights: `balance_thresholds` (Rathi & Roy, arXiv 2008.03658, Algorithm 1), then `scale_thresholds`; and where training
begins at these weights, `unit_thresholds`.
"""

from ..config.scale import default_scale
from .balance import balance_thresholds, scale_thresholds, unit_thresholds, with_neurons
from .fold import fold_batch_norm
from .match import match_activations

__all__ = [
    "balance_thresholds",
    "default_scale",
    "fold_batch_norm",
    "match_activations",
    "scale_thresholds",
    "unit_thresholds",
    "with_neurons",
]
