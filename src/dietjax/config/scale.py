"""The factor on thresholds that the paper's conversion takes where an experiment gives none."""

import itertools

SCALES = ((5, 0.2), (20, 0.3), (25, 0.3), (100, 0.7))
"""(timesteps, factor on the thresholds) as the authors ran it: 0.2 at 5, 0.3 at 20-25, 0.6-0.8 above 100."""


def default_scale(timesteps: int) -> float:
    """The authors' factor for this many timesteps; linear between theirs, constant outside."""
    if timesteps <= SCALES[0][0]:
        return SCALES[0][1]
    for (before, low), (after, high) in itertools.pairwise(SCALES):
        if timesteps < after:
            return (high - low) / (after - before) * (timesteps - before) + low
    return SCALES[-1][1]
