"""Laws of computing in bfloat16 and float16: with the spikes of float64, gradients are float64's but for the rounding
of what travels between layers. Sums over neurons, batch and time are float32's.

Numbers here are few bits long, so that every current and membrane is exact in each dtype, and no spike differs.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dietjax as dj
from dietjax import LIF, LIFParams
from dietjax.models import Layer, Network

pytestmark = pytest.mark.usefixtures("quick_compile")

HALVES = ("bfloat16", "float16")
ROUNDING = {"bfloat16": 2**-8, "float16": 2**-11, "float32": 2**-20}
"""The largest relative error of one rounding; of float32 that of a sum of them."""
THRESHOLD = 0.5  # a power of two: XLA may multiply by its reciprocal, which then is exact too


def short_numbers(rng, shape, least, most, unit):
    return rng.integers(least, most + 1, shape) * unit


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def gradients(neuron, backend, dtype, param_dtype, currents, weights):
    """((∂L/∂leak, ∂L/∂threshold), ∂L/∂I) of L = Σ weights · spikes, and the spikes."""
    params = LIFParams(jnp.asarray(1, param_dtype), jnp.asarray(THRESHOLD, param_dtype))

    def loss(params, currents):
        _, spikes = dj.unroll(neuron, params, None, currents, weights.shape[1], backend)
        return (weights * spikes.astype(weights.dtype)).sum(), spikes

    return jax.grad(loss, (0, 1), has_aux=True)(params, currents.astype(dtype))


@functools.cache
def block(constant):
    """(currents, weights, gradients and spikes in float64), of 20 000 spikes."""
    rng = np.random.default_rng(0)
    currents = short_numbers(rng, (5, 1 if constant else 8, 500), -4, 12, 1 / 8)
    weights = short_numbers(rng, (5, 8, 500), 1, 4, 1 / 4)  # of one sign, as the terms of the gradients then are
    return currents, weights, *gradients(LIF(), "scan", "float64", "float64", currents, weights)


@pytest.mark.parametrize("backend, dtype, param_dtype, constant", [
    ("scan", "bfloat16", "bfloat16", True), ("scan", "float16", "float32", False),
    ("xla", "bfloat16", "float32", False),
    ("xla", "float16", "float16", True), ("xla", "bfloat16", "bfloat16", True),
    pytest.param("pallas_interpret", "bfloat16", "float32", True, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_what_is_summed_over_neurons_batch_and_time_is_summed_in_float32(x64, backend, dtype, param_dtype, constant):
    """In bfloat16 a sum of equal terms ends at 256 of them. What has half precision itself is rounded twice at most:
    each step's share of its gradient, and their sum.
    """
    currents, weights, expected, spikes = block(constant)
    found, same = gradients(LIF(), backend, dtype, param_dtype, currents, weights)
    assert same.dtype == dtype and 0.1 < spikes.mean() < 0.9
    np.testing.assert_array_equal(np.asarray(same, np.float64), spikes)
    for a, b in zip(found[0], expected[0], strict=True):
        assert a.dtype == param_dtype
        np.testing.assert_allclose(np.asarray(a, np.float64), b, rtol=2 * ROUNDING[param_dtype])
    np.testing.assert_allclose(np.asarray(found[1], np.float64), expected[1], rtol=2 * ROUNDING[dtype], atol=1e-6)


LAYERS = (Layer("conv1", 6), Layer("conv2", 8, pool=True), Layer("fc1", 16, kernel=None), Layer("fc2", 4, kernel=None))


def short_network(dtype):
    """A VGG whose weights are −1/2, 0 and 1/2, in float32, and images of whole numbers."""
    net = Network(LAYERS, (8, 8, 3), neuron=LIF(threshold=THRESHOLD, sharing="neuron", surrogate="arctan"),
                  dtype=jnp.dtype(dtype))
    rng = np.random.default_rng(1)
    images = jnp.asarray(short_numbers(rng, (4, 8, 8, 3), -2, 2, 1), "float64" if dtype == "float64" else "float32")
    shapes = jax.eval_shape(net.init, jax.random.key(0), images)

    def leaf(path, x):
        value = {"leak": 1, "threshold": THRESHOLD}.get(getattr(path[-1], "name", None))
        value = short_numbers(rng, x.shape, -1, 1, 1 / 2) if value is None else np.full(x.shape, value)
        return jnp.asarray(value, images.dtype)

    return net, jax.tree_util.tree_map_with_path(leaf, shapes), images


def network_gradients(dtype):
    """{layer: (∂L/∂leak, ∂L/∂threshold) of each neuron} and the spikes, T = 2."""
    net, variables, images = short_network(dtype)

    @jax.jit
    def gradient(variables):
        def loss(variables):
            logits, record = net.apply(variables, images, timesteps=2, record=("spikes",))
            return (jax.nn.logsumexp(logits, axis=-1) - logits[:, 0]).mean(), record["spikes"]

        return jax.grad(loss, has_aux=True)(variables)

    found, spikes = gradient(variables)
    return {layer.name: [np.asarray(gradient, np.float64) for gradient in found["params"][layer.name]["neuron"]]
            for layer in LAYERS[:-1]}, spikes


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.slow
def test_a_networks_gradients_of_thresholds_and_leaks_are_those_of_float64(x64, dtype):
    """But for the rounding of the cotangents, twice at each of three layers. Of each neuron's: their sum may cancel."""
    expected, spikes = network_gradients("float64")
    found, same = network_gradients(dtype)
    for name in expected:
        assert same[name].dtype == dtype and 0.02 < spikes[name].mean() < 0.9
        np.testing.assert_array_equal(np.asarray(same[name], np.float64), spikes[name])
        for a, b in zip(found[name], expected[name], strict=True):
            assert np.linalg.norm(a - b) < 2 * ROUNDING[dtype] * np.linalg.norm(b), name
