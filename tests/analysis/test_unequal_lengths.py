"""Sequences of unequal length through conversion, early exit and energy: what lies beyond an end changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dietjax import LIF, ReLU
from dietjax.analysis import early_exit, energy
from dietjax.convert import balance_thresholds, match_activations
from dietjax.core.unroll import unroll
from dietjax.data import Dataset, Split
from dietjax.errors import InputError
from dietjax.models import Layer, Network

pytestmark = pytest.mark.usefixtures("quick_compile")

IMAGE, T, BATCH = (6,), 6, 5
LAYERS = (Layer("fc1", 8, kernel=None), Layer("fc2", 5, kernel=None), Layer("fc3", 3, kernel=None))
MACS = {"fc1": 6 * 8, "fc2": 8 * 5, "fc3": 5 * 3}
MAC = 4.6e-12
LENGTHS = np.array([6, 2, 3, 5, 2])


def network(random_variables, neuron=LIF(leak=0.9, threshold=0.5), dtype=jnp.float32):
    net = Network(LAYERS, IMAGE, neuron=neuron)
    return net, random_variables(net, dtype=dtype)


def moving(dtype=jnp.float32):
    """Analog frames [B, T, C], another at every timestep."""
    return jnp.asarray(np.random.default_rng(3).normal(size=(BATCH, T, *IMAGE)), dtype)


def padded(with_nan=True, dtype=jnp.float32):
    """The same frames, NaN beyond the end of each example."""
    beyond = np.arange(T) >= LENGTHS[:, None]
    return jnp.where(beyond[..., None], np.nan if with_nan else 0, moving(dtype))


def test_balancing_counts_the_frames_that_there_are(x64, random_variables):
    net, variables = network(random_variables, dtype=jnp.float64)
    balanced = balance_thresholds(net, variables, padded(dtype=jnp.float64), percentile=90, lengths=LENGTHS)

    def kept(neuron, params, state, current, steps, backend):
        return current, unroll(neuron, params, state, current, steps)[1]

    seen = jax.jit(net.clone(run_neuron=kept).apply)(balanced, padded(False, jnp.float64))[1]["state"]
    for name in ("fc1", "fc2"):
        found = []
        for t in range(T):
            currents = np.sort(np.asarray(seen[name])[t < LENGTHS, t].ravel())
            found.append(currents[round(0.9 * (len(currents) - 1))])
        assert float(balanced["params"][name]["neuron"].threshold) == pytest.approx(max(found), rel=1e-12)


@pytest.mark.slow
def test_matching_leaves_out_what_lies_beyond(x64, random_variables):
    ann, variables = network(random_variables, ReLU(), jnp.float64)
    snn = ann.clone(neuron=LIF())
    found = match_activations(snn, variables, padded(dtype=jnp.float64), percentile=90, lengths=LENGTHS)
    there = jnp.concatenate([moving(jnp.float64)[i, :length] for i, length in enumerate(LENGTHS)])
    expected = match_activations(snn, variables, there, percentile=90)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), found, expected)


@pytest.mark.parametrize("chunk", [1, 3])
@pytest.mark.slow
def test_an_example_that_is_over_is_decided(random_variables, chunk):
    """By what it was at its end; the batch leaves when those that go on are decided."""
    net, variables = network(random_variables)
    logits = np.asarray(jax.jit(net.apply)(variables, padded(), lengths=LENGTHS)[1]["logits"])
    ordered = np.sort(logits, -1)
    margins = np.where(np.arange(1, T + 1) < LENGTHS[:, None], ordered[..., -1] - ordered[..., -2], np.inf)
    least = margins.min(0)[chunk - 1::chunk]
    for margin in (float(np.sort(least)[0]), np.inf):
        first = int(np.flatnonzero(least >= margin)[0] + 1) * chunk
        left, = early_exit.predict(net, variables, padded(), (margin,), chunk=chunk, lengths=LENGTHS)
        assert left.timesteps == first
        np.testing.assert_array_equal(left.predicted, logits[:, first - 1].argmax(-1))


@pytest.mark.slow
def test_early_exit_of_a_set_takes_no_more_timesteps_than_there_are_frames(random_variables):
    net, variables = network(random_variables)
    rng = np.random.default_rng(4)
    split = Split(rng.integers(0, 256, (BATCH, T, *IMAGE)).astype(np.uint8), rng.integers(0, 3, BATCH).astype(np.int32))
    dataset = Dataset("noise", split, split, ("a", "b", "c"), (0.5,) * 6, (0.25,) * 6)
    row, = early_exit.measure(net, variables, dataset, (np.inf,), T, 2, lengths=LENGTHS)
    frames = (jnp.asarray(split.images, jnp.float32) / 255 - 0.5) / 0.25
    answers = np.asarray(net.apply(variables, frames, lengths=LENGTHS)[0]).argmax(-1)
    assert row == {"margin": np.inf, "accuracy": pytest.approx((answers == split.labels).mean()),
                   "timesteps": pytest.approx(LENGTHS.mean())}
    with pytest.raises(InputError, match="a length is 9, and each must lie between 1 and the 6"):
        early_exit.measure(net, variables, dataset, (np.inf,), T, 2, lengths=9 + 0 * LENGTHS)


@pytest.mark.slow
def test_each_sequence_costs_what_its_own_frames_cost(random_variables):
    """The energy of a batch is the mean of that of its members alone."""
    net, variables = network(random_variables)
    spent = energy.estimate(net, jax.jit(net.apply)(variables, padded(), lengths=LENGTHS)[1])
    run = jax.jit(lambda frames, lengths: net.apply(variables, frames, lengths=lengths)[1])
    alone = [energy.estimate(net, run(moving()[i:i + 1], LENGTHS[i:i + 1])) for i in range(BATCH)]
    assert spent.ann_joules == pytest.approx(LENGTHS.mean() * MAC * sum(MACS.values()), rel=1e-12)
    assert spent.layers[0].snn_joules == pytest.approx(LENGTHS.mean() * MAC * MACS["fc1"], rel=1e-12)
    assert spent.snn_joules == pytest.approx(np.mean([e.snn_joules for e in alone]), rel=1e-5)
    assert spent.ann_joules == pytest.approx(np.mean([e.ann_joules for e in alone]), rel=1e-5)
