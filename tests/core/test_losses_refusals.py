"""Laws of what losses refuse: errors that name what was wrong, and NaN where it is not known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dietjax import losses

X = jnp.zeros((2, 5, 3))
LABELS = jnp.array([0, 2])


@pytest.mark.parametrize("call, said", [
    (lambda: losses.cross_entropy(X[:, 0], jnp.array([0, 3])), "a label is 3, the logits have 3 classes"),
    (lambda: losses.cross_entropy(X[:, 0], jnp.array([-1, 1])), "a label is -1"),
    (lambda: losses.correct(X, jnp.array([0, 7])), "a label is 7"),
    (lambda: losses.correct_in_top(X[:, 0], jnp.array([0, 7]), 2), "a label is 7"),
    (lambda: losses.cross_entropy(X[:, 0], jnp.array([0.0, 1.0])), "labels are float32 of shape"),
    (lambda: losses.cross_entropy(X[:, 0], jnp.array([0])), r"labels are int32 of shape \(1,\)"),
    (lambda: losses.cross_entropy(X[:, 0], jax.nn.one_hot(LABELS, 3, dtype=int)), r"shape \(2, 3\)"),
    (lambda: losses.cross_entropy(X[:, 0], LABELS, smoothing=1.5), r"smoothing must lie in \[0, 1\], got 1.5"),
    (lambda: losses.temporal_efficient(X, LABELS, regulariser=-0.1), "regulariser must lie in"),
    (lambda: losses.temporal_efficient(X[:, 0], LABELS), r"outputs have shape \(2, 3\), wanted \[B, T, K\]"),
    (lambda: losses.sum_over_time(X[:, 0]), "not the logits after the last step"),
    (lambda: losses.mean_over_time(X[:, :0]), "at least one timestep"),
    (lambda: losses.last_step(X, jnp.array([5, 6])), "a length is 6, and each must lie between 1 and the 5"),
    (lambda: losses.max_over_time(X, jnp.array([0, 5])), "a length is 0"),
    (lambda: losses.sum_over_time(X, jnp.array([1, 2, 3])), r"one for each of 2 examples, got int32 of shape \(3,\)"),
    (lambda: losses.sum_over_time(X, jnp.array([1.0, 2.0])), "lengths are whole numbers .*got float32"),
    (lambda: losses.spike_count(X + 2), "a spike is 2, and must be 0 or 1"),
    (lambda: losses.first_spike_time(X - 1), "a spike is -1"),
    (lambda: losses.spike_count(X, classes=2), "do not divide into 2 classes"),
    (lambda: losses.count_mse(X, LABELS, 5), r"counts have shape \(2, 5, 3\)"),
    (lambda: losses.count_mse(X[:, 0], LABELS, 5, correct_rate=1.1), "correct_rate must lie in"),
    (lambda: losses.count_mse(X[:, 0], LABELS, 5, 1.0, np.nan), "incorrect_rate must lie in"),
    (lambda: losses.count_mse(X[:, 0], LABELS, 0), "timesteps are 0"),
    (lambda: losses.count_mse(X[:, 0], LABELS, jnp.array([5, 5, 5])), "one for each of 2 examples"),
    (lambda: losses.distillation(X[:, 0], X[:1, 0]), r"the teacher's \(1, 3\)"),
    (lambda: losses.distillation(X[:, 0], X[:, 0], 0.0), "temperature must be > 0"),
    (lambda: losses.rate_above({}, 1.0), "no rates to hold"),
    (lambda: losses.rate_below({"a": X}, -1.0), "bound is -1.0"),
    (lambda: losses.rate_above({"a": X}, np.nan), "bound is nan"),
    (lambda: losses.activity_l1({"logits": X, "spike_rate": {}}), "this is a whole record"),
])
def test_what_is_wrong_and_known_is_an_error_that_names_it(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_settings_are_known_under_jit_too():
    for loss in (lambda x: losses.cross_entropy(x, LABELS, 1.5), lambda x: losses.distillation(x, x, 0.0),
                 lambda x: losses.count_mse(x, LABELS, 0), lambda x: losses.rate_above(x, -1.0)):
        with pytest.raises(ValueError, match=r"must|at least 1"):
            jax.jit(loss)(X[:, 0])


@pytest.mark.parametrize("run", [
    lambda x, labels, lengths: losses.cross_entropy(x[:, 0], labels),
    lambda x, labels, lengths: losses.temporal_efficient(x, labels),
    lambda x, labels, lengths: losses.count_mse(x[:, 0], labels, 5),
], ids=["cross_entropy", "temporal_efficient", "count_mse"])
def test_a_label_that_is_no_class_and_not_known_makes_its_examples_loss_nan(run):
    compiled = jax.jit(run)
    for wrong in (-1, 3):
        assert np.isnan(compiled(X, jnp.array([0, wrong]), None)).tolist() == [False, True]


def test_a_label_that_is_no_class_and_not_known_is_never_right():
    for wrong in (-1, 3):
        labels = jnp.array([0, wrong])
        assert jax.jit(losses.correct)(X[:, 0], labels).tolist() == [True, False]
        assert jax.jit(losses.correct_in_top, static_argnums=2)(X[:, 0], labels, 3).tolist() == [True, False]


@pytest.mark.parametrize("name", ["sum_over_time", "mean_over_time", "last_step", "max_over_time", "spike_count",
                                  "first_spike_time"])
def test_a_length_that_is_not_known_and_not_within_the_block_makes_its_example_nan(name):
    compiled = jax.jit(getattr(losses, name))
    for wrong in (0, 6):
        assert np.isnan(compiled(X, jnp.array([5, wrong]))).tolist() == [[False] * 3, [True] * 3]


@pytest.mark.parametrize("name", ["spike_count", "first_spike_time"])
def test_what_is_no_spike_and_not_known_makes_its_neuron_nan(name):
    spikes = X.at[0, 0].set(1).at[0, 2, 1].set(0.5).at[1, 4, 2].set(jnp.nan)
    found = jax.jit(getattr(losses, name))(spikes)
    assert np.isnan(found).tolist() == [[False, True, False], [False, False, True]]
