"""Losses and accuracies on the readout: logits [B, K] after the last step, or [B, T, K] after each."""

import jax
import jax.numpy as jnp

from ..types import Array


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Softmax cross-entropy per example [B], of the readout's accumulated membranes (Rathi & Roy, section III).

    Args:
        logits: [B, K] or [B, T, K] (then [B, T] is returned).
        labels: class indices [B].
    """
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), _classes(logits, labels)[..., None], axis=-1)[..., 0]


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
