"""Losses and accuracies on the readout: logits [B, K] after the last step, or [B, T, K] after each."""

import jax
import jax.numpy as jnp

from ..types import Array


def cross_entropy(logits: Array, labels: Array, smoothing: float = 0.0) -> Array:
    """Softmax cross-entropy per example [B], of the readout's accumulated membranes (Rathi & Roy, section III).

    Args:
        logits: [B, K] or [B, T, K] (then [B, T] is returned).
        labels: class indices [B].
        smoothing: share e of the probability that goes to all classes alike: the target is 1 - e + e/K at the label
            and e/K elsewhere (Szegedy et al., CVPR 2016, section 7).
    """
    log_probabilities = jax.nn.log_softmax(logits)
    loss = -jnp.take_along_axis(log_probabilities, _classes(logits, labels)[..., None], axis=-1)[..., 0]
    return (1 - smoothing) * loss - smoothing * log_probabilities.mean(-1) if smoothing else loss


def temporal_efficient(outputs: Array, labels: Array, smoothing: float = 0.0, regulariser: float = 0.0,
                       mean: float = 1.0) -> Array:
    """TET's loss per example [B]: every timestep's own output is to name the class (Deng et al., ICLR 2022, arXiv
    2202.11946, section 3: L_total = (1 - lambda) L_TET + lambda L_MSE).

        L_TET = 1/T sum_t CE(O(t), y),    L_MSE = 1/(T K) sum_t sum_k (O_k(t) - mean)^2

    Args:
        outputs: O(t) [B, T, K], what each timestep adds to the readout.
        labels: class indices y [B].
        smoothing: as in `cross_entropy`.
        regulariser: lambda, in [0, 1].
        mean: to which the outputs are drawn; theirs is the threshold, 1.
    """
    loss = cross_entropy(outputs, labels, smoothing).mean(-1)
    return (1 - regulariser) * loss + regulariser * ((outputs - mean) ** 2).mean((-2, -1)) if regulariser else loss


def distillation(logits: Array, teacher: Array, temperature: float = 1.0) -> Array:
    """temperature^2 KL(p || q) per example [B] (Hinton, Vinyals & Dean 2015, arXiv 1503.02531, section 2).

    p and q are the softmax of the teacher's and of the student's logits over the temperature; its square keeps the
    gradient's size at every temperature.

    Args:
        logits: the student's [B, K].
        teacher: the teacher's [B, K].
        temperature: > 0.
    """
    log_p, log_q = jax.nn.log_softmax(teacher / temperature), jax.nn.log_softmax(logits / temperature)
    return temperature**2 * (jnp.exp(log_p) * (log_p - log_q)).sum(-1)


def correct(logits: Array, labels: Array) -> Array:
    """Whether the largest logit is the label's, per example: [B], or [B, T] for logits [B, T, K]."""
    return jnp.argmax(logits, axis=-1) == _classes(logits, labels)


def correct_in_top(logits: Array, labels: Array, count: int) -> Array:
    """Whether the label is among the classes of the `count` largest logits, per example.

    Of equal logits the lower class ranks first.

    Args:
        logits: [B, K] or [B, T, K] (then [B, T] is returned).
        labels: class indices [B].
        count: 1 is `correct`.
    """
    classes = _classes(logits, labels)[..., None]
    own = jnp.take_along_axis(logits, classes, axis=-1)
    before = (logits > own) | ((logits == own) & (jnp.arange(logits.shape[-1]) < classes))
    return before.sum(-1) < count


def margin(logits: Array) -> Array:
    """Largest logit minus the second largest, >= 0: [..., K] -> [...]; under the softmax, the log-odds of those two."""
    best = jax.lax.top_k(logits, 2)[0]
    return best[..., 0] - best[..., 1]


def _classes(logits, labels):
    return jnp.broadcast_to(labels.reshape(labels.shape + (1,) * (logits.ndim - 2)), logits.shape[:-1])
