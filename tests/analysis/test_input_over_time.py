"""Input over time through conversion, early exit and energy, with what a network records of it."""

import dataclasses

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
from dietjax.parallel.mesh import make_mesh
from dietjax.train.evaluate import evaluate, make_eval_step
from dietjax.train.state import TimeSchedule

pytestmark = pytest.mark.usefixtures("quick_compile")

IMAGE, T, BATCH = (4, 4, 2), 6, 5
LAYERS = (Layer("conv1", 4, pool=True), Layer("fc1", 8, kernel=None), Layer("fc2", 3, kernel=None))
MACS = {"conv1": 16 * 9 * 2 * 4, "fc1": 16 * 8, "fc2": 8 * 3}
MAC, AC = 4.6e-12, 0.9e-12


def network(random_variables, neuron=LIF(leak=0.9, threshold=0.5), dtype=jnp.float32):
    net = Network(LAYERS, IMAGE, neuron=neuron)
    return net, random_variables(net, dtype=dtype)


def moving(dtype=jnp.float32):
    """Analog frames [B, T, H, W, C], another at every timestep."""
    return jnp.asarray(np.random.default_rng(3).normal(size=(BATCH, T, *IMAGE)), dtype)


# ---- conversion


@pytest.mark.slow
def test_frames_that_repeat_an_image_balance_as_the_image(x64, random_variables):
    net, variables = network(random_variables, dtype=jnp.float64)
    image = moving(jnp.float64)[:, 0]
    found = balance_thresholds(net, variables, jnp.repeat(image[:, None], T, 1))["params"]
    expected = balance_thresholds(net, variables, image, timesteps=T)["params"]
    for name in ("conv1", "fc1"):
        assert float(found[name]["neuron"].threshold) == pytest.approx(float(expected[name]["neuron"].threshold),
                                                                       rel=1e-9)


def test_frames_balance_at_the_largest_percentile_of_their_currents_over_time(x64, random_variables):
    net, variables = network(random_variables, dtype=jnp.float64)
    balanced = balance_thresholds(net, variables, moving(jnp.float64), percentile=90)

    def kept(neuron, params, state, current, steps, backend):
        return current, unroll(neuron, params, state, current, steps)[1]

    seen = jax.jit(net.clone(run_neuron=kept).apply)(balanced, moving(jnp.float64))[1]["state"]
    for name in ("conv1", "fc1"):
        steps = np.sort(np.moveaxis(np.asarray(seen[name]), 1, 0).reshape(T, -1))
        expected = steps[:, round(0.9 * (steps.shape[1] - 1))].max()
        assert float(balanced["params"][name]["neuron"].threshold) == pytest.approx(expected, rel=1e-12)


@pytest.mark.slow
def test_a_matched_network_answers_a_long_sequence_as_the_ann_answers_its_mean(x64, random_variables):
    """Frames that are one image, as strong and half as strong by turns: activations of a network without biases are as
    strong as what comes in, so rates tend to those of the mean.
    """
    ann, variables = network(random_variables, ReLU(), jnp.float64)
    image = moving(jnp.float64)[:, 0]
    pair = jnp.stack([image, 0.5 * image], 1)
    snn = ann.clone(neuron=LIF(initial_membrane=0.5))
    converted = match_activations(snn, variables, pair, percentile=100)
    expected = np.asarray(ann.apply(variables, 0.75 * image)[0])
    logits = np.asarray(jax.jit(snn.apply)(converted, jnp.tile(pair, (1, 128, 1, 1, 1)))[0]) / 256
    assert np.abs(logits - expected).max() < 0.02 * np.abs(expected).max()


# ---- early exit


