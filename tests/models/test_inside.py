"""What a network tells of its inside: events whatever their sign and size, currents, membranes; and whose variables."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dietjax import ALIF, LI, LIF, PLIF, QCFS, SRM, Binary, LIFParams, ReLU, SlidingPSN
from dietjax.core.losses import rate_below
from dietjax.errors import InputError
from dietjax.models import Layer, Network, Residual
from dietjax.models.inside import event_rate, measured, per_event

LAYERS = (Layer("a", 4), Layer("b", 5, kernel=None, recurrent=True), Layer("fc", 3, kernel=None))
IMAGE, T = (4, 4, 2), 5


@dataclasses.dataclass(frozen=True)
class Signed:
    """Fires +θ above θ and −θ below −θ."""

    threshold: float = 0.25

    def init(self, key, shape, dtype=jnp.float32):
        return ()

    def initial_state(self, params, shape, dtype=jnp.float32):
        return jnp.zeros(shape, dtype)

    def step(self, params, state, current):
        state = state + current
        out = self.threshold * jnp.sign(state) * (jnp.abs(state) > self.threshold)
        return state - out, out


apply = jax.jit(lambda net, v, x, timesteps, **options: net.apply(v, x, timesteps, **options), static_argnums=(0, 3),
                static_argnames=("chunk", "record"))


@dataclasses.dataclass(frozen=True)
class SpikeLess:
    """A readout that remembers nothing."""

    def init(self, key, shape, dtype=jnp.float32):
        return ()

    def initial_state(self, params, shape, dtype=jnp.float32):
        return ()

    def step(self, params, state, current):
        return (), current


def random_init(net):
    return jax.jit(net.init)(jax.random.key(0), jnp.zeros((1, *IMAGE)))


@pytest.fixture
def images():
    return jnp.asarray(np.random.default_rng(1).normal(size=(3, *IMAGE)))


def test_events_of_any_sign_and_size_are_counted(x64, random_variables, images):
    net = Network((Layer("a", 4), Layer("fc", 3, kernel=None)), IMAGE, neuron=Signed())
    variables = random_variables(net, dtype=jnp.float64)
    for chunk in (None, 1):
        record = apply(net, variables, images, T, chunk=chunk, record=("spikes",))[1]
        out = np.asarray(record["spikes"]["a"])
        assert (out < 0).any() and (out > 0).any()
        np.testing.assert_allclose(record["spike_rate"]["a"], (out != 0).sum(1).mean(), rtol=1e-6)
        np.testing.assert_allclose(record["magnitude"]["a"], 0.25, rtol=1e-6)


def test_magnitudes_of_spikes_are_one_and_of_silence_nothing(random_variables, images):
    net = Network(LAYERS, IMAGE, neuron=LIF(threshold=0.3))
    variables = random_variables(net)
    variables["params"]["a"]["neuron"] = LIFParams(jnp.float32(1), jnp.float32(1e6))
    record = apply(net, variables, images.astype(jnp.float32), T)[1]
    assert record["magnitude"] == {"a": 0, "b": 0} and record["spike_rate"] == {"a": 0, "b": 0}
    record = apply(net, random_variables(net), images.astype(jnp.float32), T)[1]
    assert record["magnitude"]["a"] == 1


def test_a_rate_has_the_gradient_of_the_mean_magnitude_and_of_silence_that_from_above():
    x = jnp.array([-2.0, 0.0, 0.5, 1.0])
    assert event_rate(x) == 0.75
    np.testing.assert_allclose(jax.grad(event_rate)(x), np.array([-1, 1, 1, 1]) / 4)
    assert jnp.isnan(event_rate(x.at[1].set(jnp.nan)))
    assert jnp.isnan(jax.grad(event_rate)(x.at[1].set(jnp.nan))[1])


def test_a_silent_layer_is_woken_by_the_lower_bound_on_its_rate(random_variables, images):
    net = Network(LAYERS, IMAGE, neuron=LIF(threshold=0.3))
    variables = random_variables(net)
    variables["params"]["a"]["kernel"] = 0.01 * jnp.abs(variables["params"]["a"]["kernel"])
    images = jnp.abs(images).astype(jnp.float32)

    def score(kernel):
        variables["params"]["a"]["kernel"] = kernel
        rates = apply(net, variables, images, T)[1]["spike_rate"]
        return rate_below({"a": rates["a"]}, 1.0), rates["a"]

    before = variables["params"]["a"]["kernel"]
    gradient, rate = jax.grad(score, has_aux=True)(before)
    assert rate == 0
    assert score(before - 30 * gradient)[1] > 0.1


@pytest.mark.parametrize("chunk", [None, 1])
@pytest.mark.thin(1)
def test_currents_and_membranes_are_those_of_the_neurons_own_steps(x64, random_variables, images, chunk):
    net = Network(LAYERS, IMAGE, neuron=LIF(leak=0.8, threshold=0.3))
    variables = random_variables(net, dtype=jnp.float64)
    logits, plain = apply(net, variables, images, T, record=("spikes",))
    found, record = apply(net, variables, images, T, chunk=chunk, record=("spikes", "current", "membrane"))
    np.testing.assert_allclose(found, logits, rtol=1e-12)
    for name in ("a", "b"):
        np.testing.assert_array_equal(record["spikes"][name], plain["spikes"][name])
    params, recurrent = variables["params"]["a"]["neuron"], variables["params"]["b"]["recurrent"]["kernel"]
    membrane = np.zeros((3, *IMAGE[:2], 4))
    for t in range(T):
        membrane = params.leak * membrane + record["current"]["a"][:, t]
        membrane = membrane - params.threshold * (membrane > params.threshold)
        np.testing.assert_allclose(record["membrane"]["a"][:, t], membrane, rtol=1e-10, atol=1e-12)
    params, membrane, spikes = variables["params"]["b"]["neuron"], np.zeros((3, 5)), np.zeros((3, 5))
    for t in range(T):
        membrane = params.leak * membrane + record["current"]["b"][:, t] + spikes @ recurrent
        spikes = membrane > params.threshold
        membrane = membrane - params.threshold * spikes
        np.testing.assert_allclose(record["membrane"]["b"][:, t], membrane, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(record["membrane"]["fc"], record["logits"])
    np.testing.assert_allclose(np.cumsum(record["current"]["fc"], 1), record["logits"], rtol=1e-10)


def test_the_neurons_of_a_residuals_projection_are_in_the_record(x64, random_variables, images):
    """By the name of the projection: as a NumPy loop runs them, and with the layer's own they make what leaves it."""
    net = Network((Layer("a", 2, kernel=1), Layer("b", 3, kernel=1, residual=Residual("b")), LAYERS[2]), IMAGE,
                  neuron=LIF(leak=0.8, threshold=0.3))
    variables = random_variables(net, dtype=jnp.float64)
    record = apply(net, variables, images, T, record=("spikes", "current", "membrane"))[1]
    weights, membrane = variables["params"]["b"]["shortcut"], np.zeros((3, *IMAGE[:2], 3))
    np.testing.assert_allclose(record["current"]["b_shortcut"],
                               record["spikes"]["a"] @ weights["kernel"][0, 0], rtol=1e-12)
    for t in range(T):
        membrane = weights["neuron"].leak * membrane + record["current"]["b_shortcut"][:, t]
        spikes = membrane > weights["neuron"].threshold
        membrane = membrane - weights["neuron"].threshold * spikes
        np.testing.assert_array_equal(record["spikes"]["b_shortcut"][:, t], spikes)
        np.testing.assert_allclose(record["membrane"]["b_shortcut"][:, t], membrane, rtol=1e-12, atol=1e-14)
    assert list(record["spike_rate"]) == ["a", "b", "b_shortcut"] and record["spike_rate"]["b_shortcut"] > 0
    np.testing.assert_allclose(record["spike_rate"]["b"] + record["spike_rate"]["b_shortcut"], record["sent_size"]["b"])


