"""Losses and accuracies of classes, on scores [B, K] or on [B, T, K], those of each timestep."""

import jax
import jax.numpy as jnp
import numpy as np

from ...errors import InputError
from ...types import Array
from ..neurons.checks import concrete
from .lengths import check_over_time, nan_where_wrong, steps_that_count, within


def cross_entropy(logits: Array, labels: Array, smoothing: float = 0.0) -> Array:
    """Softmax cross-entropy per example [B], of the readout's accumulated membranes (Rathi & Roy, section III), or of
    what any readout makes of the outputs over time (`sum_over_time`, `max_over_time`, ...).

    Args:
        logits: [B, K] or [B, T, K] (then [B, T] is returned).
        labels: class indices [B], or [B, T] for a label at each timestep.
        smoothing: share e of the probability that goes to all classes alike: the target is 1 - e + e/K at the label
            and e/K elsewhere (Szegedy et al., CVPR 2016, section 7).
    """
    _check_share("smoothing", smoothing)
    log_probabilities = jax.nn.log_softmax(logits)
    loss = -jnp.take_along_axis(log_probabilities, _classes(logits, labels)[..., None], axis=-1)[..., 0]
    return (1 - smoothing) * loss - smoothing * log_probabilities.mean(-1) if smoothing else loss


def temporal_efficient(outputs: Array, labels: Array, smoothing: float = 0.0, regulariser: float = 0.0,
                       mean: float = 1.0, lengths: Array | None = None) -> Array:
    """TET's loss per example [B]: every timestep's own output is to name the class (Deng et al., ICLR 2022, arXiv
    2202.11946, section 3: L_total = (1 - lambda) L_TET + lambda L_MSE).

        L_TET = 1/T sum_t CE(O(t), y),    L_MSE = 1/(T K) sum_t sum_k (O_k(t) - mean)^2

    Args:
        outputs: O(t) [B, T, K], what each timestep adds to the readout; of sums over time `increments(sums)`.
        labels: class indices y [B].
        smoothing: as in `cross_entropy`.
        regulariser: lambda, in [0, 1].
        mean: to which the outputs are drawn; theirs is the threshold, 1.
        lengths: [B], timesteps that count (T above is then each example's own); None: all.
    """
    check_over_time(outputs, lengths)
    _check_share("regulariser", regulariser)
    loss = cross_entropy(within(outputs, lengths), labels, smoothing)
    if regulariser:
        loss = (1 - regulariser) * loss + regulariser * ((within(outputs, lengths) - mean) ** 2).mean(-1)
    each = within(loss[..., None], lengths).sum(1) / steps_that_count(loss[..., None], lengths)
    return nan_where_wrong(each[..., 0], outputs, lengths)


def count_mse(counts: Array, labels: Array, timesteps: int | Array, correct_rate: float = 1.0,
              incorrect_rate: float = 0.0) -> Array:
    """Squared distance of spike counts from wanted ones, per example [B].

        1/(K T) Σ_k (n_k − r_k·T)²,   r_k = correct_rate of the label's class, else incorrect_rate

    Shrestha & Orchard, "SLAYER", NeurIPS 2018 (arXiv 1810.08646), with the factors of snnTorch's mse_count_loss, which
    also rounds r·T down to a whole number of spikes.

    Args:
        counts: n [B, K]: `spike_count(spikes)`, or the logits of a network whose readout fires.
        labels: class indices [B].
        timesteps: T, or [B] where examples are of unequal lengths.
        correct_rate: spikes per timestep, in [0, 1].
        incorrect_rate: the other classes', in [0, 1].
    """
    if counts.ndim != 2:
        raise InputError(f"counts have shape {counts.shape}, wanted [B, K]: those after the last timestep")
    _check_share("correct_rate", correct_rate)
    _check_share("incorrect_rate", incorrect_rate)
    known = concrete(timesteps)
    if jnp.shape(timesteps) not in ((), counts.shape[:1]) or (known is not None and not (known >= 1).all()):
        raise InputError(f"timesteps are {timesteps}: wanted one number of at least 1, or one for each of "
                         f"{len(counts)} examples")
    classes = _classes(counts, labels)[:, None]
    rates = jnp.where(jnp.arange(counts.shape[1]) == classes, correct_rate, incorrect_rate)
    each = jnp.broadcast_to(jnp.asarray(timesteps), counts.shape[:1])
    loss = ((counts - rates * each[:, None]) ** 2).mean(-1) / each
    return jnp.where((classes[:, 0] < counts.shape[1]) & (each >= 1), loss, jnp.nan)


def distillation(logits: Array, teacher: Array, temperature: float = 1.0) -> Array:
    """temperature^2 KL(p || q) per example [B] (Hinton, Vinyals & Dean 2015, arXiv 1503.02531, section 2).

    p and q are the softmax of the teacher's and of the student's logits over the temperature; its square keeps the
    gradient's size at every temperature.

    Args:
        logits: the student's [B, K].
        teacher: the teacher's [B, K].
        temperature: > 0.
    """
    if logits.shape != teacher.shape:
        raise InputError(f"the student's logits have shape {logits.shape}, the teacher's {teacher.shape}; they must be "
                         "of the same images and classes")
    known = concrete(temperature)
    if known is not None and not known > 0:
        raise InputError(f"temperature must be > 0, got {temperature}")
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
    return (before.sum(-1) < count) & (classes[..., 0] < logits.shape[-1])  # NaN, of no class, is before none


def margin(logits: Array) -> Array:
    """Largest logit minus the second largest, >= 0: [..., K] -> [...]; under the softmax, the log-odds of those two."""
    best = jax.lax.top_k(logits, 2)[0]
    return best[..., 0] - best[..., 1]


def _classes(logits, labels):
    """Labels, one for each row of logits [..., K]; K where a label that is not known before is no class.

    `take_along_axis` then gives NaN; a label of -1 would be the last class.
    """
    shape, kind = jnp.shape(labels), jnp.result_type(labels)
    if len(shape) >= logits.ndim or logits.shape[:len(shape)] != shape or not jnp.issubdtype(kind, jnp.integer):
        raise InputError(f"labels are {kind} of shape {shape}, logits have shape {logits.shape}: wanted one class "
                         "index, a whole number, for each example")
    known, classes = concrete(labels), logits.shape[-1]
    if known is not None and not ((known >= 0) & (known < classes)).all():
        wrong = np.extract((known < 0) | (known >= classes), known)[0]
        raise InputError(f"a label is {wrong}, the logits have {classes} classes; labels lie between 0 and "
                         f"{classes - 1}")
    labels = jnp.asarray(labels).reshape(shape + (1,) * (logits.ndim - 1 - len(shape)))
    return jnp.broadcast_to(jnp.where(labels < 0, classes, labels), logits.shape[:-1])


def _check_share(name, value):
    known = concrete(value)
    if known is not None and not 0 <= known <= 1:
        raise InputError(f"{name} must lie in [0, 1], got {value}")
