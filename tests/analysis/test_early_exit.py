"""Laws of dietjax.analysis.early_exit: when a batch leaves, and with what."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dietjax import LIF, PSN
from dietjax.analysis import early_exit
from dietjax.config import Experiment
from dietjax.core import losses
from dietjax.core.encode import Poisson
from dietjax.data import Dataset, Split
from dietjax.errors import InputError
from dietjax.models import Layer, Network
from dietjax.run import summary

pytestmark = pytest.mark.usefixtures("quick_compile")

IMAGE, T, BATCH = (4, 4, 2), 8, 6
LAYERS = (Layer("conv1", 4, pool=True), Layer("fc1", 8, kernel=None), Layer("fc2", 3, kernel=None))
INFINITE = float("inf")


@pytest.fixture
def network(random_variables):
    """(net, variables, images, logits after every timestep [B, T, K])."""
    net = Network(LAYERS, IMAGE, neuron=LIF(leak=0.9, threshold=0.5))
    variables = random_variables(net)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(BATCH, *IMAGE)), jnp.float32)
    return net, variables, images, np.asarray(net.apply(variables, images, T)[1]["logits"])


def numpy_margin(logits):
    ordered = np.sort(logits, axis=-1)
    return ordered[..., -1] - ordered[..., -2]


def test_margin_is_the_lead_of_the_largest_and_the_log_odds_of_two(network):
    logits = network[-1]
    np.testing.assert_allclose(losses.margin(logits), numpy_margin(logits), rtol=1e-6)
    best = np.sort(jax.nn.softmax(logits), axis=-1)
    np.testing.assert_allclose(losses.margin(logits), np.log(best[..., -1] / best[..., -2]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("chunk", [1, 2, 8])
def test_margin_zero_leaves_after_the_first_chunk_and_infinity_never(network, chunk):
    net, variables, images, logits = network
    first, last = early_exit.predict(net, variables, images, (0, INFINITE), timesteps=T, chunk=chunk)
    assert (first.timesteps, last.timesteps) == (chunk, T)
    np.testing.assert_array_equal(first.predicted, logits[:, chunk - 1].argmax(-1))
    np.testing.assert_array_equal(last.predicted, logits[:, -1].argmax(-1))


def test_a_batch_leaves_when_its_last_image_has_decided(network):
    net, variables, images, logits = network
    margins = numpy_margin(logits)
    margin = float(np.median(margins[:, 3]))
    alone = []
    for i in range(BATCH):
        one, = early_exit.predict(net, variables, images[i:i + 1], (margin,), timesteps=T)
        reached = np.flatnonzero(margins[i] >= margin)
        assert one.timesteps == (reached[0] + 1 if len(reached) else T)
        assert one.predicted == logits[i, one.timesteps - 1].argmax()
        alone.append(one.timesteps)
    assert len(set(alone)) > 2
    together, = early_exit.predict(net, variables, images, (margin,), timesteps=T)
    least = np.flatnonzero(margins.min(0) >= margin)
    assert together.timesteps == (least[0] + 1 if len(least) else T) >= max(alone)


def test_it_stops_running_when_the_largest_margin_is_reached(network, monkeypatch):
    net, variables, images, logits = network
    ran, run = [], early_exit._run_chunk
    monkeypatch.setattr(early_exit, "_run_chunk", lambda *a: ran.append(a[5]) or run(*a))
    quick = int(numpy_margin(logits)[:, 2].argmax())  # the image that is clearest at the third timestep
    margin = float(numpy_margin(logits)[quick, :3].max()) - 1e-3
    one, _ = early_exit.predict(net, variables, images[quick:quick + 1], (margin, 0), timesteps=T)
    assert ran == list(range(one.timesteps)) and one.timesteps <= 3


@pytest.mark.parametrize("chunk", [pytest.param(1, marks=pytest.mark.slow), 4])
@pytest.mark.slow
def test_poisson_spikes_are_those_of_a_whole_run(network, chunk):
    net, variables, images, _ = network
    net, key = net.clone(encoder=Poisson()), jax.random.key(3)
    whole = net.apply(variables, images, T, rngs={"encode": key})[0]
    last, = early_exit.predict(net, variables, images, (INFINITE,), timesteps=T, chunk=chunk, key=key)
    np.testing.assert_array_equal(last.predicted, whole.argmax(-1))
    _, half = net.apply(variables, images, 4, rngs={"encode": key})
    continued = net.apply(variables, images, 4, state=half["state"], start=4, rngs={"encode": key})[0]
    np.testing.assert_allclose(continued, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 4])  # 4: the last batch is smaller
@pytest.mark.thin(1)
def test_mean_timesteps_grow_with_the_margin_and_end_at_the_ordinary_accuracy(network, batch_size):
    net, variables, _, _ = network
    rng = np.random.default_rng(1)
    split = Split(rng.integers(0, 256, (BATCH, *IMAGE)).astype(np.uint8), rng.integers(0, 3, BATCH).astype(np.int32))
    dataset = Dataset("noise", split, split, ("a", "b", "c"), (0.5, 0.5), (0.25, 0.25))
    rows = early_exit.measure(net, variables, dataset, (0, 0.5, 1, 2, INFINITE), T, batch_size)
    steps = [row["timesteps"] for row in rows]
    assert steps == sorted(steps) and steps[0] == 1 and steps[-1] == T and len(set(steps)) > 2
    for row, timesteps in ((rows[-1], T), (rows[0], 1)):
        whole, _ = summary.measure(net, variables, dataset, Experiment("noise"), timesteps)
        assert row["accuracy"] == whole["accuracy"]
    means = early_exit.measure(net, variables, dataset, (1,), T, BATCH)[0]["timesteps"]
    assert means >= early_exit.measure(net, variables, dataset, (1,), T, 1)[0]["timesteps"]


@pytest.mark.parametrize("options, says", [
    ({"margins": ()}, "one or more numbers"), ({"margins": (1, -0.1)}, r"numbers >= 0, got \[1, -0.1\]"),
    ({"margins": (float("nan"),)}, "numbers >= 0"), ({"chunk": 3}, "chunk=3, timesteps=8"),
    ({"timesteps": 0}, "whole number of at least 1, got 0"),
    ({"margins": 1.0}, r"a sequence of numbers.*got 1\.0; .*\(margin,\)"),
    ({"timesteps": None}, r"images \(6, 4, 4, 2\) are the same at every timestep: say at how many")])
def test_what_cannot_be_is_named(network, options, says):
    net, variables, images, _ = network
    options = {"margins": (1.0,), "timesteps": T, **options}
    with pytest.raises(InputError, match=says):
        early_exit.predict(net, variables, images, **options)


@pytest.mark.parametrize("value", [float("nan"), INFINITE])
def test_images_that_are_not_finite_have_no_class(network, value):
    net, variables, images, _ = network
    with pytest.raises(InputError, match=r"at timestep 1 no class leads.*images.*NaN or infinity"):
        early_exit.predict(net, variables, images.at[2, 1, 1, 0].set(value), (INFINITE,), timesteps=T)


@pytest.mark.parametrize("options, says", [
    ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"), ({"batch_size": -2}, "got -2"),
    ({"batch_size": 1.5}, r"got 1\.5"), ({"margins": 0.5}, r"a sequence of numbers.*got 0\.5"),
    ({"margins": (1, float("nan"))}, "numbers >= 0, got"), ({"margins": ()}, "one or more numbers")])
def test_what_no_set_can_be_measured_at_is_named(network, options, says):
    """Before any image is read."""
    net, variables, *_ = network
    with pytest.raises(InputError, match=says):
        early_exit.measure(net, variables, None, **{"margins": (1.0,), "timesteps": T, **options})


def test_a_single_output_has_no_margin():
    net = Network((Layer("fc1", 1, kernel=None),), IMAGE)
    with pytest.raises(InputError, match="two classes"):
        early_exit.predict(net, {}, jnp.zeros((1, *IMAGE)), (1.0,), timesteps=2)


@pytest.mark.slow
def test_neurons_that_take_all_timesteps_at_once_have_no_early_exit():
    layers = (Layer("fc1", 4, kernel=None), Layer("fc2", 3, kernel=None))
    net, images = Network(layers, IMAGE, neuron=PSN(timesteps=2)), jnp.ones((1, *IMAGE))
    variables = net.init(jax.random.key(0), images)
    with pytest.raises(InputError, match=r"the neurons of fc1 take all 2 of them at once \(PSN\).*without --margin"):
        early_exit.predict(net, variables, images, (1.0,), timesteps=2)
    assert early_exit.predict(net, variables, images, (1.0,), timesteps=2, chunk=2)[0].timesteps == 2
