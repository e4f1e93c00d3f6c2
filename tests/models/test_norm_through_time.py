"""Laws of batch norm in a spiking network: one mean and one variance over batch and time; tdBN's start; folding."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dietjax import IF, LIF, QCFS, ReLU
from dietjax.convert import fold_batch_norm
from dietjax.core.unroll import unroll
from dietjax.models import Layer, Network
from dietjax.models.operations import NORM_EPSILON, NORM_MOMENTUM

pytestmark = pytest.mark.usefixtures("quick_compile", "x64")

IMAGE, TIMESTEPS = (4, 4, 2), 3
NEURON = LIF(leak=0.9, threshold=0.5)
PLAIN = (Layer("conv1", 3), Layer("conv2", 4, pool=True), Layer("fc1", 6, kernel=None), Layer("fc2", 3, kernel=None))
RESIDUAL = (Layer("stem", 4), Layer("a1", 4), Layer("a2", 4, shortcut="a1"),  # the same shape: spikes as they are
            Layer("b1", 6, stride=2), Layer("b2", 6, shortcut="b1"), Layer("fc", 3, kernel=None))
IDENTITY = "a2"


def images(batch=5):
    return jnp.asarray(np.random.default_rng(3).normal(size=(batch, *IMAGE)))


@functools.partial(jax.jit, static_argnums=0)
def train(net, variables, x):
    """((logits, record with spikes), the statistics after it)."""
    return net.apply(variables, x, TIMESTEPS, train=True, record=("spikes",), mutable=["batch_stats"])


def convolution(x, kernel):
    """A 3×3 convolution of stride 1 on [N, H, W, C], by its definition."""
    height, width = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return sum(padded[:, i:i + height, j:j + width] @ kernel[i, j] for i in range(3) for j in range(3))


def by_hand(params, x):
    """Logits, every layer's spikes and its currents before the norm, of `PLAIN`: one timestep, one neuron after the
    other, and statistics of all of a layer's currents, [B, T, ...], put together.
    """
    inputs, spikes, raw = [x] * TIMESTEPS, {}, {}
    for layer in PLAIN[:-1]:
        weights = params[layer.name]
        if layer.kernel is None:
            currents = [i.reshape(len(i), -1) @ weights["kernel"] for i in inputs]
        else:
            currents = [convolution(i, weights["kernel"]) for i in inputs]
        raw[layer.name] = together = jnp.stack(currents, axis=1)
        axes = tuple(range(together.ndim - 1))
        mean = together.sum(axes) / math.prod(together.shape[:-1])
        variance = ((together - mean)**2).sum(axes) / math.prod(together.shape[:-1])
        state, outputs = NEURON.initial_state(weights["neuron"], currents[0].shape, x.dtype), []
        for current in currents:
            normalised = (current - mean) / jnp.sqrt(variance + NORM_EPSILON)
            current = weights["norm"]["scale"] * normalised + weights["norm"]["bias"]
            state, fired = NEURON.step(weights["neuron"], state, current)
            outputs.append(fired)
        spikes[layer.name] = jnp.stack(outputs, axis=1)
        inputs = outputs
        if layer.pool:
            inputs = [(o[:, ::2, ::2] + o[:, 1::2, ::2] + o[:, ::2, 1::2] + o[:, 1::2, 1::2]) / 4 for o in outputs]
    return sum(i.reshape(len(i), -1) @ params["fc2"]["kernel"] for i in inputs), spikes, raw


@pytest.fixture
def plain(random_variables):
    net = Network(PLAIN, IMAGE, neuron=NEURON, batch_norm=True)
    return net, random_variables(net, dtype=jnp.float64)


@pytest.mark.slow
def test_the_network_is_normalised_by_the_statistics_of_batch_and_time(plain):
    net, variables = plain
    (logits, record), updates = train(net, variables, images())
    expected, spikes, raw = by_hand(variables["params"], images())
    np.testing.assert_allclose(logits, expected, rtol=1e-12)
    for name, fired in spikes.items():
        assert 0.02 < fired.mean() < 0.98
        np.testing.assert_array_equal(record["spikes"][name], fired)
    # running statistics by NumPy; the first layer's constant current is the same at each timestep
    for name, current in raw.items():
        before, current = variables["batch_stats"][name], np.asarray(current)
        flat = current.reshape(-1, current.shape[-1])
        assert len(flat) == math.prod(current.shape[:2]) * (16 if name.startswith("conv") else 1)
        for field, seen in (("mean", np.mean(flat, axis=0)), ("var", np.var(flat, axis=0))):
            expected = NORM_MOMENTUM * np.asarray(before[field]) + (1 - NORM_MOMENTUM) * seen
            np.testing.assert_allclose(updates["batch_stats"][name][field], expected, rtol=1e-10)


@pytest.mark.slow
def test_its_gradient_is_that_of_its_steps(plain):
    """Through the statistics too, which tie all timesteps and images together."""
    net, variables = plain
    weights = jnp.asarray(np.random.default_rng(4).normal(size=(5, 3)))

    def of_the_network(params):
        return (weights * train(net, {**variables, "params": params}, images())[0][0]).sum()

    found = jax.grad(of_the_network)(variables["params"])
    expected = jax.jit(jax.grad(lambda params: (weights * by_hand(params, images())[0]).sum()))(variables["params"])
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True):
        assert np.any(np.asarray(b) != 0), path
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12, err_msg=str(path))


# ---- where training starts


def measure(neuron, params, state, current, timesteps, backend):
    """Runs a neuron; in the place of its state stands the deviation of its current over batch, time and neurons."""
    return current.std(), unroll(neuron, params, state, current, timesteps, backend)[1]


def deviations(net, random_variables):
    """{layer: deviation of its current} at strong weights, with the norms as training starts them."""
    drawn, initial = random_variables(net, dtype=jnp.float64), jax.jit(net.init)(jax.random.key(0), images())
    params = {name: {**layer, **{part: initial["params"][name][part] for part in ("norm", "shortcut") if part in layer}}
              for name, layer in drawn["params"].items()}
    measuring = net.clone(run_neuron=measure)
    (_, record), _ = jax.jit(lambda v: measuring.apply(v, images(), TIMESTEPS, train=True, mutable=["batch_stats"]))(
        {**drawn, "params": params})
    return {layer.name: float(record["state"][layer.name]) for layer in net.layers[:-1]}


@pytest.mark.parametrize("layers", [PLAIN, RESIDUAL], ids=["plain", "residual"])
@pytest.mark.parametrize("neuron", [LIF(leak=0.9, threshold=0.5), IF(threshold=2.0, sharing="channel")])
@pytest.mark.thin(1)
def test_currents_start_with_the_deviation_of_the_threshold(random_variables, layers, neuron):
    """Of a block whose shortcut is projected too: two norms add up there."""
    net = Network(layers, IMAGE, neuron=neuron, batch_norm=True)
    for name, deviation in deviations(net, random_variables).items():
        if name != IDENTITY:  # spikes of 1 are added there, whatever the threshold
            # two branches of one block are nearly uncorrelated
            tolerance = 0.35 if name == "b2" else 2e-3
            assert deviation == pytest.approx(neuron.threshold, rel=tolerance), name


def scales(net):
    params = jax.jit(net.init)(jax.random.key(0), jnp.zeros((1, *net.image_shape)))["params"]
    found = {name: layer["norm"]["scale"] for name, layer in params.items() if "norm" in layer}
    return found | {f"{name}_shortcut": layer["shortcut"]["norm"]["scale"] for name, layer in params.items()
                    if "shortcut" in layer}


@pytest.mark.slow
def test_two_norms_that_add_up_start_at_the_threshold_over_root_two():
    found = scales(Network(RESIDUAL, IMAGE, neuron=LIF(threshold=0.5), batch_norm=True))
    assert set(found) == {"stem", "a1", "a2", "b1", "b2", "b2_shortcut"}
    for name, scale in found.items():
        np.testing.assert_allclose(scale, 0.5 / 2**0.5 if name.startswith("b2") else 0.5, rtol=1e-6)


@pytest.mark.parametrize("neuron", [ReLU(), QCFS(levels=4, threshold=8.0)])
@pytest.mark.slow
def test_an_anns_norm_starts_at_one(neuron):
    for scale in scales(Network(RESIDUAL, IMAGE, neuron=neuron, batch_norm=True)).values():
        np.testing.assert_array_equal(scale, 1)


# ---- where it ends


@pytest.mark.parametrize("layers", [PLAIN, RESIDUAL], ids=["plain", "residual"])
@pytest.mark.slow
def test_folding_changes_no_spike(random_variables, layers):
    net = Network(layers, IMAGE, neuron=NEURON, batch_norm=True)
    variables = random_variables(net, dtype=jnp.float64)
    for _ in range(3):  # running statistics as training leaves them
        _, updates = train(net, variables, images())
        variables = {**variables, **updates}
    folded, without = fold_batch_norm(net, variables)
    run = jax.jit(lambda net, v: net.apply(v, images(), TIMESTEPS, record=("spikes",)), static_argnums=0)
    (expected, before), (logits, after) = run(net, variables), run(folded, without)
    for name, spikes in before["spikes"].items():
        assert 0 < spikes.mean() < 1
        np.testing.assert_array_equal(after["spikes"][name], spikes)
    np.testing.assert_allclose(logits, expected, rtol=1e-9)
    for name, layer in without["params"].items():
        assert "norm" not in layer and "norm" not in layer.get("shortcut", {})
        jax.tree.map(np.testing.assert_array_equal, layer.get("neuron"), variables["params"][name].get("neuron"))
