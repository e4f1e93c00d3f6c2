"""Whether a training step is sound: measured inside the step, checked at the next look at the metrics."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ..errors import InputError
from ..models import Network


class TrainingError(InputError):
    """Training cannot go on; says at which step, and what went wrong first."""


def measure_health(net, params, gradients, fixed):
    """Per layer, in order, after the step: whether all is finite, whether the kernel's gradient is exactly zero, and
    mean leak, mean and least threshold where every layer has one (not where some layers' neurons have others).

    fixed: which parameters are not trained, and have no gradient by intention.
    """
    names = [layer.name for layer in net.layers]
    neurons = [params[name]["neuron"] for name in names if "neuron" in params[name]]
    finite = [jnp.all(jnp.array([jnp.isfinite(x).all() for x in jax.tree.leaves((gradients[name], params[name]))]))
              for name in names]
    zero = [~jnp.any(gradients[name]["kernel"] != 0) & (not fixed[name]["kernel"]) for name in names]
    found = {"finite": jnp.array(finite), "zero_gradient": jnp.array(zero)}
    alike = all("neuron" in params[name] for name in names[:-1])

    def have(parameter):
        return neurons and alike and all(hasattr(neuron, parameter) for neuron in neurons)

    if have("threshold"):
        found["threshold"] = jnp.array([n.threshold.mean() for n in neurons])
        found["least_threshold"] = jnp.array([n.threshold.min() for n in neurons])
    if have("leak"):
        found["leak"] = jnp.array([n.leak.mean() for n in neurons])
    return found


def check_health(net: Network, phase: str, step: int, metrics: dict) -> None:
    """Stop at a step whose images, loss, weights, gradients or leaks are not finite, or whose thresholds are not > 0.

    Raises:
        TrainingError: naming the step and every layer concerned, from input to output.
    """
    finite = metrics.get("finite_images", 1.0)
    if finite < 1:
        raise TrainingError(f"{phase}: {100 * (1 - finite):.3g} % of the training images of step {step} hold NaN or "
                            "infinity once they are normalised. Repair them or leave them out, see that no standard "
                            "deviation of the set is 0, and train into a new workdir.")
    names = np.array([layer.name for layer in net.layers])
    wrong = [f"threshold of {name} is {value:.4g} (must be > 0)" for name, value in
             zip(names, metrics.get("least_threshold", ()), strict=False) if not value > 0]  # true for NaN too
    wrong += [f"leak of {name} is {value:.4g}" for name, value in
              zip(names, metrics.get("leak", ()), strict=False) if not np.isfinite(value)]
    broken = names[~metrics["finite"]]
    if len(broken):
        wrong.append(f"weights or their gradient are not finite in {', '.join(broken)}")
    if not wrong and np.isfinite(metrics["loss"]):
        return
    if "threshold" in metrics and not wrong:
        wrong.append("leaks and thresholds are in range")
    raise diverged(phase, f"loss is {metrics['loss']:.4g} at step {step}", wrong)


def diverged(phase: str, what: str, wrong: Sequence[str] = ()) -> TrainingError:
    """The error of a phase that cannot go on, and what to do."""
    return TrainingError(f"{phase}: {what}{': ' if wrong else ''}{'; '.join(wrong)}. "
                         f"Lower {phase}.learning_rate and train into a new workdir.")
