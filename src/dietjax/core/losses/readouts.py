"""Readouts: from what a layer puts out over T timesteps to one score for each class, the larger the likelier.

The losses of snnTorch (Eshraghian et al., arXiv 2109.12894) in these terms, for spikes [B, T, K] and labels [B]:

    ce_count_loss           cross_entropy(spike_count(spikes), labels)
    ce_rate_loss            temporal_efficient(spikes, labels)
    ce_max_membrane_loss    cross_entropy(max_over_time(membranes), labels)
    ce_temporal_loss        cross_entropy(-first_spike_time(spikes), labels)
    mse_count_loss          count_mse(spike_count(spikes), labels, timesteps)
"""

import jax
import jax.numpy as jnp

from ...errors import InputError
from ...types import Array
from ..neurons.checks import concrete
from .lengths import check_over_time, nan_where_wrong, steps_that_count, within


def increments(accumulated: Array, leak: float = 1.0) -> Array:
    """What each timestep added to a leaky sum u(t) = leak·u(t−1) + a(t):   a(t) = u(t) − leak·u(t−1),  u(−1) = 0.

    Of a network whose readout is `LI(leak)` these are the readout's currents, of one that fires its spikes.

    Args:
        accumulated: u [B, T, K], such as `record["logits"]` of a run from rest.
        leak: the readout's, 1 for spike counts.

    Returns:
        a [B, T, K].
    """
    check_over_time(accumulated, None)
    before = jnp.concatenate([jnp.zeros_like(accumulated[:, :1]), accumulated[:, :-1]], axis=1)
    return accumulated - (before if leak == 1 else leak * before)


def sum_over_time(outputs: Array, lengths: Array | None = None) -> Array:
    """Σ_t o(t): [B, T, ...] -> [B, ...], in at least float32.

    Args:
        outputs: what each timestep puts out by itself: spikes, currents, or the membranes of a leaky readout, whose
            sum is the readout of Cramer et al. (arXiv 1910.07407). Of sums (`LI()`, spike counts) see `last_step`.
        lengths: [B], timesteps that count; None: all.
    """
    check_over_time(outputs, lengths)
    return nan_where_wrong(within(outputs, lengths).sum(1), outputs, lengths)


def mean_over_time(outputs: Array, lengths: Array | None = None) -> Array:
    """1/T Σ_t o(t), T the timesteps that count: of spikes, the firing rate per timestep.

    Arguments of `sum_over_time`.
    """
    check_over_time(outputs, lengths)
    mean = within(outputs, lengths).sum(1) / steps_that_count(outputs, lengths)
    return nan_where_wrong(mean, outputs, lengths)


def last_step(outputs: Array, lengths: Array | None = None) -> Array:
    """o(T − 1), of the last timestep that counts: [B, T, ...] -> [B, ...], in at least float32.

    Args:
        outputs: sums or membranes up to each timestep (`record["logits"]`); of spikes it would be the last ones alone.
        lengths: [B], timesteps that count; None: all.
    """
    check_over_time(outputs, lengths)
    if lengths is None:
        return within(outputs, None)[:, -1]
    at = jnp.broadcast_to(steps_that_count(outputs, lengths) - 1, (outputs.shape[0], *(1,) * (outputs.ndim - 2)))
    last = jnp.take_along_axis(within(outputs, lengths), at[:, None], axis=1)[:, 0]
    return nan_where_wrong(last, outputs, lengths)


def max_over_time(outputs: Array, lengths: Array | None = None) -> Array:
    """max_t o(t): [B, T, ...] -> [B, ...], in at least float32.

    The "max-over-time" readout of membranes (Cramer et al., arXiv 1910.07407; Zenke & Vogels, Neural Computation
    2021). Its gradient goes to the timestep of the maximum, in equal parts where several have it.

    Args:
        outputs: membranes after each timestep (`record["logits"]`, best of a leaky readout).
        lengths: [B], timesteps that count; None: all.
    """
    check_over_time(outputs, lengths)
    return nan_where_wrong(within(outputs, lengths, -jnp.inf).max(1), outputs, lengths)


def spike_count(spikes: Array, lengths: Array | None = None, classes: int | None = None) -> Array:
    """Spikes of each class over time: [B, T, N] -> [B, K].

        n_k = Σ_t Σ_i o_i(t),   i = k·N/K, ..., (k+1)·N/K − 1

    Args:
        spikes: 0 or 1, of each timestep. Outputs of other sizes: `sum_over_time`.
        lengths: [B], timesteps that count; None: all.
        classes: K; N/K neurons in a row vote for one class (a population code). None: every neuron is a class.
    """
    check_over_time(spikes, lengths)
    count = nan_where_wrong(_binary(spikes, lengths).sum(1), spikes, lengths)
    if classes is None:
        return count
    if spikes.ndim != 3 or classes < 1 or spikes.shape[-1] % classes:
        raise InputError(f"spikes of shape {spikes.shape} do not divide into {classes} classes of equally many "
                         "neurons; wanted [B, T, N] with N a multiple of it")
    return count.reshape(len(count), classes, -1).sum(-1)


def first_spike_time(spikes: Array, lengths: Array | None = None) -> Array:
    """Timestep of the first spike, from 0; T of a neuron that never fires: [B, T, ...] -> [B, ...], at least float32.

    The class that fires first is named: `cross_entropy(-first_spike_time(spikes), labels)`. A spike time does not
    depend smoothly on spikes. Its gradient is the sign that the field takes (S4NN: Kheradpisheh & Masquelier,
    International Journal of Neural Systems 2020, arXiv 1910.09495, ∂t/∂V = −1; snnTorch):

        ∂t/∂o(s) = −1 at s = t, the first spike (more drive, an earlier spike), 0 elsewhere

    A silent neuron's is −1 at the last timestep that counts, as if it fired there, so that it can learn to. Its time T
    is later than any spike; snnTorch's is T − 1, which a spike may have too.

    Args:
        spikes: 0 or 1, of each timestep.
        lengths: [B], timesteps that count (T above is then each example's own); None: all.
    """
    check_over_time(spikes, lengths)
    x, count = _binary(spikes, lengths), steps_that_count(spikes, lengths)
    fired = x != 0
    time = jnp.where(fired.any(1), jnp.argmax(fired, 1), count)
    t = jnp.arange(x.shape[1]).reshape(-1, *(1,) * (x.ndim - 2))
    chosen = t == jnp.minimum(time, count - 1)[:, None]
    drive = jnp.where(chosen, x - jax.lax.stop_gradient(x), 0).sum(1)  # 0, with the derivative of the spike
    time = jnp.where(jnp.isnan(x).any(1), jnp.nan, time.astype(x.dtype))
    return nan_where_wrong(time - drive, spikes, lengths)


def _binary(spikes, lengths):
    """Spikes, 0 beyond their length; those that are neither 0 nor 1 are refused, or NaN where they are not known."""
    x = within(spikes, lengths)
    known = concrete(x)
    if known is not None and not ((known == 0) | (known == 1)).all():
        wrong = known[(known != 0) & (known != 1)][0]
        raise InputError(f"a spike is {wrong:.6g}, and must be 0 or 1: pass what each timestep puts out by itself, of "
                         "counts `increments(counts)`; outputs of other sizes are summed by `sum_over_time`")
    return jnp.where((x == 0) | (x == 1), x, jnp.nan)
