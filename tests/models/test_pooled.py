"""Laws of a pooled current: it is the pool of the convolution, in values, gradients, shapes and a network's energy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dietjax import LIF, QCFS
from dietjax.core.pool import average_pool
from dietjax.errors import InputError
from dietjax.models import Layer, Network, build, columns, pooled
from dietjax.models.direct import direct
from dietjax.models.operations import synapse


def pool_of_the_convolution(x, kernel):
    return average_pool(direct(x, kernel)[:, None])[:, 0]


@pytest.mark.parametrize("side", [1, 3, 5])
@pytest.mark.parametrize("form", [pooled.convolve_pooled, pooled._strided], ids=["cpu", "others"])
@pytest.mark.slow
def test_it_is_the_pool_of_the_convolution_in_values_and_gradients(x64, side, form):
    rng = np.random.default_rng(0)
    x, kernel, cotangent = (jnp.asarray(rng.normal(size=shape)) for shape in ((3, 6, 4, 5), (side, side, 5, 7),
                                                                              (3, 3, 2, 7)))
    want, vjp = jax.vjp(pool_of_the_convolution, x, kernel)
    got, same_vjp = jax.vjp(form, x, kernel)
    for found, expected in zip((got, *same_vjp(cotangent)), (want, *vjp(cotangent)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)
    tangents = (x[::-1], kernel[::-1])
    np.testing.assert_allclose(jax.jvp(form, (x, kernel), tangents)[1],
                               jax.jvp(pool_of_the_convolution, (x, kernel), tangents)[1], rtol=1e-11, atol=1e-12)


@pytest.mark.slow
def test_a_few_images_at_a_time_give_what_all_give(x64, monkeypatch):
    rng = np.random.default_rng(0)
    x, kernel = jnp.asarray(rng.normal(size=(6, 4, 4, 5))), jnp.asarray(rng.normal(size=(3, 3, 5, 7)))
    want = jax.grad(lambda x, k: (pool_of_the_convolution(x, k)**2).sum(), (0, 1))(x, kernel)
    monkeypatch.setattr(columns, "PART_BYTES", 4 * 4 * 9 * 5 * 4)  # columns of four images: three divide six
    got = jax.grad(lambda x, k: (pooled.convolve_pooled(x, k)**2).sum(), (0, 1))(x, kernel)
    for found, expected in zip(got, want, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-11)


def test_a_block_of_time_is_pooled_step_by_step(x64):
    rng = np.random.default_rng(0)
    x, kernel = jnp.asarray(rng.normal(size=(2, 3, 4, 4, 5))), jnp.asarray(rng.normal(size=(3, 3, 5, 7)))
    expected = np.stack([pool_of_the_convolution(x[:, t], kernel) for t in range(3)], 1)
    np.testing.assert_allclose(synapse(kernel, x, pooled=True), expected, rtol=1e-11)


LAYERS = (Layer("a", 4, pool_current=True), Layer("b", 6, pool_current=True), Layer("fc", 3, kernel=None))


def test_a_pooled_layer_has_a_quarter_of_the_neurons_and_counts_the_whole_convolution():
    a, b, fc = Network(LAYERS, (8, 12, 2)).connections()
    assert (a.out_shape, b.in_shape, b.out_shape, fc.in_shape) == ((4, 6, 4), (4, 6, 4), (2, 3, 6), (2, 3, 6))
    assert a.macs == 8 * 12 * 9 * 2 * 4 and fc.macs == 36 * 3


@pytest.mark.slow
def test_an_if_network_with_pooled_currents_follows_a_numpy_loop(x64, random_variables):
    """Spikes of 0 and 1 between layers: the pool comes before the threshold."""
    net = Network(LAYERS, (8, 8, 2), neuron=LIF())
    variables = random_variables(net, 0, jnp.float64)
    images = jnp.asarray(np.random.default_rng(1).normal(size=(3, 8, 8, 2)))
    _, record = net.apply(variables, images, 4, record=("spikes",))
    params, total, x = variables["params"], 0.0, [images] * 4
    for name in ("a", "b"):
        membrane, spikes = 0.0, []
        for t in range(4):
            neuron = params[name]["neuron"]
            membrane = neuron.leak * membrane + pool_of_the_convolution(x[t], params[name]["kernel"])
            spikes.append(jnp.asarray(membrane > neuron.threshold, jnp.float64))
            membrane = membrane - neuron.threshold * spikes[-1]
        np.testing.assert_array_equal(record["spikes"][name], np.stack(spikes, 1))
        x = spikes
    for t in range(4):
        total = total + x[t].reshape(3, -1) @ params["fc"]["kernel"]
        np.testing.assert_allclose(record["logits"][:, t], total, rtol=1e-10)


def test_compact8_is_what_it_says():
    """Whatever the width, the first layer has what whitening makes; every other convolution is pooled."""
    net = build("compact-8", 10, (32, 32, 3), width=0.5, neuron=QCFS())
    assert [(c.name, c.out_shape) for c in net.connections()] == [
        ("conv1", (32, 32, 32)), ("conv2", (16, 16, 16)), ("conv3", (16, 16, 16)), ("conv4", (8, 8, 64)),
        ("conv5", (8, 8, 64)), ("conv6", (4, 4, 64)), ("conv7", (4, 4, 64)), ("fc1", (10,))]
    assert [layer.name for layer in net.layers if layer.pool_current] == ["conv2", "conv4", "conv6"]
    assert net.connections()[-1].in_shape == (1, 1, 64)


@pytest.mark.parametrize("make, says", [
    (lambda: Layer("a", 4, pool_current=2), "layer 'a': pool_current must be True or False, got 2"),
    (lambda: Layer("a", 4, stride=2, pool_current=True), "layer 'a' pools its current and has stride 2; give it one"),
    (lambda: Layer("a", 4, kernel=None, pool_current=True), "layer 'a' is fully connected .* leave out pools"),
    (lambda: build("Compact8", 10, (28, 28, 1)), "image of 28×28 does not fit: layer 'conv6' .* divisible by 8"),
])
def test_what_cannot_be_pooled_is_refused(make, says):
    with pytest.raises(InputError, match=says):
        make()
