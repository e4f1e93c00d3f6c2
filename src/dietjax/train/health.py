"""Whether a training step is sound: measured inside the step, checked at the next look at the metrics."""

from collections import OrderedDict
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ..core.neurons.params import described
from ..errors import InputError
from ..models import Network
from ..models.populations import neurons_of


class TrainingError(InputError):
    """Training cannot go on; says at which step, and what went wrong first."""


def measure_health(net, params, gradients, fixed):
    """By name, from input to output, after the step: whether a layer's weights and gradients are "finite", whether its
    kernel has a "zero_gradient"; of each population of neurons {parameter: its mean}, "neurons", and "least_threshold".

    fixed: which parameters are not trained, and have no gradient by intention.
    """
    names = [layer.name for layer in net.layers]
    finite = {name: jnp.all(jnp.array([jnp.isfinite(x).all()
                                       for x in jax.tree.leaves((gradients[name], params[name]))])) for name in names}
    zero = {name: ~jnp.any(gradients[name]["kernel"] != 0) & (not fixed[name]["kernel"]) for name in names}
    neurons: OrderedDict = OrderedDict()  # which `jit` returns in its order
    least: OrderedDict = OrderedDict()
    for name, neuron in neurons_of({name: params[name] for name in names}).items():
        for parameter, values in described(neuron).items():
            neurons.setdefault(parameter, OrderedDict())[name] = values.mean()
        if hasattr(neuron, "threshold"):
            least[name] = neuron.threshold.min()
    return {"finite": OrderedDict(finite), "zero_gradient": OrderedDict(zero), "neurons": neurons,
            "least_threshold": least}


def check_health(net: Network, phase: str, step: int, metrics: dict) -> None:
    """Stop at a step whose images, loss, weights, gradients or neurons are not finite, or whose thresholds are not > 0.

    Raises:
        TrainingError: naming the step and every layer concerned, from input to output.
    """
    finite = metrics.get("finite_images", 1.0)
    if finite < 1:
        raise TrainingError(f"{phase}: {100 * (1 - finite):.3g} % of the training images of step {step} hold NaN or "
                            "infinity once they are normalised. Repair them or leave them out, see that no standard "
                            "deviation of the set is 0, and train into a new workdir.")
    wrong = [f"threshold of {name} is {value:.4g} (must be > 0)"
             for name, value in metrics.get("least_threshold", {}).items() if not value > 0]  # true for NaN too
    wrong += [f"{parameter} of {name} is {value:.4g}" for parameter, found in metrics.get("neurons", {}).items()
              for name, value in found.items() if parameter != "threshold" and not np.isfinite(value)]
    broken = [name for name, finite in metrics["finite"].items() if not finite]
    if broken:
        wrong.append(f"weights or their gradient are not finite in {', '.join(broken)}")
    if not wrong and np.isfinite(metrics["loss"]):
        return
    if metrics.get("least_threshold") and not wrong:
        wrong.append("leaks and thresholds are in range")
    raise diverged(phase, f"loss is {metrics['loss']:.4g} at step {step}", wrong)


def diverged(phase: str, what: str, wrong: Sequence[str] = ()) -> TrainingError:
    """The error of a phase that cannot go on, and what to do."""
    return TrainingError(f"{phase}: {what}{': ' if wrong else ''}{'; '.join(wrong)}. "
                         f"Lower {phase}.learning_rate and train into a new workdir.")
