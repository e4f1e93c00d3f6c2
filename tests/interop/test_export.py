"""Laws of exported networks: written and read again, with a batch of any size, they give what the network gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import dietjax as dj
from dietjax import IF, LIF, PLIF, ReLU
from dietjax.models import Layer, Network

pytestmark = pytest.mark.usefixtures("quick_compile")

LAYERS = (Layer("conv1", 32, pool=True), Layer("conv2", 32, shortcut="conv2"),  # conv2: Winograd's form on a CPU
          Layer("fc1", 8, kernel=None, recurrent=True), Layer("fc2", 3, kernel=None))
NEURONS = [LIF(leak=0.9, threshold=0.05), IF(threshold=0.05, surrogate="stdb"), PLIF(threshold=0.02)]


def forward(net, timesteps):
    return lambda variables, images: net.apply(variables, images, timesteps)


@pytest.mark.parametrize("neuron", NEURONS, ids=repr)
@pytest.mark.slow
def test_a_network_written_and_read_again_takes_a_batch_of_any_size(neuron):
    net = Network(LAYERS, (8, 8, 2), neuron=neuron)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(6, 8, 8, 2)), jnp.float32)
    variables = net.init(jax.random.key(0), images)
    batch, = export.symbolic_shape("b")
    shapes = jax.ShapeDtypeStruct((batch, 8, 8, 2), jnp.float32)
    exported = export.export(jax.jit(forward(net, 3)))(jax.eval_shape(lambda: variables), shapes)
    read = export.deserialize(exported.serialize())
    for count in (1, 6):
        logits, record = read.call(variables, images[:count])
        expected, expected_record = net.apply(variables, images[:count], 3)
        np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)
        assert jax.tree.structure(record["state"]) == jax.tree.structure(expected_record["state"])
        assert any(rate > 0 for rate in expected_record["spike_rate"].values())


@pytest.mark.slow
def test_an_ann_and_a_readout_that_counts_too():
    images = jnp.ones((2, 8, 8, 2))
    for net in (Network(LAYERS[:2] + LAYERS[3:], (8, 8, 2), neuron=ReLU()),
                Network(LAYERS[3:], (8, 8, 2), readout=LIF(threshold=0.01))):
        variables = net.init(jax.random.key(0), images)
        exported = export.export(jax.jit(forward(net, 1)))(variables, images)
        logits, _ = export.deserialize(exported.serialize()).call(variables, images)
        np.testing.assert_allclose(logits, net.apply(variables, images, 1)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_the_gradient_of_a_batch_of_any_size_is_exported():
    net = Network(LAYERS[:2] + LAYERS[3:], (8, 8, 2), neuron=LIF(threshold=0.05))
    images = jnp.asarray(np.random.default_rng(0).normal(size=(3, 8, 8, 2)), jnp.float32)
    variables = net.init(jax.random.key(0), images)

    def gradient(variables, images):
        return jax.grad(lambda v: (net.apply(v, images, 2)[0] ** 2).sum())(variables)

    batch, = export.symbolic_shape("b")
    exported = export.export(jax.jit(gradient))(variables, jax.ShapeDtypeStruct((batch, 8, 8, 2), jnp.float32))
    found, expected = export.deserialize(exported.serialize()).call(variables, images), gradient(variables, images)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found, expected)
    assert abs(found["params"]["conv2"]["neuron"].threshold) > 0


def test_a_cell_over_any_batch_is_exported():
    lif = LIF(threshold=0.5)
    params = lif.init(jax.random.key(0), (4,))
    batch, = export.symbolic_shape("b")
    exported = export.export(jax.jit(lambda p, c: dj.unroll(lif, p, None, c)))(
        params, jax.ShapeDtypeStruct((batch, 20, 4), jnp.float32))
    currents = jnp.asarray(np.random.default_rng(0).normal(size=(5, 20, 4)), jnp.float32)
    state, spikes = export.deserialize(exported.serialize()).call(params, currents)
    np.testing.assert_array_equal(spikes, dj.unroll(lif, params, None, currents)[1])
    assert isinstance(state, dj.MembraneState)
