"""Which of a network's mistakes are kept for the report, and how often each class was taken for each."""

import numpy as np

from ..train.evaluate import Answers


def fair_sample(answers: Answers, most: int) -> np.ndarray:
    """At most `most` examples that were answered wrongly: int [n], by class, the most confident of a class first.

    As many of each true class, as far as it has them: first the most confident mistake of every class, then the second
    of every class, and so on. Where a round does not fit any more, classes evenly spaced have a part in it.
    """
    wrong = np.flatnonzero(answers.classes != answers.labels)
    wrong = wrong[np.lexsort((-answers.confidence[wrong], answers.labels[wrong]))]
    _, first, counts = np.unique(answers.labels[wrong], return_index=True, return_counts=True)
    rank = np.arange(len(wrong)) - np.repeat(first, counts)  # among the mistakes of its class
    chosen = np.zeros(0, int)
    for this in range(counts.max(initial=0)):
        candidates, left = np.flatnonzero(rank == this), most - len(chosen)
        fit = min(left, len(candidates))
        chosen = np.concatenate([chosen, candidates[np.arange(fit) * len(candidates) // max(fit, 1)]])
    return wrong[np.sort(chosen)]


def confusion(answers: Answers, num_classes: int) -> np.ndarray:
    """How many examples of each class (row) were given each answer (column): int32 [K, K]."""
    pairs = answers.labels.astype(np.int64) * num_classes + answers.classes
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes).astype(np.int32)
