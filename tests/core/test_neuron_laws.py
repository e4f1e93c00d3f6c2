"""Laws of the neurons beside IF, LIF and PLIF: what they are to each other, in every schedule, dtype and loop."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dietjax as dj
from dietjax import ALIF, LIF, PSN, SRM, Binary, CuBaLIF, LIFParams, RefractoryLIF, SigmaDelta, SlidingPSN
from dietjax.core.neurons import IFParams
from dietjax.core.unroll import over_chunks
from dietjax.models import Layer, Network, Recurrent

pytestmark = pytest.mark.usefixtures("quick_compile")

B, T, N = 2, 6, 3
STEPPED = [ALIF(leak=0.9), CuBaLIF(leak=0.9), RefractoryLIF(leak=0.9, period=2), SRM(), SigmaDelta(),
           SigmaDelta(quantised=True), SlidingPSN(order=3)]
KINDS = [*STEPPED, Binary(threshold=0.5), PSN(timesteps=T, threshold=0.1)]


def named(neuron):
    return type(neuron).__name__ + ("-quantised" if getattr(neuron, "quantised", False) else "")


def example(dtype=jnp.float32, seed=0, timesteps=T):
    return jnp.asarray(np.random.default_rng(seed).normal(0.5, 0.7, (B, timesteps, N)), dtype)


def params_of(neuron, dtype=jnp.float32):
    return neuron.init(jax.random.key(1), (N,), dtype)


@pytest.mark.parametrize("neuron", STEPPED, ids=named)
@pytest.mark.parametrize("chunk", [1, 2, 3])
@pytest.mark.thin(4)
def test_chunks_that_hand_on_their_state_are_the_whole(x64, neuron, chunk):
    params, currents = params_of(neuron, jnp.float64), example(jnp.float64)

    @jax.jit
    def run(currents):
        def part(state, start):
            return dj.unroll(neuron, params, state, jax.lax.dynamic_slice_in_dim(currents, start, chunk, 1))

        state = neuron.initial_state(params, (B, N), currents.dtype)
        return dj.unroll(neuron, params, None, currents), over_chunks(part, state, T, chunk)

    (state, whole), (handed, parts) = run(currents)
    np.testing.assert_allclose(jnp.concatenate([*parts], axis=1), whole, atol=1e-14)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-14), handed, state)
    assert (whole != 0).any()


@pytest.mark.parametrize("neuron", [ALIF(adaptation=0), CuBaLIF(synaptic_leak=0), RefractoryLIF(period=0)], ids=named)
@pytest.mark.parametrize("reset", ["subtract", "zero"])
@pytest.mark.slow
def test_without_what_it_adds_each_is_a_lif(x64, neuron, reset):
    neuron = dataclasses.replace(neuron, reset=reset)
    currents, weights = example(jnp.float64), np.random.default_rng(1).normal(size=(B, T, N))

    def loss(leak, threshold, currents, neuron):
        params = params_of(neuron, jnp.float64)._replace(leak=leak, threshold=threshold)
        outputs = dj.unroll(neuron, params, None, currents, backend="scan")[1]
        return (weights * outputs).sum(), outputs

    run = jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True), static_argnums=3)
    (gradient, spikes), (expected, same) = run(0.8, 0.6, currents, neuron), run(0.8, 0.6, currents, LIF(reset=reset))
    np.testing.assert_array_equal(spikes, same)
    assert 0 < spikes.sum() < spikes.size
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), gradient, expected)


def test_binary_is_the_first_timestep_of_a_lif(x64):
    currents = example(jnp.float64, timesteps=1)

    def outputs(neuron, threshold, currents):
        params = IFParams(threshold) if isinstance(neuron, Binary) else LIFParams(0.3, threshold)
        return dj.unroll(neuron, params, None, currents)[1]

    @functools.partial(jax.jit, static_argnums=0)
    def run(neuron, currents):
        spikes, back = jax.vjp(functools.partial(outputs, neuron), 0.6, currents)
        return spikes, back(currents)

    one, lif = run(Binary(), currents), run(LIF(), currents)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), one, lif)
    assert 0 < one[0].sum() < one[0].size


def test_a_refractory_neuron_waits_and_its_membrane_with_it():
    """Current 1 each step, threshold 1/2: it fires, then keeps what the reset left, 1/2, for three steps."""
    neuron = RefractoryLIF(period=3)
    params = LIFParams(jnp.float32(0.5), jnp.float32(0.5))
    state, membranes, spikes = neuron.initial_state(params, (1, 1)), [], []
    for _ in range(6):
        state, out = neuron.step(params, state, jnp.ones((1, 1)))
        membranes, spikes = [*membranes, float(state.membrane[0, 0])], [*spikes, int(out[0, 0])]
    assert spikes == [1, 0, 0, 0, 1, 0]
    assert membranes == [0.5, 0.5, 0.5, 0.5, 0.75, 0.75]  # 0.5·0.5 + 1 − 0.5


def test_one_input_to_an_srm_is_answered_most_after_tau_and_its_spike_by_a_dip():
    neuron = SRM(tau=3.0, tau_refractory=2.0, refractoriness=2.0, threshold=0.95)
    params = neuron.init(jax.random.key(0), (1,))
    state, seen = neuron.initial_state(params, (1, 1)), []
    for t in range(9):
        state, out = neuron.step(params, state, jnp.full((1, 1), float(t == 0)))
        seen.append((float(state.response[0, 0]), float(state.dip[0, 0]), int(out[0, 0])))
    response, dip, spikes = (np.array(x) for x in zip(*seen, strict=True))
    n = np.arange(9)
    np.testing.assert_allclose(response, n / 3 * np.exp(1 - n / 3), atol=1e-6)  # 1 at its peak, above the threshold
    assert spikes.tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 0]  # at n = 2 it is 0.93; at 4 it is 0.96, less the dip
    since = np.maximum(n - 3, 0)
    np.testing.assert_allclose(dip, since / 2 * np.exp(1 - since / 2), atol=1e-6)


@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.thin(2)
def test_what_a_sigma_delta_neuron_sent_is_its_activation_to_within_its_threshold(quantised, dtype):
    neuron = SigmaDelta(threshold=0.3, quantised=quantised, inputs="values")
    values = example(dtype, timesteps=12)
    state, changes = jax.jit(lambda x: dj.unroll(neuron, params_of(neuron), None, x))(values)
    told = np.cumsum(np.asarray(changes, np.float32), axis=1)
    error = np.abs(np.maximum(np.asarray(values, np.float32), 0) - told)
    assert error.max() <= (0.15 if quantised else 0.3) * 1.01  # in bfloat16 an event is rounded, and the rest kept
    np.testing.assert_allclose(state.sent, told[:, -1], atol=1e-5)  # bfloat16 as well: others hear what it counts
    if quantised and dtype == jnp.float32:
        np.testing.assert_allclose(changes / 0.3, np.round(changes / 0.3), atol=1e-5)


def test_a_network_of_changes_says_what_the_ann_says_and_falls_silent():
    """Two layers behind a still image: the readout's sum comes to the ANN's logits, and then nothing is sent."""
    rng = np.random.default_rng(5)
    first, second, third = (jnp.asarray(rng.normal(size=(4, 4)), jnp.float32) for _ in range(3))
    image = jnp.asarray(rng.normal(size=(B, 1, 4)), jnp.float32)
    outer, inner = (SigmaDelta(threshold=1e-4, inputs=inputs) for inputs in ("values", "changes"))

    def run(neuron, currents):
        return dj.unroll(neuron, neuron.init(jax.random.key(0), (4,)), None, currents, timesteps=T)[1]

    changes = run(inner, run(outer, image @ first) @ second)
    logits = run(dj.LI(), changes @ third)
    ann = jnp.maximum(jnp.maximum(image @ first, 0) @ second, 0) @ third
    np.testing.assert_allclose(logits, jnp.broadcast_to(ann, logits.shape), atol=1e-2)
    assert (changes[:, 0] != 0).any()
    np.testing.assert_array_equal(changes[:, 1:], 0)


@pytest.mark.parametrize("neuron", KINDS, ids=named)
def test_states_are_at_least_float32_and_keep_their_dtype(x64, neuron):
    for dtype, wide in ((jnp.bfloat16, jnp.float32), (jnp.float32, jnp.float32), (jnp.float64, jnp.float64)):
        currents = example(dtype)
        params = params_of(neuron, jnp.float32 if dtype == jnp.bfloat16 else dtype)
        before = neuron.initial_state(params, (B, N), dtype)
        after, outputs = jax.eval_shape(lambda p, s, c: dj.unroll(neuron, p, s, c), params, before, currents)
        assert outputs.dtype == dtype
        assert {leaf.dtype for leaf in jax.tree.leaves((before, after))} <= {jnp.dtype(wide)}
        assert jax.tree.structure(after) == jax.tree.structure(before)


@pytest.mark.parametrize("neuron", [n for n in KINDS if not isinstance(n, SigmaDelta)], ids=named)
@pytest.mark.thin(3)
def test_bfloat16_currents_fire_as_the_same_numbers_in_float32(neuron):
    currents, params = example(jnp.bfloat16), params_of(neuron)
    run = jax.jit(lambda currents: dj.unroll(neuron, params, None, currents)[1])
    np.testing.assert_array_equal(run(currents).astype(jnp.float32), run(currents.astype(jnp.float32)))


@pytest.mark.parametrize("neuron", [*STEPPED, Binary(threshold=0.5)], ids=named)
@pytest.mark.thin(1)
def test_each_can_be_recurrent(neuron):
    """With a kernel of 0 it hears nothing of itself; with another, its gradient reaches the kernel."""
    layer, currents = Recurrent(neuron), example()
    params = layer.init(jax.random.key(0), (N,))
    silent = params._replace(kernel=jnp.zeros((N, N)))

    def loss(params):
        outputs = dj.unroll(layer, params, None, currents)[1]
        return outputs.sum(), outputs

    run = jax.jit(jax.grad(loss, has_aux=True))
    alone = jax.jit(lambda p: dj.unroll(neuron, p, None, currents)[1])(params.neuron)
    np.testing.assert_allclose(run(silent)[1], alone, atol=1e-6)
    gradient, _ = run(params)
    assert jnp.isfinite(gradient.kernel).all() and (gradient.kernel != 0).any()


@pytest.mark.parametrize("neuron", STEPPED, ids=named)
@pytest.mark.slow
def test_each_runs_in_a_network_whole_or_in_chunks_and_trains(neuron):
    layers = Layer("conv", 3, pool=True), Layer("fc", 4, kernel=None, recurrent=True), Layer("out", 5, kernel=None)
    net = Network(layers, (4, 4, 2), neuron=dataclasses.replace(neuron, surrogate="arctan"))
    images = jnp.asarray(np.random.default_rng(0).normal(size=(B, 4, 4, 2)), jnp.float32)
    params = jax.tree.map(lambda x: 5 * x if x.ndim > 1 else x, net.init(jax.random.key(0), images)["params"])

    def logits(params, chunk=None):
        return net.apply({"params": params}, images, timesteps=T, chunk=chunk)[0]

    whole, parts = jax.jit(lambda p: (logits(p), logits(p, 3)))(params)
    gradient = jax.jit(jax.grad(lambda p: logits(p)[:, 0].sum()))(params)
    np.testing.assert_allclose(whole, parts, atol=1e-5)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert (gradient["conv"]["kernel"] != 0).any()


@pytest.mark.parametrize("neuron", KINDS, ids=named)
@pytest.mark.thin(1)
def test_forward_mode_gives_the_gradient_of_reverse_mode(x64, neuron):
    neuron = dataclasses.replace(neuron, forward_mode=True)
    params, currents = params_of(neuron, jnp.float64), example(jnp.float64)
    weights = jnp.asarray(np.random.default_rng(2).normal(size=(B, T, N)))

    def loss(params):
        return (weights * dj.unroll(neuron, params, None, currents)[1]).sum()

    forward, reverse = jax.jit(lambda p: (jax.jacfwd(loss)(p), jax.grad(loss)(p)))(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), forward, reverse)


def test_trees_with_their_parameters_and_states_can_be_exported():
    trees = [(params, neuron.initial_state(params, (B, N))) for neuron in KINDS for params in [params_of(neuron)]]
    exported = jax.export.export(jax.jit(lambda trees: trees))(trees)
    again = jax.export.deserialize(exported.serialize()).call(trees)
    assert jax.tree.structure(again) == jax.tree.structure(trees)
