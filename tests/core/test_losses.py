"""Laws of dietjax.core.losses, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dietjax.core.losses import correct, correct_in_top, cross_entropy, distillation, temporal_efficient

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


# ---- losses of today


def test_label_smoothing_is_optax_on_smoothed_labels(x64):
    x = jnp.asarray(logits((4, 5, 3)))
    smooth = optax.smooth_labels(jax.nn.one_hot(LABELS, 3), 0.1)
    expected = optax.softmax_cross_entropy(x, jnp.broadcast_to(smooth[:, None], x.shape))
    np.testing.assert_allclose(cross_entropy(x, LABELS, 0.1), expected, rtol=1e-12)


def test_label_smoothing_by_hand():
    """Probabilities 1/4 and 3/4, a smoothing of 0.2: 0.9 ln(4/3) + 0.1 ln 4."""
    x = jnp.log(jnp.asarray([[1.0, 3.0]]))
    np.testing.assert_allclose(cross_entropy(x, jnp.asarray([1]), 0.2), [0.9 * np.log(4 / 3) + 0.1 * np.log(4)],
                               rtol=1e-6)


@pytest.mark.parametrize("smoothing, regulariser, mean", [(0.0, 0.0, 1.0), (0.0, 0.05, 1.0), (0.1, 0.3, -2.0)])
def test_tet_is_the_papers_loss_in_a_loop_over_time(x64, smoothing, regulariser, mean):
    x, timesteps = logits((4, 5, 3)), 5
    target = (1 - smoothing) * np.eye(3)[LABELS] + smoothing / 3
    each, square = np.zeros(4), np.zeros(4)
    for t in range(timesteps):
        p = np.exp(x[:, t]) / np.exp(x[:, t]).sum(-1, keepdims=True)
        each += -(target * np.log(p)).sum(-1) / timesteps
        square += ((x[:, t] - mean) ** 2).mean(-1) / timesteps
    found = temporal_efficient(jnp.asarray(x), LABELS, smoothing, regulariser, mean)
    np.testing.assert_allclose(found, (1 - regulariser) * each + regulariser * square, rtol=1e-12)


def test_tet_punishes_a_timestep_that_the_sum_hides():
    """One step right, one wrong by as much: their sum is undecided, the mean of their losses is larger."""
    outputs = jnp.asarray([[[2.0, 0.0], [0.0, 2.0]]])
    label = jnp.asarray([0])
    np.testing.assert_allclose(cross_entropy(outputs.sum(1), label), [np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(temporal_efficient(outputs, label), [np.log(1 + np.exp(2)) - 1], rtol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_distillation_is_optax_divergence_at_that_temperature(x64, temperature):
    student, teacher = jnp.asarray(logits()), jnp.asarray(logits()[::-1] * 0.5)
    expected = optax.losses.kl_divergence(jax.nn.log_softmax(student / temperature),
                                          jax.nn.softmax(teacher / temperature))
    np.testing.assert_allclose(distillation(student, teacher, temperature), temperature**2 * expected, rtol=1e-12)
    np.testing.assert_allclose(distillation(teacher, teacher, temperature), 0, atol=1e-15)


def test_distillation_by_hand():
    """Teacher (1/2, 1/2), student (1/4, 3/4): 1/2 ln 2 + 1/2 ln(2/3)."""
    found = distillation(jnp.log(jnp.asarray([[1.0, 3.0]])), jnp.zeros((1, 2)))
    np.testing.assert_allclose(found, [0.5 * np.log(2) + 0.5 * np.log(2 / 3)], rtol=1e-6)


def test_distillation_at_a_high_temperature_compares_logits(x64):
    """Its gradient tends to (student - teacher) / K, both of mean zero (Hinton et al., equation 4)."""
    student, teacher = (x - x.mean(-1, keepdims=True) for x in (logits(), logits()[::-1]))
    gradient = jax.grad(lambda x: distillation(x, jnp.asarray(teacher), 1e4).sum())(jnp.asarray(student))
    np.testing.assert_allclose(gradient, (student - teacher) / 3, atol=2e-3)


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
