"""Laws of where membranes start, and of QCFS, the ANN's neuron whose levels are a spiking neuron's counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dietjax as dj
from dietjax import IF, LIF, PLIF, QCFS, LIFParams, QCFSParams
from dietjax.core.scan import scan_steps
from dietjax.models import Layer, Network

pytestmark = pytest.mark.usefixtures("quick_compile")

B, T, N = 2, 5, 3
STARTED = [LIF(threshold=0.5, leak=0.9, initial_membrane=0.5), IF(threshold=0.8, initial_membrane=0.25, reset="zero"),
           PLIF(threshold=0.3, initial_membrane=0.5, sharing="channel"),
           LIF(threshold=0.5, initial_membrane=0.5, sharing="neuron", surrogate="stdb")]


def currents(timesteps=T, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(0.2, 0.4, (B, timesteps, N)))


def by_steps(neuron, params, current):
    return scan_steps(neuron, params, neuron.initial_state(params, (B, N), current.dtype), current, current.shape[1])


@pytest.mark.parametrize("neuron", STARTED, ids=repr)
def test_membranes_start_at_the_fraction_of_their_own_thresholds(x64, neuron):
    params = neuron.init(jax.random.key(0), (N,), jnp.float64)
    params = params._replace(threshold=params.threshold * (1 + jnp.arange(np.size(params.threshold)).reshape(
        np.shape(params.threshold))))
    membrane = neuron.initial_state(params, (B, N)).membrane
    expected = neuron.initial_membrane * np.broadcast_to(params.threshold, (B, N))
    np.testing.assert_allclose(membrane, expected, rtol=1e-15)


@pytest.mark.parametrize("backend", ["xla", "pallas_interpret"])
@pytest.mark.parametrize("neuron", STARTED, ids=repr)
@pytest.mark.slow
def test_every_kernel_starts_there_with_the_gradient_of_the_scan(x64, neuron, backend):
    params, current = neuron.init(jax.random.key(0), (N,), jnp.float64), currents()
    weights = jnp.asarray(np.random.default_rng(1).normal(size=(B, T, N)))

    def loss(run, params, current):
        state, spikes = run(params, current)
        return (weights * spikes).sum() + (state.membrane**2).sum()

    def derivatives(run):
        return jax.value_and_grad(lambda p, c: loss(run, p, c), argnums=(0, 1))(params, current)

    expected = derivatives(lambda p, c: by_steps(neuron, p, c))
    found = derivatives(lambda p, c: dj.unroll(neuron, p, None, c, backend=backend))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_the_gradient_of_a_start_is_its_fraction(x64):
    """No spike, leak λ: the membrane after T steps is λᵀ·θ/2, whose derivative by θ is λᵀ/2."""
    neuron = LIF(initial_membrane=0.5)

    def last(threshold):
        params = LIFParams(jnp.asarray(0.9), threshold)
        return dj.unroll(neuron, params, None, jnp.zeros((1, T, 1)))[0].membrane.sum()

    np.testing.assert_allclose(jax.grad(last)(2.0), 0.5 * 0.9**T, rtol=1e-12)


LAYERS = (Layer("conv", 4, pool=True), Layer("fc1", 5, kernel=None, recurrent=True), Layer("fc2", 3, kernel=None))


@pytest.mark.parametrize("truncate", [False, True])
@pytest.mark.slow
def test_a_network_starts_there_in_every_schedule(x64, random_variables, truncate):
    net = Network(LAYERS, (4, 4, 2), neuron=LIF(leak=0.9, threshold=0.4, initial_membrane=0.5))
    variables = random_variables(net, dtype=jnp.float64)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 4, 2)))

    def loss(variables, **schedule):
        return (net.apply(variables, images, timesteps=4, **schedule)[0] ** 2).sum()

    chunks = (4,) if truncate else (1, 2, 4)  # cut between chunks, but not from where the first began
    for chunk in chunks:
        value, gradient = jax.value_and_grad(loss)(variables, chunk=chunk, truncate=truncate)
        expected = jax.value_and_grad(loss)(variables)
        np.testing.assert_allclose(value, expected[0], rtol=1e-12)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), gradient, expected[1])


@pytest.mark.parametrize("wrong", [-0.1, 1.0, np.nan])
def test_starts_outside_the_range_are_refused(wrong):
    with pytest.raises(ValueError, match=r"initial_membrane is a fraction .* must lie in \[0, 1\)"):
        LIF(initial_membrane=wrong)


# ---- QCFS


def test_qcfs_is_the_papers_equation(x64):
    """λ = 2, L = 4: steps of 0.5, each begun a quarter before its level."""
    z = np.array([-1.0, -0.26, 0.0, 0.24, 0.25, 0.74, 0.75, 1.0, 1.74, 1.75, 2.0, 9.0])
    expected = np.array([0, 0, 0, 0, 0.5, 0.5, 1, 1, 1.5, 2, 2, 2])
    _, found = QCFS(levels=4).step(QCFSParams(jnp.asarray(2.0)), (), jnp.asarray(z))
    np.testing.assert_array_equal(found, expected)


def test_the_gradient_of_qcfs_passes_the_floor(x64):
    z, level, levels = np.array([-0.5, 0.3, 1.0, 1.9, 2.5]), 2.0, 4

    def activation(z, level):
        return QCFS(levels=levels).step(QCFSParams(level), (), z)[1]

    a = np.asarray(activation(jnp.asarray(z), jnp.asarray(level)))
    _, of_z = jax.jvp(lambda z: activation(z, jnp.asarray(level)), (jnp.asarray(z),), (jnp.ones(5),))
    np.testing.assert_array_equal(of_z, [0, 1, 1, 1, 0])
    of_level = jax.jacrev(lambda level: activation(jnp.asarray(z), level))(jnp.asarray(level))
    np.testing.assert_allclose(of_level, [0, *(a[1:4] - z[1:4]) / level, 1], rtol=1e-12)


def test_spikes_in_as_many_timesteps_as_levels_are_the_activation_exactly(x64):
    """Under a constant current: L spikes of θ each at most, T = L, membranes from θ/2."""
    z = jnp.asarray(np.random.default_rng(0).normal(0.5, 1, (64, 10)))
    for levels, threshold in ((1, 0.7), (4, 1.0), (8, 1.3)):
        params = QCFSParams(jnp.asarray(threshold))
        _, activation = QCFS(levels=levels).step(params, (), z)
        neuron = IF(initial_membrane=0.5)
        _, spikes = dj.unroll(neuron, dj.IFParams(params.threshold), None, z[:, None], timesteps=levels)
        np.testing.assert_array_equal(np.rint(np.asarray(activation) * levels / threshold), spikes.sum(1))


@pytest.mark.slow
def test_an_ann_of_qcfs_has_its_levels_where_thresholds_will_be(x64):
    net = Network(LAYERS[::2], (4, 4, 2), neuron=QCFS(levels=4, threshold=1.5))
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 4, 2)))
    variables = net.init(jax.random.key(0), images)
    assert variables["params"]["conv"]["neuron"] == QCFSParams(1.5)
    _, record = net.apply(variables, images)
    assert not record["spike_rate"]
    gradient = jax.grad(lambda v: (net.apply(v, images)[0] ** 2).sum())(variables)
    assert jnp.isfinite(gradient["params"]["conv"]["neuron"].threshold)


@pytest.mark.parametrize("options, says", [
    ({"levels": 0}, "levels must be a whole number of at least 1, got 0"), ({"levels": 2.5}, "got 2.5"),
    ({"threshold": 0}, "threshold must be > 0, got 0"), ({"sharing": "chanel"}, "did you mean 'channel'")])
def test_what_qcfs_cannot_be_is_refused(options, says):
    with pytest.raises(ValueError, match=says):
        QCFS(**options)
