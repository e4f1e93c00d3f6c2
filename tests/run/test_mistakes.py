"""Laws of the mistakes that a run keeps: every class has its part, those it was surest of first; pairs are counted."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dietjax.run.mistakes import confusion, fair_sample
from dietjax.train.evaluate import Answers


@st.composite
def answers(draw):
    """Of up to 40 images and 6 classes; confidences are multiples of 1/8, so that some are equal."""
    size = draw(st.integers(0, 40))
    classes = [draw(st.lists(st.integers(0, 5), min_size=size, max_size=size)) for _ in range(2)]
    sure = draw(st.lists(st.integers(1, 8), min_size=size, max_size=size))
    return Answers(*(np.array(x, np.int32) for x in classes), np.array(sure, np.float32) / 8)


@settings(max_examples=60, deadline=None)
@given(answers(), st.integers(1, 30))
def test_a_sample_of_mistakes_is_fair_and_the_surest(found, most):
    sample = fair_sample(found, most).tolist()
    wrong = [i for i, (label, said) in enumerate(zip(found.labels, found.classes, strict=True)) if label != said]
    assert len(sample) == len(set(sample)) == min(most, len(wrong)) and set(sample) <= set(wrong)
    all_of, shown = (Counter(found.labels[i].item() for i in chosen) for chosen in (wrong, sample))
    largest = max(shown.values(), default=0)
    for label, count in all_of.items():  # no class has two fewer than another, unless it has no more
        assert shown[label] >= min(count, largest - 1)
        kept = [i for i in sample if found.labels[i] == label]
        best = sorted((i for i in wrong if found.labels[i] == label), key=lambda i: (-found.confidence[i], i))
        assert kept == best[:len(kept)]
    assert [found.labels[i] for i in sample] == sorted(found.labels[i] for i in sample)


def test_of_more_classes_than_have_a_place_those_shown_are_evenly_spaced():
    labels = np.repeat(np.arange(1000, dtype=np.int32), 2)
    found = Answers(labels, labels + 1, np.ones(2000, np.float32))
    assert np.unique(np.diff(labels[fair_sample(found, 100)])).tolist() == [10]


@settings(max_examples=20, deadline=None)
@given(answers())
def test_a_confusion_matrix_counts_pairs(found):
    pairs = Counter(zip(found.labels.tolist(), found.classes.tolist(), strict=True))
    matrix = confusion(found, 7)
    assert matrix.shape == (7, 7)
    assert {(i, j): matrix[i, j] for i, j in zip(*matrix.nonzero(), strict=True)} == pairs


def test_a_class_that_was_never_answered_and_one_without_images_have_their_places():
    found = Answers(np.array([0, 2]), np.array([2, 2]), np.ones(2))
    np.testing.assert_array_equal(confusion(found, 3), [[0, 0, 1], [0, 0, 0], [0, 0, 1]])
    assert fair_sample(found, 5).tolist() == [0]
    assert fair_sample(found._replace(classes=found.labels), 5).tolist() == []


@pytest.mark.parametrize("most, expected", [(1, [0]), (2, [0, 4]), (3, [0, 1, 4]), (9, [0, 1, 2, 4])])
def test_a_sample_by_hand(most, expected):
    """Class 0 has three mistakes of falling confidence, class 1 one; image 3 is right."""
    found = Answers(np.array([0, 0, 0, 0, 1]), np.array([1, 1, 1, 0, 0]), np.array([0.9, 0.8, 0.7, 1.0, 0.6]))
    assert fair_sample(found, most).tolist() == expected