def test_the_share_of_events_of_size_one_tells_spikes_from_numbers():
    """0.5 and 1.5 have a mean of 1; a neuron's zeros are no events."""
    sums = measured(jnp.array([[[0.0, 0.5, 1.5, -1.0]] * 2]), 2)
    assert (sums["rate"], sums["size"], sums["units"]) == (1.5, 1.5, 0.5)
    found = per_event({"a": sums["units"], "b": jnp.zeros(())}, {"a": sums["rate"], "b": jnp.zeros(())})
    assert found == {"a": pytest.approx(0.5 / 1.5), "b": 0}


def test_what_is_not_asked_for_is_not_computed(random_variables, images):
    """The compiled program is the same, whatever could be recorded."""
    net = Network(LAYERS, IMAGE, neuron=LIF(threshold=0.3))
    variables, x = random_variables(net), images.astype(jnp.float32)
    def program(record):
        lowered = jax.jit(lambda v, x: net.apply(v, x, T, record=record)[0]).lower(variables, x)
        return re.sub(r", metadata=\{.*?\}|FileNames.*", "", lowered.compile().as_text(), flags=re.DOTALL)

    assert program(()) == program(("spikes", "current"))


@pytest.mark.parametrize("net, record, says", [
    (Network(LAYERS[:1] + LAYERS[2:], IMAGE, neuron=ReLU(), readout=SpikeLess()), ("membrane",),
     "no neuron of this network has a membrane"),
    (Network(LAYERS, IMAGE), "spikes", r"record takes several names, got one string: pass record=\('spikes',\)"),
    (Network(LAYERS, IMAGE), ("voltage",), "record.*'voltage'.*membrane"),
])
def test_what_cannot_be_recorded_is_refused(random_variables, images, net, record, says):
    with pytest.raises(InputError, match=says):
        net.apply(random_variables(net), images.astype(jnp.float32), record=record)


