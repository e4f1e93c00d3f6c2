"""Laws of the exponential average of the weights: its recursion, who takes it, that it resumes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quadrants import BATCH, init, make_net
from short_training import fit, run_steps

from dietjax.config import Phase
from dietjax.core.neurons import ReLU
from dietjax.train.optimizer import make_optimizer
from dietjax.train.state import TrainState, abstract_state, update_average

pytestmark = pytest.mark.usefixtures("quick_compile")


def test_the_average_is_numpys_recursion():
    """d = min(decay, (1 + n) / (10 + n)): 2/11 after the first step, 3/12 after the second, at most 0.3."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(6, 5)).astype(np.float32)
    state = TrainState(jnp.zeros((), jnp.int32), {"w": values[0]}, (), {"w": jnp.asarray(values[0])})
    expected = values[0].astype(np.float64)
    for n, value in enumerate(values[1:], 1):
        average = update_average(state, {"w": jnp.asarray(value)}, 0.3)
        state = TrainState(state.step + 1, {"w": value}, (), average)
        kept = {1: 2 / 11, 2: 3 / 12}.get(n, 0.3)
        expected = kept * expected + (1 - kept) * value
        np.testing.assert_allclose(state.average["w"], expected, rtol=1e-5)
        assert state.evaluated is state.average


@pytest.mark.slow
def test_a_step_averages_parameters_and_running_statistics_and_trains_as_without():
    net, phase = make_net(ReLU(), batch_norm=True), Phase(learning_rate=0.05, ema_decay=0.9)
    averaged, _ = run_steps(net, init(net), phase, 3, 1)
    plain, _ = run_steps(net, init(net), Phase(learning_rate=0.05), 3, 1)
    expected = jax.tree.map(np.asarray, init(net))
    for n, (state, without) in enumerate(zip(averaged, plain, strict=True), 1):
        jax.tree.map(np.testing.assert_array_equal, state.variables, without.variables)
        assert without.average == () and without.evaluated is without.variables
        kept = (1 + n) / (10 + n)
        expected = jax.tree.map(lambda e, v, kept=kept: kept * e + (1 - kept) * v, expected, state.variables)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), state.average, expected)
        assert set(state.average) == {"params", "batch_stats"}


def test_checkpoints_without_an_average_keep_their_tree():
    """The paths are those of (step, variables, optimizer) that runs of earlier versions have stored."""
    net, optimizer = make_net(), make_optimizer(Phase(), 1)

    def roots(state):
        return {str(path[0]) for path, _ in jax.tree_util.tree_leaves_with_path(state)}

    assert roots(abstract_state(net, optimizer)) == {".step", ".variables", ".optimizer"}
    assert roots(abstract_state(net, optimizer, averaged=True)) == {".step", ".variables", ".optimizer", ".average"}


def assert_same_bits(tree, other):
    assert jax.tree.structure(tree) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.mark.slow
def test_the_average_is_tested_and_handed_on_and_resumes_bit_for_bit(tmp_path, monkeypatch):
    monkeypatch.setattr("dietjax.train.reporter.LOG_EVERY", 1)
    net, phase = make_net(), Phase(epochs=3, batch_size=BATCH, learning_rate=0.002, ema_decay=0.9)
    variables, state, tested, evaluator = fit(tmp_path / "whole", phase, net, init(net))
    assert_same_bits(variables, state.average)
    assert any(np.any(a != b) for a, b in zip(jax.tree.leaves(state.average), jax.tree.leaves(state.variables),
                                              strict=True))
    found, _ = evaluator.whole(variables)
    assert tested[-1][1:] == (found["accuracy"], found["loss"])
    assert evaluator.whole(jax.tree.map(jnp.asarray, state.variables))[0]["loss"] != found["loss"]

    assert fit(tmp_path / "stopped", phase, net, init(net), stops=2) is None  # in the third epoch, after two were saved
    resumed, again, *_ = fit(tmp_path / "stopped", phase, net, init(net))
    assert_same_bits(resumed, variables)
    assert_same_bits(again, state)
