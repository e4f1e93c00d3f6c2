"""Laws of recurrent layers: plain loops, schedules, gradients, what counts and converts them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dietjax import LIF, PLIF, LIFParams, ReLU, convert
from dietjax.analysis.energy import estimate
from dietjax.config import Phase
from dietjax.core.encode import Poisson
from dietjax.core.unroll import unroll
from dietjax.errors import InputError
from dietjax.interop import torch
from dietjax.models import Layer, Network, Recurrent, RecurrentParams
from dietjax.models.operations import init_kernel
from dietjax.train.optimizer import make_optimizer

pytestmark = pytest.mark.usefixtures("quick_compile")

BATCH, T, N = 2, 6, 5
IMAGE = (4, 4, 2)
LAYERS = (
    Layer("conv1", 3, pool=True, recurrent=True),
    Layer("fc1", 6, kernel=None, dropout=0.3, recurrent=True),
    Layer("fc2", 3, kernel=None),
)
NEURON = LIF(leak=0.8, threshold=0.4)


def example(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(0.3, 0.8, (BATCH, T, N)), rng.normal(0, 0.5, (N, N))


def params_of(kernel, leak=0.8, threshold=0.6):
    return RecurrentParams(jnp.asarray(kernel), LIFParams(jnp.asarray(leak), jnp.asarray(threshold)))


def images(seed=5):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(BATCH, *IMAGE)))


# ---- the neuron


@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_a_dense_recurrence_is_the_numpy_loop(x64, reset):
    current, kernel = example()
    u, last, expected = np.zeros((BATCH, N)), np.zeros((BATCH, N)), []
    for t in range(T):
        u = 0.8 * u + current[:, t] + last @ kernel
        last = np.where(u > 0.6, 1.0, 0.0)
        u = u - 0.6 * last if reset == "subtract" else u * (1 - last)
        expected.append(last)
    state, spikes = unroll(Recurrent(LIF(reset=reset)), params_of(kernel), None, jnp.asarray(current))
    np.testing.assert_array_equal(spikes, np.stack(expected, 1))
    np.testing.assert_allclose(state.neuron.membrane, u, rtol=1e-12)
    np.testing.assert_array_equal(state.spikes, last)
    without = unroll(LIF(reset=reset), params_of(kernel).neuron, None, jnp.asarray(current))[1]
    assert np.any(without != spikes)


def test_a_recurrence_on_a_map_is_the_numpy_loop(x64):
    rng = np.random.default_rng(1)
    current, kernel = rng.normal(0.3, 0.8, (BATCH, T, 4, 4, 2)), rng.normal(0, 0.4, (3, 3, 2, 2))
    u, last, expected = np.zeros((BATCH, 4, 4, 2)), np.zeros((BATCH, 4, 4, 2)), []
    for t in range(T):
        around = np.pad(last, ((0, 0), (1, 1), (1, 1), (0, 0)))
        feedback = sum(around[:, i:i + 4, j:j + 4] @ kernel[i, j] for i in range(3) for j in range(3))
        u = 0.8 * u + current[:, t] + feedback
        last = np.where(u > 0.6, 1.0, 0.0)
        u = u - 0.6 * last
        expected.append(last)
    _, spikes = unroll(Recurrent(LIF(), (3, 3)), params_of(kernel), None, jnp.asarray(current))
    np.testing.assert_array_equal(spikes, np.stack(expected, 1))


def test_without_weights_a_recurrent_neuron_is_its_neuron(x64):
    current, kernel = example()
    neuron = PLIF(sharing="channel")
    params = Recurrent(neuron).init(jax.random.key(0), (N,), jnp.float64)
    assert params.kernel.shape == kernel.shape and params.neuron.decay_logit.shape == (N,)
    _, spikes = unroll(Recurrent(neuron), params._replace(kernel=jnp.zeros((N, N))), None, jnp.asarray(current))
    np.testing.assert_array_equal(spikes, unroll(neuron, params.neuron, None, jnp.asarray(current), backend="scan")[1])


def test_the_gradient_through_time_is_that_of_an_elman_network(x64):
    """With a smooth neuron, o = tanh(I): h_t = tanh(x_t + h_{t−1} R), against central differences."""
    class Tanh:
        def initial_state(self, params, shape, dtype):
            return ()

        def step(self, params, state, current):
            return (), jnp.tanh(current)

    current, kernel = example()
    weights = np.random.default_rng(4).normal(size=current.shape)

    def numpy_loss(current, kernel):
        last, total = np.zeros((BATCH, N)), 0.0
        for t in range(T):
            last = np.tanh(current[:, t] + last @ kernel)
            total += (weights[:, t] * last).sum()
        return total

    def loss(current, kernel):
        return (weights * unroll(Recurrent(Tanh()), RecurrentParams(kernel, ()), None, current)[1]).sum()

    assert loss(jnp.asarray(current), jnp.asarray(kernel)) == pytest.approx(numpy_loss(current, kernel), rel=1e-12)
    found = jax.jit(jax.grad(loss, (0, 1)))(jnp.asarray(current), jnp.asarray(kernel))
    for which, gradient in enumerate(found):
        for index in ((0, 0) if which else (0, 0, 0), (3, 4) if which else (1, 2, 3)):
            moved = []
            for sign in (1, -1):
                arguments = [current.copy(), kernel.copy()]
                arguments[which][index] += sign * 1e-6
                moved.append(numpy_loss(*arguments))
            assert gradient[index] == pytest.approx((moved[0] - moved[1]) / 2e-6, rel=1e-6, abs=1e-8)


@pytest.mark.slow
def test_the_surrogate_gradient_is_that_of_a_loop_by_hand(x64):
    current, kernel = (jnp.asarray(x) for x in example())
    weights = np.random.default_rng(4).normal(size=current.shape)
    neuron = LIF()

    def by_hand(params, current):
        state = neuron.initial_state(params.neuron, (BATCH, N), current.dtype)
        spikes, total = jnp.zeros((BATCH, N)), 0.0
        for t in range(T):
            state, spikes = neuron.step(params.neuron, state, current[:, t] + spikes @ params.kernel)
            total += (weights[:, t] * spikes).sum()
        return total

    def through_unroll(params, current):
        return (weights * unroll(Recurrent(neuron), params, None, current)[1]).sum()

    expected, found = (jax.jit(jax.grad(f, (0, 1)))(params_of(kernel), current) for f in (by_hand, through_unroll))
    assert np.abs(expected[0].kernel).max() > 0.01
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13), found, expected)


# ---- the network


def test_parameters_of_recurrent_layers(random_variables):
    net = Network(LAYERS, IMAGE)
    params = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, *IMAGE)))["params"]
    assert params["conv1"]["recurrent"]["kernel"].shape == (3, 3, 3, 3)
    assert params["fc1"]["recurrent"]["kernel"].shape == (6, 6)
    assert params["fc1"]["neuron"] == LIFParams(*params["conv1"]["neuron"])
    assert set(params["fc2"]) == {"kernel"}


@pytest.mark.slow
def test_recurrence_changes_no_other_initial_weight():
    plain = Network(tuple(Layer(x.name, x.features, x.kernel, pool=x.pool) for x in LAYERS), IMAGE)
    init = jax.jit(lambda net, key: net.init(key, jnp.zeros((1, *IMAGE)))["params"], static_argnums=0)
    params = init(Network(LAYERS, IMAGE), jax.random.key(3))
    kernels = {name: layer.pop("recurrent")["kernel"] for name, layer in params.items() if "recurrent" in layer}
    jax.tree.map(np.testing.assert_array_equal, params, init(plain, jax.random.key(3)))
    spread = init_kernel(jax.random.key(0), (3, 3, 3, 3), jnp.float32).std()
    assert kernels["conv1"].std() == pytest.approx(float(spread), rel=0.3)
    assert kernels["fc1"].std() == pytest.approx(0.01, rel=0.5)


@functools.partial(jax.jit, static_argnums=0, static_argnames=("chunk", "remat"))
def gradient(net, variables, x, chunk=None, remat=False):
    def loss(variables):
        rngs = {"dropout": jax.random.key(1)}
        logits, record = net.apply(variables, x, T, train=True, chunk=chunk, remat=remat, rngs=rngs)
        return jax.nn.log_softmax(logits)[:, 0].sum(), record["spike_rate"]

    return jax.value_and_grad(loss, has_aux=True)(variables)


@pytest.mark.parametrize("chunk, remat", [(1, False), (3, True)])
@pytest.mark.slow
def test_any_chunk_gives_the_same_values_and_gradients(x64, random_variables, chunk, remat):
    net = Network(LAYERS, IMAGE, neuron=NEURON)
    variables = random_variables(net, dtype=jnp.float64)
    want = gradient(net, variables, images())
    assert all(np.abs(want[1]["params"][name]["recurrent"]["kernel"]).max() > 1e-4 for name in ("conv1", "fc1"))
    got = gradient(net, variables, images(), chunk=chunk, remat=remat)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11), got, want)


def test_a_network_is_its_layers_one_after_the_other(x64, random_variables):
    net = Network(LAYERS, IMAGE, neuron=NEURON)
    variables = random_variables(net, dtype=jnp.float64)
    params, x = variables["params"], np.asarray(images())
    record = jax.jit(lambda v, x: net.apply(v, x, T, record=("spikes",))[1])(variables, x)
    kernel = params["conv1"]["kernel"]
    first = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    recurrent = RecurrentParams(params["conv1"]["recurrent"]["kernel"], params["conv1"]["neuron"])
    spikes = unroll(Recurrent(NEURON, (3, 3)), recurrent, None, first[:, None], T)[1]
    np.testing.assert_array_equal(record["spikes"]["conv1"], spikes)
    pooled = np.asarray(spikes).reshape(BATCH, T, 2, 2, 2, 2, 3).mean((3, 5)).reshape(BATCH, T, 12)
    recurrent = RecurrentParams(params["fc1"]["recurrent"]["kernel"], params["fc1"]["neuron"])
    spikes = unroll(Recurrent(NEURON), recurrent, None, pooled @ params["fc1"]["kernel"], T)[1]
    np.testing.assert_array_equal(record["spikes"]["fc1"], spikes)
    logits = np.cumsum(np.asarray(spikes @ params["fc2"]["kernel"]), 1)
    np.testing.assert_allclose(record["logits"], logits, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
def test_bfloat16_feeds_back_in_bfloat16_and_keeps_float32_membranes(random_variables):
    net = Network(LAYERS, IMAGE, neuron=NEURON, dtype=jnp.bfloat16)
    logits, record = net.apply(random_variables(net), images().astype(jnp.float32), T)
    state = record["state"]["fc1"]
    assert (state.spikes.dtype, state.neuron.membrane.dtype, logits.dtype) == (jnp.bfloat16, jnp.float32, jnp.float32)


def test_weight_decay_reaches_the_recurrent_weights():
    neuron = LIFParams(*np.ones(2, np.float32))
    params = {"fc1": {"recurrent": {"kernel": np.ones((2, 2), np.float32)}, "neuron": neuron}}
    optimizer = make_optimizer(Phase(optimizer="sgd", momentum=0.0, learning_rate=0.1, weight_decay=0.25), 10)
    changes, _ = optimizer.update(optax.tree.zeros_like(params), optimizer.init(params), params)
    np.testing.assert_allclose(changes["fc1"]["recurrent"]["kernel"], -0.025)
    assert not np.any(changes["fc1"]["neuron"])


def test_energy_counts_the_feedback_at_the_layers_own_rate():
    net = Network(LAYERS, IMAGE, encoder=Poisson())
    rows = estimate(net, {"spike_rate": {"conv1": 0.5, "fc1": 2.0}, "input_rate": 1.0}).layers
    macs = {"conv1": 16 * 9 * 2 * 3, "conv1_recurrent": 16 * 9 * 3 * 3, "fc1": 12 * 6, "fc1_recurrent": 36, "fc2": 18}
    assert {row.name: row.macs for row in rows} == macs and [row.name for row in rows] == list(macs)
    assert [row.rate for row in rows] == [1.0, 0.5, 0.5, 2.0, 2.0]
    assert rows[1].snn_joules == pytest.approx(0.9e-12 * 0.5 * 16 * 81) and rows[3].ann_joules == pytest.approx(
        4.6e-12 * 36)


def test_folding_batch_norm_keeps_the_function_and_the_feedback(x64, random_variables):
    net = Network(LAYERS, IMAGE, neuron=NEURON, batch_norm=True)
    variables = random_variables(net, dtype=jnp.float64)
    assert set(variables["batch_stats"]) == {"conv1", "fc1"}
    folded, same = convert.fold_batch_norm(net, variables)
    expected, found = (jax.jit(lambda n, v: n.apply(v, images(), T)[0], static_argnums=0)(*pair)
                       for pair in ((net, variables), (folded, same)))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


# ---- what cannot be


def test_a_recurrent_ann_is_an_error():
    with pytest.raises(InputError, match=r"layer 'conv1' is recurrent, and ReLU\(\) has no memory"):
        Network(LAYERS, IMAGE, neuron=ReLU()).init(jax.random.key(0), jnp.zeros((1, *IMAGE)))


def test_parameters_of_a_network_without_recurrence_are_an_error(random_variables):
    net = Network(LAYERS, IMAGE)
    variables = random_variables(net)
    del variables["params"]["fc1"]["recurrent"]
    with pytest.raises(InputError, match="layer 'fc1' is recurrent, its parameters have no 'recurrent' kernel"):
        net.apply(variables, jnp.zeros((1, *IMAGE)), 2)


def test_a_recurrent_readout_is_an_error():
    with pytest.raises(InputError, match="layer 'out' is the readout"):
        Network((Layer("out", 3, kernel=None, recurrent=True),), IMAGE).connections()


def test_a_kernel_for_feedforward_layers_alone_is_named(random_variables):
    net = Network(LAYERS, IMAGE, backend="xla")
    with pytest.raises(InputError, match="cannot run Recurrent: it has no kernel of its own"):
        net.apply(random_variables(net), jnp.zeros((1, *IMAGE)), 2)


@pytest.mark.parametrize("call", [
    lambda net, v: convert.balance_thresholds(net, v, jnp.zeros((1, *IMAGE)), timesteps=2),
    lambda net, v: convert.match_activations(net, v, jnp.zeros((1, *IMAGE))),
    lambda net, v: convert.with_neurons(net, v),
    lambda net, v: torch.to_state_dict(net, v),
])
def test_conversions_name_the_recurrent_layers(random_variables, call):
    net = Network(LAYERS, IMAGE)
    with pytest.raises(InputError, match=r"recurrent layers.*conv1, fc1"):
        call(net, random_variables(net))


def test_scaling_thresholds_scales_those_of_recurrent_layers(random_variables):
    net = Network(LAYERS, IMAGE, neuron=NEURON)
    scaled = convert.scale_thresholds(random_variables(net), 0.5)
    assert float(scaled["params"]["fc1"]["neuron"].threshold) == pytest.approx(0.2)
