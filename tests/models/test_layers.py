"""Laws of `Layer` and of readouts that fire: what no network could mean is refused where it is written."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dietjax as dj
from dietjax import LI, LIF, convert
from dietjax.models import Layer, Network, Residual, forward
from dietjax.models.forward import Forward

pytestmark = pytest.mark.usefixtures("quick_compile")

LAYERS = (Layer("conv", 4, pool=True), Layer("fc1", 6, kernel=None), Layer("fc2", 3, kernel=None))


@pytest.mark.parametrize("wrong, says", [
    ({"features": 0}, "features must be a whole number of at least 1, got 0"),
    ({"features": 2.0}, "features must be a whole number of at least 1, got 2.0"),
    ({"stride": -1}, "stride must be a whole number of at least 1, or a pair of them, got -1"),
    ({"stride": True}, "stride must be a whole number of at least 1, or a pair of them, got True"),
    ({"kernel": 2}, r"kernel must be an odd whole number .* got 2"),
    ({"kernel": (3, 2)}, r"kernel must be an odd whole number or a pair of them .* got \(3, 2\)"),
    ({"kernel": (3, 3, 3)}, r"kernel must be an odd whole number or a pair of them .* got \(3, 3, 3\)"),
    ({"stride": (1, 0)}, r"stride must be a whole number of at least 1, or a pair of them, got \(1, 0\)"),
    ({"groups": 0}, "groups must be a whole number of at least 1, got 0"),
    ({"neuron": "lif"}, r"neuron must be a neuron, such as dietjax.LIF\(\), or None .* got 'lif'"),
    ({"residual": "conv1"}, r"residual must be a Residual\(source, combine\), or None, got 'conv1'"),
    ({"residual": Residual("conv1"), "shortcut": "conv1"}, "has a shortcut into its current and a residual"),
    ({"pool_current": True, "groups": 2}, "pools its current, which is there for square kernels without groups"),
    ({"kernel": None, "groups": 2}, r"fully connected \(kernel=None\).*leave out pools, stride and groups"),
    ({"pool": "min"}, r"pool must be True \(average over 2×2\), 'max' \(2×2\), 'global' .* or False, got 'min'"),
    ({"recurrent": 1}, "recurrent must be True or False, got 1"),
    ({"dropout": 1.0}, r"dropout must be a probability in \[0, 1\), got 1.0"),
    ({"dropout": -0.1}, r"dropout must be a probability in \[0, 1\), got -0.1"),
    ({"kernel": None, "pool": True}, r"fully connected \(kernel=None\): there is no map to pool"),
    ({"kernel": None, "pool": "global"}, r"fully connected \(kernel=None\): there is no map to pool"),
    ({"kernel": None, "stride": 2}, r"fully connected \(kernel=None\): there is no map to pool or stride"),
], ids=repr)
def test_arguments_of_a_layer_are_checked(wrong, says):
    with pytest.raises(ValueError, match=rf"layer 'conv7'.*{says}"):
        Layer("conv7", **{"features": 4, **wrong})


# ---- a readout that fires


def spiking(images, **options):
    readout = LIF(leak=0.9, threshold=0.02, surrogate="arctan")
    net = Network(LAYERS, (4, 4, 2), neuron=LIF(threshold=0.1), readout=readout, **options)
    variables = jax.jit(net.init)(jax.random.key(0), images)
    strong = {name: {**layer, "kernel": 20 * layer["kernel"]} for name, layer in variables["params"].items()}
    return net, {"params": strong}


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(np.random.default_rng(0).normal(size=(5, 4, 4, 2)), jnp.float32)


@pytest.mark.slow
def test_a_readout_that_fires_has_parameters_a_rate_and_its_spike_counts_as_logits(images):
    net, variables = spiking(images)
    assert variables["params"]["fc2"]["neuron"] == dj.LIFParams(np.float32(0.9), np.float32(0.02))
    logits, record = jax.jit(lambda v: net.apply(v, images, timesteps=6, record=("spikes",)))(variables)

    current = record["spikes"]["fc1"] @ variables["params"]["fc2"]["kernel"]
    _, spikes = dj.unroll(net.readout, variables["params"]["fc2"]["neuron"], None, current)
    np.testing.assert_array_equal(record["logits"], np.cumsum(spikes, axis=1))
    np.testing.assert_array_equal(logits, spikes.sum(1))
    assert 0 < spikes.mean() < 1
    np.testing.assert_allclose(record["spike_rate"]["fc2"], spikes.sum(1).mean(), rtol=1e-6)


@pytest.mark.slow
def test_counts_are_the_same_in_chunks_and_go_on_from_a_state(images):
    net, variables = spiking(images)
    whole = net.apply(variables, images, timesteps=6)[1]
    for chunk in (1, 3):
        found = net.apply(variables, images, timesteps=6, chunk=chunk)[1]
        np.testing.assert_array_equal(found["logits"], whole["logits"])
        np.testing.assert_allclose(found["spike_rate"]["fc2"], whole["spike_rate"]["fc2"], rtol=1e-6)
    first = net.apply(variables, images, timesteps=2)[1]
    rest = net.apply(variables, images, timesteps=4, state=first["state"])[1]
    np.testing.assert_array_equal(jnp.concatenate([first["logits"], rest["logits"]], axis=1), whole["logits"])


@pytest.mark.slow
def test_the_threshold_of_a_readout_is_trained(images):
    net, variables = spiking(images)
    labels = jnp.arange(5) % 3

    def loss(variables):
        return dj.losses.cross_entropy(net.apply(variables, images, timesteps=6)[0], labels).mean()

    gradient = jax.grad(loss)(variables)["params"]["fc2"]["neuron"]
    assert all(jnp.isfinite(x) and x != 0 for x in gradient)


def test_conversion_refuses_a_readout_that_fires_by_name(images):
    net, variables = spiking(images)
    with pytest.raises(ValueError, match=r"the readout LIF\(.*\) fires, .* use readout=dietjax.LI\(\)"):
        convert.balance_thresholds(net, variables, images, timesteps=4)


# ---- Forward, without linen


@pytest.mark.slow
def test_forward_alone_is_what_the_network_applies(images):
    net = Network(LAYERS, (4, 4, 2), neuron=LIF(threshold=0.01), readout=LI(0.9), bias=True)
    params = net.init(jax.random.key(0), images)["params"]
    logits, _ = net.apply({"params": params}, images, timesteps=4)
    _, outputs = Forward(net, params).run(images, 4, chunk=2)
    np.testing.assert_allclose(outputs["logits"][-1, :, -1], logits, rtol=1e-6)


@pytest.mark.parametrize("backend", ["xla", "scan"])
@pytest.mark.thin(1)
def test_for_an_accelerator_neurons_start_at_rest_by_themselves(images, monkeypatch, backend):
    net = Network(LAYERS, (4, 4, 2), neuron=LIF(threshold=0.01, leak=0.9), readout=LI(0.9), backend=backend)
    params = net.init(jax.random.key(0), images)["params"]

    def loss():  # traced anew
        return jax.jit(jax.value_and_grad(
            lambda params: (net.apply({"params": params}, images, timesteps=3)[0] ** 2).sum()))(params)

    expected = loss()
    monkeypatch.setattr(forward, "made_for", lambda: types.SimpleNamespace(platform="gpu"))
    states = Forward(net, params).initial_state(len(images), jnp.float32, known=True)
    assert [state is None for state in states.values()] == [True] * (len(states) - 1) + [False]  # the readout's is made
    for a, b in zip(*map(jax.tree.leaves, (loss(), expected)), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-7)


def test_currents_of_one_source_are_its_synapses_and_biases():
    net = Network(LAYERS, (4, 4, 2), bias=True)
    params = {"fc2": {"kernel": jnp.arange(18.0).reshape(6, 3), "bias": jnp.array([1.0, 0, -1])}}
    spikes = jnp.array([[[1.0, 0, 0, 0, 0, 1]]])  # [B=1, T=1, 6]
    found, seen = Forward(net, params).currents(spikes, "fc1")
    assert seen == {}
    np.testing.assert_array_equal(found["fc2"], [[[0 + 15 + 1, 1 + 16, 2 + 17 - 1]]])


def test_a_shortcut_that_would_need_a_convolution_ends_at_no_fully_connected_layer():
    layers = (Layer("conv1", 4), Layer("fc1", 8, kernel=None, shortcut="conv1"), Layer("fc2", 3, kernel=None))
    with pytest.raises(ValueError, match=r"layer 'fc1' is fully connected, and a shortcut from \(4, 4, 2\) to \(8,\)"):
        Network(layers, (4, 4, 2)).connections()


def test_an_image_that_does_not_fit_is_told_what_would():
    """A stride of 2 and a pool: the map is quartered."""
    layers = (Layer("conv1", 4, stride=2, pool=True), Layer("fc", 3, kernel=None))
    with pytest.raises(ValueError, match=r"image of 6×6 does not fit.* divisible by 4"):
        Network(layers, (6, 6, 1)).connections()
