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
ULP = {"bfloat16": 2**-8, "float16": 2**-11, "float32": 2**-20, "float64": 0.0}
"""The largest relative error of one rounding; of float32 that of a sum of them."""
THRESHOLD = 0.75


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


@pytest.mark.parametrize("backend", ["xla", "scan", pytest.param("pallas_interpret", marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.thin(4)
def test_what_is_summed_over_neurons_batch_and_time_is_summed_in_float32(x64, backend, dtype, constant):
    """20 000 terms: in bfloat16 a sum of equal ones ends at 256 of them. Half-precision parameters are rounded once."""
    rng = np.random.default_rng(0)
    shape = (5, 20, 200)
    currents = short_numbers(rng, (5, 1 if constant else 20, 200), -4, 12, 1 / 8)
    weights = short_numbers(rng, shape, 1, 4, 1 / 4)  # of one sign, as the terms of the threshold's gradient then are
    expected, spikes = gradients(LIF(), "scan", "float64", "float64", currents, weights)
    for param_dtype in ("float32", dtype):
        found, same = gradients(LIF(), backend, dtype, param_dtype, currents, weights)
        assert same.dtype == dtype and 0.1 < spikes.mean() < 0.9
        np.testing.assert_array_equal(np.asarray(same, np.float64), spikes)
        for a, b in zip(found[0], expected[0], strict=True):
            assert a.dtype == param_dtype
            np.testing.assert_allclose(np.asarray(a, np.float64), b, rtol=ULP[param_dtype])
        np.testing.assert_allclose(np.asarray(found[1], np.float64), expected[1], rtol=1.01 * ULP[dtype], atol=1e-6)


LAYERS = (Layer("conv1", 6), Layer("conv2", 8, pool=True), Layer("conv3", 8, pool=True), Layer("fc1", 16, kernel=None),
          Layer("fc2", 4, kernel=None))


def short_network(dtype):
    """A VGG whose weights are −1/2, 0 and 1/2, in float32, and images of whole numbers."""
    net = Network(LAYERS, (8, 8, 3), neuron=LIF(threshold=THRESHOLD), dtype=jnp.dtype(dtype))
    rng = np.random.default_rng(1)
    images = jnp.asarray(short_numbers(rng, (4, 8, 8, 3), -2, 2, 1), "float64" if dtype == "float64" else "float32")
    shapes = jax.eval_shape(net.init, jax.random.key(0), images)

    def leaf(path, x):
        value = {"leak": 1, "threshold": THRESHOLD}.get(getattr(path[-1], "name", None))
        value = short_numbers(rng, x.shape, -1, 1, 1 / 2) if value is None else np.full(x.shape, value)
        return jnp.asarray(value, images.dtype)

    return net, jax.tree_util.tree_map_with_path(leaf, shapes), images


def network_gradients(dtype):
    """{layer: (∂L/∂leak, ∂L/∂threshold)} and the spikes, T = 4."""
    net, variables, images = short_network(dtype)

    @jax.jit
    def gradient(variables):
        def loss(variables):
            logits, record = net.apply(variables, images, timesteps=4, spikes=True)
            return (jax.nn.logsumexp(logits, axis=-1) - logits[:, 0]).mean(), record["spikes"]

        return jax.grad(loss, has_aux=True)(variables)

    found, spikes = gradient(variables)
    return {layer.name: np.array(found["params"][layer.name]["neuron"], np.float64) for layer in LAYERS[:-1]}, spikes


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.thin(1)
def test_a_networks_gradients_of_thresholds_and_leaks_are_those_of_float64(x64, dtype):
    """But for the rounding of the cotangents, at each of four layers: a few units in the last place."""
    expected, spikes = network_gradients("float64")
    found, same = network_gradients(dtype)
    for name in expected:
        assert same[name].dtype == dtype and 0.02 < spikes[name].mean() < 0.9
        np.testing.assert_array_equal(np.asarray(same[name], np.float64), spikes[name])
        np.testing.assert_allclose(found[name], expected[name], rtol=4 * ULP[dtype], err_msg=name)
