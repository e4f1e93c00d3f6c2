"""Laws of dietjax.core.losses, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np

from dietjax.core.losses import correct, correct_in_top, cross_entropy

LABELS = np.array([2, 0, 1, 1])


def logits(shape=(4, 3)):
    return np.random.default_rng(0).normal(0, 3, shape)


def test_cross_entropy_is_minus_log_of_the_labels_softmax(x64):
    x = logits()
    p = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    np.testing.assert_allclose(cross_entropy(jnp.asarray(x), LABELS), -np.log(p[range(4), LABELS]), rtol=1e-12)


def test_cross_entropy_by_hand():
    np.testing.assert_allclose(cross_entropy(jnp.log(jnp.asarray([[1.0, 3.0]])), jnp.asarray([1])), [np.log(4 / 3)],
                               rtol=1e-6)


def test_gradient_is_softmax_minus_one_hot(x64):
    x = logits()
    p = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    gradient = jax.grad(lambda x: cross_entropy(x, LABELS).sum())(jnp.asarray(x))
    np.testing.assert_allclose(gradient, p - np.eye(3)[LABELS], rtol=1e-10)


def test_large_logits_stay_finite():
    loss = cross_entropy(jnp.asarray([[1e4, 0.0], [1e4, 0.0]]), jnp.asarray([0, 1]))
    assert loss.tolist() == [0, 1e4]


def test_every_timestep_is_scored_as_if_it_were_alone(x64):
    x = jnp.asarray(logits((4, 5, 3)))
    loss, right = cross_entropy(x, LABELS), correct(x, LABELS)
    assert loss.shape == right.shape == (4, 5)
    for t in range(5):
        np.testing.assert_allclose(loss[:, t], cross_entropy(x[:, t], LABELS), rtol=1e-13)
        np.testing.assert_array_equal(right[:, t], correct(x[:, t], LABELS))


def test_correct_is_where_the_labels_logit_is_the_largest():
    x = jnp.asarray([[0.0, 1.0, 2.0], [3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [-3.0, -1.0, -2.0]])
    assert correct(x, jnp.asarray(LABELS)).tolist() == [True, True, False, True]


def test_correct_in_top_counts_the_labels_place_among_the_logits():
    scores = jnp.array([[0.1, 0.9, 0.5, 0.3], [2.0, 2.0, 2.0, 1.0], [2.0, 2.0, 2.0, 1.0]])
    labels = jnp.array([3, 0, 2])  # in third, first and (of equals, in class order) third place
    for count, expected in ((1, [0, 1, 0]), (2, [0, 1, 0]), (3, [1, 1, 1])):
        assert correct_in_top(scores, labels, count).tolist() == [bool(x) for x in expected]
    over_time = jnp.stack([scores, -scores], axis=1)
    assert correct_in_top(over_time, labels, 2).tolist() == [[False, True], [True, True], [False, False]]
    np.testing.assert_array_equal(correct_in_top(over_time, labels, 1), correct(over_time, labels))
