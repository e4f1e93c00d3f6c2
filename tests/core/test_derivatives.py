"""Laws of derivatives through time: first and second, forwards and backwards, they are those of the plain steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dietjax as dj
from dietjax import IF, LIF, PLIF
from dietjax.core.scan import scan_steps
from dietjax.models import Layer, Network

pytestmark = pytest.mark.usefixtures("quick_compile")

KINDS = [LIF(leak=0.9, threshold=0.5), LIF(leak=0.9, threshold=0.5, reset="zero", sharing="channel"),
         IF(threshold=0.5, surrogate="arctan"), PLIF(threshold=0.4, surrogate="sigmoid"),
         LIF(leak=0.8, threshold=0.5, surrogate="fast_sigmoid"), LIF(threshold=0.5, surrogate="stdb")]
B, N = 2, 3


def forward_mode(neuron):
    return type(neuron)(**{**vars(neuron), "forward_mode": True})


def example(neuron, timesteps, dtype=jnp.float64, seed=0):
    """(parameters, currents [B, T, N], weights that make every spike count differently)."""
    rng = np.random.default_rng(seed)
    currents, weights = (jnp.asarray(rng.normal(0.2, 0.5, (B, timesteps, N)), dtype) for _ in range(2))
    return neuron.init(jax.random.key(0), (N,), dtype), currents, weights


def loss(run, neuron, params, currents, weights):
    """A function of every spike and of the last membrane, not linear in them."""
    state, spikes = run(neuron, params, currents)
    return jnp.sin((weights * spikes).sum()) + (state.membrane**2).sum()


def by_kernel(neuron, params, currents):
    return dj.unroll(neuron, params, None, currents)


def by_steps(neuron, params, currents):
    state = neuron.initial_state(params, (B, N), currents.dtype)
    return scan_steps(neuron, params, state, currents, currents.shape[1])


def derivatives(run, neuron, params, currents, weights):
    """(first, second times a direction), with respect to parameters and currents."""
    def gradient(arguments):
        return jax.grad(lambda a: loss(run, neuron, *a, weights))(arguments)

    def along(arguments):  # one direction, whose gradient is a row of second derivatives
        return sum((x * wave(x)).sum() for x in jax.tree.leaves(gradient(arguments)))

    arguments = params, currents
    return jax.jit(gradient)(arguments), jax.jit(jax.grad(along))(arguments)


def wave(x):
    return jnp.cos(jnp.arange(x.size)).reshape(x.shape)


def assert_close(found, expected, tolerance=1e-9):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("neuron, timesteps", [
    (KINDS[1], 3), *(pytest.param(neuron, 3, marks=pytest.mark.slow) for neuron in KINDS if neuron != KINDS[1]),
    pytest.param(KINDS[1], 18, marks=pytest.mark.slow)], ids=repr)
@pytest.mark.slow
def test_first_and_second_derivatives_of_a_block_are_those_of_its_steps(x64, neuron, timesteps):
    # T = 18 is a loop of bodies, 3 is one
    arguments = example(neuron, timesteps)
    expected = derivatives(by_steps, neuron, *arguments)
    assert any(jnp.abs(x).max() > 1e-3 for x in jax.tree.leaves(expected[1]))
    assert_close(derivatives(by_kernel, neuron, *arguments), expected)
    assert_close(derivatives(by_kernel, forward_mode(neuron), *arguments), expected)


@pytest.mark.parametrize("neuron", KINDS, ids=repr)
@pytest.mark.slow
def test_forward_mode_gives_the_directional_derivative_of_reverse_mode(x64, neuron):
    params, currents, weights = example(neuron, 3)
    direction = jax.tree.map(wave, (params, currents))
    gradient = jax.grad(lambda a: loss(by_steps, neuron, *a, weights))((params, currents))
    expected = sum((a * b).sum() for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True))

    twin = forward_mode(neuron)
    for run in (by_kernel, by_steps):
        def value(arguments, run=run):
            return loss(run, twin, *arguments, weights)

        _, tangent = jax.jvp(value, ((params, currents),), (direction,))
        np.testing.assert_allclose(tangent, expected, rtol=1e-9)
        _, linear = jax.linearize(value, (params, currents))
        np.testing.assert_allclose(linear(direction), expected, rtol=1e-9)


@pytest.mark.slow
def test_hessian_of_thresholds_by_forward_over_reverse_is_reverse_over_reverse(x64):
    neuron = LIF(leak=0.9, threshold=0.5, sharing="channel", surrogate="arctan")
    params, currents, weights = example(neuron, 3)

    def value(threshold, neuron):
        return loss(by_kernel, neuron, params._replace(threshold=threshold), currents, weights)

    expected = jax.jacrev(jax.grad(value))(params.threshold, neuron)
    assert jnp.abs(expected).max() > 1e-3
    np.testing.assert_allclose(jax.hessian(value)(params.threshold, forward_mode(neuron)), expected, rtol=1e-9,
                               atol=1e-12)


@pytest.mark.slow
def test_a_small_network_has_derivatives_in_forward_mode(x64):
    layers = (Layer("conv1", 32, pool=True), Layer("conv2", 32), Layer("fc", 3, kernel=None))  # 32: Winograd's on a CPU
    net = Network(layers, (4, 4, 2), neuron=LIF(leak=0.9, threshold=0.05, forward_mode=True), param_dtype=jnp.float64)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 4, 2)))
    variables = net.init(jax.random.key(0), images)

    def value(net, scale):
        return (net.apply(variables, scale * images, timesteps=2)[0] ** 2).sum()

    reverse = net.clone(neuron=LIF(leak=0.9, threshold=0.05))
    expected = jax.grad(lambda s: value(reverse, s))(1.0)
    assert abs(expected) > 1e-6
    _, tangent = jax.jvp(lambda s: value(net, s), (1.0,), (1.0,))
    np.testing.assert_allclose(tangent, expected, rtol=1e-9)
    np.testing.assert_allclose(jax.hessian(lambda s: value(net, s))(1.0),
                               jax.grad(jax.grad(lambda s: value(reverse, s)))(1.0), rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("neuron", [KINDS[0], KINDS[3]], ids=repr)
def test_halves_have_finite_first_and_second_derivatives(neuron):
    params, currents, weights = example(neuron, 3, jnp.float16)
    for kind in (neuron, forward_mode(neuron)):
        found = derivatives(by_kernel, kind, params, 4 * currents, weights)
        assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(found))


def test_a_backend_beside_forward_mode_is_refused():
    neuron = LIF(forward_mode=True)
    with pytest.raises(ValueError, match="backend 'xla' cannot run LIF with forward_mode: "):
        dj.unroll(neuron, neuron.init(jax.random.key(0), (3,)), None, jnp.zeros((2, 4, 3)), backend="xla")
