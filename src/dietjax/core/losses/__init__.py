"""Losses of a network's outputs and activity: plain functions of logits [B, T, K] and of the record.

A loss over time has two parts, a readout that turns T timesteps into scores [B, K], and a loss of these:

    cross_entropy(max_over_time(record["logits"]), labels).mean()

What `record["logits"]` holds decides which readout means what. u is its value after timestep t, a what that timestep
adds, `a = increments(record["logits"])`:

    network's readout        u(t)                            the sum over time is       the mean over time is
    LI() (leak 1)            sum of the currents up to t     last_step(u)               mean_over_time(a)
    LI(leak=0.9)             leaky membrane                  sum_over_time(u)           mean_over_time(u)
    LIF() and all that fire  spikes up to t                  last_step(u), the count    mean_over_time(a), the rate

`last_step`, `max_over_time` and, of a leaky readout, `sum_over_time` take u; `temporal_efficient`, `spike_count` and
`first_spike_time` take a, what each timestep puts out by itself. Each docstring says which.

`lengths` [B] says how many timesteps of each example count. A padded example then gives what it gives alone, whatever
stands in the padding, NaN too, and the padding's gradient is 0.

What is wrong is an `InputError` where its value is known. Under `jit` labels, lengths and spikes are not, and a wrong
one makes its example's loss NaN.
"""

from .classification import (
    correct,
    correct_in_top,
    count_mse,
    cross_entropy,
    distillation,
    margin,
    temporal_efficient,
)
from .readouts import (
    first_spike_time,
    increments,
    last_step,
    max_over_time,
    mean_over_time,
    spike_count,
    sum_over_time,
)
from .regularisers import activity_l1, activity_l2, rate_above, rate_below

__all__ = [
    "activity_l1",
    "activity_l2",
    "correct",
    "correct_in_top",
    "count_mse",
    "cross_entropy",
    "distillation",
    "first_spike_time",
    "increments",
    "last_step",
    "margin",
    "max_over_time",
    "mean_over_time",
    "rate_above",
    "rate_below",
    "spike_count",
    "sum_over_time",
    "temporal_efficient",
]
