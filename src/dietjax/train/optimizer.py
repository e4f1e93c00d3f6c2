"""What changes the parameters: the optimiser of a phase, and its learning rate over the steps."""

from collections.abc import Sequence
from functools import partial

import jax
import optax

from ..config import Phase


def learning_rate(phase: Phase, total_steps: int) -> optax.Schedule:
    """The phase's rate at the first step, along a cosine to 0 after the last."""
    return optax.cosine_decay_schedule(phase.learning_rate, total_steps)


def make_optimizer(phase: Phase, total_steps: int, freeze: Sequence[str] = ()) -> optax.GradientTransformation:
    """Adam with amsgrad or SGD with momentum, cosine to 0; an L2 penalty on weights alone.

    Args:
        phase: which, and with what rates.
        total_steps: length of the cosine.
        freeze: names of neuron parameters that stay as they are ("leak", "threshold").
    """
    rate = learning_rate(phase, total_steps)
    step = optax.amsgrad(rate) if phase.optimizer == "adam" else optax.sgd(rate, momentum=phase.momentum)
    decay = optax.add_decayed_weights(phase.weight_decay, mask=partial(_named, names=("kernel",)))
    still = optax.masked(optax.set_to_zero(), partial(_named, names=tuple(freeze)))
    return optax.chain(*([decay] if phase.weight_decay else []), step, *([still] if freeze else []))


def _named(tree, names):
    """Which leaves of a tree are called one of these names."""
    def called(path):
        return getattr(path[-1], "name", getattr(path[-1], "key", None))

    return jax.tree_util.tree_map_with_path(lambda path, _: called(path) in names, tree)