@pytest.mark.parametrize("chunk", [1, 3])
@pytest.mark.slow
def test_an_exit_is_the_answer_to_the_frames_so_far_and_sees_no_later_one(random_variables, chunk):
    net, variables = network(random_variables)
    frames = moving()
    logits = np.asarray(jax.jit(net.apply)(variables, frames)[1]["logits"])
    ordered = np.sort(logits, -1)
    least = (ordered[..., -1] - ordered[..., -2]).min(0)[chunk - 1::chunk]  # where it is looked at
    margin = float(np.sort(least)[len(least) // 2])
    first = int(np.flatnonzero(least >= margin)[0] + 1) * chunk
    one, last = early_exit.predict(net, variables, frames, (margin, np.inf), chunk=chunk)
    assert (one.timesteps, last.timesteps) == (first, T)
    np.testing.assert_array_equal(one.predicted, logits[:, first - 1].argmax(-1))
    np.testing.assert_array_equal(last.predicted, logits[:, -1].argmax(-1))
    unseen = frames.at[:, first:].set(np.nan)
    cut, = early_exit.predict(net, variables, unseen, (margin,), timesteps=T, chunk=chunk)
    np.testing.assert_array_equal(cut.predicted, one.predicted)


@pytest.mark.slow
def test_exits_and_evaluation_of_a_set_of_frames_agree(random_variables):
    net, variables = network(random_variables)
    rng = np.random.default_rng(4)
    split = Split(rng.integers(0, 256, (BATCH, T, *IMAGE)).astype(np.uint8), rng.integers(0, 3, BATCH).astype(np.int32))
    dataset = Dataset("noise", split, split, ("a", "b", "c"), (0.5, 0.5), (0.25, 0.25))
    row, = early_exit.measure(net, variables, dataset, (np.inf,), T, 2)
    mesh = make_mesh(devices=jax.devices()[:1])
    metrics, _ = evaluate(make_eval_step(net, dataset, TimeSchedule(T), mesh), variables, split, 2, mesh)
    assert (row["accuracy"], row["timesteps"]) == (metrics["accuracy"], T)
    assert metrics["input_rate"] == pytest.approx(T, rel=1e-6)  # no pixel is 0 once it is normalised
    expected = np.abs((split.images / 255 - 0.5) / 0.25).mean()
    assert metrics["input_magnitude"] == pytest.approx(expected, rel=1e-5)


def test_timesteps_of_other_frames_are_refused(random_variables):
    net, variables = network(random_variables)
    with pytest.raises(InputError, match="timesteps are 8, and there are 6 frames"):
        early_exit.predict(net, variables, moving(), (1.0,), timesteps=8)


# ---- energy of what a network records


def test_events_are_counted_and_cost_accumulates(random_variables):
    net, variables = network(random_variables)
    rng = np.random.default_rng(5)
    events = rng.choice([-1.0, 0.0, 1.0], (BATCH, T, *IMAGE), p=[0.1, 0.7, 0.2])
    spent = energy.estimate(net, jax.jit(net.apply)(variables, jnp.asarray(events, jnp.float32))[1])
    rate = (events != 0).sum(1).mean()
    assert spent.layers[0].rate == pytest.approx(rate, rel=1e-6)
    assert spent.layers[0].snn_joules == pytest.approx(AC * rate * MACS["conv1"], rel=1e-6)
    assert spent.ann_joules == pytest.approx(T * MAC * sum(MACS.values()), rel=1e-12)


def test_analog_frames_cost_the_first_layer_once_each(random_variables):
    net, variables = network(random_variables)
    spent = energy.estimate(net, jax.jit(net.apply)(variables, moving())[1])
    assert spent.layers[0].rate is None
    assert spent.layers[0].snn_joules == pytest.approx(T * MAC * MACS["conv1"], rel=1e-12)


@dataclasses.dataclass(frozen=True)
class Signed:
    """Integrates, and puts out +θ or -θ where the membrane leaves [-θ, θ]; no threshold is trained."""

    size: float = 0.3

    def init(self, key, shape, dtype=jnp.float32):
        return ()

    def initial_state(self, params, shape, dtype=jnp.float32):
        return jnp.zeros(shape, dtype)

    def step(self, params, state, current):
        membrane = state + current
        out = self.size * jnp.sign(membrane) * (jnp.abs(membrane) > self.size)
        return membrane - out, out


def test_a_neuron_of_both_signs_has_a_rate_of_events_and_costs_macs(random_variables):
    net, variables = network(random_variables, Signed())
    image = moving()[:, 0]
    record = jax.jit(lambda v: net.apply(v, image, T, record=("spikes",)))(variables)[1]
    spent = energy.estimate(net, record)
    for row, source in zip(spent.layers[1:], ("conv1", "fc1"), strict=True):
        out = np.asarray(record["spikes"][source])
        rate = (out != 0).sum(1).mean()
        assert abs(out.sum(1).mean()) < rate * 0.2  # of both signs, which a mean would let cancel
        assert row.graded and row.rate == pytest.approx(rate, rel=1e-6)
        assert row.snn_joules == pytest.approx(MAC * rate * MACS[row.name], rel=1e-6)


# ---- which frames are binary


@pytest.mark.parametrize("values", [(0.5, 1.5), (1.0, -1.0)])
def test_frames_are_binary_where_every_event_is_of_size_one(random_variables, values):
    """0.5 and 1.5 have a mean of 1 too, and cost the first layer its MACs at every frame."""
    net, variables = network(random_variables)
    frames = np.zeros((BATCH, T, *IMAGE), np.float32)
    frames[:, :, 0], frames[:, :, 1] = values
    record = jax.jit(net.apply)(variables, frames)[1]
    assert record["input_magnitude"] == 1
    assert record["input_unit_share"] == (np.abs(values) == 1).mean()
    first = energy.estimate(net, record).layers[0]
    assert first.rate == (None if 0.5 in values else pytest.approx(np.mean(frames != 0) * T))