def test_variables_of_the_other_kind_of_network_are_refused(random_variables, images):
    layers, x = LAYERS[:1] + LAYERS[2:], images.astype(jnp.float32)
    ann, snn = Network(layers, IMAGE, neuron=ReLU()), Network(layers, IMAGE)
    with pytest.raises(InputError, match=r"'a' has no parameters for LIF.*LIFParams.*An ANN's are converted first"):
        snn.apply(random_variables(ann), x, T)
    with pytest.raises(InputError, match=r"'a' has a neuron's parameters, and ReLU\(\) has none"):
        ann.apply(random_variables(snn), x)


@pytest.mark.slow
def test_variables_of_another_neuron_are_refused(random_variables, images):
    layers, x = LAYERS[:1] + LAYERS[2:], images.astype(jnp.float32)
    snn = Network(layers, IMAGE)
    for neuron, other in ((QCFS(), LIF()), (ALIF(), SRM()), (LIF(), PLIF()), (LIF(), QCFS()),
                          (QCFS(), SlidingPSN(order=2))):
        with pytest.raises(InputError, match=rf"'a' has {type(neuron).__name__}Params for {type(other).__name__}\("):
            Network(layers, IMAGE, neuron=other).apply(random_init(Network(layers, IMAGE, neuron=neuron)), x)
    normed = Network(layers, IMAGE, neuron=ReLU(), batch_norm=True)
    with pytest.raises(InputError, match="'a' has no parameters for LIF"):
        snn.apply(random_init(normed), x, T)
    with pytest.raises(InputError, match=r"'fc' has no parameters for SpikeCount"):
        snn.clone(readout=LIF()).apply(random_variables(snn), x, T)
    assert snn.clone(readout=LI(0.5)).apply(random_variables(snn), x, T)[0].shape == (3, 3)


@pytest.mark.slow
def test_membranes_are_those_of_the_layers_that_have_one(random_variables, images):
    net = Network((Layer("a", 4, neuron=Binary()), Layer("b", 4), Layer("fc", 3, kernel=None)), IMAGE)
    record = apply(net, random_init(net), images.astype(jnp.float32), T, record=("membrane",))[1]
    assert list(record["membrane"]) == ["b", "fc"] and "a" in record["spike_rate"]


@pytest.mark.slow
def test_a_readout_that_fires_with_a_sign_has_a_rate_of_events(images):
    net = Network((Layer("fc", 3, kernel=None),), IMAGE, readout=Counted(0.01))
    record = apply(net, random_init(net), images.astype(jnp.float32), T)[1]
    steps = np.diff(record["logits"], axis=1, prepend=0)
    assert (steps < 0).any()
    np.testing.assert_allclose(record["spike_rate"]["fc"], (np.abs(steps) > 1e-6).sum(1).mean(), rtol=1e-6)


@dataclasses.dataclass(frozen=True)
class Counted(Signed):
    """As `Signed`; its outputs are counted."""

    spiking = True


class Unhashable(Signed):
    """As `Signed`, compared by what it holds and never hashed."""

    __hash__ = None


@pytest.mark.parametrize("neuron, says", [
    (Unhashable(), "has no hash, .* frozen=True"),
    (LIF, r"the neuron of layer 'a' is the class LIF; pass a neuron of it, LIF\(\)"), (3, "is 3, which has no init")])
def test_what_is_no_neuron_is_refused(images, neuron, says):
    with pytest.raises(InputError, match=says):
        Network(LAYERS[:1] + LAYERS[2:], IMAGE, neuron=neuron).init(jax.random.key(0), images)


def test_an_output_of_another_dtype_is_refused(images):
    @dataclasses.dataclass(frozen=True)
    class Whole(Signed):
        def step(self, params, state, current):
            state, out = super().step(params, state, current)
            return state, jnp.sign(out).astype(jnp.int32)

    net = Network((Layer("a", 4), Layer("fc", 3, kernel=None)), IMAGE, neuron=Whole())
    with pytest.raises(InputError, match=r"layer 'a': of currents float32 .* makes outputs int32"):
        net.apply(random_init(net), images.astype(jnp.float32), T)
