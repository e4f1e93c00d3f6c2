"""How many training steps one program does before the host looks up."""

import jax

from ..config import Parallel
from ..data import Dataset, Split
from ..errors import InputError

SECONDS = 0.5
"""That a program may take: a signal is answered after the one that runs and the one behind it."""
MOST = 50
"""Steps in a program at most, where it is not said: those that a line of the log covers."""


def most_steps_at_once(parallel: Parallel, dataset: Dataset, platform: str) -> int:
    """The room of `make_train_steps` for a run; 1: single steps.

    Not said, it is MOST on accelerators of one process, for a set in memory. On a CPU convolutions are slow inside a
    loop, streamed batches come one by one, and several processes would have to agree on how fast they are.

    Raises:
        InputError: several, of a set that is streamed.
    """
    resident, asked = isinstance(dataset.train, Split), parallel.steps_at_once
    if asked is None:
        return MOST if resident and platform != "cpu" and jax.process_count() == 1 else 1
    if asked > 1 and not resident:
        raise InputError(f"parallel.steps_at_once={asked} is for sets in memory, and {dataset.name} is streamed, a "
                         "batch for each step: set it to 1, or leave it out")
    return asked


class Pace:
    """Steps to do at once: as many as take about SECONDS, once a program has been timed; 1 before. What comes out does
    not depend on it. Several processes, which must do the same, always take the most.
    """

    def __init__(self, most: int):
        self._most, self._agreed = most, jax.process_count() > 1
        self.count = most if self._agreed else 1
        """Steps that the next program does."""

    def took(self, seconds: float, count: int) -> None:
        """A program of so many steps took that long."""
        if not self._agreed:
            self.count = min(max(int(SECONDS * count / seconds), 1), self._most)
